/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The kernel module turbotap, from which the I/O classes "socket" and "ring"
 * have the sockets that they use.  It must not know how they use them. */

#ifndef TURBOTAP_MODULE_H
#define TURBOTAP_MODULE_H 1

#include <stddef.h>

/* Opens the module's device and stores its descriptor, the caller's to close,
 * in '*fdp'.  Returns 0 or a positive errno value, and then writes why into
 * the 'size' octets at 'reason'. */
int turbotap_module_open(int *fdp, char *reason, size_t size);

/* Makes a non-blocking socket for the tap queue 'tun_fd' and stores it, the
 * caller's to close, in '*fdp'; what is a socket already is duplicated.
 * Returns 0 or a positive errno value, and then writes why into the 'size'
 * octets at 'reason'. */
int turbotap_module_socket(int tun_fd, int *fdp, char *reason, size_t size);

/* Stores the version of the module that is loaded in the 'size' octets at
 * 'version'.  Returns 0 or a positive errno value. */
int turbotap_module_version(char *version, size_t size);

#endif /* turbotap-module.h */
