/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Tests of turbotap-link.h, requests, and turbotap-watch.h.  It must not know
 * how rtnetlink is spoken, except to forge the messages that no device here
 * sends. */

#include <config.h>

#include "host.h"
#include "turbotap-watch.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define TAP "ttl0"
#define MAX_TAP_MTU 65521

/* What each test has: a tap device and a handle for requests. */
struct fixture {
    unsigned int n_fds;         /* Before the test. */
    int tap;                    /* Descriptor that keeps TAP. */
    int ifindex;                /* Of TAP. */
    struct turbotap_link *link;
    struct turbotap_watch *watch;
};

/* Takes the place of the C library's: call number 'failing_recvmsg', counted
 * from 1 on, finds no memory. */
static unsigned int n_recvmsg, failing_recvmsg;

ssize_t
recvmsg(int fd, struct msghdr *msg, int flags)
{
    ssize_t (*real)(int, struct msghdr *, int);

    if (++n_recvmsg == failing_recvmsg) {
        errno = ENOMEM;
        return -1;
    }
    *(void **) &real = dlsym(RTLD_NEXT, "recvmsg");
    return real(fd, msg, flags);
}

static int
setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct turbotap_link_info info;

    f->n_fds = host_count_fds();
    f->tap = host_open_tap(TAP, IFF_TAP | IFF_NO_PI);
    assert_int_equal(turbotap_link_open(&f->link), 0);
    assert_int_equal(turbotap_link_lookup(f->link, TURBOTAP_NSID_SELF, TAP,
                                          &info), 0);
    f->ifindex = info.ifindex;
    assert_int_equal(turbotap_watch_open(&f->watch), 0);
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;
    int n_leaked;

    turbotap_watch_close(f->watch);
    turbotap_link_close(f->link);
    close(f->tap);
    n_leaked = host_count_fds() - f->n_fds;
    free(f);
    assert_int_equal(n_leaked, 0);
    return 0;
}

static struct turbotap_link_info
get(struct fixture *f)
{
    struct turbotap_link_info info;

    memset(&info, 0xff, sizeof info);
    assert_int_equal(turbotap_link_get(f->link, TURBOTAP_NSID_SELF,
                                       f->ifindex, &info), 0);
    return info;
}

/* Requests. */

static void
test_lookup(void **state)
{
    const char *bad[] = { "nosuch", "", "a-name-of-16-octets" + 3 };
    struct fixture *f = *state;
    struct turbotap_link_info info;

    assert_int_equal(f->ifindex, if_nametoindex(TAP));
    assert_int_equal(turbotap_link_lookup(f->link, TURBOTAP_NSID_SELF, "lo",
                                          &info), 0);
    assert_int_equal(info.ifindex, 1);
    assert_string_equal(info.kind, "");
    assert_int_equal(turbotap_link_lookup(f->link, TURBOTAP_NSID_SELF, TAP,
                                          &info), 0);
    assert_string_equal(info.kind, "tun");

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(turbotap_link_lookup(f->link, TURBOTAP_NSID_SELF,
                                              bad[i], &info), ENODEV);
    }
    assert_int_equal(turbotap_link_lookup(f->link, 12345, TAP, &info),
                     EINVAL);
}

static void
test_get(void **state)
{
    struct fixture *f = *state;
    struct turbotap_link_info info = get(f);
    struct ifreq ifr = { .ifr_name = TAP };

    assert_int_equal(info.ifindex, f->ifindex);
    assert_string_equal(info.name, TAP);
    assert_int_equal(info.mtu, 1500);
    assert_int_equal(info.flags & IFF_UP, 0);
    assert_int_not_equal(info.flags & IFF_BROADCAST, 0);
    assert_false(info.carrier);
    assert_string_equal(info.alias, "");
    assert_int_equal(info.stats.tx_packets, 0);

    assert_int_equal(ioctl(f->tap, SIOCGIFHWADDR, &ifr), 0);
    assert_memory_equal(info.mac, ifr.ifr_hwaddr.sa_data, 6);

    /* Its index survives a rename. */
    host_rename(TAP, "ttl1");
    assert_string_equal(get(f).name, "ttl1");
}

