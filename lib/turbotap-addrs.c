/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* A link's addresses and routes, through libnl-route-3.  Must not know what a
 * tap is. */

#include <config.h>

#include "turbotap-addrs.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/cache.h>
#include <netlink/netlink.h>
#include <netlink/object.h>
#include <netlink/route/addr.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "turbotap-link.h"
#include "turbotap-nl.h"
#include "turbotap-util.h"

struct turbotap_addrs {
    char name[IFNAMSIZ];        /* The link's. */
    int ifindex;
    bool up;

    /* Caches of libnl, of which only the link's own objects are left. */
    struct nl_cache *addrs;
    struct nl_cache *routes;
};

/* Returns true if 'object' is an address of the link 'ifindex' that is to be
 * taken along. */
static bool
addr_counts(struct nl_object *object, int ifindex)
{
    struct rtnl_addr *addr = (struct rtnl_addr *) object;

    return (rtnl_addr_get_ifindex(addr) == ifindex
            && (rtnl_addr_get_family(addr) == AF_INET
                || rtnl_addr_get_scope(addr) != RT_SCOPE_LINK));
}

/* Returns true if 'object' is a route through the link 'ifindex' alone that is
 * to be taken along. */
static bool
route_counts(struct nl_object *object, int ifindex)
{
    struct rtnl_route *route = (struct rtnl_route *) object;
    int family = rtnl_route_get_family(route);
    int protocol = rtnl_route_get_protocol(route);

    return ((family == AF_INET || family == AF_INET6)
            && rtnl_route_get_nnexthops(route) == 1
            && rtnl_route_nh_get_ifindex(rtnl_route_nexthop_n(route, 0))
               == ifindex
            && protocol != RTPROT_KERNEL && protocol != RTPROT_RA
            && rtnl_route_get_table(route) != RT_TABLE_LOCAL
            && !(rtnl_route_get_flags(route) & RTM_F_CLONED));
}

/* Removes from 'cache' what does not count for the link 'ifindex'. */
static void
trim_cache(struct nl_cache *cache, int ifindex,
           bool (*counts)(struct nl_object *, int ifindex))
{
    struct nl_object *object, *next;

    for (object = nl_cache_get_first(cache); object; object = next) {
        next = nl_cache_get_next(object);
        if (!counts(object, ifindex)) {
            nl_cache_remove(object);
        }
    }
}

/* Reads the addresses and routes of 'addrs', which knows its link.  Returns 0
 * or a positive errno value. */
static int
read_addrs(struct turbotap_addrs *addrs)
{
    struct nl_sock *sock;
    int error;

    error = turbotap_nl_open(&sock);
    if (error) {
        return error;
    }
    error = turbotap_nl_errno(rtnl_addr_alloc_cache(sock, &addrs->addrs));
    if (!error) {
        trim_cache(addrs->addrs, addrs->ifindex, addr_counts);
        error = turbotap_nl_errno(rtnl_route_alloc_cache(sock, AF_UNSPEC, 0,
                                                         &addrs->routes));
    }
    if (!error) {
        trim_cache(addrs->routes, addrs->ifindex, route_counts);
    }
    nl_socket_free(sock);
    return error;
}

/* Reads the link 'name' in this thread's network namespace into '*info' and
 * stores the handle for it, to be closed by the caller, in '*linkp'.  Returns
 * 0 or a positive errno value. */
static int
read_link(const char *name, struct turbotap_link **linkp,
          struct turbotap_link_info *info)
{
    int error = turbotap_link_open(linkp);

    if (!error) {
        error = turbotap_link_lookup(*linkp, TURBOTAP_NSID_SELF, name, info);
        if (error) {
            turbotap_link_close(*linkp);
        }
    }
    return error;
}

