/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Network namespaces: which one a descriptor stands for, what it is called,
 * and how to do something inside of one.
 *
 * A descriptor of a network namespace keeps it alive, so nobody should have
 * one for longer than a moment.  Between moments a namespace is known by its
 * 'struct turbotap_netns'.  It must not know devices, nor Open vSwitch.
 *
 * Locking: none is needed. */

#ifndef TURBOTAP_NETNS_H
#define TURBOTAP_NETNS_H 1

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Identifies a network namespace for as long as it lives (namespaces(7):
 * "st_dev and st_ino").  A later one may have the same numbers. */
struct turbotap_netns {
    uint64_t dev;
    uint64_t ino;
};

/* Stores in '*netns' which one the descriptor 'fd' stands for, or this thread
 * is in.  Returns 0 or a positive errno value. */
int turbotap_netns_from_fd(int fd, struct turbotap_netns *netns);
int turbotap_netns_get_own(struct turbotap_netns *netns);

static inline bool
turbotap_netns_equal(const struct turbotap_netns *a,
                     const struct turbotap_netns *b)
{
    return a->dev == b->dev && a->ino == b->ino;
}

/* Stores in '*cookie' the number that the kernel gave the network namespace of
 * the descriptor 'fd', or this thread's own if 'fd' is negative, and gives to
 * no other one until the machine boots again (SO_NETNS_COOKIE of
 * net/core/sock.c).  Returns 0 or a positive errno value: EPERM if it is not
 * this thread's own and CAP_SYS_ADMIN is lacking, ENOPROTOOPT before Linux
 * 5.14. */
int turbotap_netns_get_cookie(int fd, uint64_t *cookie);

/* Opens the network namespace 'netns' and stores its descriptor, to be closed
 * by the caller, in '*fdp'.  The kernel does not offer that: this looks for it
 * in /run/netns and at what namespaces the processes in /proc are in.  Returns
 * 0 or a positive errno value, ENOENT if it is not among those that may be
 * opened. */
int turbotap_netns_open(const struct turbotap_netns *netns, int *fdp);

/* Writes into the 'size' octets at 'name' what a user would call 'netns': its
 * name in /run/netns, where ip-netns(8) keeps them, escaped as in
 * turbotap-escape.h, or else "net:[INODE]", as in /proc/PID/ns.  A name is cut
 * if it must be. */
void turbotap_netns_format(const struct turbotap_netns *netns, char *name,
                           size_t size);

/* Calls 'function' with 'aux', in a thread of its own that is in the network
 * namespace of 'fd', and returns when it is done.  What 'function' opens there
 * and does not close may keep the namespace alive.
 *
 * Returns what 'function' returns, or a positive errno value if it was not
 * called: EPERM without CAP_SYS_ADMIN (setns(2)). */
int turbotap_netns_run(int fd, int (*function)(void *aux), void *aux);

#endif /* turbotap-netns.h */
