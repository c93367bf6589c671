/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The host's side of a tap device, for the unit tests: a network namespace to
 * work in, what an administrator does to links, and frames sent and received
 * at the host's end.  It must not know the code under test.
 *
 * What fails here fails the test that called. */

#ifndef HOST_H
#define HOST_H 1

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* How long a test waits for anything before it fails, in milliseconds. */
#define HOST_PATIENCE 10000

/* Moves this process, which must have one thread, into a network namespace of
 * its own, without IPv6 and its unasked-for frames: as root, or else in a user
 * namespace of its own.  Where neither works, says why, as TAP, and exits with
 * 77, which stands for "skipped". */
void host_enter_namespace(void);

/* Opens another network namespace, without IPv6 as well, and returns its
 * descriptor. */
int host_open_other_namespace(void);

/* Makes room for 'n' datagrams in each AF_UNIX socket that is opened from now
 * on.  Returns true if there is. */
bool host_set_dgram_qlen(unsigned int n);

/* Returns the number of descriptors that this process has open. */
unsigned int host_count_fds(void);

/* Returns true if 'fd' is readable now, or within 'timeout' milliseconds. */
bool host_wait_readable(int fd, int timeout);

/* Links. */
void host_set_up(const char *name, bool up);
void host_set_mtu(const char *name, int mtu);
void host_set_mac(const char *name, const uint8_t mac[6]);
void host_rename(const char *name, const char *new_name);
void host_delete(const char *name);
void host_move(const char *name, int netns_fd);
bool host_try_move(const char *name, int netns_fd); /* False: name in use. */
void host_add_veth(const char *name, const char *peer);
void host_add_bridge(const char *name);
void host_set_bridge(const char *name, const char *bridge); /* Null: none. */

/* Makes the tap device 'name' with TUNSETIFF flags 'flags', not turbotap's
 * way.  Returns its descriptor. */
int host_open_tap(const char *name, short int flags);

/* Returns a non-blocking packet socket on the link 'name', which sends what
 * the tap is to receive, and receives what the tap sent of 'ethertype'. */
int host_open_socket(const char *name, uint16_t ethertype);

#endif /* host.h */
