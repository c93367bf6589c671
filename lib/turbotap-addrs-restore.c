/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Giving links what others had: in which order, and without touching what is
 * not theirs.  Must not know what a tap is. */

#include <config.h>

#include "turbotap-addrs-private.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/nexthop.h>
#include <linux/rtnetlink.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <string.h>
#include <sys/socket.h>

#include "turbotap-link.h"
#include "turbotap-nl.h"

/* Flags of an address that the administrator sets.  The others tell how it is.
 */
#define ADDR_FLAGS (IFA_F_NODAD | IFA_F_HOMEADDRESS | IFA_F_MANAGETEMPADDR \
                    | IFA_F_NOPREFIXROUTE | IFA_F_MCAUTOJOIN)

/* What all functions need that give something back. */
struct restore {
    struct turbotap_addrs *addrs;
    struct nl_sock *sock;
    uint32_t elapsed;           /* Since 'addrs' was read, in seconds. */
};

/* Returns true if there is another link in the place of the link 'ifindex'. */
static bool
can_restore(const struct restore *restore, int ifindex)
{
    return turbotap_addrs_link_fate(restore->addrs, ifindex) == FATE_LOST;
}

/* Sends 'msg' with NLM_F_* 'flags' unless 'error', the result of making it, or
 * it is a null pointer.  Returns 0 or a positive errno value. */
static int
send_made(const struct restore *restore, int error, struct nl_msg *msg,
          int flags)
{
    if (!error && msg) {
        error = turbotap_rtmsg_send(restore->sock, msg, flags);
    }
    return error;
}

/* Gives back 'entry', an address, with the flags 'addr_flags', by a request
 * with NLM_F_* 'flags'.  Returns 0 or a positive errno value. */
static int
send_addr(const struct restore *restore, struct addrs_entry *entry,
          uint32_t addr_flags, int flags)
{
    struct nl_msg *msg;
    int error = turbotap_rtmsg_make_addr(entry->nlh, &restore->addrs->map,
                                         addr_flags, restore->elapsed, &msg);
    bool over = !error && !msg;

    error = send_made(restore, error, msg, flags);
    entry->state = over || error ? STATE_LEFT_OUT : STATE_ADDED;
    if (error == EEXIST) {
        entry->state = STATE_THERE;
    }
    return error;
}

/* Gives back 'entry', an address, unless its link has none in its place.
 * Returns 0 or a positive errno value. */
static int
add_addr(const struct restore *restore, struct addrs_entry *entry)
{
    const struct ifaddrmsg *ifa = nlmsg_data(entry->nlh);
    uint32_t flags = turbotap_rtmsg_get_addr_flags(entry->nlh);
    uint32_t kept = flags & ADDR_FLAGS;
    uint32_t first = kept;
    int error;

    if (!can_restore(restore, ifa->ifa_index)) {
        return 0;
    }

    /* If the host has been using it, it can go on at once. */
    if (ifa->ifa_family == AF_INET6
        && !(flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED))) {
        first |= IFA_F_NODAD;
    }
    error = send_addr(restore, entry, first, NLM_F_CREATE | NLM_F_EXCL);
    if (entry->state == STATE_ADDED && first != kept) {
        error = send_addr(restore, entry, kept, NLM_F_REPLACE);
    }
    return error == EEXIST ? 0 : error;
}

/* Gives back all addresses, in the order that leaves them in that in which
 * they were: the kernel lists those of IPv6 with the last one first.  Returns
 * 0 or a positive errno value, that of the first failure. */
static int
add_addrs(const struct restore *restore)
{
    const struct addrs_list *list = &restore->addrs->addrs;
    int error = 0;

    for (size_t i = 0; i < 2 * list->n; i++) {
        bool ipv6 = i >= list->n;
        size_t j = ipv6 ? 2 * list->n - 1 - i : i;
        const struct ifaddrmsg *ifa = nlmsg_data(list->entries[j].nlh);

        if ((ifa->ifa_family == AF_INET6) == ipv6) {
            int retval = add_addr(restore, &list->entries[j]);

            error = error ? error : retval;
        }
    }
    return error;
}

