/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The host's view of links, through libnl-route-3: requests about one link,
 * and a watch on all of them.  Must not know what a tap is, nor its queues. */

#include <config.h>

#include "turbotap-link.h"

#include <errno.h>
#include <linux/if.h>
#include <linux/rtnetlink.h>
#include <netlink/errno.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "turbotap-util.h"

/* Room for events in a watch, in octets, if net.core.rmem_max allows that.
 * Too little only means more of TURBOTAP_LINKS_LOST. */
#define WATCH_RCVBUF (1024 * 1024)

struct turbotap_link {
    struct nl_sock *sock;
};

struct turbotap_watch {
    struct nl_sock *sock;

    /* What was received and not yet looked at. */
    unsigned char *datagram;    /* From nl_recv(), owned, or null. */
    struct nlmsghdr *msg;       /* The next message in it. */
    int left;                   /* Octets from 'msg' on. */
};

/* Returns 0 if 'nle', the return value of a libnl function, tells of success,
 * otherwise the positive errno value that comes nearest.  (libnl makes its own
 * codes of the kernel's with nl_syserr2nlerr(), not all of them apart.) */
static int
errno_from_nle(int nle)
{
    static const int errnos[] = {
        [NLE_INTR] = EINTR,
        [NLE_BAD_SOCK] = EBADF,
        [NLE_AGAIN] = EAGAIN,
        [NLE_NOMEM] = ENOMEM,
        [NLE_EXIST] = EEXIST,
        [NLE_INVAL] = EINVAL,
        [NLE_RANGE] = ERANGE,
        [NLE_MSGSIZE] = EMSGSIZE,
        [NLE_OPNOTSUPP] = EOPNOTSUPP,
        [NLE_AF_NOSUPPORT] = EAFNOSUPPORT,
        [NLE_OBJ_NOTFOUND] = ENODEV,
        [NLE_NOADDR] = EADDRNOTAVAIL,
        [NLE_BUSY] = EBUSY,
        [NLE_PROTO_MISMATCH] = EPROTONOSUPPORT,
        [NLE_NOACCESS] = EACCES,
        [NLE_PERM] = EPERM,
        [NLE_NODEV] = ENODEV,
    };
    unsigned int i = nle < 0 ? -nle : nle;

    if (nle >= 0) {
        return 0;
    }
    return i < sizeof errnos / sizeof errnos[0] && errnos[i] ? errnos[i] : EIO;
}

/* Opens a socket for rtnetlink in this thread's network namespace and stores
 * it in '*sockp'.  Returns 0 or a positive errno value. */
static int
open_socket(struct nl_sock **sockp)
{
    struct nl_sock *sock;
    int error;

    sock = nl_socket_alloc();
    if (!sock) {
        return ENOMEM;
    }
    error = errno_from_nle(nl_connect(sock, NETLINK_ROUTE));
    if (error) {
        nl_socket_free(sock);
        return error;
    }
    *sockp = sock;
    return 0;
}

/* Copies into '*info' what libnl's 'nl_link' says, but for the statistics. */
static void
info_from_nl(struct rtnl_link *nl_link, struct turbotap_link_info *info)
{
    const char *name = rtnl_link_get_name(nl_link);
    const char *alias = rtnl_link_get_ifalias(nl_link);
    struct nl_addr *mac = rtnl_link_get_addr(nl_link);

    memset(info, 0, sizeof *info);
    info->ifindex = rtnl_link_get_ifindex(nl_link);
    if (name) {
        snprintf(info->name, sizeof info->name, "%s", name);
    }
    info->mtu = rtnl_link_get_mtu(nl_link);
    if (mac && nl_addr_get_len(mac) == sizeof info->mac) {
        memcpy(info->mac, nl_addr_get_binary_addr(mac), sizeof info->mac);
    }
    info->flags = rtnl_link_get_flags(nl_link);
    info->carrier = (info->flags & IFF_LOWER_UP) != 0;
    if (alias) {
        snprintf(info->alias, sizeof info->alias, "%s", alias);
    }
}

static void
stats_from_nl(struct rtnl_link *nl_link, struct turbotap_link_stats *stats)
{
    stats->rx_packets = rtnl_link_get_stat(nl_link, RTNL_LINK_RX_PACKETS);
    stats->rx_bytes = rtnl_link_get_stat(nl_link, RTNL_LINK_RX_BYTES);
    stats->rx_errors = rtnl_link_get_stat(nl_link, RTNL_LINK_RX_ERRORS);
    stats->rx_dropped = rtnl_link_get_stat(nl_link, RTNL_LINK_RX_DROPPED);
    stats->tx_packets = rtnl_link_get_stat(nl_link, RTNL_LINK_TX_PACKETS);
    stats->tx_bytes = rtnl_link_get_stat(nl_link, RTNL_LINK_TX_BYTES);
    stats->tx_errors = rtnl_link_get_stat(nl_link, RTNL_LINK_TX_ERRORS);
    stats->tx_dropped = rtnl_link_get_stat(nl_link, RTNL_LINK_TX_DROPPED);
    stats->multicast = rtnl_link_get_stat(nl_link, RTNL_LINK_MULTICAST);
    stats->collisions = rtnl_link_get_stat(nl_link, RTNL_LINK_COLLISIONS);
}