static void
test_no_device(void **state)
{
    static const int bad[] = { 0, -1, 1000000 };
    struct fixture *f = *state;
    struct turbotap_link_info info;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(turbotap_link_get(f->link, TURBOTAP_NSID_SELF,
                                           bad[i], &info), ENODEV);
        assert_int_equal(turbotap_link_set_mtu(f->link, bad[i], 1400),
                         ENODEV);
        assert_int_equal(turbotap_link_set_flags(f->link, bad[i], 0, IFF_UP),
                         ENODEV);
        assert_int_equal(turbotap_link_set_noqueue(f->link, bad[i]), ENODEV);
        assert_int_equal(turbotap_link_set_alias(f->link, bad[i], "x"),
                         ENODEV);
    }

    /* The handle is still good. */
    assert_string_equal(get(f).name, TAP);
}

static void
test_mtu(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(turbotap_link_set_mtu(f->link, f->ifindex, 9000), 0);
    assert_int_equal(get(f).mtu, 9000);
    assert_int_equal(turbotap_link_set_mtu(f->link, f->ifindex,
                                           MAX_TAP_MTU), 0);
    assert_int_equal(get(f).mtu, MAX_TAP_MTU);

    assert_int_equal(turbotap_link_set_mtu(f->link, f->ifindex,
                                           MAX_TAP_MTU + 1), EINVAL);
    assert_int_equal(turbotap_link_set_mtu(f->link, f->ifindex, 10), EINVAL);
    assert_int_equal(get(f).mtu, MAX_TAP_MTU);
}

static void
test_flags(void **state)
{
    struct fixture *f = *state;
    const unsigned int before = get(f).flags;

    assert_int_equal(turbotap_link_set_flags(f->link, f->ifindex, 0,
                                             IFF_UP | IFF_PROMISC), 0);
    assert_int_equal(get(f).flags & (IFF_UP | IFF_PROMISC),
                     IFF_UP | IFF_PROMISC);

    /* One off, another one on, the rest as it was. */
    assert_int_equal(turbotap_link_set_flags(f->link, f->ifindex, IFF_PROMISC,
                                             IFF_ALLMULTI), 0);
    assert_int_equal(get(f).flags & (IFF_UP | IFF_PROMISC | IFF_ALLMULTI),
                     IFF_UP | IFF_ALLMULTI);

    assert_int_equal(turbotap_link_set_flags(f->link, f->ifindex,
                                             IFF_UP | IFF_ALLMULTI, 0), 0);
    assert_int_equal(get(f).flags, before);

    /* Nothing to do. */
    assert_int_equal(turbotap_link_set_flags(f->link, f->ifindex, 0, 0), 0);
    assert_int_equal(get(f).flags, before);
}

static void
test_noqueue(void **state)
{
    struct fixture *f = *state;

    /* In place of the default, before and while the link is up. */
    assert_string_equal(get(f).qdisc, "noop");
    assert_int_equal(turbotap_link_set_noqueue(f->link, f->ifindex), 0);
    assert_string_equal(get(f).qdisc, "noqueue");
    assert_int_equal(turbotap_link_set_flags(f->link, f->ifindex, 0, IFF_UP),
                     0);
    assert_string_equal(get(f).qdisc, "noqueue");
    assert_int_equal(system("tc qdisc del dev " TAP " root"), 0);
    assert_string_not_equal(get(f).qdisc, "noqueue");
    assert_int_equal(turbotap_link_set_noqueue(f->link, f->ifindex), 0);
    assert_string_equal(get(f).qdisc, "noqueue");

    /* Not in place of one that somebody chose, were it the same. */
    assert_int_equal(turbotap_link_set_noqueue(f->link, f->ifindex), EEXIST);
    assert_int_equal(system("tc qdisc replace dev " TAP " root pfifo_fast"),
                     0);
    assert_int_equal(turbotap_link_set_noqueue(f->link, f->ifindex), EEXIST);
    assert_string_equal(get(f).qdisc, "pfifo_fast");
}

