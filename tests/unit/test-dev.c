/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Tests of turbotap-dev.h: the device's life, its queues, and that frames of
 * one flow stay in one of them.  It must not know the I/O classes: what is
 * read and written here is so with read() and write(). */

#include <config.h>

#include "host.h"
#include "turbotap-dev.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define TAP "ttd0"
/* So many that none of 8 queues is without one: the kernel's hash, which is
 * another one after each boot, leaves one out with a probability of less than
 * one in a million. */
#define N_FLOWS 128

struct fixture {
    unsigned int n_fds;         /* Before the test. */
    struct turbotap_dev *dev;   /* TAP. */
};

static int
setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    f->n_fds = host_count_fds();
    assert_int_equal(turbotap_dev_open(TAP, false, &f->dev), 0);
    turbotap_dev_open_spares(f->dev);
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;
    int n_leaked;

    turbotap_dev_close(f->dev);
    n_leaked = host_count_fds() - f->n_fds;
    free(f);
    assert_int_equal(n_leaked, 0);
    assert_int_equal(if_nametoindex(TAP), 0);
    return 0;
}

/* Stores the name that the device of 'dev' has now in 'name'.  Returns 0 or a
 * positive errno value. */
static int
get_name(const struct turbotap_dev *dev, char name[IFNAMSIZ])
{
    struct ifreq ifr;

    memset(&ifr, 0, sizeof ifr);
    if (ioctl(turbotap_dev_rxq_fd(dev, 0), TUNGETIFF, &ifr) < 0) {
        return errno;
    }
    memcpy(name, ifr.ifr_name, IFNAMSIZ);
    return 0;
}

/* Flows. */

/* A frame of a UDP flow. */
struct frame {
    struct ethhdr eth;
    struct iphdr ip;
    struct udphdr udp;
    uint16_t flow;
    uint16_t fill[9];
} __attribute__((packed));

/* Fills in '*frame' for 'flow': what the host sends in it, or, if 'reply',
 * what comes back. */
static void
make_frame(struct frame *frame, int flow, bool reply)
{
    uint16_t port = htons(10000 + 7 * flow);
    uint16_t other_port = htons(80);

    memset(frame, 0, sizeof *frame);
    memset(frame->eth.h_dest, 0xff, sizeof frame->eth.h_dest);
    frame->eth.h_source[0] = 2;
    frame->eth.h_proto = htons(ETH_P_IP);
    frame->ip.version = 4;
    frame->ip.ihl = 5;
    frame->ip.ttl = 64;
    frame->ip.protocol = IPPROTO_UDP;
    frame->ip.tot_len = htons(sizeof *frame - sizeof frame->eth);
    frame->ip.saddr = htonl(reply ? 0x0a000002 : 0x0a000001);
    frame->ip.daddr = htonl(reply ? 0x0a000001 : 0x0a000002);
    frame->udp.source = reply ? other_port : port;
    frame->udp.dest = reply ? port : other_port;
    frame->udp.len = htons(sizeof *frame - sizeof frame->eth
                           - sizeof frame->ip);
    frame->flow = flow;
}

/* Sends a frame of 'flow' from the host, receives it and returns the queue
 * that it came through. */
static unsigned int
queue_of_flow(struct turbotap_dev *dev, int host, int flow)
{
    struct pollfd pfds[TURBOTAP_MAX_FDS];
    unsigned int n = turbotap_dev_n_rxq(dev);
    struct frame frame, received;
    unsigned int rxq;

    make_frame(&frame, flow, false);
    assert_int_equal(send(host, &frame, sizeof frame, 0), sizeof frame);

    for (rxq = 0; rxq < n; rxq++) {
        pfds[rxq].fd = turbotap_dev_rxq_fd(dev, rxq);
        pfds[rxq].events = POLLIN;
    }
    assert_int_equal(poll(pfds, n, HOST_PATIENCE), 1);
    for (rxq = 0; !pfds[rxq].revents; rxq++) {
        continue;
    }
    assert_int_equal(read(pfds[rxq].fd, &received, sizeof received),
                     sizeof frame);
    assert_memory_equal(&received, &frame, sizeof frame);
    return rxq;
}

/* Asserts that frames of all flows arrive, and, if 'spread', that they use
 * every queue. */
static void
check_traffic(struct turbotap_dev *dev, bool spread)
{
    char name[IFNAMSIZ];
    bool used[TURBOTAP_MAX_FDS] = { false };
    int host;

    assert_int_equal(get_name(dev, name), 0);
    host_set_up(name, true);
    host = host_open_socket(name, ETH_P_IP);
    for (int flow = 0; flow < N_FLOWS; flow++) {
        used[queue_of_flow(dev, host, flow)] = true;
    }
    for (unsigned int i = 0; spread && i < turbotap_dev_n_rxq(dev); i++) {
        assert_true(used[i]);
    }

    /* And out of each transmit queue. */
    for (unsigned int i = 0; i < turbotap_dev_n_txq(dev); i++) {
        struct frame frame, received;

        make_frame(&frame, i, true);
        assert_int_equal(write(turbotap_dev_txq_fd(dev, i), &frame,
                               sizeof frame), sizeof frame);
        assert_true(host_wait_readable(host, HOST_PATIENCE));
        assert_int_equal(recv(host, &received, sizeof received, 0),
                         sizeof frame);
        assert_memory_equal(&received, &frame, sizeof frame);
    }
    close(host);
}