static int
add_neighs(const struct restore *restore)
{
    const struct addrs_list *list = &restore->addrs->neighs;
    int error = 0;

    for (size_t i = 0; i < list->n; i++) {
        const struct nlmsghdr *neigh = list->entries[i].nlh;
        const struct ndmsg *ndm = nlmsg_data(neigh);

        if (can_restore(restore, ndm->ndm_ifindex)) {
            struct nl_msg *msg;
            int retval = turbotap_rtmsg_make_neigh(neigh,
                                                   &restore->addrs->map, &msg);

            retval = send_made(restore, retval, msg,
                               NLM_F_CREATE | NLM_F_EXCL);
            error = error || retval == EEXIST ? error : retval;
        }
    }
    return error;
}

/* Gives back the next hop 'entry' by a request with NLM_F_* 'flags'.  Returns
 * 0 or a positive errno value. */
static int
add_nexthop(const struct restore *restore, struct addrs_entry *entry,
            int flags)
{
    struct nl_msg *msg;
    int error = turbotap_rtmsg_make_nexthop(entry->nlh, &restore->addrs->map,
                                            &msg);

    error = send_made(restore, error, msg, flags);
    if (!error) {
        entry->state = STATE_ADDED;
    } else if (error == EEXIST) {
        entry->state = STATE_LEFT_OUT;
        error = 0;
    }
    return error;
}

/* A group as it was, and what is found out about it. */
struct group_check {
    const struct turbotap_addrs *addrs;
    const struct nlmsghdr *old;
    bool same;                  /* It lacks what it lost, and is the same
                                 * otherwise. */
};

/* A callback of turbotap_rtmsg_get_nexthop(). */
static void
check_group(const struct nlmsghdr *nlh, void *check_)
{
    struct group_check *check = check_;
    const struct nexthop_grp *old, *new;
    size_t n_old, n_new, n = 0;

    if (nlh->nlmsg_type != RTM_NEWNEXTHOP) {
        return;
    }
    old = turbotap_addrs_get_members(check->old, &n_old);
    new = turbotap_addrs_get_members(nlh, &n_new);
    check->same = true;
    for (size_t i = 0; i < n_old && check->same; i++) {
        if (turbotap_addrs_nexthop_fate(check->addrs, old[i].id)
            == FATE_STAYS) {
            check->same = (n < n_new
                           && !memcmp(&new[n], &old[i], sizeof *old));
            n++;
        }
    }
    check->same = check->same && n == n_new;
}

/* Gives back the members of the group 'entry' that it has lost, unless it has
 * been changed otherwise, too.  Returns 0 or a positive errno value. */
static int
complete_group(const struct restore *restore, struct addrs_entry *entry)
{
    struct group_check check = { .addrs = restore->addrs,
                                 .old = entry->nlh };

    turbotap_rtmsg_get_nexthop(restore->sock,
                               turbotap_addrs_nexthop_u32(entry->nlh, NHA_ID),
                               check_group, &check);
    if (!check.same) {
        entry->state = STATE_LEFT_OUT;
        return 0;
    }
    return add_nexthop(restore, entry, NLM_F_CREATE | NLM_F_REPLACE);
}

/* Returns the fate of 'entry', a next hop. */
static enum addrs_fate
get_fate(const struct restore *restore, const struct addrs_entry *entry)
{
    size_t n_members;

    turbotap_addrs_get_members(entry->nlh, &n_members);
    return (n_members
            ? turbotap_addrs_group_fate(restore->addrs, entry->nlh)
            : turbotap_addrs_nexthop_fate(
                restore->addrs, turbotap_addrs_nexthop_u32(entry->nlh,
                                                           NHA_ID)));
}

/* Gives back what next hops it can.  Returns 0 or a positive errno value, that
 * of the first failure. */
