// SPDX-License-Identifier: Apache-2.0
/*
 * What happens when memory runs out: each allocation that a call makes is made
 * to fail once.  Needs a kernel with fault injection, as the debug kernel is.
 *
 * Copyright (c) 2026 The turbotap authors.
 */
#include "ring.h"

#define LEN 64
#define FAILSLAB "/sys/kernel/debug/failslab/"

static const char name[] = "fault0";
static int queue, sock, host, control, fail_nth;
static uint8_t buffer[2048];
static struct turbotap_rx_ring ring_request;

/* Has the 'n'th allocation from now on fail; 0 ends that.  Returns what was
 * left of the count before. */
static int
arm(int n)
{
    char text[16] = "";
    int left;

    must(pread(fail_nth, text, sizeof text - 1, 0));
    left = atoi(text);
    snprintf(text, sizeof text, "%d", n);
    must(pwrite(fail_nth, text, strlen(text), 0));
    return left;
}

static long
make_socket(void)
{
    struct turbotap_socket request = { .tun_fd = queue };
    long fd = ioctl(control, TURBOTAP_SOCKET, &request);

    return fd;
}

/* Returns the socket, whose ring is gone when that is closed. */
static long
make_ring(void)
{
    int fd = make_socket();

    if (fd >= 0 && ioctl(fd, TURBOTAP_RX_RING, &ring_request)) {
        int error = errno;

        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

static long
send_vector(void)
{
    struct turbotap_frame frames[2] = {
        { (uintptr_t) buffer, LEN, 0 }, { (uintptr_t) buffer, 2000, 0 },
    };
    struct turbotap_send request = { (uintptr_t) frames, 2, 0 };

    must(ioctl(sock, TURBOTAP_SEND, &request));
    errno = -(frames[0].error ?: frames[1].error);
    return errno ? -1 : 0;
}

static long
send_frame(void)
{
    return send(sock, buffer, LEN, MSG_DONTWAIT) == LEN ? 0 : -1;
}

static long
send_large(void)
{
    return send(sock, buffer, sizeof buffer, 0) > 0 ? 0 : -1;
}

static long
receive_frame(void)
{
    return recv(sock, buffer, sizeof buffer, MSG_DONTWAIT) >= 0
           || errno == EAGAIN ? 0 : -1;
}

static long
poll_socket(void)
{
    struct pollfd pfd = { .fd = sock, .events = POLLIN };

    return poll(&pfd, 1, 0) >= 0 ? 0 : -1;
}

/* Fails the first allocation of 'call', then the second, and so on, until it
 * makes no more.  'fallible' says whether the call must fail at all. */
static void
test_call(const char *what, long (*call)(void), bool fallible)
{
    int n, failures = 0, before = references(), wrong = 0;

    for (n = 1; n < 200; n++) {
        int left, error;
        long result;

        arm(n);
        errno = 0;
        result = call();
        error = errno;
        left = arm(0);
        if (result > 0) {
            close(result);
        }
        if (result < 0) {
            failures++;
            wrong += error != ENOMEM && error != ENFILE && error != ENOBUFS
                     && error != EMFILE;
        }
        if (left) {
            break;
        }
    }
    ok(n > 1 || !fallible, "%s: %d allocations were made to fail", what,
       n - 1);
    ok(!wrong && (failures > 0 || !fallible),
       "%d times the call failed, with an error that says so", failures);
    is(references(), before, "nothing is left behind");
    is(call() < 0 ? -1 : 0, 0, "and afterwards it works");
}

int
main(void)
{
    struct ring ring;

    if (access(FAILSLAB, F_OK)) {
        printf("1..0 # SKIP this kernel has no fault injection\n");
        return 0;
    }
    write_file(FAILSLAB "ignore-gfp-wait", "N");
    write_file(FAILSLAB "verbose", "0");
    fail_nth = must(open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC));

    new_netns();
    queue = tap_queue(name, 0);
    link_set(name, true);
    sock = must(turbotap_socket(queue, 0));
    control = must(open("/dev/net/turbotap", O_RDWR | O_CLOEXEC));
    host = host_socket(name, ETH_TYPE);
    make_frame(buffer, sizeof buffer, 0);

    test_call("TURBOTAP_SOCKET", make_socket, true);
    ring_area(&ring, 64, 16, &ring_request);
    memset(ring.area, 0, ring.size);
    test_call("TURBOTAP_RX_RING", make_ring, true);
    test_call("TURBOTAP_SEND", send_vector, true);
    test_call("send()", send_frame, true);
    test_call("send() of a large frame", send_large, true);
    host_sends(host, LEN, 0, 10);
    test_call("recv()", receive_frame, false);
    test_call("poll()", poll_socket, false);
    return done();
}