/* The device's life. */

static void
test_create(void **state)
{
    struct fixture *f = *state;
    char name[IFNAMSIZ];

    assert_true(turbotap_dev_is_created(f->dev));
    assert_int_equal(turbotap_dev_n_rxq(f->dev), 1);
    assert_int_equal(turbotap_dev_n_txq(f->dev), 0);
    assert_int_equal(get_name(f->dev, name), 0);
    assert_string_equal(name, TAP);
    check_traffic(f->dev, true);

    turbotap_dev_close(f->dev);
    f->dev = NULL;
    assert_int_equal(if_nametoindex(TAP), 0);
}

static void
test_descriptor_flags(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(turbotap_dev_set_n_rxq(f->dev, 2), 0);
    assert_int_equal(turbotap_dev_set_n_txq(f->dev, 1), 0);
    for (int i = 0; i < 3; i++) {
        int fd = i < 2 ? turbotap_dev_rxq_fd(f->dev, i)
                       : turbotap_dev_txq_fd(f->dev, 0);

        assert_int_not_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
        assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
        assert_int_not_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    }
}

static void
test_persist_and_adopt(void **state)
{
    struct fixture *f = *state;
    unsigned int ifindex = if_nametoindex(TAP);

    assert_int_equal(turbotap_dev_set_persist(f->dev, true), 0);
    turbotap_dev_close(f->dev);
    assert_int_equal(if_nametoindex(TAP), ifindex);

    assert_int_equal(turbotap_dev_open(TAP, false, &f->dev), 0);
    assert_false(turbotap_dev_is_created(f->dev));
    assert_int_equal(if_nametoindex(TAP), ifindex);
    assert_int_equal(turbotap_dev_set_n_rxq(f->dev, 2), 0);
    check_traffic(f->dev, true);

    assert_int_equal(turbotap_dev_set_persist(f->dev, false), 0);
    turbotap_dev_close(f->dev);
    f->dev = NULL;
    assert_int_equal(if_nametoindex(TAP), 0);
}

/* Asserts that turbotap_dev_open() fails with one of two errors. */
static void
check_open_fails(const char *name, bool vnet_hdr, int error, int or_error)
{
    unsigned int n_fds = host_count_fds();
    struct turbotap_dev *dev = (void *) &n_fds;
    int got;

    got = turbotap_dev_open(name, vnet_hdr, &dev);
    if (got != error && got != or_error) {
        fail_msg("\"%s\": %s, not %s", name, strerror(got), strerror(error));
    }
    assert_null(dev);
    assert_int_equal(host_count_fds(), n_fds);
}

static void
test_bad_name(void **state)
{
    (void) state;
    check_open_fails("", false, EINVAL, 0);
    check_open_fails("sixteen-octets-1", false, ENAMETOOLONG, 0);
    check_open_fails("a/b", false, EINVAL, 0);
    check_open_fails("ttd%d", false, EINVAL, 0);
    assert_int_equal(if_nametoindex("ttd1"), 0);
}

static void
test_name_in_use(void **state)
{
    int fd;

    (void) state;
    host_add_veth("ttdv0", "ttdv1");
    check_open_fails("ttdv0", false, EINVAL, EBUSY);
    check_open_fails("lo", false, EINVAL, EBUSY);
    host_delete("ttdv0");

    /* Nor a tun device, nor one in use whose frames look different. */
    fd = host_open_tap("ttdn0", IFF_TUN | IFF_NO_PI | IFF_MULTI_QUEUE);
    check_open_fails("ttdn0", false, EINVAL, EBUSY);
    close(fd);
    check_open_fails(TAP, true, EINVAL, EBUSY);

    /* A tap with one queue, in use and not. */
    fd = host_open_tap("ttds0", IFF_TAP | IFF_NO_PI);
    check_open_fails("ttds0", false, EINVAL, EBUSY);
    assert_int_equal(ioctl(fd, TUNSETPERSIST, 1), 0);
    close(fd);
    check_open_fails("ttds0", false, EINVAL, EBUSY);
    host_delete("ttds0");
}

static void
test_two_openers(void **state)
{
    struct fixture *f = *state;
    struct turbotap_dev *other;

    assert_int_equal(turbotap_dev_open(TAP, false, &other), 0);
    assert_false(turbotap_dev_is_created(other));

    /* Each takes and leaves queues of its own. */
    assert_int_equal(turbotap_dev_set_n_rxq(other, 3), 0);
    assert_int_equal(turbotap_dev_n_rxq(f->dev), 1);
    turbotap_dev_close(other);
    check_traffic(f->dev, true);
}