static int
add_nexthops(const struct restore *restore)
{
    const struct addrs_list *nexthops = &restore->addrs->nexthops;
    const struct addrs_list *groups = &restore->addrs->groups;
    int error = 0;

    for (size_t i = 0; i < nexthops->n + groups->n; i++) {
        struct addrs_entry *entry = (i < nexthops->n
                                     ? &nexthops->entries[i]
                                     : &groups->entries[i - nexthops->n]);

        if (entry->state == STATE_WAITING) {
            enum addrs_fate fate = get_fate(restore, entry);
            int retval = 0;

            if (fate == FATE_LOST) {
                retval = add_nexthop(restore, entry,
                                     NLM_F_CREATE | NLM_F_EXCL);
            } else if (fate == FATE_LOSES_SOME) {
                retval = complete_group(restore, entry);
            } else {
                entry->state = STATE_LEFT_OUT;
            }
            error = error ? error : retval;
        }
    }
    return error;
}

/* Gives back 'entry', a route, by a request with NLM_F_* 'flags'.  Returns 0
 * or a positive errno value. */
static int
add_route(const struct restore *restore, struct addrs_entry *entry, int flags)
{
    struct nl_msg *msg;
    int error = turbotap_rtmsg_make_route(entry->nlh, &restore->addrs->map,
                                          restore->elapsed, &msg);

    error = send_made(restore, error, msg, flags);
    if (!error) {
        entry->state = STATE_ADDED;
    } else if (error == EEXIST && !(flags & NLM_F_EXCL)) {
        entry->state = STATE_THERE;
        error = 0;
    }
    return error;
}

static bool
has_attr(const struct nlmsghdr *route, int type)
{
    return nlmsg_find_attr((struct nlmsghdr *) route, sizeof(struct rtmsg),
                           type);
}

/* Deletes the kernel's route that is there in place of 'route', if there is
 * one. */
static void
delete_route(const struct restore *restore, const struct nlmsghdr *route)
{
    struct nl_msg *msg;
    int error = turbotap_rtmsg_make_route_deletion(route, &restore->addrs->map,
                                                   &msg);

    send_made(restore, error, msg, 0);
}

/* Returns true if there was a route with the key of 'route', of the kernel's,
 * that went with a link. */
static bool
was_there(const struct restore *restore, const struct nlmsghdr *route)
{
    const struct addrs_list *list = &restore->addrs->routes;

    for (size_t i = 0; i < list->n; i++) {
        const struct nlmsghdr *old = list->entries[i].nlh;
        const struct rtmsg *rtm = nlmsg_data(old);

        if (rtm->rtm_protocol == RTPROT_KERNEL
            && turbotap_rtmsg_same_key(old, route)
            && turbotap_addrs_route_fate(restore->addrs, old) != FATE_STAYS) {
            return true;
        }
    }
    return false;
}

/* Deletes those routes that the kernel has made with the addresses but
 * somebody had deleted. */
static void
delete_unwanted(const struct restore *restore)
{
    const struct addrs_list *list = &restore->addrs->addrs;

    for (size_t i = 0; i < list->n; i++) {
        struct nl_msg *route;

        if (list->entries[i].state == STATE_ADDED
            && !turbotap_rtmsg_make_prefix_route(list->entries[i].nlh, &route)
            && route) {
            if (!was_there(restore, nlmsg_hdr(route))) {
                delete_route(restore, nlmsg_hdr(route));
            }
            nlmsg_free(route);
        }
    }
}

/* Has 'entry', a route of the kernel's that it has most likely made again with
 * an address, as it was, in case that somebody had changed it.  'before' tells
 * whether it is to come before one that is there. */