static void
test_alias(void **state)
{
    struct fixture *f = *state;
    char alias[TURBOTAP_ALIAS_LEN + 2];

    assert_int_equal(turbotap_link_set_alias(f->link, f->ifindex, "a b"), 0);
    assert_string_equal(get(f).alias, "a b");
    assert_int_equal(turbotap_link_set_alias(f->link, f->ifindex, ""), 0);
    assert_string_equal(get(f).alias, "");

    memset(alias, 'x', sizeof alias);
    alias[TURBOTAP_ALIAS_LEN + 1] = '\0';
    assert_int_not_equal(turbotap_link_set_alias(f->link, f->ifindex, alias),
                         0);
    assert_string_equal(get(f).alias, "");

    alias[TURBOTAP_ALIAS_LEN] = '\0';
    assert_int_equal(turbotap_link_set_alias(f->link, f->ifindex, alias), 0);
    assert_string_equal(get(f).alias, alias);
}

static void
test_carrier(void **state)
{
    struct fixture *f = *state;
    int carrier = 0;

    assert_false(get(f).carrier);
    host_set_up(TAP, true);
    assert_true(get(f).carrier);

    assert_int_equal(ioctl(f->tap, TUNSETCARRIER, &carrier), 0);
    assert_false(get(f).carrier);
    assert_int_not_equal(get(f).flags & IFF_UP, 0);
    carrier = 1;
    assert_int_equal(ioctl(f->tap, TUNSETCARRIER, &carrier), 0);
    assert_true(get(f).carrier);

    host_set_up(TAP, false);
    assert_false(get(f).carrier);
}

static void
test_stats(void **state)
{
    struct fixture *f = *state;
    uint8_t frame[100] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
    struct turbotap_link_stats stats;
    void *volatile nowhere = NULL;
    int n_read = 3;
    int host;

    host_set_up(TAP, true);
    host = host_open_socket(TAP, 0);

    /* Three go out of the host's device, two of another size come in. */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(send(host, frame, 100, 0), 100);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(write(f->tap, frame, 60), 60);
    }
    stats = get(f).stats;
    assert_int_equal(stats.tx_packets, 0);      /* Not yet read. */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(read(f->tap, frame, sizeof frame), 100);
    }
    stats = get(f).stats;
    assert_int_equal(stats.tx_packets, 3);
    assert_int_equal(stats.tx_bytes, 300);
    assert_int_equal(stats.rx_packets, 2);
    assert_int_equal(stats.rx_bytes, 120);
    assert_int_equal(stats.tx_dropped, 0);
    assert_int_equal(stats.rx_dropped, 0);

    /* Nobody reads, so the queue gets full. */
    for (int i = 0; i < 2000; i++) {
        send(host, frame, 100, 0);      /* May fail or not: driver's choice. */
    }
    close(host);
    while (read(f->tap, frame, sizeof frame) == 100) {
        n_read++;
    }
    assert_int_equal(errno, EAGAIN);
    stats = get(f).stats;
    assert_int_equal(stats.tx_packets, n_read);
    assert_int_equal(stats.tx_dropped, 3 + 2000 - n_read);
    assert_in_range(stats.tx_dropped, 1, 1999);
    assert_int_equal(stats.rx_dropped, 0);

    /* A frame that cannot be read is dropped on its way in. */
    assert_int_equal(write(f->tap, nowhere, 60), -1);
    stats = get(f).stats;
    assert_int_equal(stats.rx_packets, 2);
    assert_int_equal(stats.rx_dropped, 1);
    assert_int_equal(stats.tx_dropped, 3 + 2000 - n_read);

    assert_int_equal(stats.rx_errors, 0);
    assert_int_equal(stats.tx_errors, 0);
    assert_int_equal(stats.multicast, 0);
    assert_int_equal(stats.collisions, 0);
}

/* In a child in a user namespace below ours, where nothing is permitted. */
static int
be_unprivileged(struct fixture *f)
{
    struct turbotap_link *link;
    struct turbotap_link_info info;

    if (unshare(CLONE_NEWUSER)) {
        return 77;
    }
    /* The permissions of a netlink socket are those of its opener, too. */
    return (turbotap_link_open(&link) ? 1
            : turbotap_link_get(link, TURBOTAP_NSID_SELF, f->ifindex,
                                &info) ? 2
            : turbotap_link_set_mtu(link, f->ifindex, 1400) != EPERM ? 3
            : turbotap_link_set_flags(link, f->ifindex, 0, IFF_UP) != EPERM ? 5
            : turbotap_link_set_alias(link, f->ifindex, "x") != EPERM ? 6
            : turbotap_link_set_noqueue(link, f->ifindex) != EPERM ? 7
            : 0);
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
    assert_int_equal(get(f).mtu, 1500);
}