static void
test_rename(void **state)
{
    struct fixture *f = *state;
    char name[IFNAMSIZ];

    host_rename(TAP, "ttd1");
    assert_int_equal(get_name(f->dev, name), 0);
    assert_string_equal(name, "ttd1");

    /* New queues go to it and not to a new device with the old name. */
    assert_int_equal(turbotap_dev_set_n_rxq(f->dev, 2), 0);
    assert_int_equal(turbotap_dev_set_n_txq(f->dev, 2), 0);
    assert_int_equal(if_nametoindex(TAP), 0);
    check_traffic(f->dev, true);
}

static void
test_moved(void **state)
{
    struct fixture *f = *state;
    int ours = host_open_other_namespace();
    int away = host_open_other_namespace();
    char name[IFNAMSIZ];

    close(ours);
    ours = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    host_move(TAP, away);
    assert_int_equal(get_name(f->dev, name), 0);
    assert_string_equal(name, TAP);

    /* New queues go to it and not to a new device here, and leave us where we
     * are. */
    assert_int_equal(turbotap_dev_set_n_rxq(f->dev, 3), 0);
    assert_int_equal(turbotap_dev_set_n_txq(f->dev, 1), 0);
    assert_int_equal(if_nametoindex(TAP), 0);

    /* So many and no more, since a descriptor would have to be opened there,
     * but they can come and go. */
    assert_int_equal(turbotap_dev_set_n_rxq(f->dev, TURBOTAP_MOVABLE_RXQS),
                     EXDEV);
    for (unsigned int i = TURBOTAP_MOVABLE_RXQS - 1; i; i--) {
        assert_int_equal(turbotap_dev_set_n_rxq(f->dev, i), 0);
        assert_int_equal(turbotap_dev_set_n_rxq(f->dev, 99), EXDEV);
        assert_int_equal(turbotap_dev_n_rxq(f->dev), i);
    }
    assert_int_equal(turbotap_dev_set_n_rxq(f->dev, 3), 0);

    assert_int_equal(setns(away, CLONE_NEWNET), 0);
    assert_int_not_equal(if_nametoindex(TAP), 0);
    check_traffic(f->dev, true);
    assert_int_equal(setns(ours, CLONE_NEWNET), 0);

    /* Nothing of ours keeps the other namespace, so the device goes with
     * it. */
    close(away);
    assert_true(host_wait_readable(turbotap_dev_txq_fd(f->dev, 0),
                                   HOST_PATIENCE));
    assert_int_equal(get_name(f->dev, name), EBADFD);
    close(ours);
}

/* Moves TAP, which is in the namespace 'ours', to 'away' and back a few
 * times. */
struct mover {
    int ours, away;
};

static void *
move_about(void *mover_)
{
    const struct mover *m = mover_;

    for (int i = 0; i < 5; i++) {
        /* For a moment, a new device may have the name over there. */
        while (!host_try_move(TAP, m->away)) {
            continue;
        }
        assert_int_equal(setns(m->away, CLONE_NEWNET), 0);
        while (!host_try_move(TAP, m->ours)) {
            continue;
        }
        assert_int_equal(setns(m->ours, CLONE_NEWNET), 0);
    }
    return NULL;
}

/* Stores the MAC address of the device of queue 'fd', which no other device
 * has, in 'mac'. */
static void
get_mac(int fd, uint8_t mac[6])
{
    struct ifreq ifr;

    memset(&ifr, 0, sizeof ifr);
    assert_int_equal(ioctl(fd, SIOCGIFHWADDR, &ifr), 0);
    memcpy(mac, ifr.ifr_hwaddr.sa_data, 6);
}

/* A queue that is added while the device moves is not another device's. */
static void
test_moves_meanwhile(void **state)
{
    struct fixture *f = *state;
    uint8_t mac[6], added_mac[6];
    struct mover m;
    int n_added = 0;

    get_mac(turbotap_dev_rxq_fd(f->dev, 0), mac);
    m.ours = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    m.away = host_open_other_namespace();
    for (int i = 0; i < 20; i++) {
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, move_about, &m), 0);
        for (int j = 0; j < 100; j++) {
            int error = turbotap_dev_set_n_rxq(f->dev, 2);

            if (error) {
                assert_true(error == EAGAIN || error == EXDEV);
            } else {
                get_mac(turbotap_dev_rxq_fd(f->dev, 1), added_mac);
                assert_memory_equal(added_mac, mac, sizeof mac);
                assert_int_equal(turbotap_dev_set_n_rxq(f->dev, 1), 0);
                n_added++;
            }
        }
        pthread_join(thread, NULL);
    }
    assert_true(n_added > 0);
    close(m.ours);
    close(m.away);
}