static void
prepare_kernels(const struct restore *restore, struct addrs_entry *entry,
                bool before)
{
    const struct rtmsg *rtm = nlmsg_data(entry->nlh);
    bool ipv6 = rtm->rtm_family == AF_INET6;

    /* The kernel takes one with another metric, or source, as a second route
     * with IPv4, but as the same route with IPv6. */
    if (ipv6 ? has_attr(entry->nlh, RTA_METRICS)
               || has_attr(entry->nlh, RTA_PREFSRC)
        : before) {
        delete_route(restore, entry->nlh);
    } else if (!add_route(restore, entry, NLM_F_CREATE | NLM_F_APPEND)
               && !ipv6 && entry->state == STATE_ADDED) {
        /* Of two, the one that was there first is deleted. */
        delete_route(restore, entry->nlh);
        add_route(restore, entry, NLM_F_CREATE | NLM_F_APPEND);
    }
    if (entry->state == STATE_ADDED) {
        entry->state = STATE_THERE;
    }
}

/* Sets the states of the routes from index 'start' to 'end', which have the
 * same key, and sees to those of the kernel's. */
static void
prepare_key(const struct restore *restore, size_t start, size_t end)
{
    struct turbotap_addrs *addrs = restore->addrs;
    struct addrs_entry *entries = addrs->routes.entries;
    bool before = false;

    for (size_t i = end; i > start; i--) {
        struct addrs_entry *entry = &entries[i - 1];
        const struct rtmsg *rtm = nlmsg_data(entry->nlh);
        enum addrs_fate fate = turbotap_addrs_route_fate(addrs, entry->nlh);

        if (fate == FATE_STAYS) {
            entry->state = STATE_THERE;
            before = true;
        } else if (fate == FATE_GONE) {
            entry->state = STATE_LEFT_OUT;
        } else if (rtm->rtm_protocol == RTPROT_KERNEL) {
            prepare_kernels(restore, entry, before);
        }
    }
}

/* Gives back the routes from index 'start' to 'end', which have the same key
 * and have been prepared.  Unless 'all', stops at the first one that fails, so
 * that none comes before another one that it is to come after.  Returns 0 or a
 * positive errno value, that of the first failure. */
static int
add_key(const struct restore *restore, size_t start, size_t end, bool all)
{
    struct addrs_entry *entries = restore->addrs->routes.entries;
    const struct rtmsg *rtm = nlmsg_data(entries[start].nlh);
    size_t anchor = start;      /* The first one that is there. */
    bool alone = true;          /* There is none with that key. */
    int error = 0;

    while (anchor < end && entries[anchor].state != STATE_THERE) {
        struct turbotap_rtmsg_hops hops;

        turbotap_rtmsg_count_hops(entries[anchor].nlh, &restore->addrs->map,
                                  &hops);
        if (entries[anchor].state == STATE_ADDED
            || (rtm->rtm_family == AF_INET6 && hops.n_lost < hops.n)) {
            alone = false;
        }
        anchor++;
    }
    if (anchor < end) {
        alone = false;
    }
    for (size_t i = start; i < end && (all || !error); i++) {
        /* What was before all that is there is put to the head, from the last
         * one to the first.  IPv6 has only the tail. */
        bool head = rtm->rtm_family == AF_INET && i < anchor;
        size_t j = head ? anchor - 1 - (i - start) : i;
        int retval;

        if (entries[j].state != STATE_WAITING) {
            continue;
        }
        retval = add_route(restore, &entries[j],
                           NLM_F_CREATE | (alone ? NLM_F_EXCL
                                           : head ? 0 : NLM_F_APPEND));
        if (retval == EEXIST) {
            /* Somebody has put something else in their place. */
            for (j = start; j < end; j++) {
                entries[j].state = STATE_LEFT_OUT;
            }
            return 0;
        }
        alone = alone && retval;
        error = error ? error : retval;
    }
    return error;
}

/* Returns the index behind the last one of those routes in 'list' from index
 * 'start' on that have the same key. */
static size_t
end_of_key(const struct addrs_list *list, size_t start)
{
    size_t end = start + 1;

    while (end < list->n
           && turbotap_rtmsg_same_key(list->entries[start].nlh,
                                      list->entries[end].nlh)) {
        end++;
    }
    return end;
}

