/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

#include <config.h>

#include "turbotap-rtmsg.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/nexthop.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/errno.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "turbotap-nl.h"
#include "turbotap-util.h"

/* A set of attributes, of types below 64. */
#define ATTR(TYPE) (UINT64_C(1) << (TYPE))

/* Flags of a next hop that the administrator sets.  The others tell how it
 * is, and the kernel does not take them. */
#define HOP_FLAGS (RTNH_F_ONLINK | RTNH_F_PERVASIVE)

/* The attributes of a route's only next hop. */
#define HOP_ATTRS (ATTR(RTA_OIF) | ATTR(RTA_GATEWAY) | ATTR(RTA_VIA) \
                   | ATTR(RTA_FLOW) | ATTR(RTA_MULTIPATH)            \
                   | ATTR(RTA_ENCAP_TYPE) | ATTR(RTA_ENCAP))

int
turbotap_rtmsg_map(const struct turbotap_rtmsg_links *links, int ifindex)
{
    for (size_t i = 0; i < links->n; i++) {
        if (links->links[i].old_ifindex == ifindex) {
            return links->links[i].ifindex;
        }
    }
    return ifindex;
}

/* A callback and what it is to be called with. */
struct answer {
    void (*callback)(const struct nlmsghdr *, void *aux);
    void *aux;
    bool acked;
};

/* A callback of libnl. */
static int
pass_on(struct nl_msg *msg, void *answer_)
{
    struct answer *answer = answer_;

    answer->callback(nlmsg_hdr(msg), answer->aux);
    return NL_OK;
}

/* Notes that the kernel has answered all.  A callback of libnl. */
static int
note_ack(struct nl_msg *msg, void *answer_)
{
    struct answer *answer = answer_;

    (void) msg;
    answer->acked = true;
    return NL_STOP;
}

/* Sends the request 'msg', frees it, and has 'answer' called with all that the
 * kernel answers.  A null 'msg' stands for memory that could not be had.
 * Returns 0 or a positive errno value. */
static int
ask(struct nl_sock *sock, struct nl_msg *msg, struct answer *answer)
{
    struct nl_cb *cb = nl_cb_alloc(NL_CB_DEFAULT);
    int error = msg && cb ? 0 : -NLE_NOMEM;

    if (!error) {
        nl_cb_set(cb, NL_CB_VALID, NL_CB_CUSTOM, pass_on, answer);
        nl_cb_set(cb, NL_CB_ACK, NL_CB_CUSTOM, note_ack, answer);
        nl_cb_set(cb, NL_CB_FINISH, NL_CB_CUSTOM, note_ack, answer);
        error = nl_send_auto(sock, msg);
        while (error >= 0 && !answer->acked) {
            error = nl_recvmsgs(sock, cb);
        }
    }
    nl_cb_put(cb);
    nlmsg_free(msg);
    return error == -NLE_DUMP_INTR ? EINTR : turbotap_nl_errno(error);
}

/* Returns a request of 'type' with NLM_F_* 'flags', the header 'hdr' of 'len'
 * octets, and room for 'size' octets of attributes, or a null pointer. */
static struct nl_msg *
make_request(int type, int flags, const void *hdr, size_t len, size_t size)
{
    struct nl_msg *msg = nlmsg_alloc_size(NLMSG_HDRLEN + NLMSG_ALIGN(len)
                                          + size);

    if (msg
        && nlmsg_put(msg, NL_AUTO_PORT, NL_AUTO_SEQ, type, 0, flags)
        && !nlmsg_append(msg, (void *) hdr, len, NLMSG_ALIGNTO)) {
        return msg;
    }
    nlmsg_free(msg);
    return NULL;
}

int
turbotap_rtmsg_dump(struct nl_sock *sock, int type, const void *hdr,
                    size_t len,
                    void (*callback)(const struct nlmsghdr *, void *aux),
                    void *aux)
{
    struct answer answer = { .callback = callback, .aux = aux };

    return ask(sock, make_request(type, NLM_F_DUMP, hdr, len, 0), &answer);
}

