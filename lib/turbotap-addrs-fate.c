/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* What becomes of next hops and routes when links go, and others come.  Must
 * not talk to the kernel. */

#include <config.h>

#include "turbotap-addrs-private.h"

#include <linux/if_addr.h>
#include <linux/nexthop.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <sys/socket.h>

uint32_t
turbotap_addrs_nexthop_u32(const struct nlmsghdr *nexthop, int type)
{
    return turbotap_rtmsg_get_u32(nexthop, sizeof(struct nhmsg), type);
}

const struct nexthop_grp *
turbotap_addrs_get_members(const struct nlmsghdr *nexthop, size_t *n)
{
    struct nlattr *attr = nlmsg_find_attr((struct nlmsghdr *) nexthop,
                                          sizeof(struct nhmsg), NHA_GROUP);

    *n = attr ? nla_len(attr) / sizeof(struct nexthop_grp) : 0;
    return attr ? nla_data(attr) : NULL;
}

/* Returns the next hop 'id' in 'list', or a null pointer. */
static const struct nlmsghdr *
find_nexthop(const struct addrs_list *list, uint32_t id)
{
    for (size_t i = 0; i < list->n; i++) {
        if (turbotap_addrs_nexthop_u32(list->entries[i].nlh, NHA_ID) == id) {
            return list->entries[i].nlh;
        }
    }
    return NULL;
}

enum addrs_fate
turbotap_addrs_link_fate(const struct turbotap_addrs *addrs, int ifindex)
{
    int mapped = turbotap_rtmsg_map(&addrs->map, ifindex);

    return (mapped == ifindex ? FATE_STAYS
            : mapped ? FATE_LOST
            : FATE_GONE);
}

enum addrs_fate
turbotap_addrs_nexthop_fate(const struct turbotap_addrs *addrs, uint32_t id)
{
    const struct nlmsghdr *nexthop = find_nexthop(&addrs->nexthops, id);

    return (nexthop
            ? turbotap_addrs_link_fate(addrs,
                                       turbotap_addrs_nexthop_u32(nexthop,
                                                                  NHA_OIF))
            : FATE_STAYS);
}

enum addrs_fate
turbotap_addrs_group_fate(const struct turbotap_addrs *addrs,
                          const struct nlmsghdr *group)
{
    size_t n, n_lost = 0, n_gone = 0;
    const struct nexthop_grp *members = turbotap_addrs_get_members(group, &n);

    for (size_t i = 0; i < n; i++) {
        enum addrs_fate fate = turbotap_addrs_nexthop_fate(addrs,
                                                           members[i].id);

        n_lost += fate != FATE_STAYS;
        n_gone += fate == FATE_GONE;
    }
    return (n_gone ? FATE_GONE
            : n_lost == n ? FATE_LOST
            : n_lost ? FATE_LOSES_SOME
            : FATE_STAYS);
}

/* Returns the fate of the preferred source of 'route', of IPv4, without which
 * the kernel has no such route. */
static enum addrs_fate
get_source_fate(const struct turbotap_addrs *addrs,
                const struct nlmsghdr *route)
{
    uint32_t source = turbotap_rtmsg_get_u32(route, sizeof(struct rtmsg),
                                             RTA_PREFSRC);

    for (size_t i = 0; source && i < addrs->addrs.n; i++) {
        const struct addrs_entry *addr = &addrs->addrs.entries[i];
        const struct ifaddrmsg *ifa = nlmsg_data(addr->nlh);

        if (ifa->ifa_family == AF_INET
            && (turbotap_rtmsg_get_u32(addr->nlh, sizeof *ifa, IFA_LOCAL)
                == source)) {
            enum addrs_fate fate = turbotap_addrs_link_fate(addrs,
                                                            ifa->ifa_index);

            return (fate == FATE_LOST && addr->state == STATE_LEFT_OUT
                    ? FATE_GONE : fate);
        }
    }
    return FATE_STAYS;
}

/* Returns true if 'route' is one that comes and goes without anybody's doing.
 * Those of the kernel to the network of an address are not among them, since
 * the administrator may have changed them. */
static bool
is_automatic(const struct nlmsghdr *route)
{
    const struct rtmsg *rtm = nlmsg_data(route);
    struct nlattr *dst = nlmsg_find_attr((struct nlmsghdr *) route,
                                         sizeof *rtm, RTA_DST);

    return (rtm->rtm_protocol == RTPROT_RA
            || rtm->rtm_protocol == RTPROT_REDIRECT
            || (rtm->rtm_protocol == RTPROT_KERNEL
                && (rtm->rtm_type != RTN_UNICAST
                    || (turbotap_rtmsg_get_route_table(route)
                        == RT_TABLE_LOCAL)
                    || (rtm->rtm_family == AF_INET6 && dst
                        && IN6_IS_ADDR_LINKLOCAL(nla_data(dst))))));
}

/* Returns the fate of 'route', of either family, as to its next hops alone. */
static enum addrs_fate
get_hops_fate(const struct turbotap_addrs *addrs,
              const struct nlmsghdr *route)
{
    const struct rtmsg *rtm = nlmsg_data(route);
    uint32_t id = turbotap_rtmsg_get_u32(route, sizeof *rtm, RTA_NH_ID);
    struct turbotap_rtmsg_hops hops;

    if (id) {
        const struct nlmsghdr *group = find_nexthop(&addrs->groups, id);
        enum addrs_fate fate = (group
                                ? turbotap_addrs_group_fate(addrs, group)
                                : turbotap_addrs_nexthop_fate(addrs, id));

        return fate == FATE_LOSES_SOME ? FATE_STAYS : fate;
    }
    turbotap_rtmsg_count_hops(route, &addrs->map, &hops);
    if (rtm->rtm_family == AF_INET6) {
        /* Others' next hops stay. */
        return (!hops.n_lost ? FATE_STAYS
                : hops.n_gone == hops.n_lost ? FATE_GONE : FATE_LOST);
    }
    return hops.n_gone ? FATE_GONE : hops.n_lost ? FATE_LOST : FATE_STAYS;
}

enum addrs_fate
turbotap_addrs_route_fate(const struct turbotap_addrs *addrs,
                          const struct nlmsghdr *route)
{
    const struct rtmsg *rtm = nlmsg_data(route);
    enum addrs_fate fate = FATE_STAYS;

    if (!is_automatic(route)) {
        fate = get_hops_fate(addrs, route);
        if (rtm->rtm_family == AF_INET) {
            enum addrs_fate source = get_source_fate(addrs, route);

            fate = source > fate ? source : fate;
        }
    }
    return fate;
}
