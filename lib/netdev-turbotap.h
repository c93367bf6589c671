/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

#ifndef NETDEV_TURBOTAP_H
#define NETDEV_TURBOTAP_H 1

#include <stdbool.h>

/* The netdev classes "turbotap", whose receive queues are polled by PMD
 * threads, and "turbotap-nonpmd", polled by the main thread: a multi-queue
 * Linux tap device, through which the host's stack sends to and receives from
 * the userspace datapath. */

struct netdev;
struct netdev_class;

#ifdef HAVE_TURBOTAP
/* Registers both classes. */
void netdev_turbotap_register(void);

/* The 'run' function of both classes, by which netdev-linux knows them. */
void netdev_turbotap_run(const struct netdev_class *);

/* Returns true if 'netdev' is of one of the two classes. */
bool netdev_is_turbotap(const struct netdev *);

/* If 'netdev', of one of the two classes, works with another configuration
 * than was asked for, or works no more, stores a message for the user in
 * '*errp', to be freed by the caller, and returns a positive errno value.
 * Otherwise returns 0 and leaves '*errp' alone. */
int netdev_turbotap_get_problem(const struct netdev *, char **errp);
#else
static inline bool
netdev_is_turbotap(const struct netdev *netdev)
{
    (void) netdev;
    return false;
}

static inline int
netdev_turbotap_get_problem(const struct netdev *netdev, char **errp)
{
    (void) netdev;
    (void) errp;
    return 0;
}
#endif

#endif /* netdev-turbotap.h */