int
turbotap_rtmsg_get_nexthop(struct nl_sock *sock, uint32_t id,
                           void (*callback)(const struct nlmsghdr *,
                                            void *aux),
                           void *aux)
{
    const struct nhmsg nh = { .nh_family = AF_UNSPEC };
    struct answer answer = { .callback = callback, .aux = aux };
    struct nl_msg *msg;

    msg = make_request(RTM_GETNEXTHOP, 0, &nh, sizeof nh, nla_total_size(4));
    if (msg && nla_put_u32(msg, NHA_ID, id)) {
        nlmsg_free(msg);
        msg = NULL;
    }
    return ask(sock, msg, &answer);
}

int
turbotap_rtmsg_send(struct nl_sock *sock, struct nl_msg *msg, int flags)
{
    nlmsg_hdr(msg)->nlmsg_flags |= flags;
    return turbotap_nl_errno(nl_send_sync(sock, msg));
}

/* Returns the 'struct rtmsg' of 'route'. */
static struct rtmsg *
rtm_of(const struct nlmsghdr *route)
{
    return nlmsg_data(route);
}

uint32_t
turbotap_rtmsg_get_u32(const struct nlmsghdr *nlh, size_t hdr_len, int type)
{
    struct nlattr *attr = nlmsg_find_attr((struct nlmsghdr *) nlh, hdr_len,
                                          type);

    return attr && nla_len(attr) >= 4 ? nla_get_u32(attr) : 0;
}

uint32_t
turbotap_rtmsg_get_addr_flags(const struct nlmsghdr *addr)
{
    const struct ifaddrmsg *ifa = nlmsg_data(addr);
    struct nlattr *attr = nlmsg_find_attr((struct nlmsghdr *) addr,
                                          sizeof *ifa, IFA_FLAGS);

    return attr ? nla_get_u32(attr) : ifa->ifa_flags;
}

uint32_t
turbotap_rtmsg_get_route_table(const struct nlmsghdr *route)
{
    uint32_t table = turbotap_rtmsg_get_u32(route, sizeof(struct rtmsg),
                                            RTA_TABLE);

    return table ? table : rtm_of(route)->rtm_table;
}

static void
count_hop(const struct turbotap_rtmsg_links *links, int old_ifindex,
          struct turbotap_rtmsg_hops *hops)
{
    int ifindex = turbotap_rtmsg_map(links, old_ifindex);

    hops->n++;
    hops->n_lost += ifindex != old_ifindex;
    hops->n_gone += ifindex != old_ifindex && !ifindex;
}

void
turbotap_rtmsg_count_hops(const struct nlmsghdr *route,
                          const struct turbotap_rtmsg_links *links,
                          struct turbotap_rtmsg_hops *hops)
{
    struct nlmsghdr *nlh = (struct nlmsghdr *) route;
    struct nlattr *attr = nlmsg_find_attr(nlh, sizeof(struct rtmsg), RTA_OIF);

    memset(hops, 0, sizeof *hops);
    if (attr) {
        count_hop(links, nla_get_u32(attr), hops);
    }
    attr = nlmsg_find_attr(nlh, sizeof(struct rtmsg), RTA_MULTIPATH);
    if (attr) {
        const struct rtnexthop *hop = nla_data(attr);
        int left = nla_len(attr);

        while (left >= (int) sizeof *hop && RTNH_OK(hop, left)) {
            count_hop(links, hop->rtnh_ifindex, hops);
            left -= RTNH_ALIGN(hop->rtnh_len);
            hop = RTNH_NEXT(hop);
        }
    }
}

/* Returns true if 'a' and 'b', routes, have the same attribute 'type', or both
 * lack it. */
