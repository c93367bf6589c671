/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the module's tests share: TAP output, a tap device in a network
 * namespace of the test's own, and frames whose content can be checked.  Knows
 * nothing of what is tested.
 *
 * A helper that cannot do its work ends the test: only the checks of a test
 * are allowed to fail.
 *
 * Copyright (c) 2026 The turbotap authors.
 */
#ifndef TURBOTAP_TEST_H
#define TURBOTAP_TEST_H 1

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/virtio_net.h>
#include <linux/turbotap.h>

#define ARRAY_SIZE(A) (sizeof(A) / sizeof((A)[0]))
#define ETH_LEN 14              /* Octets of an Ethernet header. */
#define ETH_TYPE 0x88b5         /* IEEE 802's own "local experimental". */
#define MAX_BATCH 64

/* TAP. */

static int n_tests, n_failed;

/* Reports 'good' as the outcome of one test and returns it. */
__attribute__((format(printf, 2, 3)))
static inline bool
ok(bool good, const char *format, ...)
{
    va_list args;

    n_failed += !good;
    printf("%sok %d - ", good ? "" : "not ", ++n_tests);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
    return good;
}

/* Is 'got' what was wanted? */
#define is(GOT, WANT, ...)                                              \
    do {                                                                \
        errno = 0;                                                      \
        long got_ = (GOT);                                              \
        int errno_ = errno;                                             \
        long want_ = (WANT);                                            \
        if (!ok(got_ == want_, __VA_ARGS__)) {                          \
            printf("# %s:%d: got %ld (%s), wanted %ld\n", __FILE__,     \
                   __LINE__, got_, strerror(errno_), want_);            \
        }                                                               \
    } while (0)

/* Does the call return -1 with 'ERROR' in errno? */
#define fails(CALL, ERROR, ...)                                         \
    do {                                                                \
        errno = 0;                                                      \
        long got_ = (long) (CALL);                                      \
        int errno_ = errno;                                             \
        if (!ok(got_ == -1 && errno_ == (ERROR), __VA_ARGS__)) {        \
            printf("# %s:%d: returned %ld (%s), wanted %s\n", __FILE__, \
                   __LINE__, got_, strerror(errno_), strerror(ERROR));  \
        }                                                               \
    } while (0)

/* Reports that a test could not run, because of 'reason'. */
static inline void
skip(const char *test, const char *reason)
{
    printf("ok %d - %s # SKIP %s\n", ++n_tests, test, reason);
}

/* Ends the program's output; main() returns what this does. */
static inline int
done(void)
{
    printf("1..%d\n", n_tests);
    return n_failed != 0;
}

/* Ends the program because the test itself could not do 'what'. */
static inline void
bail(const char *what)
{
    printf("Bail out! %s: %s\nnot ok %d - set-up\n", what, strerror(errno),
           ++n_tests);
    fflush(stdout);
    _exit(1);
}