static void
test_deleted(void **state)
{
    struct fixture *f = *state;
    char name[IFNAMSIZ];

    assert_int_equal(turbotap_dev_set_n_rxq(f->dev, 2), 0);
    assert_int_equal(turbotap_dev_set_n_txq(f->dev, 2), 0);
    host_delete(TAP);

    assert_int_equal(get_name(f->dev, name), EBADFD);
    assert_int_equal(turbotap_dev_set_n_rxq(f->dev, 3), EBADFD);
    assert_int_equal(turbotap_dev_set_persist(f->dev, true), EBADFD);
    assert_int_equal(turbotap_dev_set_offload(f->dev, 0), EBADFD);
    assert_int_equal(turbotap_dev_n_rxq(f->dev), 2);
    assert_int_equal(turbotap_dev_n_txq(f->dev), 2);
    assert_int_equal(if_nametoindex(TAP), 0);

    /* Queues can still go away. */
    assert_int_equal(turbotap_dev_set_n_rxq(f->dev, 1), 0);
    assert_int_equal(turbotap_dev_set_n_txq(f->dev, 0), 0);
    assert_int_equal(turbotap_dev_set_n_txq(f->dev, 1), EBADFD);
    assert_int_equal(turbotap_dev_n_txq(f->dev), 0);
}

static void
test_close_null(void **state)
{
    (void) state;
    turbotap_dev_close(NULL);
}

/* In a child in a user namespace below ours, where nothing is permitted. */
static int
be_unprivileged(struct fixture *f)
{
    struct turbotap_dev *dev;
    int error;

    if (unshare(CLONE_NEWUSER)) {
        return 77;
    }
    error = turbotap_dev_open("ttd9", false, &dev);
    if (error != EPERM && error != EACCES) {
        return 1;
    }
    error = turbotap_dev_set_n_rxq(f->dev, 2);
    if (error && error != EPERM && error != EACCES) {
        return 2;
    }
    return 0;
}

static void
test_no_permission(void **state)
{
    struct fixture *f = *state;
    int status;
    pid_t pid;

    pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        _exit(be_unprivileged(f));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        print_message("no user namespace within this one\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(if_nametoindex("ttd9"), 0);
}

/* The number of queues. */

/* Returns how many descriptors a device with 'n_rxq' receive queues has,
 * without its transmit queues. */
static unsigned int
count_fds(unsigned int n_rxq)
{
    return n_rxq > TURBOTAP_MOVABLE_RXQS ? n_rxq : TURBOTAP_MOVABLE_RXQS;
}

static void
test_n_rxq(void **state)
{
    static const unsigned int steps[] = { 4, 1, 2, 8, 3, 3, 1 };
    struct fixture *f = *state;
    unsigned int ifindex = if_nametoindex(TAP);
    unsigned int before = host_count_fds() - count_fds(1);

    assert_int_equal(turbotap_dev_set_n_rxq(f->dev, 0), EINVAL);
    assert_int_equal(turbotap_dev_n_rxq(f->dev), 1);

    check_traffic(f->dev, true);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        unsigned int old_n = turbotap_dev_n_rxq(f->dev);
        int fds[TURBOTAP_MAX_FDS];

        for (unsigned int j = 0; j < old_n; j++) {
            fds[j] = turbotap_dev_rxq_fd(f->dev, j);
        }
        assert_int_equal(turbotap_dev_set_n_rxq(f->dev, steps[i]), 0);
        assert_int_equal(turbotap_dev_n_rxq(f->dev), steps[i]);
        assert_int_equal(host_count_fds(), before + count_fds(steps[i]));
        for (unsigned int j = 0; j < old_n && j < steps[i]; j++) {
            assert_int_equal(turbotap_dev_rxq_fd(f->dev, j), fds[j]);
        }
        check_traffic(f->dev, true);
        assert_int_equal(if_nametoindex(TAP), ifindex);
    }
}

static void
test_n_txq(void **state)
{
    static const unsigned int steps[] = { 4, 1, 0, 2 };
    struct fixture *f = *state;
    unsigned int before = host_count_fds();

    assert_int_equal(turbotap_dev_set_n_rxq(f->dev, 2), 0);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        assert_int_equal(turbotap_dev_set_n_txq(f->dev, steps[i]), 0);
        assert_int_equal(turbotap_dev_n_txq(f->dev), steps[i]);
        assert_int_equal(turbotap_dev_n_rxq(f->dev), 2);
        assert_int_equal(host_count_fds(), before + steps[i]);

        /* All arrives at the two receive queues, nothing at the others. */
        check_traffic(f->dev, true);
        for (unsigned int j = 0; j < steps[i]; j++) {
            assert_false(host_wait_readable(turbotap_dev_txq_fd(f->dev, j),
                                            0));
        }
    }
}

