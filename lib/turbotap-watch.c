/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Events of links and their queueing disciplines, received from rtnetlink and
 * parsed by libnl-3.  Must not know whose links they are. */

#include <config.h>

#include "turbotap-watch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/net_namespace.h>
#include <linux/netlink.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "turbotap-nl.h"
#include "turbotap-util.h"

/* Room for events in a watch, in octets, if net.core.rmem_max allows that.
 * Too little only means more of TURBOTAP_LINKS_LOST. */
#define WATCH_RCVBUF (1024 * 1024)

struct turbotap_watch {
    struct nl_sock *sock;
    bool lost;                  /* Events were, which is still to be said. */

    /* What was received and not yet looked at. */
    int nsid;                   /* Where it is from. */
    struct nlmsghdr *msg;       /* The next message. */
    int left;                   /* Octets from 'msg' on. */

    /* Room for the datagram: more than the kernel puts into one
     * (rtmsg_ifinfo_build_skb() of net/core/rtnetlink.c allocates what one
     * link needs). */
    union {
        struct nlmsghdr align;
        unsigned char octets[32 * 1024];
    } datagram;
};

/* Has the kernel drop what is of no interest before it is queued for 'watch':
 * the group that tells of queueing disciplines tells of all filters, classes
 * and actions, too, of which there may be thousands a second.  Returns 0 or a
 * positive errno value. */
static int
set_filter(struct turbotap_watch *watch)
{
    /* A load is big-endian, the type of a message is not. */
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS,
                 offsetof(struct nlmsghdr, nlmsg_type)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_NEWLINK), 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_DELLINK), 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_DELQDISC), 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_DELNSID), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog filter = { .len = sizeof code / sizeof code[0],
                                 .filter = code };

    return (setsockopt(nl_socket_get_fd(watch->sock), SOL_SOCKET,
                       SO_ATTACH_FILTER, &filter, sizeof filter)
            ? errno : 0);
}