static void
test_no_descriptors(void **state)
{
    struct fixture *f = *state;
    struct rlimit old, none;
    struct turbotap_link *link;
    struct turbotap_watch *watch;
    int link_error, watch_error;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = old;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    link_error = turbotap_link_open(&link);
    watch_error = turbotap_watch_open(&watch);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);

    assert_true(link_error > 0);
    assert_null(link);
    assert_true(watch_error > 0);
    assert_null(watch);
    assert_string_equal(get(f).name, TAP);
}

/* The watch. */

static struct turbotap_event
next_event(struct fixture *f)
{
    struct turbotap_event event;

    assert_true(host_wait_readable(turbotap_watch_fd(f->watch),
                                   HOST_PATIENCE));
    memset(&event, 0xff, sizeof event);
    assert_int_equal(turbotap_watch_next(f->watch, &event), 0);
    return event;
}

static void
assert_no_event(struct fixture *f)
{
    struct turbotap_event event;

    assert_int_equal(turbotap_watch_next(f->watch, &event), EAGAIN);
    assert_false(host_wait_readable(turbotap_watch_fd(f->watch), 0));
}

/* Takes events until one of 'type' about the link 'ifindex'.  The others must
 * be about it, too, and of type TURBOTAP_LINK_CHANGED. */
static struct turbotap_event
wait_for_event(struct fixture *f, enum turbotap_event_type type, int ifindex)
{
    for (;;) {
        struct turbotap_event event = next_event(f);

        assert_int_equal(event.info.ifindex, ifindex);
        if (event.type == type) {
            return event;
        }
        assert_int_equal(event.type, TURBOTAP_LINK_CHANGED);
    }
}

/* Takes events until there are none; all must be changes of 'ifindex'.
 * Returns the last one. */
static struct turbotap_event
last_change(struct fixture *f, int ifindex)
{
    struct turbotap_event event = wait_for_event(f, TURBOTAP_LINK_CHANGED,
                                                 ifindex);

    while (host_wait_readable(turbotap_watch_fd(f->watch), 0)) {
        event = wait_for_event(f, TURBOTAP_LINK_CHANGED, ifindex);
    }
    assert_no_event(f);
    return event;
}

/* Takes events until the namespace that had the id 'nsid' has ended, which the
 * kernel does a while after it was closed: another watch would hear of it. */
static void
wait_for_netns_end(struct fixture *f, int nsid)
{
    struct turbotap_event event;

    do {
        event = next_event(f);
    } while (event.type != TURBOTAP_NETNS_DELETED || event.nsid != nsid);
}

static void
test_watch_changed(void **state)
{
    static const uint8_t mac[6] = { 0x02, 1, 2, 3, 4, 5 };
    struct fixture *f = *state;
    struct turbotap_event event;

    /* Requests tell nothing. */
    get(f);
    assert_no_event(f);

    host_set_mtu(TAP, 1400);
    event = last_change(f, f->ifindex);
    assert_int_equal(event.info.mtu, 1400);
    assert_string_equal(event.info.name, TAP);

    host_set_up(TAP, true);
    event = last_change(f, f->ifindex);
    assert_int_not_equal(event.info.flags & IFF_UP, 0);
    assert_true(event.info.carrier);

    /* The kernel reports an alias only while the link is up. */
    assert_int_equal(turbotap_link_set_alias(f->link, f->ifindex, "me"), 0);
    assert_string_equal(last_change(f, f->ifindex).info.alias, "me");
    assert_int_equal(turbotap_link_set_alias(f->link, f->ifindex, ""), 0);
    assert_string_equal(last_change(f, f->ifindex).info.alias, "");

    host_set_up(TAP, false);
    event = last_change(f, f->ifindex);
    assert_int_equal(event.info.flags & IFF_UP, 0);
    assert_false(event.info.carrier);

    host_set_mac(TAP, mac);
    assert_memory_equal(last_change(f, f->ifindex).info.mac, mac, 6);

    host_rename(TAP, "ttl1");
    event = last_change(f, f->ifindex);
    assert_string_equal(event.info.name, "ttl1");
    assert_int_equal(event.info.mtu, 1400);
}

