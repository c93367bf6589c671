/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Reading what links have.  Must not know what a tap is. */

#include <config.h>

#include "turbotap-addrs-private.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/nexthop.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "turbotap-link.h"
#include "turbotap-nl.h"
#include "turbotap-util.h"

/* Since Linux 5.18. */
#ifndef IFAPROT_KERNEL_LL
#define IFA_PROTO 11
#define IFAPROT_KERNEL_LL 3
#endif

/* How often all is read again because others have changed something. */
#define MAX_READS 5

static void
truncate_list(struct addrs_list *list, size_t n)
{
    while (list->n > n) {
        free(list->entries[--list->n].nlh);
    }
}

static void
destroy_list(struct addrs_list *list)
{
    truncate_list(list, 0);
    free(list->entries);
    memset(list, 0, sizeof *list);
}

/* Appends a copy of 'nlh' to 'list', which is of 'addrs'.  Sets the error of
 * 'addrs' if it cannot. */
static void
append(struct turbotap_addrs *addrs, struct addrs_list *list,
       const struct nlmsghdr *nlh)
{
    struct nlmsghdr *copy = turbotap_zalloc(nlh->nlmsg_len);

    if (list->n == list->allocated) {
        size_t allocated = list->allocated ? 2 * list->allocated : 16;
        struct addrs_entry *entries = reallocarray(list->entries, allocated,
                                             sizeof *entries);

        if (!entries) {
            free(copy);
            addrs->error = ENOMEM;
            return;
        }
        list->entries = entries;
        list->allocated = allocated;
    }
    if (!copy) {
        addrs->error = ENOMEM;
        return;
    }
    memcpy(copy, nlh, nlh->nlmsg_len);
    list->entries[list->n++] = (struct addrs_entry) { .nlh = copy };
}

/* Returns true if what needs the link 'ifindex' goes with it. */
static bool
goes(const struct turbotap_addrs *addrs, int ifindex)
{
    return turbotap_addrs_link_fate(addrs, ifindex) != FATE_STAYS;
}

/* Returns true if the kernel has made 'addr', by itself, and will make it for
 * another link. */
static bool
is_kernels_addr(const struct turbotap_addrs *addrs,
                const struct nlmsghdr *addr)
{
    const struct ifaddrmsg *ifa = nlmsg_data(addr);
    struct nlmsghdr *nlh = (struct nlmsghdr *) addr;
    struct nlattr *proto = nlmsg_find_attr(nlh, sizeof *ifa, IFA_PROTO);
    struct nlattr *attr = nlmsg_find_attr(nlh, sizeof *ifa, IFA_ADDRESS);

    if (ifa->ifa_family != AF_INET6 || ifa->ifa_scope != RT_SCOPE_LINK) {
        return false;
    } else if (proto) {
        return nla_get_u8(proto) == IFAPROT_KERNEL_LL;
    } else if (turbotap_rtmsg_get_addr_flags(addr) & IFA_F_STABLE_PRIVACY) {
        return true;
    }

    /* Linux before 5.18: tell it by the address (RFC 4291). */
    for (size_t i = 0; attr && i < addrs->map.n; i++) {
        const uint8_t *mac = addrs->links[i].mac;
        const uint8_t kernels[] = {
            0xfe, 0x80, 0, 0, 0, 0, 0, 0,
            mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]
        };

        if (addrs->map.links[i].old_ifindex == (int) ifa->ifa_index
            && nla_len(attr) == sizeof kernels
            && !memcmp(nla_data(attr), kernels, sizeof kernels)) {
            return true;
        }
    }
    return false;
}

/* A callback of turbotap_rtmsg_dump(), as all that are called read_*(). */
static void
read_addr(const struct nlmsghdr *nlh, void *addrs_)
{
    const struct ifaddrmsg *ifa = nlmsg_data(nlh);
    struct turbotap_addrs *addrs = addrs_;

    if (nlh->nlmsg_type == RTM_NEWADDR && goes(addrs, ifa->ifa_index)
        && (ifa->ifa_family == AF_INET || ifa->ifa_family == AF_INET6)
        && !is_kernels_addr(addrs, nlh)) {
        append(addrs, &addrs->addrs, nlh);
    }
}

