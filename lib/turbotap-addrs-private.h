/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* For turbotap-addrs*.c only: what is saved of links, and what becomes of it
 * when they go.  -fate.c calls none of the others. */

#ifndef TURBOTAP_ADDRS_PRIVATE_H
#define TURBOTAP_ADDRS_PRIVATE_H 1

#include "turbotap-addrs.h"

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "turbotap-rtmsg.h"

struct nexthop_grp;

enum addrs_state {
    STATE_WAITING,              /* Has gone, and is to come back. */
    STATE_THERE,                /* Has never gone, or the kernel has made it
                                 * again. */
    STATE_ADDED,                /* Is back. */
    STATE_LEFT_OUT              /* Has no link, its time is over, the kernel
                                 * refuses it, or something else has taken its
                                 * place. */
};

struct addrs_entry {
    struct nlmsghdr *nlh;       /* What the kernel said. */
    enum addrs_state state;
};

/* In the order in which the kernel has them. */
struct addrs_list {
    struct addrs_entry *entries;
    size_t n, allocated;
};

struct addrs_link {
    char name[IFNAMSIZ];
    uint8_t mac[6];
    bool up;
};

struct turbotap_addrs {
    /* By the same index.  A link in 'map' has none in its place until that is
     * looked for. */
    struct addrs_link *links;
    struct turbotap_rtmsg_links map;

    time_t time;                /* When all was read, on the monotonic clock,
                                 * in seconds. */

    struct addrs_list addrs;    /* The links' own. */
    struct addrs_list nexthops; /* Those that go with the links, but for... */
    struct addrs_list groups;   /* ...groups of next hops that have one of them
                                 * as a member. */
    struct addrs_list routes;   /* Those that go with the links, each in one
                                 * group with all that have its key. */
    struct addrs_list neighs;   /* The links' own. */

    /* While all is read. */
    bool changed;               /* Somebody has changed something. */
    int error;
};

/* What becomes of something when links go, and others come. */
enum addrs_fate {
    FATE_STAYS,
    FATE_LOSES_SOME,            /* A group of next hops: loses some members. */
    FATE_LOST,                  /* Goes, and can be made again. */
    FATE_GONE                   /* Goes for good, with a link. */
};

/* Each returns the fate of something: of what needs the link 'ifindex', the
 * next hop 'id' that is no group, the group 'group', and 'route'.  A link of
 * 'addrs' is lost or gone unless it is known to be still there, and with an
 * address that is left out, what needs it has gone. */
enum addrs_fate turbotap_addrs_link_fate(const struct turbotap_addrs *addrs,
                                         int ifindex);
enum addrs_fate turbotap_addrs_nexthop_fate(const struct turbotap_addrs *addrs,
                                            uint32_t id);
enum addrs_fate turbotap_addrs_group_fate(const struct turbotap_addrs *addrs,
                                          const struct nlmsghdr *group);
enum addrs_fate turbotap_addrs_route_fate(const struct turbotap_addrs *addrs,
                                          const struct nlmsghdr *route);

/* Returns the members of the next hop 'nexthop', and their number in '*n',
 * which is 0 for one that is no group. */
const struct nexthop_grp *turbotap_addrs_get_members(
    const struct nlmsghdr *nexthop, size_t *n);

/* Returns what the next hop 'nexthop' says as its attribute 'type', or 0. */
uint32_t turbotap_addrs_nexthop_u32(const struct nlmsghdr *nexthop, int type);

/* In turbotap-addrs.c: returns the monotonic clock's time, in seconds. */
time_t turbotap_addrs_now(void);

#endif /* turbotap-addrs-private.h */