static void
test_watch_from_open_on(void **state)
{
    struct fixture *f = *state;

    /* One change comes before the watch is opened, one after it, and then
     * somebody looks. */
    host_set_mtu(TAP, 1300);
    turbotap_watch_close(f->watch);
    assert_int_equal(turbotap_watch_open(&f->watch), 0);
    host_set_mtu(TAP, 1400);
    assert_int_equal(next_event(f).info.mtu, 1400);
}

static void
test_watch_new_and_deleted(void **state)
{
    struct fixture *f = *state;
    struct turbotap_event event;
    int ifindex;
    int tap;

    tap = host_open_tap("ttl2", IFF_TAP);
    ifindex = if_nametoindex("ttl2");
    event = last_change(f, ifindex);
    assert_string_equal(event.info.name, "ttl2");
    assert_int_equal(event.info.mtu, 1500);

    host_rename("ttl2", "ttl3");
    host_delete("ttl3");
    event = wait_for_event(f, TURBOTAP_LINK_DELETED, ifindex);
    assert_string_equal(event.info.name, "ttl3");
    assert_no_event(f);
    close(tap);
}

/* What the kernel says of a tap: the queues that anybody has of it, attached
 * and detached ones, who may attach more, and whether it stays. */
static void
test_tun(void **state)
{
    struct fixture *f = *state;
    struct ifreq ifr = { .ifr_flags = IFF_DETACH_QUEUE };
    struct turbotap_link_info info;
    int first, second;

    info = get(f);
    assert_int_equal(info.tun.n_queues, 0);     /* Not a multi-queue one. */

    first = host_open_tap("ttl2", IFF_TAP | IFF_MULTI_QUEUE);
    second = host_open_tap("ttl2", IFF_TAP | IFF_MULTI_QUEUE);
    assert_int_equal(turbotap_link_lookup(f->link, TURBOTAP_NSID_SELF, "ttl2",
                                          &info), 0);
    assert_int_equal(info.tun.n_queues, 2);
    assert_int_equal(info.tun.n_disabled, 0);
    assert_int_equal(info.tun.owner, TURBOTAP_LINK_NO_OWNER);
    assert_false(info.tun.persist);

    assert_int_equal(ioctl(second, TUNSETQUEUE, &ifr), 0);
    assert_int_equal(ioctl(first, TUNSETOWNER, 0L), 0);
    assert_int_equal(ioctl(first, TUNSETPERSIST, 1L), 0);
    assert_int_equal(turbotap_link_lookup(f->link, TURBOTAP_NSID_SELF, "ttl2",
                                          &info), 0);
    assert_int_equal(info.tun.n_queues, 1);
    assert_int_equal(info.tun.n_disabled, 1);
    assert_int_equal(info.tun.owner, 0);
    assert_true(info.tun.persist);
    close(second);
    close(first);
    host_delete("ttl2");

    /* What is no tap has none of it. */
    assert_int_equal(turbotap_link_lookup(f->link, TURBOTAP_NSID_SELF, "lo",
                                          &info), 0);
    assert_int_equal(info.tun.n_queues, 0);
    assert_int_equal(info.tun.owner, TURBOTAP_LINK_NO_OWNER);
}

/* Somebody who attaches a queue to a device that is up is seen in an event,
 * even if the queue is gone when that is read. */
static void
test_watch_queues(void **state)
{
    struct fixture *f = *state;
    int first = host_open_tap("ttl2", IFF_TAP | IFF_MULTI_QUEUE);
    int ifindex = if_nametoindex("ttl2");
    struct turbotap_event event;

    host_set_up("ttl2", true);
    close(host_open_tap("ttl2", IFF_TAP | IFF_MULTI_QUEUE));
    do {
        event = wait_for_event(f, TURBOTAP_LINK_CHANGED, ifindex);
    } while (event.info.tun.n_queues != 2);
    close(first);
    wait_for_event(f, TURBOTAP_LINK_DELETED, ifindex);
}

/* A link that moves is heard of where it was, and then where it is, until that
 * namespace ends. */