/* Ends the program if RESULT, of a system call, says that it failed. */
#define must(RESULT)                            \
    ({                                          \
        long result_ = (RESULT);                \
        if (result_ < 0) {                      \
            bail(#RESULT);                      \
        }                                       \
        result_;                                \
    })

/* Devices. */

static inline void
write_file(const char *name, const char *text)
{
    int fd = must(open(name, O_WRONLY | O_CLOEXEC));

    must(write(fd, text, strlen(text)));
    close(fd);
}

/* Enters a new network namespace, one in which the kernel sends no frames on
 * its own account (IPv6 would), and has /sys show it. */
static inline void
new_netns(void)
{
    must(unshare(CLONE_NEWNET | CLONE_NEWNS));
    must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
    must(mount("sysfs", "/sys", "sysfs", 0, NULL));
    /* Where the kernel has that. */
    mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
    if (!access("/proc/sys/net/ipv6", F_OK)) {
        write_file("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    }
}

/* Returns what the ioctl does, or -1 if there is no socket for it. */
static inline int
ifreq_ioctl(unsigned long request, struct ifreq *ifr)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int result = ioctl(fd, request, ifr);
    int error = errno;

    if (fd >= 0) {
        close(fd);
    }
    errno = error;
    return result;
}

static inline void
link_set(const char *name, bool up)
{
    struct ifreq ifr = { .ifr_flags = 0 };

    strcpy(ifr.ifr_name, name);
    must(ifreq_ioctl(SIOCGIFFLAGS, &ifr));
    if (up) {
        ifr.ifr_flags |= IFF_UP;
    } else {
        ifr.ifr_flags &= ~IFF_UP;
    }
    must(ifreq_ioctl(SIOCSIFFLAGS, &ifr));
}

static inline void
link_mtu(const char *name, int mtu)
{
    struct ifreq ifr = { .ifr_mtu = mtu };

    strcpy(ifr.ifr_name, name);
    must(ifreq_ioctl(SIOCSIFMTU, &ifr));
}

/* Sends rtnetlink request 'type' on link 'name', with 'attribute' = 'value'
 * unless 'attribute' is 0.  Returns 0, or -1 with errno. */
static inline int
link_request(const char *name, int type, int attribute, uint32_t value)
{
    struct {
        struct nlmsghdr nlh;
        struct ifinfomsg ifi;
        struct rtattr attr;
        uint32_t value;
    } request = {
        .nlh = {
            .nlmsg_len = sizeof request,
            .nlmsg_type = type,
            .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK,
        },
        .ifi = { .ifi_index = if_nametoindex(name) },
        .attr = { .rta_len = RTA_LENGTH(4), .rta_type = attribute },
        .value = value,
    };
    struct {
        struct nlmsghdr nlh;
        struct nlmsgerr error;
        uint8_t rest[1024];
    } reply;
    bool answered;
    int fd;

    if (!attribute) {
        request.nlh.nlmsg_len = NLMSG_LENGTH(sizeof request.ifi);
    }
    if (!request.ifi.ifi_index) {
        errno = ENODEV;
        return -1;
    }
    fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    answered = send(fd, &request, request.nlh.nlmsg_len, 0) >= 0
               && recv(fd, &reply, sizeof reply, 0) >= 0;
    if (answered) {
        errno = -reply.error.error;
    }
    if (fd >= 0) {
        close(fd);
    }
    return answered && !reply.error.error ? 0 : -1;
}

static inline int
link_delete(const char *name)
{
    return link_request(name, RTM_DELLINK, 0, 0);
}

/* Moves link 'name' into the network namespace that 'netns_fd' names. */
static inline int
link_move(const char *name, int netns_fd)
{
    return link_request(name, RTM_SETLINK, IFLA_NET_NS_FD, netns_fd);
}

/* A new queue of tap 'name', which it creates if need be; more TUNSETIFF flags
 * in 'flags'. */
static inline int
tap_queue(const char *name, int flags)
{
    int fd = must(open("/dev/net/tun", O_RDWR | O_CLOEXEC));
    struct ifreq ifr = {
        .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE | flags,
    };

    strcpy(ifr.ifr_name, name);
    must(ioctl(fd, TUNSETIFF, &ifr));
    return fd;
}

static inline int
tap_attach(int tun_fd, bool attach)
{
    struct ifreq ifr = {
        .ifr_flags = attach ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE,
    };

    return ioctl(tun_fd, TUNSETQUEUE, &ifr);
}

/* How often the module is in use, by which a leak would show. */
static inline int
references(void)
{
    FILE *file = fopen("/sys/module/turbotap/refcnt", "re");
    int n = -1;

    if (!file || fscanf(file, "%d", &n) != 1) {
        bail("/sys/module/turbotap/refcnt");
    }
    fclose(file);
    return n;
}

/* Calls TURBOTAP_SOCKET; returns what it does. */
static inline int
turbotap_socket(int tun_fd, unsigned int flags)
{
    struct turbotap_socket request = { .tun_fd = tun_fd, .flags = flags };
    int fd = must(open("/dev/net/turbotap", O_RDWR | O_CLOEXEC));
    int result = ioctl(fd, TURBOTAP_SOCKET, &request);
    int error = errno;

    close(fd);
    errno = error;
    return result;
}

/* The host's side of device 'name': what is sent on it comes out of the tap's
 * queues, and frames of Ethernet type 'type' that go into those are received
 * from it. */
static inline int
host_socket(const char *name, int type)
{
    int fd = must(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
    struct sockaddr_ll sll = {
        .sll_family = AF_PACKET,
        .sll_protocol = htons(type),
        .sll_ifindex = must((int) if_nametoindex(name) ?: -1),
    };
    int on = 1, size = 8 << 20;

    must(bind(fd, (struct sockaddr *) &sll, sizeof sll));
    must(setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on));
    /* It should not see what it sent itself. */
    must(setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on));
    must(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size));
    must(setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size));
    return fd;
}