int
turbotap_watch_open(struct turbotap_watch **watchp)
{
    const int yes = 1;
    struct turbotap_watch *watch;
    int error;

    *watchp = NULL;
    watch = turbotap_zalloc(sizeof *watch);
    if (!watch) {
        return ENOMEM;
    }
    error = turbotap_nl_open(&watch->sock);
    if (error) {
        free(watch);
        return error;
    }

    nl_socket_set_buffer_size(watch->sock, WATCH_RCVBUF, 0);
    error = turbotap_nl_errno(nl_socket_set_nonblocking(watch->sock));
    if (!error
        && setsockopt(nl_socket_get_fd(watch->sock), SOL_NETLINK,
                      NETLINK_LISTEN_ALL_NSID, &yes, sizeof yes)) {
        error = errno;
    }
    if (!error) {
        error = set_filter(watch);
    }
    if (!error) {
        error = turbotap_nl_errno(nl_socket_add_memberships(watch->sock,
                                                         RTNLGRP_LINK,
                                                         RTNLGRP_TC,
                                                         RTNLGRP_NSID, 0));
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
 * Returns 0 or a positive errno value: EAGAIN if there is none, ENOBUFS if the
 * kernel ran out of room for events.
 *
 * Not with nl_recv(), which tells neither ENOBUFS from ENOMEM nor where an
 * event is from. */
static int
receive_datagram(struct turbotap_watch *watch)
{
    union {
        struct cmsghdr align;
        char octets[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = { .iov_base = watch->datagram.octets,
                         .iov_len = sizeof watch->datagram.octets };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1,
                          .msg_control = control.octets,
                          .msg_controllen = sizeof control.octets };
    ssize_t n;

    watch->left = 0;
    do {
        n = recvmsg(nl_socket_get_fd(watch->sock), &msg, MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return errno;
    } else if (msg.msg_flags & MSG_TRUNC) {
        return ENOBUFS;
    }

    /* The kernel adds this to what comes from another namespace only
     * (netlink_cmsg_listen_all_nsid() of net/netlink/af_netlink.c). */
    watch->nsid = TURBOTAP_NSID_SELF;
    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg); cmsg;
         cmsg = CMSG_NXTHDR(&msg, cmsg)) {
        if (cmsg->cmsg_level == SOL_NETLINK
            && cmsg->cmsg_type == NETLINK_LISTEN_ALL_NSID) {
            memcpy(&watch->nsid, CMSG_DATA(cmsg), sizeof watch->nsid);
        }
    }

    watch->msg = &watch->datagram.align;
    watch->left = n;
    return 0;
}

/* Receives and throws away all that 'watch' still has, after an overrun, of
 * which this stores the event in '*event'.  Returns 0 or a positive errno
 * value; then the rest of it is to be done yet.
 *
 * What is left is older than what was lost, and would be taken for newer than
 * what the caller reads in answer to the event.  Also, the kernel drops more
 * events, and without another ENOBUFS, until it finds the socket empty
 * (netlink_overrun() and netlink_rcv_wake() in net/netlink/af_netlink.c). */
static int
drain(struct turbotap_watch *watch, struct turbotap_event *event)
{
    int error;

    watch->lost = true;
    do {
        error = receive_datagram(watch);
    } while (!error || error == ENOBUFS);
    if (error != EAGAIN) {
        return error;
    }

    watch->lost = false;
    memset(event, 0, sizeof *event);
    event->type = TURBOTAP_LINKS_LOST;
    return 0;
}

/* Returns true and stores in '*event' what 'hdr' tells of a link, if it
 * does. */
static bool
parse_link_event(struct nlmsghdr *hdr, struct turbotap_event *event)
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

    event->type = (hdr->nlmsg_type == RTM_NEWLINK
                   ? TURBOTAP_LINK_CHANGED
                   : TURBOTAP_LINK_DELETED);
    msg = nlmsg_convert(hdr);
    if (msg) {
        nlmsg_set_proto(msg, NETLINK_ROUTE);
        error = turbotap_link_parse(msg, &event->info);
        nlmsg_free(msg);
    } else {
        error = ENOMEM;
    }
    if (error) {
        event->type = TURBOTAP_LINKS_LOST;
    }
    return true;
}

/* Returns true and stores in '*event' of which link 'hdr' tells that its root
 * queueing discipline was deleted or replaced, if it does.
 *
 * Not what it is now, although the kernel tells that, too: it tells all the
 * same when one asks for it (qdisc_notify() of net/sched/sch_api.c), and who
 * asks because of an event would do so for ever. */
static bool
parse_qdisc_event(const struct nlmsghdr *hdr, struct turbotap_event *event)
{
    const struct tcmsg *tcm = nlmsg_data(hdr);

    if (hdr->nlmsg_type != RTM_DELQDISC
        || !nlmsg_valid_hdr(hdr, sizeof *tcm)
        || tcm->tcm_parent != TC_H_ROOT) {
        return false;
    }
    event->type = TURBOTAP_QDISC_DELETED;
    event->info.ifindex = tcm->tcm_ifindex;
    return true;
}

/* Returns true and stores in '*event' what 'hdr' tells of a namespace, if it
 * does. */
static bool
parse_nsid_event(const struct nlmsghdr *hdr, struct turbotap_event *event)
{
    const struct nlattr *attr;

    if (hdr->nlmsg_type != RTM_DELNSID
        || !nlmsg_valid_hdr(hdr, sizeof(struct rtgenmsg))) {
        return false;
    }
    attr = nlmsg_find_attr((struct nlmsghdr *) hdr, sizeof(struct rtgenmsg),
                           NETNSA_NSID);
    if (!attr || nla_len(attr) != sizeof event->nsid) {
        return false;
    }
    event->type = TURBOTAP_NETNS_DELETED;
    event->nsid = (int) nla_get_u32(attr);
    return true;
}

/* Returns true and stores in '*event' what 'hdr', received by 'watch', tells,
 * if it is of interest. */
static bool
parse_event(const struct turbotap_watch *watch, struct nlmsghdr *hdr,
            struct turbotap_event *event)
{
    memset(event, 0, sizeof *event);
    event->nsid = watch->nsid;

    /* Ids of namespaces mean something only in the namespace that they are
     * from. */
    return (parse_link_event(hdr, event)
            || parse_qdisc_event(hdr, event)
            || (watch->nsid == TURBOTAP_NSID_SELF
                && parse_nsid_event(hdr, event)));
}

int
turbotap_watch_next(struct turbotap_watch *watch, struct turbotap_event *event)
{
    for (;;) {
        int error;

        while (nlmsg_ok(watch->msg, watch->left)) {
            struct nlmsghdr *msg = watch->msg;

            watch->msg = nlmsg_next(msg, &watch->left);
            if (parse_event(watch, msg, event)) {
                return 0;
            }
        }

        error = watch->lost ? ENOBUFS : receive_datagram(watch);
        if (error == ENOBUFS) {
            return drain(watch, event);
        } else if (error) {
            return error;
        }
    }
}
