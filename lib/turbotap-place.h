/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Where a tap device is, and what is done to it there.
 *
 * A device can be moved to another network namespace, renamed or deleted at
 * any time, and its name and index can be somebody else's a moment later.
 * What stays is a descriptor of one of its queues: the kernel says of it what
 * device it belongs to.  So the descriptor is the device's identity here, and
 * all that reads or changes its link begins with asking it.  It must not know
 * Open vSwitch.
 *
 * What may still go wrong.  Before a link is read or changed, it is looked up
 * by the name that the descriptor tells, and then the descriptor is asked
 * again.  To be taken for it, a strange device must have the name at the
 * moment of the look-up, and ours just before and just after; to be changed in
 * its place, ours must leave after the second question and a stranger be made
 * with its index, which the kernel gives to nobody by itself until all others
 * are used up.  Then the stranger gets the MTU, the flags or the alias that
 * were meant for ours.  A MAC address cannot go astray.
 *
 * Locking: one thread at a time may use a struct turbotap_link. */

#ifndef TURBOTAP_PLACE_H
#define TURBOTAP_PLACE_H 1

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "turbotap-link.h"
#include "turbotap-netns.h"

struct turbotap_place {
    char name[IFNAMSIZ];        /* Of the device, there. */
    struct turbotap_netns netns;
    bool here;                  /* Is that this thread's own? */

    /* Only from turbotap_place_find(). */
    int nsid;                   /* As in turbotap-link.h. */
    int ifindex;                /* Of the device, there. */
};

/* Stores in '*place' where the device of queue 'fd' is and, if 'netns_fdp' is
 * not null, in '*netns_fdp' a descriptor of its network namespace, to be
 * closed soon by the caller.
 *
 * Returns 0 or a positive errno value: EBADFD if the device was deleted,
 * ENODEV if its namespace is about to end, and the device with it; EPERM
 * without CAP_NET_ADMIN in the user namespace that owns the network namespace.
 */
int turbotap_place_get(int fd, struct turbotap_place *place, int *netns_fdp);

/* Returns 0 if the device of queue 'fd' is at 'place', EAGAIN if it is
 * elsewhere, or another positive errno value as turbotap_place_get() does. */
int turbotap_place_check(int fd, const struct turbotap_place *place);

/* Stores in '*place' where the device of queue 'fd' is, and its link in
 * '*info', through 'link', which must be of this thread's network namespace.
 * From then on a turbotap_watch hears of the device there.  Returns 0 or a
 * positive errno value as turbotap_place_get() does, or EAGAIN if the device
 * did not stand still. */
int turbotap_place_find(int fd, struct turbotap_link *link,
                        struct turbotap_place *place,
                        struct turbotap_link_info *info);

/* Each changes one property of the link of the device of queue 'fd', wherever
 * it is, as the function of the same name in turbotap-link.h does.  'link'
 * must be of this thread's network namespace.  Returns 0 or a positive errno
 * value as turbotap_place_find() and the other function do, or EPERM if the
 * device is in another network namespace and CAP_SYS_ADMIN is lacking (but for
 * the MAC, which does not need that). */
int turbotap_place_set_mtu(int fd, struct turbotap_link *link,
                           unsigned int mtu);
int turbotap_place_set_flags(int fd, struct turbotap_link *link,
                             unsigned int off, unsigned int on);
int turbotap_place_set_alias(int fd, struct turbotap_link *link,
                             const char *alias);
int turbotap_place_set_noqueue(int fd, struct turbotap_link *link);
int turbotap_place_set_mac(int fd, const uint8_t mac[6]);

#endif /* turbotap-place.h */