/* In another network namespace, and never a new device there. */
static void
test_open_at(void **state)
{
    struct fixture *f = *state;
    int netns = host_open_other_namespace();
    struct turbotap_dev *dev;
    char name[IFNAMSIZ];

    assert_int_equal(turbotap_dev_open_at(netns, TAP, false, &dev), ENODEV);
    assert_null(dev);

    host_move(TAP, netns);
    assert_int_equal(turbotap_dev_open_at(netns, TAP, true, &dev), EINVAL);
    assert_null(dev);
    assert_int_equal(turbotap_dev_open_at(netns, TAP, false, &dev), 0);
    assert_false(turbotap_dev_is_created(dev));
    assert_int_equal(turbotap_dev_n_rxq(dev), 1);

    /* The same device, though its first opener is gone. */
    assert_int_equal(turbotap_dev_set_persist(dev, true), 0);
    turbotap_dev_close(f->dev);
    f->dev = NULL;
    assert_int_equal(get_name(dev, name), 0);
    assert_string_equal(name, TAP);
    assert_int_equal(if_nametoindex(TAP), 0);
    turbotap_dev_close(dev);
    close(netns);
}

/* Stores copies of the 'n' descriptors 'fds' in 'copies'. */
static void
copy_fds(const int *fds, unsigned int n, int *copies)
{
    for (unsigned int i = 0; i < n; i++) {
        copies[i] = dup(fds[i]);
        assert_true(copies[i] >= 0);
    }
}

/* Copies of a device's descriptors are as good as those that it had. */
static void
test_from_fds(void **state)
{
    struct fixture *f = *state;
    struct turbotap_dev_layout layout, bad;
    int fds[TURBOTAP_MAX_FDS], copies[TURBOTAP_MAX_FDS];
    struct turbotap_dev *dev;
    unsigned int n;

    assert_int_equal(turbotap_dev_set_n_txq(f->dev, 2), 0);
    assert_int_equal(turbotap_dev_set_n_rxq(f->dev, 2), 0);
    n = turbotap_dev_get_fds(f->dev, fds, TURBOTAP_MAX_FDS, &layout);
    assert_int_equal(n, layout.n_rxq + layout.n_txq + layout.n_spares);
    assert_int_equal(layout.n_rxq, 2);
    assert_int_equal(layout.n_txq, 2);

    /* What does not work leaves no descriptor open: no receive queue, and
     * another kind of frames. */
    bad = layout;
    bad.n_txq += bad.n_rxq;
    bad.n_rxq = 0;
    for (int i = 0; i < 2; i++) {
        copy_fds(fds, n, copies);
        assert_int_equal(turbotap_dev_from_fds(copies, i ? &layout : &bad,
                                               i == 1, &dev), EINVAL);
        assert_null(dev);
        for (unsigned int j = 0; j < n; j++) {
            assert_int_equal(fcntl(copies[j], F_GETFD), -1);
        }
    }

    copy_fds(fds, n, copies);
    assert_int_equal(turbotap_dev_from_fds(copies, &layout, false, &dev), 0);
    turbotap_dev_close(f->dev);
    f->dev = dev;
    assert_int_equal(turbotap_dev_n_rxq(dev), 2);
    assert_int_equal(turbotap_dev_n_txq(dev), 2);
    check_traffic(dev, true);
    assert_int_equal(turbotap_dev_set_n_rxq(dev, 4), 0);
    assert_int_equal(turbotap_dev_set_n_txq(dev, 3), 0);
    check_traffic(dev, true);

    /* Of a device that was deleted. */
    n = turbotap_dev_get_fds(dev, fds, TURBOTAP_MAX_FDS, &layout);
    copy_fds(fds, n, copies);
    host_delete(TAP);
    assert_int_equal(turbotap_dev_from_fds(copies, &layout, false, &dev),
                     EBADFD);
    assert_null(dev);
}

/* Returns how many of the 'n' queues in 'fds' are attached. */
static unsigned int
count_attached(const int *fds, unsigned int n)
{
    unsigned int attached = 0;

    for (unsigned int i = 0; i < n; i++) {
        struct ifreq ifr = { .ifr_flags = 0 };

        assert_int_equal(ioctl(fds[i], TUNGETIFF, &ifr), 0);
        attached += !(ifr.ifr_flags & IFF_DETACH_QUEUE);
    }
    return attached;
}

/* Whatever the queues are when their process is killed while it changes them,
 * the next one makes them what it was told: each flow goes to a queue that is
 * read. */
