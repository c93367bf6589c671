// SPDX-License-Identifier: Apache-2.0
/*
 * Calls that would crash or corrupt the kernel if the module let them through
 * to the tun driver: control data in both directions, pointers to anywhere in
 * every field, the wrong kind of descriptor, no descriptors left.  That the
 * guest is alive at the end, with nothing in its log, is half of the test.
 *
 * Copyright (c) 2026 The turbotap authors.
 */
#include "test.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define LEN 64

static const char name[] = "att0";
static int queue, sock, host;
static uint8_t buffer[2048];

/* What a pointer may be: unmapped, the kernel's text, its memory, outside of
 * all addresses; buffer stands for the memory of the test. */
static void *const pointers[] = {
    (void *) 1, (void *) 8, (void *) 0x41414141, (void *) 0x7ffffffff000,
    (void *) 0x8000000000000000, (void *) 0xffff888000000000,
    (void *) 0xffff888000100000, (void *) 0xffffffff81000000,
    (void *) 0xfffffffffffff000, (void *) -1, buffer,
};

/* The structure that tun takes msg_control for (linux/if_tun.h of the kernel,
 * not of user space), and the one that its 'ptr' can lead to. */
struct tun_msg_ctl {
    unsigned short type;
    unsigned short num;
    void *ptr;
};

/* Does the socket still do its work? */
static bool
alive(void)
{
    uint8_t frame[LEN], got[LEN];

    while (recv(sock, got, LEN, 0) > 0) {
        continue;
    }
    while (recv(host, got, LEN, MSG_DONTWAIT) > 0) {
        continue;
    }
    make_frame(frame, LEN, 77);
    host_sends(host, LEN, 78, 1);
    return send(sock, frame, LEN, 0) == LEN
           && host_receives(host, LEN, 77) == 1
           && recv(sock, got, LEN, 0) == LEN
           && frame_is(got, LEN, 78);
}

static void
test_send_control(void)
{
    struct tun_msg_ctl ctl[2];
    uint8_t frame[LEN];
    struct iovec iov = { frame, LEN };
    struct mmsghdr m = {
        .msg_hdr = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl },
    };
    bool refused = true, ignored = true;

    make_frame(frame, LEN, 1);
    memset(ctl, 0, sizeof ctl);
    for (size_t i = 0; i < ARRAY_SIZE(pointers); i++) {
        for (int type = 0; type < 4; type++) {
            for (int num = 0; num < 3; num++) {
                ctl[0] = (struct tun_msg_ctl) { type, num, pointers[i] };
                for (size_t size = 1; size <= sizeof ctl; size++) {
                    m.msg_hdr.msg_controllen = size;
                    refused &= sendmsg(sock, &m.msg_hdr, 0) == -1
                               && errno == EINVAL;
                }
                m.msg_hdr.msg_controllen = sizeof *ctl;
                refused &= sendmmsg(sock, &m, 1, 0) == -1 && errno == EINVAL;
                m.msg_hdr.msg_controllen = 0;
                ignored &= sendmsg(sock, &m.msg_hdr, 0) == LEN;
                ignored &= sendmsg(sock, &m.msg_hdr, MSG_DONTWAIT) == LEN;
                ignored &= sendmmsg(sock, &m, 1, 0) == 1;
                if (host_receives(host, LEN, 1) != 1) {
                    /* The others come with the same number: drain them. */
                    while (recv(host, buffer, LEN, MSG_DONTWAIT) > 0) {
                        continue;
                    }
                }
            }
        }
    }
    ok(refused, "forged tun_msg_ctl with its length: refused");
    ok(ignored, "forged tun_msg_ctl with a length of 0: never looked at");

    ignored = true;
    for (size_t i = 0; i < ARRAY_SIZE(pointers); i++) {
        m.msg_hdr.msg_control = pointers[i];
        m.msg_hdr.msg_controllen = 0;
        ignored &= sendmsg(sock, &m.msg_hdr, 0) == LEN;
        ignored &= sendmmsg(sock, &m, 1, 0) == 1;
    }
    ok(ignored, "any pointer with a length of 0: never looked at");
    ok(alive(), "the socket works");
}