static bool
same_attr(const struct nlmsghdr *a, const struct nlmsghdr *b, int type)
{
    struct nlattr *attr_a = nlmsg_find_attr((struct nlmsghdr *) a,
                                            sizeof(struct rtmsg), type);
    struct nlattr *attr_b = nlmsg_find_attr((struct nlmsghdr *) b,
                                            sizeof(struct rtmsg), type);

    return (attr_a && attr_b
            ? (nla_len(attr_a) == nla_len(attr_b)
               && !memcmp(nla_data(attr_a), nla_data(attr_b),
                          nla_len(attr_a)))
            : attr_a == attr_b);
}

bool
turbotap_rtmsg_same_key(const struct nlmsghdr *a, const struct nlmsghdr *b)
{
    const struct rtmsg *rtm_a = rtm_of(a);
    const struct rtmsg *rtm_b = rtm_of(b);

    return (rtm_a->rtm_family == rtm_b->rtm_family
            && rtm_a->rtm_dst_len == rtm_b->rtm_dst_len
            && rtm_a->rtm_src_len == rtm_b->rtm_src_len
            && rtm_a->rtm_tos == rtm_b->rtm_tos
            && (turbotap_rtmsg_get_route_table(a)
                == turbotap_rtmsg_get_route_table(b))
            && same_attr(a, b, RTA_PRIORITY)
            && same_attr(a, b, RTA_DST)
            && same_attr(a, b, RTA_SRC));
}

/* Returns a request of the type of 'nlh' with its header, of 'hdr_len' octets,
 * and its attributes but for those in 'without', with room for some more, or a
 * null pointer. */
static struct nl_msg *
copy_msg(const struct nlmsghdr *nlh, size_t hdr_len, uint64_t without)
{
    struct nl_msg *msg = make_request(nlh->nlmsg_type, 0, nlmsg_data(nlh),
                                      hdr_len, nlh->nlmsg_len + 64);
    const struct nlattr *attr;
    int left;

    if (!msg) {
        return NULL;
    }
    nlmsg_for_each_attr(attr, nlh, hdr_len, left) {
        int type = nla_type(attr);

        if ((type >= 64 || !(without & ATTR(type)))
            && nla_put(msg, attr->nla_type, nla_len(attr), nla_data(attr))) {
            nlmsg_free(msg);
            return NULL;
        }
    }
    return msg;
}

/* Stores 'msg', or a null pointer and frees it if 'error'.  Returns 0 or
 * ENOMEM. */
static int
finish_msg(struct nl_msg *msg, int error, struct nl_msg **msgp)
{
    if (error) {
        nlmsg_free(msg);
        msg = NULL;
    }
    *msgp = msg;
    return msg ? 0 : ENOMEM;
}

/* Returns what is left of a lifetime of 'seconds' when 'elapsed' have passed.
 */
static uint32_t
remaining(uint32_t seconds, uint32_t elapsed)
{
    return (seconds == UINT32_MAX ? seconds
            : seconds > elapsed ? seconds - elapsed
            : 0);
}

int
turbotap_rtmsg_make_addr(const struct nlmsghdr *addr,
                         const struct turbotap_rtmsg_links *links,
                         uint32_t flags, uint32_t elapsed,
                         struct nl_msg **msgp)
{
    struct ifa_cacheinfo lifetimes = { .ifa_valid = UINT32_MAX,
                                       .ifa_prefered = UINT32_MAX };
    struct nlattr *attr = nlmsg_find_attr((struct nlmsghdr *) addr,
                                          sizeof(struct ifaddrmsg),
                                          IFA_CACHEINFO);
    struct ifaddrmsg *ifa;
    struct nl_msg *msg;