static void
test_from_fds_in_between(void **state)
{
    struct fixture *f = *state;
    struct turbotap_dev_layout layout;
    int fds[TURBOTAP_MAX_FDS], copies[TURBOTAP_MAX_FDS];
    struct turbotap_dev *dev;
    unsigned int n;

    assert_int_equal(turbotap_dev_set_n_txq(f->dev, 2), 0);
    turbotap_dev_open_spares(f->dev);
    n = turbotap_dev_get_fds(f->dev, fds, TURBOTAP_MAX_FDS, &layout);
    assert_int_equal(layout.n_rxq, 1);
    assert_int_equal(layout.n_spares, TURBOTAP_MOVABLE_RXQS - 1);

    /* All can be attached, and none, and anything in between. */
    for (unsigned int bits = 0; bits < 1u << n; bits++) {
        unsigned int n_rxq = 1 + bits % 3;
        struct turbotap_dev_layout wanted = {
            .n_rxq = n_rxq, .n_txq = 2, .n_spares = n - n_rxq - 2 };

        for (unsigned int i = 0; i < n; i++) {
            struct ifreq ifr = { .ifr_flags = (bits & 1u << i
                                               ? IFF_ATTACH_QUEUE
                                               : IFF_DETACH_QUEUE) };

            ioctl(fds[i], TUNSETQUEUE, &ifr);   /* It may be that already. */
        }
        copy_fds(fds, n, copies);
        assert_int_equal(turbotap_dev_from_fds(copies, &wanted, false, &dev),
                         0);
        assert_int_equal(turbotap_dev_n_rxq(dev), n_rxq);
        assert_int_equal(turbotap_dev_n_txq(dev), 2);
        assert_int_equal(count_attached(fds, n), n_rxq);
        for (unsigned int i = 0; i < n_rxq; i++) {
            int fd = turbotap_dev_rxq_fd(dev, i);

            assert_int_equal(count_attached(&fd, 1), 1);
        }
        if (bits % 16 == 1) {
            check_traffic(dev, true);
        }
        turbotap_dev_close(dev);
    }
}

/* What somebody who attaches a queue does to the device is noticed, and taken
 * back. */
static void
test_restore(void **state)
{
    struct sock_filter drop = { .code = BPF_RET | BPF_K, .k = 0 };
    struct sock_fprog fprog = { .len = 1, .filter = &drop };
    struct fixture *f = *state;
    struct turbotap_dev *dev;
    const int zero = 0;
    int value;
    int fd;

    assert_int_equal(turbotap_dev_open("ttd2", true, &dev), 0);
    assert_int_equal(turbotap_dev_set_vnet_hdr_size(dev, 12), 0);
    assert_int_equal(turbotap_dev_set_offload(dev, TURBOTAP_TSO_OFFLOADS), 0);
    assert_int_equal(turbotap_dev_check(dev), 0);

    fd = host_open_tap("ttd2", IFF_TAP | IFF_MULTI_QUEUE | IFF_VNET_HDR);
    value = 64;
    assert_int_equal(ioctl(fd, TUNSETVNETHDRSZ, &value), 0);
    assert_int_equal(turbotap_dev_check(dev), TURBOTAP_DEV_VNET_HDR_SIZE);
    assert_int_equal(ioctl(fd, TUNSETVNETLE, &zero), 0);
    value = 1;
    assert_int_equal(ioctl(fd, TUNSETSNDBUF, &value), 0);
    assert_int_equal(ioctl(fd, TUNATTACHFILTER, &fprog), 0);
    assert_int_equal(ioctl(fd, TUNSETOFFLOAD, 0L), 0);
    close(fd);
    assert_int_equal(turbotap_dev_check(dev),
                     TURBOTAP_DEV_VNET_HDR_SIZE | TURBOTAP_DEV_BYTE_ORDER
                     | TURBOTAP_DEV_SNDBUF);

    assert_int_equal(turbotap_dev_restore(dev), 0);
    assert_int_equal(turbotap_dev_check(dev), 0);
    assert_int_equal(ioctl(turbotap_dev_rxq_fd(dev, 0), TUNGETVNETHDRSZ,
                           &value), 0);
    assert_int_equal(value, 12);
    turbotap_dev_close(dev);

    /* One without a virtio-net header has none to be set back. */
    assert_int_equal(turbotap_dev_check(f->dev), 0);
    assert_int_equal(turbotap_dev_restore(f->dev), 0);
    check_traffic(f->dev, true);
}

