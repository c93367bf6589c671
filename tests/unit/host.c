/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The host's side of a tap device, for the unit tests. */

#include <config.h>

#include "host.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <netlink/route/link/bridge.h>
#include <netlink/route/link/veth.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Namespaces and descriptors. */

static void
skip_program(const char *what)
{
    printf("1..0 # SKIP %s: %s\n", what, strerror(errno));
    exit(77);
}

static void
write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, text, strlen(text)) < 0) {
        skip_program(path);
    }
    close(fd);
}

/* Has the kernel send no frames unasked in this network namespace, as it does
 * to find out about IPv6 addresses whenever a link comes up. */
static void
disable_ipv6(void)
{
    if (!access("/proc/sys/net/ipv6", F_OK)) {
        write_file("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    }
}

void
host_enter_namespace(void)
{
    unsigned int uid = geteuid(), gid = getegid();
    char map[32];
    int fd;

    if (unshare(CLONE_NEWNET)) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNET)) {
            skip_program("no user and network namespace");
        }
        /* Makes /proc/self ours again. */
        prctl(PR_SET_DUMPABLE, 1);
        snprintf(map, sizeof map, "0 %u 1", uid);
        write_file("/proc/self/uid_map", map);
        write_file("/proc/self/setgroups", "deny");
        snprintf(map, sizeof map, "0 %u 1", gid);
        write_file("/proc/self/gid_map", map);
    }

    fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        skip_program("/dev/net/tun");
    }
    close(fd);
    disable_ipv6();
}

int
host_open_other_namespace(void)
{
    int ours = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    int other;

    assert_true(ours >= 0);
    assert_int_equal(unshare(CLONE_NEWNET), 0);
    disable_ipv6();
    other = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    assert_int_equal(setns(ours, CLONE_NEWNET), 0);
    assert_true(other >= 0);
    close(ours);
    return other;
}

bool
host_set_dgram_qlen(unsigned int n)
{
    FILE *file = fopen("/proc/sys/net/unix/max_dgram_qlen", "r+e");
    unsigned int now = 0;

    if (file) {
        fprintf(file, "%u", n);
        rewind(file);
        if (fscanf(file, "%u", &now) != 1) {
            now = 0;
        }
        fclose(file);
    }
    return now >= n;
}

unsigned int
host_count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned int n = 0;

    assert_non_null(dir);
    while (readdir(dir)) {
        n++;
    }
    closedir(dir);
    return n - 3;               /* ".", ".." and that of 'dir'. */
}

bool
host_wait_readable(int fd, int timeout)
{
    struct pollfd pfd = { .fd = fd, .events = POLLIN };

    return poll(&pfd, 1, timeout) == 1;
}

/* Links. */

/* Does 'request' with 'ifr' for the link 'name'. */
static void
do_ifreq(const char *name, unsigned long int request, struct ifreq *ifr)
{
    int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    assert_true(strlen(name) < sizeof ifr->ifr_name);
    strcpy(ifr->ifr_name, name);
    if (ioctl(sock, request, ifr)) {
        fail_msg("%s: ioctl %#lx: %s", name, request, strerror(errno));
    }
    close(sock);
}

void
host_set_up(const char *name, bool up)
{
    struct ifreq ifr;

    do_ifreq(name, SIOCGIFFLAGS, &ifr);
    if (up) {
        ifr.ifr_flags |= IFF_UP;
    } else {
        ifr.ifr_flags &= ~IFF_UP;
    }
    do_ifreq(name, SIOCSIFFLAGS, &ifr);
}

void
host_set_mtu(const char *name, int mtu)
{
    struct ifreq ifr;

    ifr.ifr_mtu = mtu;
    do_ifreq(name, SIOCSIFMTU, &ifr);
}

void
host_set_mac(const char *name, const uint8_t mac[6])
{
    struct ifreq ifr;

    memset(&ifr, 0, sizeof ifr);
    ifr.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    memcpy(ifr.ifr_hwaddr.sa_data, mac, 6);
    do_ifreq(name, SIOCSIFHWADDR, &ifr);
}