static void
read_neigh(const struct nlmsghdr *nlh, void *addrs_)
{
    const struct ndmsg *ndm = nlmsg_data(nlh);
    struct turbotap_addrs *addrs = addrs_;

    if (nlh->nlmsg_type == RTM_NEWNEIGH && goes(addrs, ndm->ndm_ifindex)
        && (ndm->ndm_family == AF_INET || ndm->ndm_family == AF_INET6)
        && (ndm->ndm_state & NUD_PERMANENT || ndm->ndm_flags & NTF_PROXY)) {
        append(addrs, &addrs->neighs, nlh);
    }
}

/* Takes all groups: a member may come later than its group. */
static void
read_nexthop(const struct nlmsghdr *nlh, void *addrs_)
{
    struct turbotap_addrs *addrs = addrs_;
    size_t n_members;

    if (nlh->nlmsg_type != RTM_NEWNEXTHOP) {
        return;
    }
    turbotap_addrs_get_members(nlh, &n_members);
    if (n_members) {
        append(addrs, &addrs->groups, nlh);
    } else if (goes(addrs, turbotap_addrs_nexthop_u32(nlh, NHA_OIF))) {
        append(addrs, &addrs->nexthops, nlh);
    }
}

/* Removes from 'addrs' the groups that have nothing to do with its links. */
static void
trim_groups(struct turbotap_addrs *addrs)
{
    struct addrs_list *list = &addrs->groups;
    size_t n = 0;

    for (size_t i = 0; i < list->n; i++) {
        if (turbotap_addrs_group_fate(addrs, list->entries[i].nlh)
            == FATE_STAYS) {
            free(list->entries[i].nlh);
        } else {
            list->entries[n++] = list->entries[i];
        }
    }
    list->n = n;
}

/* Removes from 'addrs' the last routes in its list, which have one key, if all
 * of them stay. */
static void
trim_last_routes(struct turbotap_addrs *addrs)
{
    struct addrs_list *list = &addrs->routes;
    size_t start = list->n;

    while (start && (start == list->n
                     || turbotap_rtmsg_same_key(list->entries[start - 1].nlh,
                                                list->entries[start].nlh))) {
        start--;
        if (turbotap_addrs_route_fate(addrs, list->entries[start].nlh)
            != FATE_STAYS) {
            return;
        }
    }
    truncate_list(list, start);
}

/* The kernel says routes of one key one after the other. */
static void
read_route(const struct nlmsghdr *nlh, void *addrs_)
{
    const struct rtmsg *rtm = nlmsg_data(nlh);
    struct turbotap_addrs *addrs = addrs_;
    struct addrs_list *list = &addrs->routes;

    if (nlh->nlmsg_type != RTM_NEWROUTE || rtm->rtm_flags & RTM_F_CLONED) {
        return;
    }
    if (list->n
        && !turbotap_rtmsg_same_key(list->entries[list->n - 1].nlh, nlh)) {
        trim_last_routes(addrs);
    }
    append(addrs, list, nlh);
}

/* Asks for all of 'type' and lets 'addrs' have what 'callback' wants of it.
 * Does nothing if there has been an error. */
static void
read_type(struct turbotap_addrs *addrs, struct nl_sock *sock, int type,
          const void *hdr, size_t len,
          void (*callback)(const struct nlmsghdr *, void *addrs))
{
    if (!addrs->error) {
        int error = turbotap_rtmsg_dump(sock, type, hdr, len, callback, addrs);

        if (error == EINTR) {
            addrs->changed = true;
        } else if (!addrs->error) {
            addrs->error = error;
        }
    }
}

/* Reads all of 'addrs', which knows its links.  Returns 0 or a positive errno
 * value: EINTR if somebody has changed something meanwhile. */