static void
test_watch_moved(void **state)
{
    struct fixture *f = *state;
    int netns = host_open_other_namespace();
    int ours = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    struct turbotap_link_info info;
    struct turbotap_event event;
    int nsid, again;

    assert_int_equal(turbotap_link_get_nsid(f->link, netns, &nsid), 0);
    assert_true(nsid >= 0);
    assert_int_equal(turbotap_link_get_nsid(f->link, netns, &again), 0);
    assert_int_equal(again, nsid);

    host_move(TAP, netns);
    event = wait_for_event(f, TURBOTAP_LINK_DELETED, f->ifindex);
    assert_int_equal(event.nsid, TURBOTAP_NSID_SELF);
    do {
        event = next_event(f);
    } while (event.nsid == TURBOTAP_NSID_SELF);
    assert_int_equal(event.nsid, nsid);
    assert_int_equal(event.type, TURBOTAP_LINK_CHANGED);
    assert_string_equal(event.info.name, TAP);

    assert_int_equal(setns(netns, CLONE_NEWNET), 0);
    host_rename(TAP, "ttl1");
    host_set_mtu("ttl1", 1234);
    assert_int_equal(setns(ours, CLONE_NEWNET), 0);
    do {
        event = next_event(f);
        assert_int_equal(event.nsid, nsid);
    } while (event.info.mtu != 1234);
    assert_string_equal(event.info.name, "ttl1");

    /* It can be asked for from here, but not as if it were here. */
    assert_int_equal(turbotap_link_get(f->link, nsid, event.info.ifindex,
                                       &info), 0);
    assert_int_equal(info.mtu, 1234);
    assert_string_equal(info.kind, "tun");
    assert_int_equal(turbotap_link_lookup(f->link, nsid, "ttl1", &info), 0);
    assert_int_equal(info.ifindex, event.info.ifindex);
    assert_int_equal(turbotap_link_lookup(f->link, TURBOTAP_NSID_SELF, "ttl1",
                                          &info), ENODEV);
    assert_int_equal(turbotap_link_lookup(f->link, nsid, TAP, &info), ENODEV);

    close(netns);
    wait_for_netns_end(f, nsid);
    assert_int_equal(turbotap_link_lookup(f->link, nsid, "ttl1", &info),
                     EINVAL);
    close(ours);
}

/* The end of a root queueing discipline is told, here and where an id is
 * known, and nothing else of traffic control: not that somebody asked for it,
 * which the kernel tells as if it were new. */
static void
test_watch_qdisc(void **state)
{
    struct fixture *f = *state;
    int netns = host_open_other_namespace();
    int ours = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    struct turbotap_event event;
    int nsid;

    assert_int_equal(system("tc qdisc add dev " TAP " root handle 7: htb"), 0);
    assert_int_equal(turbotap_link_set_noqueue(f->link, f->ifindex), EEXIST);
    assert_int_equal(system("tc filter add dev " TAP " parent 7: u32 "
                            "match u32 0 0 classid 7:1"), 0);
    assert_int_equal(system("tc qdisc add dev " TAP " ingress"), 0);
    assert_int_equal(system("tc qdisc del dev " TAP " ingress"), 0);
    assert_no_event(f);

    assert_int_equal(system("tc qdisc replace dev " TAP " root pfifo"), 0);
    event = next_event(f);
    assert_int_equal(event.type, TURBOTAP_QDISC_DELETED);
    assert_int_equal(event.nsid, TURBOTAP_NSID_SELF);
    assert_int_equal(event.info.ifindex, f->ifindex);
    assert_no_event(f);

    assert_int_equal(turbotap_link_get_nsid(f->link, netns, &nsid), 0);
    host_move(TAP, netns);
    assert_int_equal(setns(netns, CLONE_NEWNET), 0);
    assert_int_equal(system("tc qdisc add dev " TAP " root pfifo"), 0);
    assert_int_equal(system("tc qdisc del dev " TAP " root"), 0);
    assert_int_equal(setns(ours, CLONE_NEWNET), 0);
    do {
        event = next_event(f);
    } while (event.type != TURBOTAP_QDISC_DELETED);
    assert_int_equal(event.nsid, nsid);
    assert_no_event(f);

    close(netns);
    wait_for_netns_end(f, nsid);
    close(ours);
}

