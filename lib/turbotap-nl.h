/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* What everything has in common that talks to rtnetlink through libnl-3. */

#ifndef TURBOTAP_NL_H
#define TURBOTAP_NL_H 1

struct nl_sock;

/* Returns 0 if 'nle', the return value of a libnl function, tells of success,
 * otherwise the positive errno value that comes nearest.  (libnl makes its own
 * codes of the kernel's with nl_syserr2nlerr(), not all of them apart.) */
int turbotap_nl_errno(int nle);

/* Opens a socket for rtnetlink in this thread's network namespace and stores
 * it in '*sockp', to be freed with nl_socket_free().  Returns 0 or a positive
 * errno value. */
int turbotap_nl_open(struct nl_sock **sockp);

#endif /* turbotap-nl.h */
