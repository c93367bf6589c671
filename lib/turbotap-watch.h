/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Reports changes of network devices, as "ip monitor" does, in the terms of
 * turbotap-link.
 *
 * Locking: one thread at a time may use a struct turbotap_watch; different
 * ones are independent of each other.  Nothing here logs. */

#ifndef TURBOTAP_WATCH_H
#define TURBOTAP_WATCH_H 1

#include "turbotap-link.h"

/* A watch on all links of a network namespace, and of all others that it has
 * ids for.  Events of the latter need CAP_NET_BROADCAST there. */
struct turbotap_watch;

enum turbotap_event_type {
    TURBOTAP_LINK_CHANGED,      /* A link is new, or something of it changed.
                                 * 'info' is what it is now. */
    TURBOTAP_LINK_DELETED,      /* A link went away (deleted, or moved to
                                 * another namespace).  Of 'info', 'ifindex'
                                 * and 'name' are valid. */
    TURBOTAP_QDISC_DELETED,     /* The root queueing discipline of a link was
                                 * deleted or replaced, which is no change of
                                 * the link.  Of 'info', 'ifindex' is
                                 * valid. */
    TURBOTAP_NETNS_DELETED,     /* The namespace that had the id 'nsid' is
                                 * about to end, and its links with it, of
                                 * which there will be no event.  'info' is
                                 * not valid. */
    TURBOTAP_LINKS_LOST,        /* Events were lost: read again what matters.
                                 * Neither 'nsid' nor 'info' is valid. */
};

struct turbotap_event {
    enum turbotap_event_type type;
    int nsid;                           /* Where the link is, or was. */
    struct turbotap_link_info info;     /* 'stats' are not filled in. */
};

/* Opens a watch on this thread's network namespace and stores it in '*watchp'.
 * Changes from now on are reported.  Returns 0 or a positive errno value. */
int turbotap_watch_open(struct turbotap_watch **watchp);
void turbotap_watch_close(struct turbotap_watch *watch);

/* Returns the descriptor that is readable when there is an event. */
int turbotap_watch_fd(const struct turbotap_watch *watch);

/* Takes the next event off 'watch' and stores it in '*event', without waiting.
 * Returns 0, EAGAIN if there is none, or another positive errno value, among
 * them ENOMEM; then the next call tries again. */
int turbotap_watch_next(struct turbotap_watch *watch,
                        struct turbotap_event *event);

#endif /* turbotap-watch.h */
