/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The host's view of links, through libnl-route-3.  Must not know what a tap
 * is, nor its queues. */

#include <config.h>

#include "turbotap-link.h"

#include <errno.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/net_namespace.h>
#include <linux/rtnetlink.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <netlink/route/qdisc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "turbotap-nl.h"
#include "turbotap-util.h"

struct turbotap_link {
    struct nl_sock *sock;
};

/* Copies into '*info' what libnl's 'nl_link' says, but for the statistics. */
static void
info_from_nl(struct rtnl_link *nl_link, struct turbotap_link_info *info)
{
    const char *name = rtnl_link_get_name(nl_link);
    const char *alias = rtnl_link_get_ifalias(nl_link);
    const char *kind = rtnl_link_get_type(nl_link);
    const char *qdisc = rtnl_link_get_qdisc(nl_link);
    struct nl_addr *mac = rtnl_link_get_addr(nl_link);

    memset(info, 0, sizeof *info);
    info->tun.owner = TURBOTAP_LINK_NO_OWNER;
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
    rtnl_link_get_carrier_changes(nl_link, &info->carrier_changes);
    if (kind) {
        snprintf(info->kind, sizeof info->kind, "%s", kind);
    }
    if (qdisc) {
        snprintf(info->qdisc, sizeof info->qdisc, "%s", qdisc);
    }
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
    error = turbotap_nl_open(&link->sock);
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

/* A namespace's id, in an answer to RTM_GETNSID, is stored in '*nsid'.  A
 * callback of libnl. */
static int
nsid_from_msg(struct nl_msg *msg, void *nsid)
{
    const struct nlattr *attr = nlmsg_find_attr(nlmsg_hdr(msg),
                                                sizeof(struct rtgenmsg),
                                                NETNSA_NSID);

    if (attr && nla_len(attr) == sizeof(int)) {
        *(int *) nsid = (int) nla_get_u32(attr);
    }
    return NL_OK;
}

/* Stores what libnl's link 'object' says in the struct turbotap_link_info at
 * 'info'.  A callback of libnl. */
static void
parse_link(struct nl_object *object, void *info)
{
    struct rtnl_link *nl_link = (struct rtnl_link *) object;

    info_from_nl(nl_link, info);
    stats_from_nl(nl_link, &((struct turbotap_link_info *) info)->stats);
}

/* Returns the number in the attribute 'type' of those in 'data', 'fallback' if
 * there is none. */
static uint32_t
get_number(struct nlattr *data, int type, uint32_t fallback)
{
    const struct nlattr *attr = nla_find(nla_data(data), nla_len(data), type);

    return (!attr ? fallback
            : nla_len(attr) == 1 ? nla_get_u8(attr)
            : nla_len(attr) == 4 ? nla_get_u32(attr)
            : fallback);
}

/* Stores in '*tun' what 'hdr' says of a tap: libnl does not know these. */
static void
parse_tun(struct nlmsghdr *hdr, struct turbotap_link_tun *tun)
{
    struct nlattr *linkinfo, *data;

    linkinfo = nlmsg_find_attr(hdr, sizeof(struct ifinfomsg), IFLA_LINKINFO);
    data = (linkinfo
            ? nla_find(nla_data(linkinfo), nla_len(linkinfo), IFLA_INFO_DATA)
            : NULL);
    if (data) {
        tun->n_queues = get_number(data, IFLA_TUN_NUM_QUEUES, 0);
        tun->n_disabled = get_number(data, IFLA_TUN_NUM_DISABLED_QUEUES, 0);
        tun->owner = get_number(data, IFLA_TUN_OWNER, TURBOTAP_LINK_NO_OWNER);
        tun->persist = get_number(data, IFLA_TUN_PERSIST, 0);
    }
}

int
turbotap_link_parse(struct nl_msg *msg, struct turbotap_link_info *info)
{
    int error = nl_msg_parse(msg, parse_link, info);

    if (error < 0) {
        return turbotap_nl_errno(error);
    }
    if (!strcmp(info->kind, "tun")) {
        parse_tun(nlmsg_hdr(msg), &info->tun);
    }
    return 0;
}

/* The link in an answer to RTM_GETLINK is stored in '*info'.  A callback of
 * libnl. */
static int
info_from_msg(struct nl_msg *msg, void *info)
{
    return turbotap_link_parse(msg, info) ? -NLE_FAILURE : NL_OK;
}

/* Notes that the kernel has answered all.  A callback of libnl. */
static int
note_ack(struct nl_msg *msg, void *acked)
{
    (void) msg;
    *(bool *) acked = true;
    return NL_STOP;
}

/* Sends the request 'msg', frees it, and calls 'callback' with the answer, if
 * there is one, and 'aux'.  A null 'msg' stands for memory that could not be
 * had.  Returns 0 or a positive errno value. */
static int
ask(struct turbotap_link *link, struct nl_msg *msg,
    int (*callback)(struct nl_msg *, void *aux), void *aux)
{
    struct nl_cb *cb = nl_cb_alloc(NL_CB_DEFAULT);
    int error = msg && cb ? 0 : -NLE_NOMEM;
    bool acked = false;

    if (!error) {
        nl_cb_set(cb, NL_CB_VALID, NL_CB_CUSTOM, callback, aux);
        nl_cb_set(cb, NL_CB_ACK, NL_CB_CUSTOM, note_ack, &acked);
        error = nl_send_auto(link->sock, msg);
        while (error >= 0 && !acked) {
            error = nl_recvmsgs(link->sock, cb);
        }
    }
    nl_cb_put(cb);
    nlmsg_free(msg);
    return turbotap_nl_errno(error);
}

/* Returns a request of 'type' about the id of the namespace of 'netns_fd', or
 * a null pointer. */
static struct nl_msg *
make_nsid_request(int type, int netns_fd)
{
    const struct rtgenmsg gen = { .rtgen_family = AF_UNSPEC };
    struct nl_msg *msg = nlmsg_alloc_simple(type, 0);

    if (msg
        && !nlmsg_append(msg, (void *) &gen, sizeof gen, NLMSG_ALIGNTO)
        && !nla_put_u32(msg, NETNSA_FD, netns_fd)
        && (type != RTM_NEWNSID || !nla_put_u32(msg, NETNSA_NSID, -1))) {
        return msg;
    }
    nlmsg_free(msg);
    return NULL;
}

/* Stores in '*nsid' the id of the network namespace of 'netns_fd'.  Returns 0
 * or a positive errno value, ENOENT if it has none. */
static int
read_nsid(struct turbotap_link *link, int netns_fd, int *nsid)
{
    int error;

    *nsid = NETNSA_NSID_NOT_ASSIGNED;
    error = ask(link, make_nsid_request(RTM_GETNSID, netns_fd), nsid_from_msg,
                nsid);
    return error ? error : *nsid < 0 ? ENOENT : 0;
}

int
turbotap_link_get_nsid(struct turbotap_link *link, int netns_fd, int *nsid)
{
    struct nl_msg *msg = make_nsid_request(RTM_NEWNSID, netns_fd);
    int error = (msg ? turbotap_nl_errno(nl_send_sync(link->sock, msg))
                 : ENOMEM);

    return (error && error != EEXIST
            ? error
            : read_nsid(link, netns_fd, nsid));
}

/* Reads the link with index 'ifindex', if that is positive, or called 'name'
 * in the namespace 'nsid' into '*info'.  Returns 0 or a positive errno value.
 */
static int
get_link(struct turbotap_link *link, int nsid, int ifindex, const char *name,
         struct turbotap_link_info *info)
{
    struct nl_msg *msg;
    int error;

    error = turbotap_nl_errno(rtnl_link_build_get_request(ifindex, name,
                                                          &msg));
    if (error) {
        return error;
    }
    if (nsid != TURBOTAP_NSID_SELF
        && nla_put_u32(msg, IFLA_TARGET_NETNSID, nsid)) {
        nlmsg_free(msg);
        return ENOMEM;
    }
    info->ifindex = 0;
    error = ask(link, msg, info_from_msg, info);
    return error ? error : info->ifindex ? 0 : ENODEV;
}

int
turbotap_link_lookup(struct turbotap_link *link, int nsid, const char *name,
                     struct turbotap_link_info *info)
{
    if (!name[0] || strlen(name) >= IFNAMSIZ) {
        return ENODEV;          /* The kernel says EINVAL or ERANGE. */
    }
    return get_link(link, nsid, 0, name, info);
}

int
turbotap_link_get(struct turbotap_link *link, int nsid, int ifindex,
                  struct turbotap_link_info *info)
{
    if (ifindex <= 0) {
        return ENODEV;          /* libnl prints a complaint. */
    }
    return get_link(link, nsid, ifindex, NULL, info);
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
        error = turbotap_nl_errno(rtnl_link_change(link->sock, which,
                                                   changes, 0));
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
    return turbotap_nl_errno(nl_send_sync(link->sock, msg));
}

int
turbotap_link_delete(struct turbotap_link *link, int nsid, int ifindex)
{
    struct ifinfomsg ifi = { .ifi_family = AF_UNSPEC, .ifi_index = ifindex };
    struct nl_msg *msg;

    if (ifindex <= 0) {
        return ENODEV;
    }
    msg = nlmsg_alloc_simple(RTM_DELLINK, 0);
    if (!msg
        || nlmsg_append(msg, &ifi, sizeof ifi, NLMSG_ALIGNTO)
        || (nsid != TURBOTAP_NSID_SELF
            && nla_put_u32(msg, IFLA_TARGET_NETNSID, nsid))) {
        nlmsg_free(msg);
        return ENOMEM;
    }
    return turbotap_nl_errno(nl_send_sync(link->sock, msg));
}

/* The handle of a queueing discipline, in an answer to RTM_GETQDISC, is stored
 * in '*handle'.  A callback of libnl. */
static int
handle_from_msg(struct nl_msg *msg, void *handle)
{
    const struct tcmsg *tcm = nlmsg_data(nlmsg_hdr(msg));

    if (nlmsg_valid_hdr(nlmsg_hdr(msg), sizeof *tcm)) {
        *(uint32_t *) handle = tcm->tcm_handle;
    }
    return NL_OK;
}

/* Stores in '*handle' the handle of the root queueing discipline of the link
 * with index 'ifindex', 0 if it has none or that is the kernel's default.
 * Returns 0 or a positive errno value. */
static int
get_root_qdisc(struct turbotap_link *link, int ifindex, uint32_t *handle)
{
    const struct tcmsg tcm = { .tcm_family = AF_UNSPEC,
                               .tcm_ifindex = ifindex,
                               .tcm_parent = TC_H_ROOT };
    /* Without NLM_F_ECHO the kernel tells who listens, but not who asks
     * (qdisc_notify() of net/sched/sch_api.c). */
    struct nl_msg *msg = nlmsg_alloc_simple(RTM_GETQDISC, NLM_F_ECHO);

    if (msg && nlmsg_append(msg, (void *) &tcm, sizeof tcm, NLMSG_ALIGNTO)) {
        nlmsg_free(msg);
        msg = NULL;
    }
    *handle = 0;
    return ask(link, msg, handle_from_msg, handle);
}

int
turbotap_link_set_noqueue(struct turbotap_link *link, int ifindex)
{
    struct rtnl_qdisc *qdisc = rtnl_qdisc_alloc();
    uint32_t handle;
    int error;

    if (ifindex <= 0) {
        error = ENODEV;
    } else if (!qdisc) {
        error = ENOMEM;
    } else {
        error = get_root_qdisc(link, ifindex, &handle);
        error = error ? error : handle ? EEXIST : 0;
    }
    if (!error) {
        rtnl_tc_set_ifindex(TC_CAST(qdisc), ifindex);
        rtnl_tc_set_parent(TC_CAST(qdisc), TC_H_ROOT);
        rtnl_tc_set_kind(TC_CAST(qdisc), "noqueue");
        error = turbotap_nl_errno(rtnl_qdisc_add(link->sock, qdisc,
                                                 NLM_F_CREATE | NLM_F_EXCL));
    }
    rtnl_qdisc_put(qdisc);
    return error;
}