    *msgp = NULL;
    if (attr && nla_len(attr) >= (int) sizeof lifetimes) {
        const struct ifa_cacheinfo *old = nla_data(attr);

        lifetimes.ifa_valid = remaining(old->ifa_valid, elapsed);
        lifetimes.ifa_prefered = remaining(old->ifa_prefered, elapsed);
        if (!lifetimes.ifa_valid) {
            return 0;
        }
    }
    msg = copy_msg(addr, sizeof *ifa, ATTR(IFA_FLAGS) | ATTR(IFA_CACHEINFO));
    if (!msg) {
        return ENOMEM;
    }
    ifa = nlmsg_data(nlmsg_hdr(msg));
    ifa->ifa_index = turbotap_rtmsg_map(links, ifa->ifa_index);
    ifa->ifa_flags = flags & 0xff;
    return finish_msg(msg,
                      nla_put_u32(msg, IFA_FLAGS, flags)
                      || nla_put(msg, IFA_CACHEINFO, sizeof lifetimes,
                                 &lifetimes),
                      msgp);
}

/* Adds to 'msg' of a resilient group what 'nexthop' says of its buckets, but
 * for what only the kernel knows.  Returns 0 or nonzero. */
static int
put_buckets(struct nl_msg *msg, const struct nlmsghdr *nexthop)
{
    struct nlattr *old = nlmsg_find_attr((struct nlmsghdr *) nexthop,
                                         sizeof(struct nhmsg), NHA_RES_GROUP);
    struct nlattr *nest, *attr;
    int left;

    if (!old) {
        return 0;
    }
    nest = nla_nest_start(msg, NHA_RES_GROUP);
    if (!nest) {
        return -1;
    }
    nla_for_each_nested(attr, old, left) {
        int type = nla_type(attr);

        if (type != NHA_RES_GROUP_PAD && type != NHA_RES_GROUP_UNBALANCED_TIME
            && nla_put(msg, type, nla_len(attr), nla_data(attr))) {
            return -1;
        }
    }
    return nla_nest_end(msg, nest);
}

int
turbotap_rtmsg_make_nexthop(const struct nlmsghdr *nexthop,
                            const struct turbotap_rtmsg_links *links,
                            struct nl_msg **msgp)
{
    /* What the kernel takes, and no more: it refuses what it only tells. */
    static const uint64_t known =
        (ATTR(NHA_ID) | ATTR(NHA_GROUP) | ATTR(NHA_GROUP_TYPE)
         | ATTR(NHA_BLACKHOLE) | ATTR(NHA_GATEWAY) | ATTR(NHA_ENCAP_TYPE)
         | ATTR(NHA_ENCAP) | ATTR(NHA_FDB));
    uint32_t ifindex = turbotap_rtmsg_get_u32(nexthop, sizeof(struct nhmsg),
                                              NHA_OIF);
    struct nl_msg *msg = copy_msg(nexthop, sizeof(struct nhmsg), ~known);
    struct nhmsg *nh;

    *msgp = NULL;
    if (!msg) {
        return ENOMEM;
    }
    nh = nlmsg_data(nlmsg_hdr(msg));
    nh->nh_scope = 0;           /* The kernel only tells it. */
    nh->nh_flags &= HOP_FLAGS;
    return finish_msg(msg,
                      (ifindex
                       && nla_put_u32(msg, NHA_OIF,
                                      turbotap_rtmsg_map(links, ifindex)))
                      || put_buckets(msg, nexthop),
                      msgp);
}

/* Adds to 'msg' the next hops in 'old', an RTA_MULTIPATH, only those that are
 * lost if 'only_lost'.  Returns 0 or nonzero. */
