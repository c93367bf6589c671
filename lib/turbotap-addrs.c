/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* A link's addresses and routes, through libnl-route-3.  Must not know what a
 * tap is. */

#include <config.h>

#include "turbotap-addrs.h"

#include <errno.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <netlink/cache.h>
#include <netlink/netlink.h>
#include <netlink/object.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

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

/* Returns true if 'addr' of the host is to be taken along. */
static bool
addr_counts(struct rtnl_addr *addr)
{
    return (rtnl_addr_get_family(addr) == AF_INET
            || rtnl_addr_get_scope(addr) != RT_SCOPE_LINK);
}

/* Removes from the cache 'addrs' what is not of the link 'ifindex'. */
static void
trim_addrs(struct nl_cache *addrs, int ifindex)
{
    struct nl_object *object, *next;

    for (object = nl_cache_get_first(addrs); object; object = next) {
        struct rtnl_addr *addr = (struct rtnl_addr *) object;

        next = nl_cache_get_next(object);
        if (rtnl_addr_get_ifindex(addr) != ifindex || !addr_counts(addr)) {
            nl_cache_remove(object);
        }
    }
}

/* Returns true if 'route' of the host, through the link 'ifindex' alone, is to
 * be taken along. */
static bool
route_counts(struct rtnl_route *route, int ifindex)
{
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

/* Removes from the cache 'routes' what is not through the link 'ifindex'. */
static void
trim_routes(struct nl_cache *routes, int ifindex)
{
    struct nl_object *object, *next;

    for (object = nl_cache_get_first(routes); object; object = next) {
        next = nl_cache_get_next(object);
        if (!route_counts((struct rtnl_route *) object, ifindex)) {
            nl_cache_remove(object);
        }
    }
}

/* Reads the link called 'addrs->name'.  Stores its index in '*ifindexp' and
 * its flags in '*flags'.  Returns 0 or a positive errno value. */
static int
read_link(struct nl_sock *sock, const struct turbotap_addrs *addrs,
          int *ifindexp, unsigned int *flags)
{
    struct rtnl_link *link;
    int error;

    error = turbotap_nl_errno(rtnl_link_get_kernel(sock, 0, addrs->name,
                                                   &link));
    if (!error) {
        *ifindexp = rtnl_link_get_ifindex(link);
        *flags = rtnl_link_get_flags(link);
        rtnl_link_put(link);
    }
    return error;
}

/* Reads all that 'addrs', which knows its link's name, is to have.  Returns 0
 * or a positive errno value. */
static int
read_all(struct nl_sock *sock, struct turbotap_addrs *addrs)
{
    unsigned int flags;
    int error;

    error = read_link(sock, addrs, &addrs->ifindex, &flags);
    if (!error) {
        addrs->up = flags & IFF_UP;
        error = turbotap_nl_errno(rtnl_addr_alloc_cache(sock, &addrs->addrs));
    }
    if (!error) {
        trim_addrs(addrs->addrs, addrs->ifindex);
        error = turbotap_nl_errno(rtnl_route_alloc_cache(sock, AF_UNSPEC, 0,
                                                         &addrs->routes));
    }
    if (!error) {
        trim_routes(addrs->routes, addrs->ifindex);
    }
    return error;
}

int
turbotap_addrs_save(const char *name, struct turbotap_addrs **addrsp)
{
    struct turbotap_addrs *addrs;
    struct nl_sock *sock;
    int error;

    *addrsp = NULL;
    error = turbotap_nl_open(&sock);
    if (error) {
        return error;
    }
    addrs = turbotap_zalloc(sizeof *addrs);
    if (addrs) {
        snprintf(addrs->name, sizeof addrs->name, "%s", name);
        error = read_all(sock, addrs);
    } else {
        error = ENOMEM;
    }
    nl_socket_free(sock);

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

/* Brings the link 'ifindex' up.  Returns 0 or a positive errno value. */
static int
bring_up(struct nl_sock *sock, int ifindex)
{
    struct rtnl_link *link = rtnl_link_alloc();
    struct rtnl_link *change = rtnl_link_alloc();
    int error = ENOMEM;

    if (link && change) {
        rtnl_link_set_ifindex(link, ifindex);
        rtnl_link_set_flags(change, IFF_UP);
        error = turbotap_nl_errno(rtnl_link_change(sock, link, change, 0));
    }
    rtnl_link_put(link);
    rtnl_link_put(change);
    return error;
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

int
turbotap_addrs_restore(struct turbotap_addrs *addrs)
{
    struct nl_object *object;
    struct nl_sock *sock;
    unsigned int flags;
    int ifindex;
    int error;

    error = turbotap_nl_open(&sock);
    if (error) {
        return error;
    }
    error = read_link(sock, addrs, &ifindex, &flags);
    if (error || ifindex == addrs->ifindex) {
        goto out;
    }

    if (addrs->up) {
        error = bring_up(sock, ifindex);
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

out:
    nl_socket_free(sock);
    return error;
}