static void
test_fds_of_device(void **state)
{
    struct fixture *f = *state;
    struct turbotap_dev *other;
    unsigned int n_fds;

    assert_int_equal(turbotap_dev_set_n_rxq(f->dev, 4), 0);
    assert_int_equal(turbotap_dev_set_n_txq(f->dev, 2), 0);
    n_fds = host_count_fds();

    assert_int_equal(turbotap_dev_set_n_rxq(f->dev, TURBOTAP_MAX_FDS - 1),
                     E2BIG);
    assert_int_equal(turbotap_dev_set_n_rxq(f->dev, 1000000), E2BIG);
    assert_int_equal(turbotap_dev_n_rxq(f->dev), 4);
    assert_int_equal(host_count_fds(), n_fds);
    check_traffic(f->dev, true);

    /* Those that share a queue do not count. */
    assert_int_equal(turbotap_dev_set_n_txq(f->dev, TURBOTAP_MAX_FDS + 1),
                     E2BIG);
    assert_int_equal(turbotap_dev_n_txq(f->dev), 2);
    assert_int_equal(turbotap_dev_set_n_txq(f->dev, TURBOTAP_MAX_FDS), 0);
    assert_int_equal(turbotap_dev_n_txq(f->dev), TURBOTAP_MAX_FDS);
    assert_int_equal(host_count_fds(), n_fds + TURBOTAP_MAX_FDS - 2);
    check_traffic(f->dev, true);
    assert_int_equal(turbotap_dev_set_n_txq(f->dev, 0), 0);
    n_fds -= 2;
    assert_int_equal(host_count_fds(), n_fds);

    /* The last one fits, with nobody else there. */
    assert_int_equal(turbotap_dev_set_n_txq(f->dev, TURBOTAP_MAX_FDS - 3),
                     E2BIG);
    assert_int_equal(turbotap_dev_n_txq(f->dev), 0);
    assert_int_equal(turbotap_dev_open(TAP, false, &other), 0);
    assert_int_equal(turbotap_dev_set_n_txq(f->dev, TURBOTAP_MAX_FDS - 4),
                     E2BIG);
    assert_int_equal(turbotap_dev_n_txq(f->dev), 0);
    turbotap_dev_close(other);
    assert_int_equal(host_count_fds(), n_fds);
    check_traffic(f->dev, true);
    assert_int_equal(turbotap_dev_set_n_txq(f->dev, TURBOTAP_MAX_FDS - 4), 0);
    assert_int_equal(turbotap_dev_n_txq(f->dev), TURBOTAP_MAX_FDS - 4);
    assert_int_equal(host_count_fds(), n_fds + TURBOTAP_MAX_FDS - 4);
    check_traffic(f->dev, true);

    assert_int_equal(turbotap_dev_set_n_txq(f->dev, 0), 0);
    assert_int_equal(turbotap_dev_set_n_rxq(f->dev, TURBOTAP_MAX_FDS), 0);
    check_traffic(f->dev, false);
}

static void
test_fds_of_process(void **state)
{
    struct fixture *f = *state;
    struct turbotap_dev *other;
    struct rlimit old, low;

    assert_int_equal(turbotap_dev_set_n_rxq(f->dev, 2), 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);

    for (unsigned int i = 0; i < 12; i++) {
        unsigned int n_txq = i / 6;
        unsigned int room = i % 6;
        int rxq_error, txq_error, open_error = EMFILE;
        unsigned int n_fds, lowest;

        assert_int_equal(turbotap_dev_set_n_txq(f->dev, n_txq), 0);
        n_fds = host_count_fds();
        lowest = dup(turbotap_dev_rxq_fd(f->dev, 0));
        close(lowest);
        low = old;
        low.rlim_cur = lowest + room;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
        rxq_error = turbotap_dev_set_n_rxq(f->dev, 9);
        txq_error = turbotap_dev_set_n_txq(f->dev, 8);
        if (room < 5) {
            open_error = turbotap_dev_open("ttd9", false, &other);
        }
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);

        assert_int_equal(rxq_error, EMFILE);
        assert_int_equal(txq_error, EMFILE);
        assert_int_equal(open_error, EMFILE);
        assert_int_equal(turbotap_dev_n_rxq(f->dev), 2);
        assert_int_equal(turbotap_dev_n_txq(f->dev), n_txq);
        assert_int_equal(host_count_fds(), n_fds);
        check_traffic(f->dev, true);
    }
    assert_int_equal(if_nametoindex("ttd9"), 0);
}

/* The order of a flow's frames: what is sent must not move the flow to
 * another receive queue. */

/* Sends the reply of each flow, through a transmit queue or, if 'attached',
 * through a receive queue other than the flow's, and returns how many flows
 * then changed their receive queue. */
static unsigned int
count_moved_flows(struct fixture *f, bool attached)
{
    unsigned int n_moved = 0;
    int host;

    assert_int_equal(turbotap_dev_set_n_rxq(f->dev, 4), 0);
    assert_int_equal(turbotap_dev_set_n_txq(f->dev, 4), 0);
    host_set_up(TAP, true);
    host = host_open_socket(TAP, ETH_P_IP);

    for (int flow = 0; flow < N_FLOWS; flow++) {
        unsigned int before = queue_of_flow(f->dev, host, flow);
        unsigned int other = (before + 1 + flow % 3) % 4;
        struct frame reply;

        make_frame(&reply, flow, true);
        assert_int_equal(write(attached ? turbotap_dev_rxq_fd(f->dev, other)
                               : turbotap_dev_txq_fd(f->dev, other),
                               &reply, sizeof reply), sizeof reply);
        n_moved += queue_of_flow(f->dev, host, flow) != before;
    }
    close(host);
    return n_moved;
}

static void
test_txq_moves_no_flow(void **state)
{
    assert_int_equal(count_moved_flows(*state, false), 0);
}

/* Shows that test_txq_moves_no_flow() would see it. */
static void
test_attached_queue_moves_flows(void **state)
{
    assert_int_equal(count_moved_flows(*state, true), N_FLOWS);
}