int
turbotap_link_open(struct turbotap_link **linkp)
{
    struct turbotap_link *link;
    int error;

    *linkp = NULL;
    link = turbotap_zalloc(sizeof *link);
    if (!link) {
        return ENOMEM;
    }
    error = open_socket(&link->sock);
    if (error) {
        free(link);
        return error;
    }
    *linkp = link;
    return 0;
}

void
turbotap_link_close(struct turbotap_link *link)
{
    if (link) {
        nl_socket_free(link->sock);
        free(link);
    }
}

int
turbotap_link_lookup(struct turbotap_link *link, const char *name,
                     int *ifindex)
{
    struct rtnl_link *nl_link;
    int error;

    if (strlen(name) >= IFNAMSIZ) {
        return ENODEV;          /* The kernel says ERANGE. */
    }

    error = errno_from_nle(rtnl_link_get_kernel(link->sock, 0, name,
                                                &nl_link));
    if (!error) {
        *ifindex = rtnl_link_get_ifindex(nl_link);
        rtnl_link_put(nl_link);
    }
    return error;
}

int
turbotap_link_get(struct turbotap_link *link, int ifindex,
                  struct turbotap_link_info *info)
{
    struct rtnl_link *nl_link;
    int error;

    if (ifindex <= 0) {
        return ENODEV;          /* libnl prints a complaint. */
    }

    error = errno_from_nle(rtnl_link_get_kernel(link->sock, ifindex, NULL,
                                                &nl_link));
    if (!error) {
        info_from_nl(nl_link, info);
        stats_from_nl(nl_link, &info->stats);
        rtnl_link_put(nl_link);
    }
    return error;
}

/* Asks the kernel to do 'changes' to the link with index 'ifindex', and frees
 * 'changes'.  A null 'changes' stands for memory that could not be had.
 * Returns 0 or a positive errno value. */
static int
change_link(struct turbotap_link *link, int ifindex, struct rtnl_link *changes)
{
    struct rtnl_link *which = rtnl_link_alloc();
    int error;

    if (ifindex <= 0) {
        error = ENODEV;         /* For some, the kernel says EINVAL. */
    } else if (!which || !changes) {
        error = ENOMEM;
    } else {
        rtnl_link_set_ifindex(which, ifindex);
        error = errno_from_nle(rtnl_link_change(link->sock, which, changes,
                                                0));
    }
    rtnl_link_put(changes);
    rtnl_link_put(which);
    return error;
}

int
turbotap_link_set_mtu(struct turbotap_link *link, int ifindex,
                      unsigned int mtu)
{
    struct rtnl_link *changes = rtnl_link_alloc();

    if (changes) {
        rtnl_link_set_mtu(changes, mtu);
    }
    return change_link(link, ifindex, changes);
}

int
turbotap_link_set_mac(struct turbotap_link *link, int ifindex,
                      const uint8_t mac[6])
{
    struct nl_addr *addr = nl_addr_build(AF_LLC, mac, 6);
    struct rtnl_link *changes = rtnl_link_alloc();
    int error;

    if (addr && changes) {
        rtnl_link_set_addr(changes, addr);
        error = change_link(link, ifindex, changes);
    } else {
        rtnl_link_put(changes);
        error = ENOMEM;
    }
    nl_addr_put(addr);
    return error;
}

int
turbotap_link_set_flags(struct turbotap_link *link, int ifindex,
                        unsigned int off, unsigned int on)
{
    struct rtnl_link *changes = rtnl_link_alloc();

    if (changes) {
        rtnl_link_unset_flags(changes, off);
        rtnl_link_set_flags(changes, on);
    }
    return change_link(link, ifindex, changes);
}

int
turbotap_link_set_alias(struct turbotap_link *link, int ifindex,
                        const char *alias)
{
    struct ifinfomsg ifi = { .ifi_family = AF_UNSPEC, .ifi_index = ifindex };
    struct nl_msg *msg;

    if (ifindex <= 0) {
        return ENODEV;
    }

    /* Not with rtnl_link_set_ifalias(): libnl sends the terminating null
     * along, and so the kernel would refuse an alias of full length, and would
     * keep an empty one rather than take the alias away. */
    msg = nlmsg_alloc_simple(RTM_SETLINK, 0);
    if (!msg
        || nlmsg_append(msg, &ifi, sizeof ifi, NLMSG_ALIGNTO)
        || nla_put(msg, IFLA_IFALIAS, strlen(alias), alias)) {
        nlmsg_free(msg);
        return ENOMEM;
    }
    return errno_from_nle(nl_send_sync(link->sock, msg));
}