/* Calls prepare_key() for all routes. */
static void
prepare_routes(const struct restore *restore)
{
    const struct addrs_list *list = &restore->addrs->routes;

    for (size_t start = 0, end; start < list->n; start = end) {
        end = end_of_key(list, start);
        prepare_key(restore, start, end);
    }
}

/* Gives back what routes it can, as add_key() does.  Returns 0 or a positive
 * errno value, that of the first failure. */
static int
add_routes(const struct restore *restore, bool all)
{
    const struct addrs_list *list = &restore->addrs->routes;
    int error = 0;

    for (size_t start = 0, end; start < list->n; start = end) {
        int retval;

        end = end_of_key(list, start);
        retval = add_key(restore, start, end, all);
        error = error ? error : retval;
    }
    return error;
}

/* Returns how many in 'list' are to come back. */
static size_t
count_waiting(const struct addrs_list *list)
{
    size_t n = 0;

    for (size_t i = 0; i < list->n; i++) {
        n += list->entries[i].state == STATE_WAITING;
    }
    return n;
}

/* Gives back the next hops and routes in the order in which they can be: a
 * gateway must be reachable.  Returns 0 or a positive errno value, that of the
 * first failure. */
static int
add_nexthops_and_routes(const struct restore *restore)
{
    const struct turbotap_addrs *addrs = restore->addrs;
    size_t n = SIZE_MAX;
    bool progress;
    int error;

    delete_unwanted(restore);
    prepare_routes(restore);
    do {
        size_t old_n = n;
        int retval;

        error = add_nexthops(restore);
        retval = add_routes(restore, false);
        error = error ? error : retval;
        n = (count_waiting(&addrs->nexthops) + count_waiting(&addrs->groups)
             + count_waiting(&addrs->routes));
        progress = n < old_n;
    } while (error && progress);
    if (error) {
        add_routes(restore, true);
    }
    return error;
}

/* Looks for the links in the places of those of 'addrs', and sets those up
 * that were.  Stores in '*replaced' whether there is one that is another one.
 * Returns 0 or a positive errno value, that of the first failure. */
static int
find_links(struct turbotap_addrs *addrs, bool *replaced)
{
    struct turbotap_link *link;
    int error;

    *replaced = false;
    error = turbotap_link_open(&link);
    if (error) {
        return error;
    }
    for (size_t i = 0; i < addrs->map.n; i++) {
        struct turbotap_rtmsg_link *place = &addrs->map.links[i];
        struct turbotap_link_info info;
        int retval = turbotap_link_lookup(link, TURBOTAP_NSID_SELF,
                                          addrs->links[i].name, &info);

        if (!retval) {
            place->ifindex = info.ifindex;
            if (info.ifindex != place->old_ifindex) {
                *replaced = true;
                if (addrs->links[i].up) {
                    retval = turbotap_link_set_flags(link, info.ifindex, 0,
                                                     IFF_UP);
                }
            }
        } else if (retval == ENODEV) {
            retval = 0;
        }
        error = error ? error : retval;
    }
    turbotap_link_close(link);
    return error;
}

int
turbotap_addrs_restore(struct turbotap_addrs *addrs)
{
    struct restore restore = { .addrs = addrs,
                               .elapsed = turbotap_addrs_now() - addrs->time };
    bool replaced;
    int error, retval;

    error = find_links(addrs, &replaced);
    if (!replaced) {
        return error;
    }
    retval = turbotap_nl_open(&restore.sock);
    if (retval) {
        return error ? error : retval;
    }
    retval = add_addrs(&restore);
    error = error ? error : retval;
    retval = add_nexthops_and_routes(&restore);
    error = error ? error : retval;
    retval = add_neighs(&restore);
    error = error ? error : retval;
    nl_socket_free(restore.sock);
    return error;
}