static void
test_receive_control(void)
{
    uint64_t skb[64];
    uint8_t frame[LEN];
    struct iovec iov = { frame, LEN };
    struct mmsghdr m = { .msg_hdr = { .msg_iov = &iov, .msg_iovlen = 1 } };
    bool right = true;

    /* Also as an xdp_frame, which tun marks with the lowest bit. */
    memset(skb, 0x41, sizeof skb);
    for (size_t i = 0; i < 2 * ARRAY_SIZE(pointers) + 4; i++) {
        uintptr_t p = i < 2 * ARRAY_SIZE(pointers)
                      ? (uintptr_t) pointers[i / 2] : (uintptr_t) skb;

        for (int j = 0; j < 2; j++) {
            host_sends(host, LEN, i, 1);
            m.msg_hdr.msg_control = (void *) (p ^ (i & 1));
            m.msg_hdr.msg_controllen = j ? 16 : 0;
            right &= (i & 2 ? recvmsg(sock, &m.msg_hdr, 0) == LEN
                      : recvmmsg(sock, &m, 1, 0, NULL) == 1);
            right &= frame_is(frame, LEN, i);
            right &= m.msg_hdr.msg_controllen == 0;
        }
        m.msg_hdr.msg_control = (void *) (p ^ (i & 1));
        right &= recvmsg(sock, &m.msg_hdr, 0) == -1 && errno == EAGAIN;
        right &= recvmsg(sock, &m.msg_hdr, MSG_PEEK) == -1 && errno == EINVAL;
    }
    ok(right, "receiving with any pointer to control data: never looked at");
    ok(alive(), "the socket works");
}

static void
test_pointers(void)
{
    int control = must(open("/dev/net/turbotap", O_RDWR | O_CLOEXEC));
    bool good = true;

    for (size_t i = 0; i < ARRAY_SIZE(pointers) - 1; i++) {
        void *p = pointers[i];
        struct iovec iov = { p, LEN };
        struct mmsghdr m = {
            .msg_hdr = { .msg_iov = &iov, .msg_iovlen = 1 },
        };

        good &= sendmsg(sock, p, 0) == -1 && errno == EFAULT;
        good &= recvmsg(sock, p, 0) == -1 && errno == EFAULT;
        good &= sendmmsg(sock, p, 4, 0) == -1 && errno == EFAULT;
        good &= recvmmsg(sock, p, 4, 0, NULL) == -1 && errno == EFAULT;
        good &= sendmsg(sock, &m.msg_hdr, 0) == -1 && errno == EFAULT;
        good &= sendto(sock, p, LEN, 0, NULL, 0) == -1 && errno == EFAULT;
        good &= write(sock, p, LEN) == -1 && errno == EFAULT;
        m.msg_hdr.msg_iov = p;
        good &= sendmmsg(sock, &m, 1, 0) == -1 && errno == EFAULT;
        good &= recvmmsg(sock, &m, 1, 0, NULL) == -1 && errno == EFAULT;
        iov.iov_base = buffer;
        m.msg_hdr.msg_iov = &iov;
        m.msg_hdr.msg_name = p;
        m.msg_hdr.msg_namelen = 16;
        good &= sendmmsg(sock, &m, 1, 0) == -1 && errno == EFAULT;
        good &= ioctl(control, TURBOTAP_SOCKET, p) == -1 && errno == EFAULT;
        good &= ioctl(control, TURBOTAP_GET_VERSION, p) == -1
                && errno == EFAULT;
    }
    ok(good, "pointers to nowhere and to the kernel, in every field: EFAULT");

    /* tun does not mind that it cannot write to the buffer. */
    good = true;
    for (size_t i = 0; i < ARRAY_SIZE(pointers) - 1; i++) {
        long from_read, from_recv;

        host_sends(host, LEN, 0, 2);
        from_read = read(queue, pointers[i], LEN);
        from_recv = recv(sock, pointers[i], LEN, 0);
        good &= from_read == from_recv;
        while (recv(sock, buffer, LEN, 0) > 0) {
            continue;
        }
    }
    ok(good, "receiving to any pointer: as read() does");

    /* Nearly too much of everything. */
    struct iovec many[1025];
    struct msghdr m = { .msg_iov = many, .msg_iovlen = 1025 };
    for (size_t i = 0; i < ARRAY_SIZE(many); i++) {
        many[i] = (struct iovec) { buffer, 1 };
    }
    fails(sendmsg(sock, &m, 0), EMSGSIZE, "1025 pieces");
    m.msg_iovlen = 1024;
    is(sendmsg(sock, &m, 0), 1024, "1024 pieces");
    m.msg_iovlen = 2;
    many[0].iov_len = many[1].iov_len = SIZE_MAX / 2;
    fails(sendmsg(sock, &m, 0), EFAULT, "pieces of half the address space");
    m.msg_iovlen = 0;
    fails(sendmsg(sock, &m, 0), EINVAL, "no piece");
    ok(alive(), "the socket works");
    close(control);
}