int
turbotap_watch_open(struct turbotap_watch **watchp)
{
    struct turbotap_watch *watch;
    int error;

    *watchp = NULL;
    watch = turbotap_zalloc(sizeof *watch);
    if (!watch) {
        return ENOMEM;
    }
    error = open_socket(&watch->sock);
    if (error) {
        free(watch);
        return error;
    }

    nl_socket_set_buffer_size(watch->sock, WATCH_RCVBUF, 0);
    error = errno_from_nle(nl_socket_set_nonblocking(watch->sock));
    if (!error) {
        error = errno_from_nle(nl_socket_add_membership(watch->sock,
                                                        RTNLGRP_LINK));
    }
    if (error) {
        turbotap_watch_close(watch);
        return error;
    }
    *watchp = watch;
    return 0;
}

void
turbotap_watch_close(struct turbotap_watch *watch)
{
    if (watch) {
        free(watch->datagram);
        nl_socket_free(watch->sock);
        free(watch);
    }
}

int
turbotap_watch_fd(const struct turbotap_watch *watch)
{
    return nl_socket_get_fd(watch->sock);
}

/* Receives the next datagram into 'watch', in place of the one before.
 * Returns 0 or a positive errno value: EAGAIN if there is none, ENOMEM also if
 * the kernel ran out of room for events (libnl does not tell ENOBUFS from
 * ENOMEM). */
static int
receive_datagram(struct turbotap_watch *watch)
{
    struct sockaddr_nl from;
    int n;

    free(watch->datagram);
    watch->datagram = NULL;
    watch->left = 0;

    n = nl_recv(watch->sock, &from, &watch->datagram, NULL);
    if (n <= 0) {
        return n ? errno_from_nle(n) : EAGAIN;
    }
    watch->msg = (struct nlmsghdr *) watch->datagram;
    watch->left = n;
    return 0;
}

/* Receives and throws away all that 'watch' still has, after an overrun, of
 * which this stores the event in '*event'.  Returns 0 or a positive errno
 * value.
 *
 * What is left is older than what was lost, and would be taken for newer than
 * what the caller reads in answer to the event.  Also, the kernel drops more
 * events, and without another ENOBUFS, until it finds the socket empty
 * (netlink_overrun() and netlink_rcv_wake() in net/netlink/af_netlink.c). */
static int
drain(struct turbotap_watch *watch, struct turbotap_event *event)
{
    int error;

    do {
        error = receive_datagram(watch);
    } while (!error || error == ENOMEM);
    watch->left = 0;

    memset(event, 0, sizeof *event);
    event->type = TURBOTAP_LINKS_LOST;
    return error == EAGAIN ? 0 : error;
}

/* Callback of nl_msg_parse(). */
static void
info_from_object(struct nl_object *object, void *info)
{
    info_from_nl((struct rtnl_link *) object, info);
}

/* Returns true and stores in '*event' what 'hdr' tells, if that is a change of
 * a link. */
static bool
parse_event(struct nlmsghdr *hdr, struct turbotap_event *event)
{
    const struct ifinfomsg *ifi = nlmsg_data(hdr);
    struct nl_msg *msg;
    int error;

    /* Messages of these types also tell that a link entered, left or changed
     * as a port of a bridge (AF_BRIDGE), and of wireless events, which carry
     * little of the link itself. */
    if ((hdr->nlmsg_type != RTM_NEWLINK && hdr->nlmsg_type != RTM_DELLINK)
        || !nlmsg_valid_hdr(hdr, sizeof *ifi)
        || ifi->ifi_family != AF_UNSPEC
        || nlmsg_find_attr(hdr, sizeof *ifi, IFLA_WIRELESS)) {
        return false;
    }

    memset(event, 0, sizeof *event);
    event->type = (hdr->nlmsg_type == RTM_NEWLINK
                   ? TURBOTAP_LINK_CHANGED
                   : TURBOTAP_LINK_DELETED);
    msg = nlmsg_convert(hdr);
    if (msg) {
        nlmsg_set_proto(msg, NETLINK_ROUTE);
        error = nl_msg_parse(msg, info_from_object, &event->info);
        nlmsg_free(msg);
    } else {
        error = -NLE_NOMEM;
    }
    if (error < 0) {
        event->type = TURBOTAP_LINKS_LOST;
    }
    return true;
}

int
turbotap_watch_next(struct turbotap_watch *watch, struct turbotap_event *event)
{
    for (;;) {
        int error;

        while (nlmsg_ok(watch->msg, watch->left)) {
            struct nlmsghdr *msg = watch->msg;

            watch->msg = nlmsg_next(msg, &watch->left);
            if (parse_event(msg, event)) {
                return 0;
            }
        }

        error = receive_datagram(watch);
        if (error == ENOMEM) {
            return drain(watch, event);
        } else if (error) {
            return error;
        }
    }
}