int
turbotap_addrs_save(const char *name, struct turbotap_addrs **addrsp)
{
    struct turbotap_link_info info;
    struct turbotap_addrs *addrs;
    struct turbotap_link *link;
    int error;

    *addrsp = NULL;
    error = read_link(name, &link, &info);
    if (error) {
        return error;
    }
    turbotap_link_close(link);

    addrs = turbotap_zalloc(sizeof *addrs);
    if (!addrs) {
        return ENOMEM;
    }
    snprintf(addrs->name, sizeof addrs->name, "%s", name);
    addrs->ifindex = info.ifindex;
    addrs->up = info.flags & IFF_UP;
    error = read_addrs(addrs);
    if (error) {
        turbotap_addrs_free(addrs);
    } else {
        *addrsp = addrs;
    }
    return error;
}

void
turbotap_addrs_free(struct turbotap_addrs *addrs)
{
    if (addrs) {
        nl_cache_free(addrs->addrs);
        nl_cache_free(addrs->routes);
        free(addrs);
    }
}

/* Gives 'addr' to the link 'ifindex'.  Returns 0 or a positive errno value. */
static int
add_addr(struct nl_sock *sock, struct rtnl_addr *addr, int ifindex)
{
    rtnl_addr_set_ifindex(addr, ifindex);
    /* The host has had it all the time. */
    if (rtnl_addr_get_family(addr) == AF_INET6) {
        rtnl_addr_set_flags(addr, IFA_F_NODAD);
    }
    return turbotap_nl_errno(rtnl_addr_add(sock, addr,
                                           NLM_F_CREATE | NLM_F_REPLACE));
}

/* Adds 'route' through the link 'ifindex'.  Returns 0 or a positive errno
 * value. */
static int
add_route(struct nl_sock *sock, struct rtnl_route *route, int ifindex)
{
    rtnl_route_nh_set_ifindex(rtnl_route_nexthop_n(route, 0), ifindex);
    return turbotap_nl_errno(rtnl_route_add(sock, route,
                                            NLM_F_CREATE | NLM_F_REPLACE));
}

/* Adds the routes of 'addrs' through the link 'ifindex', in the order in which
 * they can be: a gateway must be reachable.  Returns 0 or a positive errno
 * value. */
static int
add_routes(struct nl_sock *sock, struct turbotap_addrs *addrs, int ifindex)
{
    bool progress;
    int error;

    do {
        struct nl_object *object, *next;

        progress = false;
        error = 0;
        for (object = nl_cache_get_first(addrs->routes); object;
             object = next) {
            int retval = add_route(sock, (struct rtnl_route *) object,
                                   ifindex);

            next = nl_cache_get_next(object);
            if (!retval) {
                nl_cache_remove(object);
                progress = true;
            } else if (!error) {
                error = retval;
            }
        }
    } while (error && progress);
    return error;
}

/* Gives what 'addrs' has, but for the state, to the link 'ifindex'.  Returns 0
 * or a positive errno value, that of the first failure. */
static int
add_all(struct turbotap_addrs *addrs, int ifindex)
{
    struct nl_object *object;
    struct nl_sock *sock;
    int error;

    error = turbotap_nl_open(&sock);
    if (error) {
        return error;
    }
    for (object = nl_cache_get_first(addrs->addrs); object;
         object = nl_cache_get_next(object)) {
        int retval = add_addr(sock, (struct rtnl_addr *) object, ifindex);

        error = error ? error : retval;
    }
    if (addrs->up) {
        int retval = add_routes(sock, addrs, ifindex);

        error = error ? error : retval;
    }
    nl_socket_free(sock);
    return error;
}

int
turbotap_addrs_restore(struct turbotap_addrs *addrs)
{
    struct turbotap_link_info info;
    struct turbotap_link *link;
    int error;

    error = read_link(addrs->name, &link, &info);
    if (error) {
        return error;
    }
    if (info.ifindex != addrs->ifindex) {
        int retval;

        if (addrs->up) {
            error = turbotap_link_set_flags(link, info.ifindex, 0, IFF_UP);
        }
        retval = add_all(addrs, info.ifindex);
        error = error ? error : retval;
    }
    turbotap_link_close(link);
    return error;
}