static void
test_wrong_descriptors(void)
{
    int pipes[2], pair[2];
    struct {
        const char *what;
        int fd;
        int error;
    } wrong[] = {
        { "no fd", -1, EBADF },
        { "a closed fd", 9999, EBADF },
        { "/dev/null", open("/dev/null", O_RDWR), EINVAL },
        { "a directory", open("/", O_RDONLY), EBADF },
        { "/dev/net/turbotap", open("/dev/net/turbotap", O_RDWR), EINVAL },
        { "a turbotap socket", dup(sock), EINVAL },
        { "a tap for reading only", open("/dev/net/tun", O_RDONLY), EBADF },
        { "a tap for writing only", open("/dev/net/tun", O_WRONLY), EBADF },
        { "a tap's O_PATH", open("/dev/net/tun", O_PATH), EBADF },
        { "a UDP socket", socket(AF_INET, SOCK_DGRAM, 0), EINVAL },
        { "a packet socket", dup(host), EINVAL },
        { "a netlink socket", socket(AF_NETLINK, SOCK_RAW, 0), EINVAL },
        { "an epoll fd", epoll_create1(0), EINVAL },
        { "an eventfd", eventfd(0, 0), EINVAL },
        { "a memfd", memfd_create("x", 0), EINVAL },
        { "a pipe", pipe(pipes) ? -1 : pipes[0], EBADF },
        { "a socket pair",
          socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) ? -1 : pair[0], EINVAL },
    };

    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        fails(turbotap_socket(wrong[i].fd, 0), wrong[i].error,
              "%s (%d) is refused", wrong[i].what, wrong[i].fd);
        if (wrong[i].fd >= 0) {
            close(wrong[i].fd);
        }
    }
    close(pipes[1]);
    close(pair[1]);

    static const unsigned int flags[] = { 4, 0x800, 0x80000, 0x80000000, -1 };
    for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
        fails(turbotap_socket(queue, flags[i]), EINVAL, "flags %#x", flags[i]);
    }
}

static int
out_of_files(void *control_)
{
    int control = *(int *) control_;
    struct turbotap_socket request = { .tun_fd = queue };
    int fd;

    /* Root is exempt from the limit on the system's files. */
    must(setresuid(65534, 65534, 65534));
    fd = ioctl(control, TURBOTAP_SOCKET, &request);
    return fd >= 0 ? 0 : errno;
}

static void
test_exhaustion(void)
{
    int before = references();
    struct rlimit limit, none = { 0 };
    int control = must(open("/dev/net/turbotap", O_RDWR | O_CLOEXEC));
    struct turbotap_socket request = { .tun_fd = queue };
    char file_max[32];
    FILE *file = fopen("/proc/sys/fs/file-max", "re");

    if (!file || !fgets(file_max, sizeof file_max, file)) {
        bail("/proc/sys/fs/file-max");
    }
    fclose(file);

    must(getrlimit(RLIMIT_NOFILE, &limit));
    none.rlim_max = limit.rlim_max;
    must(setrlimit(RLIMIT_NOFILE, &none));
    fails(ioctl(control, TURBOTAP_SOCKET, &request), EMFILE,
          "no descriptor left");
    must(setrlimit(RLIMIT_NOFILE, &limit));

    write_file("/proc/sys/fs/file-max", "0");
    is(end_child(start_child(out_of_files, &control)), ENFILE,
       "no file left in the system");
    write_file("/proc/sys/fs/file-max", file_max);
    is(end_child(start_child(out_of_files, &control)), 0,
       "the same, when there are");
    close(control);
    is(references(), before, "no failure leaves anything behind");
    ok(alive(), "the socket works");
}

int
main(void)
{
    new_netns();
    queue = tap_queue(name, 0);
    link_set(name, true);
    sock = must(turbotap_socket(queue, TURBOTAP_NONBLOCK));
    must(fcntl(queue, F_SETFL, O_RDWR | O_NONBLOCK));
    host = host_socket(name, ETH_TYPE);

    test_send_control();
    test_receive_control();
    test_pointers();
    test_wrong_descriptors();
    test_exhaustion();
    return done();
}
