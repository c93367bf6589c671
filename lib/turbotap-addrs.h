/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* What the host has given a link, to give it to another one that takes its
 * place: whether it is up, its addresses, and the routes through it.
 *
 * Left out is what the kernel makes by itself (the routes to an address's own
 * network, link-local IPv6 addresses), what routers advertise, and routes with
 * several next hops, which live on without the one that goes.
 *
 * Locking: none; an object is one thread's. */

#ifndef TURBOTAP_ADDRS_H
#define TURBOTAP_ADDRS_H 1

struct turbotap_addrs;

/* Reads what the link 'name' in this thread's network namespace has, and
 * stores it in '*addrsp', to be freed with turbotap_addrs_free().  Returns 0
 * or a positive errno value, and then '*addrsp' is NULL: ENODEV if there is no
 * such link. */
int turbotap_addrs_save(const char *name, struct turbotap_addrs **addrsp);

/* Gives 'addrs' to the link that now has their link's name.  Does nothing if
 * that is the same one.  Returns 0 or a positive errno value, that of the
 * first failure if it could do a part of it only: ENODEV if there is no such
 * link.  To be called once. */
int turbotap_addrs_restore(struct turbotap_addrs *addrs);

/* Null is allowed. */
void turbotap_addrs_free(struct turbotap_addrs *addrs);

#endif /* turbotap-addrs.h */
