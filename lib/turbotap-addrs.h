/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* What the host has given links, to give it to others that take their places:
 * whether they are up, their addresses, the next hops (objects) and routes
 * that need them, and permanent neighbours and proxies.
 *
 * With a link goes more than what is its own: the kernel also deletes an IPv4
 * route with several next hops of which one is through it, an IPv4 route
 * through another link that has one of its addresses as preferred source, and
 * the members of groups of next hops.  All that comes back, as it was.
 *
 * What others have is not touched, with one exception: a group of next hops
 * gets back the members that it lost.  A route comes to its old place among
 * those that differ from it in no more than their next hops, as to whether it
 * is the first of them.  With IPv6, where the kernel only adds behind, it is
 * the last then; and next hops come behind those that stayed.
 *
 * Left out is what the kernel makes by itself (the routes to an address's own
 * network and to the address, if nobody has changed them; link-local IPv6
 * addresses), and the routes that routers advertise, for which the kernel asks
 * them again.  Groups of multicast that processes have joined belong to their
 * sockets, and routes of MPLS and for multicast to daemons.
 *
 * Locking: none; an object is one thread's. */

#ifndef TURBOTAP_ADDRS_H
#define TURBOTAP_ADDRS_H 1

#include <stddef.h>

struct turbotap_addrs;

/* Reads what those of the 'n' links called 'names' have that are in this
 * thread's network namespace, and stores it in '*addrsp', to be freed with
 * turbotap_addrs_free().  Returns 0 or a positive errno value, and then
 * '*addrsp' is NULL, but for EINTR: others change so much that '*addrsp' may
 * be incomplete. */
int turbotap_addrs_save(const char *const names[], size_t n,
                        struct turbotap_addrs **addrsp);

/* Gives 'addrs' to the links that now have the names of its links.  What
 * belongs to a link that is still the same is left as it is, and what belongs
 * to one that has gone without another is left out.  Returns 0 or a positive
 * errno value, that of the first failure if it could do a part of it only.  To
 * be called once. */
int turbotap_addrs_restore(struct turbotap_addrs *addrs);

/* Null is allowed. */
void turbotap_addrs_free(struct turbotap_addrs *addrs);

#endif /* turbotap-addrs.h */
