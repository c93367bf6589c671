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
struct sset;

#ifdef HAVE_TURBOTAP
/* Registers both classes. */
void netdev_turbotap_register(void);

/* The 'run' function of both classes, by which netdev-linux knows them. */
void netdev_turbotap_run(const struct netdev_class *);

/* Returns true if 'netdev' is of one of the two classes. */
bool netdev_is_turbotap(const struct netdev *);

/* If 'netdev', of one of the two classes, works with another configuration
 * than was asked for, or works no more, returns a message for the user, to be
 * freed by the caller.  Otherwise returns a null pointer. */
char *netdev_turbotap_get_problem(const struct netdev *netdev);

/* Deletes the devices of those netdevs that were destroyed since the last
 * call, and not made again in the meantime.  To be called by the main thread
 * at the end of each reconfiguration of the switch, with the names of all
 * interfaces in the database as 'wanted', and in its end, with a null
 * pointer.  The first time, also deletes those of netdevs of an earlier run
 * that are not wanted. */
void netdev_turbotap_reap(const struct sset *wanted);
#else
static inline bool
netdev_is_turbotap(const struct netdev *netdev)
{
    (void) netdev;
    return false;
}

static inline char *
netdev_turbotap_get_problem(const struct netdev *netdev)
{
    (void) netdev;
    return NULL;
}

static inline void
netdev_turbotap_reap(const struct sset *wanted)
{
    (void) wanted;
}
#endif

#endif /* netdev-turbotap.h */