void
host_rename(const char *name, const char *new_name)
{
    struct ifreq ifr;

    assert_true(strlen(new_name) < sizeof ifr.ifr_newname);
    strcpy(ifr.ifr_newname, new_name);
    do_ifreq(name, SIOCSIFNAME, &ifr);
}

static struct nl_sock *
open_rtnetlink(void)
{
    struct nl_sock *sock = nl_socket_alloc();

    assert_non_null(sock);
    assert_int_equal(nl_connect(sock, NETLINK_ROUTE), 0);
    return sock;
}

/* Returns an object that names the existing link 'name' to the kernel. */
static struct rtnl_link *
link_by_name(const char *name)
{
    struct rtnl_link *link = rtnl_link_alloc();
    int ifindex = if_nametoindex(name);

    assert_non_null(link);
    assert_int_not_equal(ifindex, 0);
    rtnl_link_set_ifindex(link, ifindex);
    return link;
}

void
host_delete(const char *name)
{
    struct nl_sock *sock = open_rtnetlink();
    struct rtnl_link *link = link_by_name(name);

    assert_int_equal(rtnl_link_delete(sock, link), 0);
    rtnl_link_put(link);
    nl_socket_free(sock);
}

/* Does 'changes' to the link 'name', and frees it.  Returns true if the kernel
 * did them. */
static bool
try_change_link(const char *name, struct rtnl_link *changes)
{
    struct nl_sock *sock = open_rtnetlink();
    struct rtnl_link *link = link_by_name(name);
    int error = rtnl_link_change(sock, link, changes, 0);

    rtnl_link_put(changes);
    rtnl_link_put(link);
    nl_socket_free(sock);
    return !error;
}

static void
change_link(const char *name, struct rtnl_link *changes)
{
    assert_true(try_change_link(name, changes));
}

bool
host_try_move(const char *name, int netns_fd)
{
    struct rtnl_link *changes = rtnl_link_alloc();

    rtnl_link_set_ns_fd(changes, netns_fd);
    return try_change_link(name, changes);
}

void
host_move(const char *name, int netns_fd)
{
    assert_true(host_try_move(name, netns_fd));
}

void
host_add_veth(const char *name, const char *peer)
{
    struct nl_sock *sock = open_rtnetlink();

    assert_int_equal(rtnl_link_veth_add(sock, name, peer, getpid()), 0);
    nl_socket_free(sock);
}

void
host_add_bridge(const char *name)
{
    struct nl_sock *sock = open_rtnetlink();

    assert_int_equal(rtnl_link_bridge_add(sock, name), 0);
    nl_socket_free(sock);
}

void
host_set_bridge(const char *name, const char *bridge)
{
    struct rtnl_link *changes = rtnl_link_alloc();

    rtnl_link_set_master(changes, bridge ? if_nametoindex(bridge) : 0);
    change_link(name, changes);
}

int
host_open_tap(const char *name, short int flags)
{
    struct ifreq ifr = { .ifr_flags = flags };
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_true(strlen(name) < sizeof ifr.ifr_name);
    strcpy(ifr.ifr_name, name);
    assert_int_equal(ioctl(fd, TUNSETIFF, &ifr), 0);
    return fd;
}

int
host_open_socket(const char *name, uint16_t ethertype)
{
    struct sockaddr_ll sll = {
        .sll_family = AF_PACKET,
        .sll_protocol = htons(ethertype),
        .sll_ifindex = if_nametoindex(name),
    };
    int sock = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int one = 1;

    assert_true(sock >= 0);
    assert_int_not_equal(sll.sll_ifindex, 0);
    assert_int_equal(setsockopt(sock, SOL_PACKET, PACKET_IGNORE_OUTGOING,
                                &one, sizeof one), 0);
    assert_int_equal(bind(sock, (struct sockaddr *) &sll, sizeof sll), 0);
    return sock;
}