static int
put_hops(struct nl_msg *msg, const struct nlattr *old,
         const struct turbotap_rtmsg_links *links, bool only_lost)
{
    const struct rtnexthop *hop = nla_data(old);
    char *hops = turbotap_zalloc(nla_len(old) + 1);
    int left = nla_len(old);
    size_t len = 0;
    int error;

    if (!hops) {
        return -1;
    }
    while (left >= (int) sizeof *hop && RTNH_OK(hop, left)) {
        int ifindex = turbotap_rtmsg_map(links, hop->rtnh_ifindex);

        if (!only_lost || (ifindex && ifindex != hop->rtnh_ifindex)) {
            struct rtnexthop *copy = (void *) (hops + len);

            memcpy(copy, hop, hop->rtnh_len);
            copy->rtnh_ifindex = ifindex;
            copy->rtnh_flags &= HOP_FLAGS;
            len += RTNH_ALIGN(hop->rtnh_len);
        }
        left -= RTNH_ALIGN(hop->rtnh_len);
        hop = RTNH_NEXT(hop);
    }
    error = nla_put(msg, RTA_MULTIPATH, len, hops);
    free(hops);
    return error;
}

/* Adds to 'msg' the next hops of 'route'.  Returns 0 or nonzero. */
static int
put_route_hops(struct nl_msg *msg, const struct nlmsghdr *route,
               const struct turbotap_rtmsg_links *links)
{
    struct nlmsghdr *nlh = (struct nlmsghdr *) route;
    struct nlattr *attr = nlmsg_find_attr(nlh, sizeof(struct rtmsg), RTA_OIF);
    int error = 0;

    if (attr) {
        error = nla_put_u32(msg, RTA_OIF,
                            turbotap_rtmsg_map(links, nla_get_u32(attr)));
    }
    attr = nlmsg_find_attr(nlh, sizeof(struct rtmsg), RTA_MULTIPATH);
    if (!error && attr) {
        error = put_hops(msg, attr, links,
                         rtm_of(route)->rtm_family == AF_INET6);
    }
    return error;
}

/* Returns the time after which 'route', of IPv6, expires, in clock ticks, 0
 * for never. */
static int32_t
get_expires(const struct nlmsghdr *route)
{
    struct nlattr *attr = nlmsg_find_attr((struct nlmsghdr *) route,
                                          sizeof(struct rtmsg), RTA_CACHEINFO);
    const struct rta_cacheinfo *info = attr ? nla_data(attr) : NULL;

    return (info && nla_len(attr) >= (int) sizeof *info
            && rtm_of(route)->rtm_family == AF_INET6
            ? info->rta_expires : 0);
}

int
turbotap_rtmsg_make_route(const struct nlmsghdr *route,
                          const struct turbotap_rtmsg_links *links,
                          uint32_t elapsed, struct nl_msg **msgp)
{
    uint64_t without = (ATTR(RTA_CACHEINFO) | ATTR(RTA_IIF) | ATTR(RTA_UID)
                        | ATTR(RTA_MFC_STATS) | ATTR(RTA_PAD)
                        | ATTR(RTA_EXPIRES) | ATTR(RTA_OIF)
                        | ATTR(RTA_MULTIPATH));
    int32_t expires = get_expires(route);
    struct nl_msg *msg;
    bool has_object;
    int error = 0;

    /* The kernel also tells what is behind a next hop that is an object, but
     * takes only one of the two. */
    has_object = turbotap_rtmsg_get_u32(route, sizeof(struct rtmsg),
                                        RTA_NH_ID);
    *msgp = NULL;
    if (expires) {
        int64_t ticks = sysconf(_SC_CLK_TCK);
        int64_t seconds = (expires + ticks - 1) / ticks - elapsed;

        if (seconds <= 0) {
            return 0;
        }
        expires = seconds;
    }
    msg = copy_msg(route, sizeof(struct rtmsg),
                   has_object ? without | HOP_ATTRS : without);
    if (!msg) {
        return ENOMEM;
    }
    rtm_of(nlmsg_hdr(msg))->rtm_flags &= has_object ? 0 : HOP_FLAGS;
    if (!has_object) {
        error = put_route_hops(msg, route, links);
    }
    if (expires && !error) {
        error = nla_put_u32(msg, RTA_EXPIRES, expires);
    }
    return finish_msg(msg, error, msgp);
}