/* Frames.  A frame has its number after the Ethernet header, and then octets
 * that follow from number and position. */

static inline void
make_frame(uint8_t *frame, size_t length, uint32_t number)
{
    static const uint8_t header[ETH_LEN] = {
        255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1,
        ETH_TYPE >> 8, ETH_TYPE & 255,
    };

    for (size_t i = 0; i < length; i++) {
        frame[i] = i < ETH_LEN ? header[i]
                   : i < ETH_LEN + 4 ? number >> 8 * (i - ETH_LEN)
                   : number + i;
    }
}

/* Are the first 'length' octets of 'frame' those of frame 'number'? */
static inline bool
frame_is(const uint8_t *frame, size_t length, uint32_t number)
{
    uint8_t want[length ? length : 1];

    make_frame(want, length, number);
    return !memcmp(frame, want, length);
}

/* A queue of a new tap 'name' whose send buffer has room for one frame, which
 * GRO keeps in it for 2 seconds if it is one of make_held_frame(). */
static inline int
limited_queue(const char *name)
{
    int fd = tap_queue(name, IFF_NAPI | IFF_VNET_HDR), size = 512;
    char file_name[80];

    snprintf(file_name, sizeof file_name, "/sys/class/net/%s/%s", name,
             "gro_flush_timeout");
    write_file(file_name, "2000000000");
    snprintf(file_name, sizeof file_name, "/sys/class/net/%s/%s", name,
             "napi_defer_hard_irqs");
    write_file(file_name, "1000");
    link_set(name, true);
    must(ioctl(fd, TUNSETSNDBUF, &size));
    return fd;
}

/* A frame for limited_queue(), with the header for virtio-net: GRO only holds
 * TCP, with data and a checksum that it need not check. */
enum { HELD_LEN = sizeof(struct virtio_net_hdr) + ETH_LEN + 40 + 100 };

static inline void
make_held_frame(uint8_t frame[HELD_LEN])
{
    enum { H = sizeof(struct virtio_net_hdr) };
    uint8_t *ip = frame + H + ETH_LEN;

    make_frame(frame + H, HELD_LEN - H, 3);
    memset(frame, 0, H);
    *(struct virtio_net_hdr *) frame = (struct virtio_net_hdr) {
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .csum_start = ETH_LEN + 20,
        .csum_offset = 16,
    };
    frame[H + 12] = 8;
    frame[H + 13] = 0;
    memset(ip, 0, 40);
    ip[0] = 0x45;
    ip[3] = 140;
    ip[6] = 0x40;
    ip[8] = 64;
    ip[9] = IPPROTO_TCP;
    ip[10] = 0x3a;      /* Checksum of this header. */
    ip[11] = 0x6d;
    ip[32] = 0x50;
    ip[33] = 0x10;
}

/* Sends 'frame', one of make_held_frame(), on socket 's' of limited_queue()
 * until one is held: GRO lets go at once of a frame that it is done with after
 * the next tick, which a slow machine is.  'raw' is where those come out.
 * Returns false if it never holds any. */
static inline bool
hold_frame(int s, int raw, const uint8_t frame[HELD_LEN])
{
    uint8_t got[HELD_LEN];

    for (int i = 0; i < 1000; i++) {
        if (send(s, frame, HELD_LEN, MSG_DONTWAIT) != HELD_LEN) {
            return false;
        }
        if (recv(raw, got, sizeof got, MSG_DONTWAIT) < 0) {
            return errno == EAGAIN;
        }
    }
    return false;
}

