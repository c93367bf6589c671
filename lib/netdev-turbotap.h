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
 * the userspace datapath.  "turbotap-internal" is the same as "turbotap", for
 * ports of type "internal". */

struct netdev;
struct netdev_class;
struct sset;
struct uuid;

#ifdef HAVE_TURBOTAP
/* Registers the classes. */
void netdev_turbotap_register(void);

/* The 'run' function of all of them, by which netdev-linux knows them. */
void netdev_turbotap_run(const struct netdev_class *);

/* Returns true if 'netdev' is of one of these classes. */
bool netdev_is_turbotap(const struct netdev *);

/* If 'netdev', of one of these classes, works with another configuration
 * than was asked for, or works no more, returns a message for the user, to be
 * freed by the caller.  Otherwise returns a null pointer. */
char *netdev_turbotap_get_problem(const struct netdev *netdev);

/* Takes note that the database wants 'netdev', of one of these classes, to
 * have the address 'mac', null for any, and that it has been set if it is
 * valid.  netdev_turbotap_get_problem() says what is wrong with it. */
void netdev_turbotap_check_mac(struct netdev *netdev, const char *mac);

/* Returns true if what was set up of QoS or policing of 'netdev', of one of
 * these classes, may be no more, or may be possible only now, and so should be
 * set up as if the database had changed.  To be asked when the netdev's change
 * number has changed.  Setting up QoS ends it, whether that succeeds or
 * not. */
bool netdev_turbotap_needs_qos(const struct netdev *netdev);

/* Returns true if an interface of 'type', as in the database, is a netdev of
 * one of these classes in the userspace datapath. */
bool netdev_turbotap_is_type(const char *type);

/* Whether ports of type "internal" are to be turbotap ports.  To be called by
 * the main thread when the switch is about to be reconfigured.  Ports that
 * this changes keep their addresses and routes, if they are replaced before
 * the next netdev_run(). */
void netdev_turbotap_set_internal(bool);

/* The netdev class of such a port: "turbotap-internal" or "tap". */
const char *netdev_turbotap_internal_type(void);

/* Deletes the devices of those netdevs that were destroyed since the last call
 * and are not 'wanted'.  To be called by the main thread in each
 * reconfiguration of the switch, after ports are removed and before others are
 * added, with the names of all interfaces in the database of which
 * netdev_turbotap_is_type() is true, and the UUID of that database's root
 * row.  The first time, also deletes those of netdevs of an earlier run.  What
 * was in a database with another UUID is kept.  netdev_run() deletes what is
 * left, and so does this with null pointers, for when the switch ends. */
void netdev_turbotap_reap(const struct uuid *database,
                          const struct sset *wanted);
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
netdev_turbotap_check_mac(struct netdev *netdev, const char *mac)
{
    (void) netdev;
    (void) mac;
}

static inline bool
netdev_turbotap_needs_qos(const struct netdev *netdev)
{
    (void) netdev;
    return false;
}

static inline bool
netdev_turbotap_is_type(const char *type)
{
    (void) type;
    return false;
}

static inline void
netdev_turbotap_set_internal(bool enable)
{
    (void) enable;
}

static inline const char *
netdev_turbotap_internal_type(void)
{
    return "tap";
}

static inline void
netdev_turbotap_reap(const struct uuid *database, const struct sset *wanted)
{
    (void) database;
    (void) wanted;
}
#endif

#endif /* netdev-turbotap.h */