int
turbotap_rtmsg_make_neigh(const struct nlmsghdr *neigh,
                          const struct turbotap_rtmsg_links *links,
                          struct nl_msg **msgp)
{
    struct nl_msg *msg = copy_msg(neigh, sizeof(struct ndmsg),
                                  ATTR(NDA_CACHEINFO) | ATTR(NDA_PROBES));

    if (msg) {
        struct ndmsg *ndm = nlmsg_data(nlmsg_hdr(msg));

        ndm->ndm_ifindex = turbotap_rtmsg_map(links, ndm->ndm_ifindex);
    }
    return finish_msg(msg, 0, msgp);
}

int
turbotap_rtmsg_make_route_deletion(const struct nlmsghdr *route,
                                   const struct turbotap_rtmsg_links *links,
                                   struct nl_msg **msgp)
{
    static const uint64_t known = (ATTR(RTA_DST) | ATTR(RTA_SRC)
                                   | ATTR(RTA_TABLE) | ATTR(RTA_PRIORITY));
    struct nl_msg *msg = copy_msg(route, sizeof(struct rtmsg), ~known);
    int error = 0;

    if (msg) {
        nlmsg_hdr(msg)->nlmsg_type = RTM_DELROUTE;
        rtm_of(nlmsg_hdr(msg))->rtm_flags = 0;
        rtm_of(nlmsg_hdr(msg))->rtm_scope = RT_SCOPE_NOWHERE;   /* Any. */
        error = put_route_hops(msg, route, links);
    }
    return finish_msg(msg, error, msgp);
}

int
turbotap_rtmsg_make_prefix_route(const struct nlmsghdr *addr,
                                 struct nl_msg **msgp)
{
    const struct ifaddrmsg *ifa = nlmsg_data(addr);
    struct nlmsghdr *nlh = (struct nlmsghdr *) addr;
    struct nlattr *prefix = nlmsg_find_attr(nlh, sizeof *ifa, IFA_ADDRESS);
    bool ipv6 = ifa->ifa_family == AF_INET6;
    uint32_t priority = turbotap_rtmsg_get_u32(addr, sizeof *ifa,
                                               IFA_RT_PRIORITY);
    const struct rtmsg rtm = {
        .rtm_family = ifa->ifa_family,
        .rtm_dst_len = ifa->ifa_prefixlen,
        .rtm_table = RT_TABLE_MAIN,
        .rtm_protocol = RTPROT_KERNEL,
        .rtm_scope = RT_SCOPE_LINK,
        .rtm_type = RTN_UNICAST,
    };
    uint8_t dst[16] = { 0 };
    struct nl_msg *msg;

    *msgp = NULL;
    if (!prefix || nla_len(prefix) != (ipv6 ? 16 : 4)
        || ifa->ifa_prefixlen > 8 * nla_len(prefix)
        || (turbotap_rtmsg_get_addr_flags(addr) & IFA_F_NOPREFIXROUTE)
        || (ipv6 && (ifa->ifa_scope == RT_SCOPE_LINK
                     || nlmsg_find_attr(nlh, sizeof *ifa, IFA_LOCAL)))) {
        return 0;
    }
    for (int i = 0; i < ifa->ifa_prefixlen; i++) {
        dst[i / 8] |= ((const uint8_t *) nla_data(prefix))[i / 8]
                      & (0x80 >> i % 8);
    }
    if (ipv6 && !priority) {
        priority = 256;         /* IP6_RT_PRIO_ADDRCONF. */
    }

    msg = make_request(RTM_NEWROUTE, 0, &rtm, sizeof rtm, 64);
    return finish_msg(msg,
                      !msg
                      || nla_put(msg, RTA_DST, nla_len(prefix), dst)
                      || nla_put_u32(msg, RTA_OIF, ifa->ifa_index)
                      || (priority
                          && nla_put_u32(msg, RTA_PRIORITY, priority)),
                      msgp);
}
