// SPDX-License-Identifier: Apache-2.0
/*
 * Does TURBOTAP_SEND do for each frame what write() does, and say so of each?
 *
 * Copyright (c) 2026 The turbotap authors.
 */
#include "test.h"
#include <sys/mman.h>
#include <sys/time.h>

#define LEN 64
#define UNTOUCHED 12345         /* What 'error' is before the call. */

static const char name[] = "vec0";
static int queue, sock, host;
static struct batch batch;
static struct turbotap_frame frames[TURBOTAP_SEND_MAX + 1];

/* Describes the 'n' frames of 'batch', modulo its size. */
static void
describe(int n, size_t length)
{
    for (int i = 0; i < n; i++) {
        frames[i] = (struct turbotap_frame) {
            .addr = (uintptr_t) batch.data[i % MAX_BATCH],
            .len = length,
            .error = UNTOUCHED,
        };
    }
}

static int
send_frames(int fd, const void *array, unsigned int n, unsigned int flags)
{
    struct turbotap_send request = {
        .frames = (uintptr_t) array, .n = n, .flags = flags,
    };

    return ioctl(fd, TURBOTAP_SEND, &request);
}

/* Have all of 'n' frames but number 'but' been left alone? */
static bool
untouched(int n, int but)
{
    for (int i = 0; i < n; i++) {
        if (i != but && frames[i].error != UNTOUCHED) {
            return false;
        }
    }
    return true;
}

static void
test_batches(void)
{
    static const int sizes[] = { 0, 1, 8, 16, 17, 32, 64 };

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        int n = sizes[i];

        batch_frames(&batch, LEN, 1000);
        describe(n, LEN);
        is(send_frames(sock, frames, n, 0), n, "a batch of %d", n);
        is(host_receives(host, LEN, 1000), n, "the host has it, in order");
        ok(untouched(n, -1), "no error is stored");
    }
    describe(TURBOTAP_SEND_MAX, LEN);
    is(send_frames(sock, frames, TURBOTAP_SEND_MAX, 0), TURBOTAP_SEND_MAX,
       "as many as there may be");
    while (recv(host, batch.data[0], LEN, MSG_DONTWAIT) > 0) {
        continue;
    }
}

static void
test_lengths(void)
{
    static const size_t lengths[] = {
        0, 1, 13, 14, 15, 60, 1514, 1515, 3500, 4096, 9000, 65535, 65536,
        100000, 1 << 20,
    };
    static uint8_t frame[1 << 20], got[1 << 20];

    link_mtu(name, 65521);
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        size_t n = lengths[i];
        int write_error;

        make_frame(frame, n, i);
        errno = 0;
        write_error = write(queue, frame, n) == (ssize_t) n ? 0 : errno;
        frames[0] = (struct turbotap_frame) { (uintptr_t) frame, n, 0 };
        is(send_frames(sock, frames, 1, 0), 1, "%zu octets", n);
        is(frames[0].error, -write_error, "as write() says");
        if (write_error) {
            fails(recv(host, got, sizeof got, MSG_DONTWAIT), EAGAIN,
                  "and nothing arrives");
        } else {
            must(recv(host, got, sizeof got, MSG_DONTWAIT));
            is(recv(host, got, sizeof got, MSG_DONTWAIT), n, "it arrives");
            ok(frame_is(got, n, i), "its content");
        }
    }
    link_mtu(name, 1500);
}