static void
test_watch_bridge(void **state)
{
    struct fixture *f = *state;
    struct turbotap_event event;
    int bridge;

    host_set_up(TAP, true);
    host_add_bridge("ttlbr");
    bridge = if_nametoindex("ttlbr");
    host_set_up("ttlbr", true);
    host_set_bridge(TAP, "ttlbr");
    host_set_bridge(TAP, NULL);

    /* A link that leaves a bridge is not a link that leaves, though the kernel
     * says RTM_DELLINK, and what is told of a link as a bridge's port is not
     * all of it. */
    while (host_wait_readable(turbotap_watch_fd(f->watch), 0)) {
        if (turbotap_watch_next(f->watch, &event) == EAGAIN) {
            break;
        }
        assert_int_equal(event.type, TURBOTAP_LINK_CHANGED);
        assert_true(event.info.ifindex == f->ifindex
                    || event.info.ifindex == bridge);
        assert_int_equal(event.info.mtu, 1500);
    }

    /* A bridge is a link, too. */
    host_delete("ttlbr");
    event = wait_for_event(f, TURBOTAP_LINK_DELETED, bridge);
    assert_string_equal(event.info.name, "ttlbr");
}

/* Forged messages. */

/* Appends a message to 'msg' that reports 'name' and 'mtu' of the link
 * 'ifindex', or, if 'mtu' is 0, a wireless event of it.  Returns the
 * message. */
static struct nlmsghdr *
put_link_msg(struct nl_msg *msg, int ifindex, const char *name,
             unsigned int mtu)
{
    struct ifinfomsg ifi = { .ifi_family = AF_UNSPEC, .ifi_index = ifindex };
    struct nlmsghdr *hdr = nlmsg_put(msg, 0, 0, RTM_NEWLINK, 0, 0);

    assert_non_null(hdr);
    assert_int_equal(nlmsg_append(msg, &ifi, sizeof ifi, NLMSG_ALIGNTO), 0);
    assert_int_equal(nla_put_string(msg, IFLA_IFNAME, name), 0);
    if (mtu) {
        assert_int_equal(nla_put_u32(msg, IFLA_MTU, mtu), 0);
    } else {
        assert_int_equal(nla_put_string(msg, IFLA_WIRELESS, "scan"), 0);
    }
    return hdr;
}

/* Sends the 'size' octets at 'data' to the watch, in one datagram. */
static void
forge(struct fixture *f, const void *data, size_t size)
{
    int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    struct sockaddr_nl to;
    socklen_t len = sizeof to;

    assert_int_equal(getsockname(turbotap_watch_fd(f->watch),
                                 (struct sockaddr *) &to, &len), 0);
    to.nl_groups = 0;
    assert_int_equal(sendto(sock, data, size, 0, (struct sockaddr *) &to, len),
                     size);
    close(sock);
}

static void
test_watch_wireless(void **state)
{
    struct fixture *f = *state;
    struct nl_msg *msg = nlmsg_alloc();
    struct nlmsghdr *hdr = put_link_msg(msg, f->ifindex, TAP, 0);

    forge(f, hdr, hdr->nlmsg_len);
    assert_true(host_wait_readable(turbotap_watch_fd(f->watch), 0));
    assert_no_event(f);
    nlmsg_free(msg);
}

static void
test_watch_several_in_one_datagram(void **state)
{
    struct fixture *f = *state;
    struct nl_msg *msgs[3] = { nlmsg_alloc(), nlmsg_alloc(), nlmsg_alloc() };
    struct turbotap_event event;
    char data[1024];
    size_t size = 0;

    for (int i = 0; i < 3; i++) {
        struct nlmsghdr *hdr = put_link_msg(msgs[i], 10 + i, TAP,
                                            i == 1 ? 0 : 1000 + i);

        memcpy(data + size, hdr, hdr->nlmsg_len);
        size += NLMSG_ALIGN(hdr->nlmsg_len);
        nlmsg_free(msgs[i]);
    }
    forge(f, data, size);

    assert_int_equal(next_event(f).info.mtu, 1000);
    assert_int_equal(turbotap_watch_next(f->watch, &event), 0);
    assert_int_equal(event.info.ifindex, 12);
    assert_int_equal(event.info.mtu, 1002);
    assert_no_event(f);
}

