/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Addresses, next hops, routes and neighbours as rtnetlink says them, and the
 * requests that make them once more, with other links in place of theirs and
 * all else as it was: an attribute that this file does not know is kept.  Must
 * not know which of them are wanted, nor in which order.
 *
 * A message here is a 'struct nlmsghdr' of the kernel's, as it came with a
 * dump: RTM_NEWADDR, RTM_NEWNEXTHOP, RTM_NEWROUTE or RTM_NEWNEIGH. */

#ifndef TURBOTAP_RTMSG_H
#define TURBOTAP_RTMSG_H 1

#include <linux/netlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct nl_msg;
struct nl_sock;

/* Links that others took the place of. */
struct turbotap_rtmsg_link {
    int old_ifindex;
    int ifindex;                /* Of the link in its place; 'old_ifindex' if
                                 * it is still there, 0 if there is none. */
};

struct turbotap_rtmsg_links {
    struct turbotap_rtmsg_link *links;
    size_t n;
};

/* Returns the index of the link that is in the place of 'ifindex', which is
 * the same for one that nothing took the place of, or 0 if there is none. */
int turbotap_rtmsg_map(const struct turbotap_rtmsg_links *links, int ifindex);

/* Calls 'callback' with all that the kernel has to answer to a request of
 * 'type' with the header 'hdr' of 'len' octets, and 'aux'.  Returns 0 or a
 * positive errno value: EINTR if something has changed meanwhile, and so the
 * answer may be incomplete; EOPNOTSUPP if the kernel knows no such thing. */
int turbotap_rtmsg_dump(struct nl_sock *sock, int type, const void *hdr,
                        size_t len,
                        void (*callback)(const struct nlmsghdr *, void *aux),
                        void *aux);

/* The same for the next hop 'id', which is one answer. */
int turbotap_rtmsg_get_nexthop(struct nl_sock *sock, uint32_t id,
                               void (*callback)(const struct nlmsghdr *,
                                                void *aux),
                               void *aux);

/* Sends the request 'msg' with NLM_F_* 'flags', and frees it.  Returns 0 or a
 * positive errno value. */
int turbotap_rtmsg_send(struct nl_sock *sock, struct nl_msg *msg, int flags);

/* What a message says. */
uint32_t turbotap_rtmsg_get_u32(const struct nlmsghdr *nlh, size_t hdr_len,
                                int attr);      /* 0 if it lacks 'attr'. */
uint32_t turbotap_rtmsg_get_addr_flags(const struct nlmsghdr *addr);
uint32_t turbotap_rtmsg_get_route_table(const struct nlmsghdr *route);

/* The next hops of 'route' itself (not those of a next hop that is an object
 * of its own). */
struct turbotap_rtmsg_hops {
    unsigned int n;
    unsigned int n_lost;        /* Through links that others took the place of,
                                 * or nothing did. */
    unsigned int n_gone;        /* Among these: nothing did. */
};
void turbotap_rtmsg_count_hops(const struct nlmsghdr *route,
                               const struct turbotap_rtmsg_links *links,
                               struct turbotap_rtmsg_hops *hops);

/* Returns true if the kernel regards 'a' and 'b', routes, as alternatives of
 * which only their order tells which one is used. */
bool turbotap_rtmsg_same_key(const struct nlmsghdr *a,
                             const struct nlmsghdr *b);

/* Each makes the request for what a message says, to be sent with
 * turbotap_rtmsg_send(), and stores it in '*msgp', or a null pointer if that
 * has ceased to be meanwhile: 'elapsed' seconds have passed since the dump.
 * Returns 0 or ENOMEM.
 *
 * An address gets the flags 'flags' (IFA_F_*).  Of a route with IPv6, only the
 * next hops that are lost are asked for: those of others are still there. */
int turbotap_rtmsg_make_addr(const struct nlmsghdr *addr,
                             const struct turbotap_rtmsg_links *links,
                             uint32_t flags, uint32_t elapsed,
                             struct nl_msg **msgp);
int turbotap_rtmsg_make_nexthop(const struct nlmsghdr *nexthop,
                                const struct turbotap_rtmsg_links *links,
                                struct nl_msg **msgp);
int turbotap_rtmsg_make_route(const struct nlmsghdr *route,
                              const struct turbotap_rtmsg_links *links,
                              uint32_t elapsed, struct nl_msg **msgp);
int turbotap_rtmsg_make_neigh(const struct nlmsghdr *neigh,
                              const struct turbotap_rtmsg_links *links,
                              struct nl_msg **msgp);

/* The same for the request to delete the kernel's own 'route' through the link
 * in place of its own, whatever else is different. */
int turbotap_rtmsg_make_route_deletion(
    const struct nlmsghdr *route, const struct turbotap_rtmsg_links *links,
    struct nl_msg **msgp);

/* Makes a message that says the key and the link of the route that the kernel
 * makes to the network of 'addr', and stores it in '*msgp', to be freed with
 * nlmsg_free(), or a null pointer if it is told not to make one, makes two,
 * as for an IPv6 address with a peer, or makes it for all links, as for a
 * link-local one.  Returns 0 or ENOMEM. */
int turbotap_rtmsg_make_prefix_route(const struct nlmsghdr *addr,
                                     struct nl_msg **msgp);

#endif /* turbotap-rtmsg.h */