static int
read_all(struct turbotap_addrs *addrs, struct nl_sock *sock)
{
    static const struct ifaddrmsg ifa = { .ifa_family = AF_UNSPEC };
    static const struct nhmsg nh = { .nh_family = AF_UNSPEC };
    static const struct rtmsg ipv4 = { .rtm_family = AF_INET };
    static const struct rtmsg ipv6 = { .rtm_family = AF_INET6 };
    static const struct ndmsg neigh = { .ndm_family = AF_UNSPEC };
    static const struct ndmsg proxy = { .ndm_family = AF_UNSPEC,
                                        .ndm_flags = NTF_PROXY };

    addrs->error = 0;
    addrs->changed = false;
    truncate_list(&addrs->addrs, 0);
    truncate_list(&addrs->nexthops, 0);
    truncate_list(&addrs->groups, 0);
    truncate_list(&addrs->routes, 0);
    truncate_list(&addrs->neighs, 0);

    read_type(addrs, sock, RTM_GETADDR, &ifa, sizeof ifa, read_addr);
    read_type(addrs, sock, RTM_GETNEXTHOP, &nh, sizeof nh, read_nexthop);
    if (addrs->error == EOPNOTSUPP) {
        addrs->error = 0;       /* Linux before 5.3. */
    }
    trim_groups(addrs);
    read_type(addrs, sock, RTM_GETROUTE, &ipv4, sizeof ipv4, read_route);
    read_type(addrs, sock, RTM_GETROUTE, &ipv6, sizeof ipv6, read_route);
    trim_last_routes(addrs);
    read_type(addrs, sock, RTM_GETNEIGH, &neigh, sizeof neigh, read_neigh);
    read_type(addrs, sock, RTM_GETNEIGH, &proxy, sizeof proxy, read_neigh);
    return addrs->error ? addrs->error : addrs->changed ? EINTR : 0;
}

/* Has 'addrs' know those of the 'n' links called 'names' that there are.
 * Returns 0 or a positive errno value. */
static int
read_links(struct turbotap_addrs *addrs, const char *const names[], size_t n)
{
    struct turbotap_link *link;
    int error;

    addrs->links = turbotap_zalloc((n + 1) * sizeof *addrs->links);
    addrs->map.links = turbotap_zalloc((n + 1) * sizeof *addrs->map.links);
    if (!addrs->links || !addrs->map.links) {
        return ENOMEM;
    }
    error = turbotap_link_open(&link);
    if (error) {
        return error;
    }
    for (size_t i = 0; i < n && !error; i++) {
        struct addrs_link *new = &addrs->links[addrs->map.n];
        struct turbotap_link_info info;

        error = turbotap_link_lookup(link, TURBOTAP_NSID_SELF, names[i],
                                     &info);
        if (!error) {
            snprintf(new->name, sizeof new->name, "%s", names[i]);
            memcpy(new->mac, info.mac, sizeof new->mac);
            new->up = info.flags & IFF_UP;
            addrs->map.links[addrs->map.n++].old_ifindex = info.ifindex;
        } else if (error == ENODEV) {
            error = 0;
        }
    }
    turbotap_link_close(link);
    return error;
}

time_t
turbotap_addrs_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec;
}

int
turbotap_addrs_save(const char *const names[], size_t n,
                    struct turbotap_addrs **addrsp)
{
    struct turbotap_addrs *addrs;
    struct nl_sock *sock;
    int error;

    *addrsp = NULL;
    addrs = turbotap_zalloc(sizeof *addrs);
    if (!addrs) {
        return ENOMEM;
    }
    error = read_links(addrs, names, n);
    if (!error && addrs->map.n) {
        error = turbotap_nl_open(&sock);
        if (!error) {
            int n_reads = 0;

            do {
                addrs->time = turbotap_addrs_now();
                error = read_all(addrs, sock);
            } while (error == EINTR && ++n_reads < MAX_READS);
            nl_socket_free(sock);
        }
    }
    if (error && error != EINTR) {
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
        destroy_list(&addrs->addrs);
        destroy_list(&addrs->nexthops);
        destroy_list(&addrs->groups);
        destroy_list(&addrs->routes);
        destroy_list(&addrs->neighs);
        free(addrs->links);
        free(addrs->map.links);
        free(addrs);
    }
}