static void
test_watch_malformed(void **state)
{
    struct fixture *f = *state;
    struct nl_msg *msg = nlmsg_alloc();
    struct nlmsghdr *hdr = put_link_msg(msg, f->ifindex, TAP, 1500);

    /* What cannot be understood is lost, and that has to be said. */
    assert_int_equal(nla_put_u8(msg, IFLA_TXQLEN, 1), 0);
    forge(f, hdr, hdr->nlmsg_len);
    assert_int_equal(next_event(f).type, TURBOTAP_LINKS_LOST);
    assert_no_event(f);

    /* Too short for its own header, and no header at all. */
    hdr->nlmsg_len = NLMSG_LENGTH(4);
    forge(f, hdr, NLMSG_LENGTH(4));
    forge(f, "abc", 3);
    assert_no_event(f);
    nlmsg_free(msg);
}

static void
test_watch_overrun(void **state)
{
    struct fixture *f = *state;
    int rcvbuf = 1;

    assert_int_equal(setsockopt(turbotap_watch_fd(f->watch), SOL_SOCKET,
                                SO_RCVBUF, &rcvbuf, sizeof rcvbuf), 0);
    for (int round = 0; round < 2; round++) {
        for (int mtu = 1000; mtu < 1050; mtu++) {
            host_set_mtu(TAP, mtu);
        }

        /* Said once, and no event follows that is older than what is read in
         * answer to it. */
        assert_int_equal(next_event(f).type, TURBOTAP_LINKS_LOST);
        assert_int_equal(get(f).mtu, 1049);
        assert_no_event(f);

        /* From then on nothing gets lost. */
        host_set_mtu(TAP, 1400);
        assert_int_equal(last_change(f, f->ifindex).info.mtu, 1400);
    }
}

/* A shortage of memory is an error, once for each call.  It is not taken for
 * an overrun, nor does it make one forget of it. */
static void
test_watch_no_memory(void **state)
{
    struct fixture *f = *state;
    struct turbotap_event event;
    int rcvbuf = 1;

    host_set_mtu(TAP, 1300);
    for (int i = 0; i < 3; i++) {
        n_recvmsg = 0;
        failing_recvmsg = 1;
        assert_int_equal(turbotap_watch_next(f->watch, &event), ENOMEM);
        assert_int_equal(n_recvmsg, 1);
    }
    assert_int_equal(last_change(f, f->ifindex).info.mtu, 1300);

    assert_int_equal(setsockopt(turbotap_watch_fd(f->watch), SOL_SOCKET,
                                SO_RCVBUF, &rcvbuf, sizeof rcvbuf), 0);
    for (int mtu = 1000; mtu < 1050; mtu++) {
        host_set_mtu(TAP, mtu);
    }
    n_recvmsg = 0;
    failing_recvmsg = 2;
    assert_int_equal(turbotap_watch_next(f->watch, &event), ENOMEM);
    assert_int_equal(n_recvmsg, 2);
    assert_int_equal(next_event(f).type, TURBOTAP_LINKS_LOST);
    assert_no_event(f);
}

static void
test_close_null(void **state)
{
    (void) state;
    turbotap_link_close(NULL);
    turbotap_watch_close(NULL);
}

#define TEST(NAME) cmocka_unit_test_setup_teardown(NAME, setup, teardown)

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_lookup),
        TEST(test_get),
        TEST(test_no_device),
        TEST(test_mtu),
        TEST(test_flags),
        TEST(test_noqueue),
        TEST(test_alias),
        TEST(test_carrier),
        TEST(test_stats),
        TEST(test_no_permission),
        TEST(test_no_descriptors),
        TEST(test_watch_changed),
        TEST(test_watch_from_open_on),
        TEST(test_watch_new_and_deleted),
        TEST(test_tun),
        TEST(test_watch_queues),
        TEST(test_watch_moved),
        TEST(test_watch_qdisc),
        TEST(test_watch_bridge),
        TEST(test_watch_wireless),
        TEST(test_watch_several_in_one_datagram),
        TEST(test_watch_malformed),
        TEST(test_watch_overrun),
        TEST(test_watch_no_memory),
        cmocka_unit_test(test_close_null),
    };

    host_enter_namespace();
    return cmocka_run_group_tests_name("link", tests, NULL, NULL);
}