static void
test_errors(void)
{
    static const struct {
        uint64_t addr;
        uint32_t len;
        int error;
        const char *what;
    } bad[] = {
        { 0, 13, EINVAL, "a short frame" },
        { 8, LEN, EFAULT, "unmapped memory" },
        { 0x7ffffffff000, LEN, EFAULT, "the end of all addresses" },
        { 0x8000000000000000, LEN, EFAULT, "no address" },
        { 0xffff888000000000, LEN, EFAULT, "the kernel's memory" },
        { 0xffffffff81000000, LEN, EFAULT, "the kernel's text" },
        { UINT64_MAX, LEN, EFAULT, "the last address" },
        { 0, 0x80000000, EINVAL, "2 GiB" },
        { 0, UINT32_MAX, EINVAL, "4 GiB" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        batch_frames(&batch, LEN, 0);
        describe(32, LEN);
        frames[9].len = bad[i].len;
        if (bad[i].addr) {
            frames[9].addr = bad[i].addr;
        }
        /* The others show that it alone was not sent. */
        for (int j = 10; j < 32; j++) {
            frames[j].addr = (uintptr_t) batch.data[j - 1];
        }
        is(send_frames(sock, frames, 32, 0), 32, "%s: it goes on",
           bad[i].what);
        is(frames[9].error, -bad[i].error, "its error");
        ok(untouched(32, 9), "not the others'");
        is(host_receives(host, LEN, 0), 31, "the others arrive");
    }
}

static void
test_refused(void)
{
    uint8_t *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct turbotap_frame *edge = (void *) (page + 4096 - 20 * sizeof *edge);
    int q = tap_queue(name, 0);
    int other = must(turbotap_socket(q, 0));

    batch_frames(&batch, LEN, 0);
    describe(TURBOTAP_SEND_MAX + 1, LEN);
    fails(send_frames(sock, frames, TURBOTAP_SEND_MAX + 1, 0), EINVAL,
          "too many frames");
    fails(send_frames(sock, frames, UINT32_MAX, 0), EINVAL, "far too many");
    fails(send_frames(sock, frames, 1, 1), EINVAL, "a flag");
    fails(send_frames(sock, (void *) 8, 1, 0), EFAULT, "no array");
    fails(send_frames(sock, (void *) 0xffff888000000000, 1, 0), EFAULT,
          "an array in the kernel's memory");
    fails(ioctl(sock, TURBOTAP_SEND, NULL), EFAULT, "no argument");
    fails(ioctl(sock, TURBOTAP_SEND + 0x100, NULL), EOPNOTSUPP,
          "another call");
    fails(send_frames(queue, frames, 1, 0), EINVAL, "the queue's own file");
    is(host_receives(host, LEN, 0), 0, "nothing of it arrives");

    /* 20 elements, and then no memory. */
    must(mprotect(page + 4096, 4096, PROT_NONE));
    memcpy(edge, frames, 20 * sizeof *edge);
    is(send_frames(sock, edge, 32, 0), 16, "an array that ends too early");
    is(host_receives(host, LEN, 0), 16, "what is before its end arrives");
    edge[3].len = 1;
    must(mprotect(page, 4096, PROT_READ));
    is(send_frames(sock, edge, 8, 0), 3, "an error that cannot be stored");
    is(host_receives(host, LEN, 0), 3, "ends it there");
    munmap(page, 8192);
    close(other);
    close(q);
}

static void
test_device(void)
{
    const char *tap = "vec1";
    int q = tap_queue(tap, 0);
    int s = must(turbotap_socket(q, 0));

    batch_frames(&batch, LEN, 0);
    describe(4, LEN);
    is(send_frames(s, frames, 4, 0), 4, "a device that is down");
    ok(frames[0].error == -EIO && frames[3].error == -EIO, "EIO for each");
    must(link_delete(tap));
    describe(4, LEN);
    is(send_frames(s, frames, 4, 0), 4, "one that was deleted");
    ok(frames[0].error == -EBADFD && frames[3].error == -EBADFD,
       "EBADFD for each");
    close(s);
    close(q);
}

/* A full send buffer: see limited_queue(). */
static void
test_no_room(void)
{
    const char *tap = "vec2";
    int q = limited_queue(tap);
    int s = must(turbotap_socket(q, TURBOTAP_NONBLOCK));
    int raw = host_socket(tap, ETH_P_IP);
    uint8_t frame[HELD_LEN], got[HELD_LEN];

    make_held_frame(frame);
    ok(hold_frame(s, raw, frame), "a frame fills the buffer and stays there");
    for (int i = 0; i < 2; i++) {
        frames[i] = (struct turbotap_frame) {
            (uintptr_t) frame, sizeof frame, UNTOUCHED,
        };
    }
    is(send_frames(s, frames, 2, 0), 2, "two more");
    ok(frames[0].error == -EAGAIN && frames[1].error == -EAGAIN,
       "EAGAIN for each");
    ok(recv_released(raw, got, sizeof got) > 0, "the first leaves");
    fails(recv(raw, got, sizeof got, MSG_DONTWAIT), EAGAIN, "nothing else");
    close(raw);
    close(s);
    close(q);
}

static void
on_alarm(int signal)
{
    (void) signal;
}

/* A signal does not wait for all frames. */
static void
test_signal(void)
{
    struct itimerval soon = { .it_value = { .tv_usec = 1000 } };
    int n = TURBOTAP_SEND_MAX;

    signal(SIGALRM, on_alarm);
    for (int i = 0; i < 1000 && n == TURBOTAP_SEND_MAX; i++) {
        describe(n, LEN);
        must(setitimer(ITIMER_REAL, &soon, NULL));
        n = send_frames(sock, frames, n, 0);
        soon.it_value.tv_usec = 100 + i % 50 * 100;
    }
    signal(SIGALRM, SIG_DFL);
    ok(n > 0 && n < TURBOTAP_SEND_MAX, "a signal comes after %d frames", n);
    is(untouched(TURBOTAP_SEND_MAX, -1), 1, "none of which failed");
}

/* How often the kernel has run 'function', which has a probe. */
static long
hits(const char *function)
{
    FILE *file = fopen("/sys/kernel/tracing/kprobe_profile", "re");
    char name_[64];
    long n = -1;

    while (file && fscanf(file, "%63s %ld %*d", name_, &n) == 2
           && !strstr(name_, function)) {
        n = -1;
    }
    if (file) {
        fclose(file);
    }
    return n;
}

/* Security modules are asked, as by sendmmsg(): once for a call. */
static void
test_security(void)
{
    const char *events = "/sys/kernel/tracing/kprobe_events";
    long before;
    int fd;

    mount("tracefs", "/sys/kernel/tracing", "tracefs", 0, NULL);
    fd = open(events, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "p:ttsend security_socket_sendmsg", 32) != 32) {
        skip("security modules", "there are no probes");
        return;
    }
    close(fd);
    write_file("/sys/kernel/tracing/events/kprobes/ttsend/enable", "1");
    before = hits("ttsend");
    describe(32, LEN);
    is(send_frames(sock, frames, 32, 0), 32, "32 frames");
    is(hits("ttsend") - before, 1, "the security modules are asked once");
    describe(32, LEN);
    frames[0].len = 0;
    before = hits("ttsend");
    is(send_frames(sock, frames, 32, 0), 32, "the first is refused");
    is(hits("ttsend") - before, 2, "they are asked for the second, too");
    write_file("/sys/kernel/tracing/events/kprobes/ttsend/enable", "0");
    write_file(events, "-:ttsend");
}

int
main(void)
{
    new_netns();
    queue = tap_queue(name, 0);
    link_set(name, true);
    sock = must(turbotap_socket(queue, TURBOTAP_NONBLOCK));
    host = host_socket(name, ETH_TYPE);

    test_batches();
    test_lengths();
    test_errors();
    test_refused();
    test_signal();
    test_security();
    test_device();
    test_no_room();
    close(host);
    close(sock);
    close(queue);
    is(references(), 0, "nothing is left");
    return done();
}