/* What transmit queues send has the number of receive queue 0, not one that no
 * receive queue has: the host has use for it. */
static void
test_txq_number(void **state)
{
    enum { N = 3 };
    struct fixture *f = *state;
    int fanout = PACKET_FANOUT_QM << 16 | 1;
    int hosts[N];

    assert_int_equal(turbotap_dev_set_n_rxq(f->dev, 2), 0);
    assert_int_equal(turbotap_dev_set_n_txq(f->dev, 4), 0);
    assert_int_equal(turbotap_dev_set_n_txq(f->dev, 3), 0);
    assert_int_equal(turbotap_dev_set_n_txq(f->dev, 8), 0);
    host_set_up(TAP, true);
    check_traffic(f->dev, true);

    /* The kernel gives a frame to the socket whose place in the group is the
     * frame's number, counted from 1, modulo the sockets. */
    for (int i = 0; i < N; i++) {
        hosts[i] = host_open_socket(TAP, ETH_P_IP);
        assert_int_equal(setsockopt(hosts[i], SOL_PACKET, PACKET_FANOUT,
                                    &fanout, sizeof fanout), 0);
    }
    for (unsigned int i = 0; i < turbotap_dev_n_txq(f->dev); i++) {
        struct frame frame, received;

        make_frame(&frame, i, true);
        assert_int_equal(write(turbotap_dev_txq_fd(f->dev, i), &frame,
                               sizeof frame), sizeof frame);
        assert_true(host_wait_readable(hosts[1], HOST_PATIENCE));
        assert_int_equal(recv(hosts[1], &received, sizeof received, 0),
                         sizeof frame);
    }
    for (int i = 0; i < N; i++) {
        close(hosts[i]);
    }
}

/* Offloads and the virtio-net header. */

static void
test_offload(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(turbotap_dev_set_offload(f->dev, TUN_F_CSUM), 0);
    assert_int_equal(turbotap_dev_set_offload(f->dev, TUN_F_CSUM | TUN_F_TSO4
                                              | TUN_F_TSO6), 0);
    assert_int_equal(turbotap_dev_set_offload(f->dev, 0), 0);
    assert_int_equal(turbotap_dev_set_offload(f->dev, 1U << 30), EINVAL);
}

static void
test_vnet_hdr(void **state)
{
    static const int sizes[] = { 10, 12 };
    struct turbotap_dev *dev;
    uint8_t data[256];
    struct frame frame;
    int host;

    (void) state;
    assert_int_equal(turbotap_dev_open("ttd8", true, &dev), 0);
    assert_int_equal(turbotap_dev_set_n_txq(dev, 1), 0);
    check_open_fails("ttd8", false, EINVAL, EBUSY);
    host_set_up("ttd8", true);
    host = host_open_socket("ttd8", ETH_P_IP);
    make_frame(&frame, 0, false);

    for (int i = 0; i < 2; i++) {
        const int size = sizes[i];

        assert_int_equal(turbotap_dev_set_vnet_hdr_size(dev, size), 0);
        assert_int_equal(send(host, &frame, sizeof frame, 0), sizeof frame);
        assert_int_equal(read(turbotap_dev_rxq_fd(dev, 0), data, sizeof data),
                         size + sizeof frame);
        assert_memory_equal(data + size, &frame, sizeof frame);

        memset(data, 0, size);
        assert_int_equal(write(turbotap_dev_txq_fd(dev, 0), data,
                               size + sizeof frame), size + sizeof frame);
        assert_true(host_wait_readable(host, HOST_PATIENCE));
        assert_int_equal(recv(host, data, sizeof data, 0), sizeof frame);
        assert_memory_equal(data, &frame, sizeof frame);
    }
    assert_int_equal(turbotap_dev_set_vnet_hdr_size(dev, 9), EINVAL);

    close(host);
    turbotap_dev_close(dev);
}

#define TEST(NAME) cmocka_unit_test_setup_teardown(NAME, setup, teardown)

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_create),
        TEST(test_descriptor_flags),
        TEST(test_persist_and_adopt),
        TEST(test_bad_name),
        TEST(test_name_in_use),
        TEST(test_two_openers),
        TEST(test_rename),
        TEST(test_moved),
        TEST(test_moves_meanwhile),
        TEST(test_deleted),
        TEST(test_no_permission),
        TEST(test_n_rxq),
        TEST(test_n_txq),
        TEST(test_open_at),
        TEST(test_from_fds),
        TEST(test_from_fds_in_between),
        TEST(test_restore),
        TEST(test_fds_of_device),
        TEST(test_fds_of_process),
        TEST(test_txq_moves_no_flow),
        TEST(test_attached_queue_moves_flows),
        TEST(test_txq_number),
        TEST(test_offload),
        TEST(test_vnet_hdr),
        cmocka_unit_test(test_close_null),
    };

    host_enter_namespace();
    return cmocka_run_group_tests_name("dev", tests, NULL, NULL);
}