/* Receives a frame that a limited_queue() has let go, like recv().  That there
 * is room again is known a moment before 'raw' has the frame. */
static inline ssize_t
recv_released(int raw, void *frame, size_t size)
{
    struct pollfd pfd = { .fd = raw, .events = POLLIN };

    must(poll(&pfd, 1, 10000));
    return recv(raw, frame, size, MSG_DONTWAIT);
}

/* Has the host send frames 'first' to 'first' + 'n' - 1. */
static inline void
host_sends(int host, size_t length, uint32_t first, int n)
{
    uint8_t frame[length];

    for (int i = 0; i < n; i++) {
        make_frame(frame, length, first + i);
        must(send(host, frame, length, 0));
    }
}

/* Takes what the host has received.  Returns how many of frames 'first',
 * 'first' + 1, ... came in this order, or -1 if something else came. */
static inline int
host_receives(int host, size_t length, uint32_t first)
{
    uint8_t frame[length + 1];
    int n = 0;
    ssize_t got;

    while ((got = recv(host, frame, sizeof frame, MSG_DONTWAIT)) >= 0) {
        if (got != (ssize_t) length || !frame_is(frame, length, first + n)) {
            return -1;
        }
        n++;
    }
    return n;
}

/* Batches for recvmmsg() and sendmmsg(). */
struct batch {
    struct mmsghdr msgs[MAX_BATCH];
    struct iovec iovs[MAX_BATCH];
    uint8_t data[MAX_BATCH][2048];
};

/* Sets up 'batch' with one buffer of 'size' octets for each message. */
static inline void
batch_init(struct batch *batch, size_t size)
{
    memset(batch->msgs, 0, sizeof batch->msgs);
    for (int i = 0; i < MAX_BATCH; i++) {
        batch->iovs[i].iov_base = batch->data[i];
        batch->iovs[i].iov_len = size;
        batch->msgs[i].msg_hdr.msg_iov = &batch->iovs[i];
        batch->msgs[i].msg_hdr.msg_iovlen = 1;
    }
}

/* As batch_init(), with frames 'first' and following in the buffers. */
static inline void
batch_frames(struct batch *batch, size_t length, uint32_t first)
{
    batch_init(batch, length);
    for (int i = 0; i < MAX_BATCH; i++) {
        make_frame(batch->data[i], length, first + i);
    }
}

/* Are the first 'n' messages of 'batch' frames 'first' and following, whole
 * and of 'length' octets? */
static inline bool
batch_is(const struct batch *batch, int n, size_t length, uint32_t first)
{
    for (int i = 0; i < n; i++) {
        if (batch->msgs[i].msg_len != length
            || batch->msgs[i].msg_hdr.msg_flags
            || !frame_is(batch->data[i], length, first + i)) {
            return false;
        }
    }
    return true;
}

/* Other. */

static inline double
seconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* Waits until thread 'tid' of this process sleeps in the kernel. */
static inline void
wait_until_blocked(pid_t tid)
{
    double end = seconds() + 20;
    char name[64], state;
    FILE *file;

    snprintf(name, sizeof name, "/proc/self/task/%d/stat", (int) tid);
    do {
        state = 0;
        file = fopen(name, "re");
        if (file) {
            if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1) {
                state = 0;
            }
            fclose(file);
        }
        if (state == 'S') {
            return;
        }
        usleep(1000);
    } while (seconds() < end);
    errno = ETIMEDOUT;
    bail("thread did not block");
}

/* Starts 'function'('argument') in a child process; returns its pid. */
static inline pid_t
start_child(int (*function)(void *), void *argument)
{
    fflush(stdout);
    pid_t pid = must(fork());

    if (!pid) {
        _exit(function(argument));
    }
    return pid;
}

/* Waits for child 'pid'; returns its exit status, or -1 if it was killed. */
static inline int
end_child(pid_t pid)
{
    int status;

    must(waitpid(pid, &status, 0));
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#endif /* test.h */
