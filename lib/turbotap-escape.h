/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Names that come from the kernel, as text for people.
 *
 * Whoever owns a network namespace chooses the names and aliases in it, and to
 * the kernel these are octets, not text: a database or a terminal must not get
 * them as they are.  Who compares them, or gives them to the kernel, needs
 * them as they are.  It must not know whose names they are.
 *
 * Locking: none is needed. */

#ifndef TURBOTAP_ESCAPE_H
#define TURBOTAP_ESCAPE_H 1

#include <stddef.h>

/* Room for a name of up to LEN octets, the terminating null included, when
 * that is escaped. */
#define TURBOTAP_ESCAPED_SIZE(LEN) (4 * (LEN))

/* Writes 'name' as one line of valid UTF-8 into the 'size' octets at
 * 'escaped', and returns 'escaped'.  What is not UTF-8, and each octet of a
 * control character, becomes "\xHH", and a backslash becomes two, so that no
 * two names look the same.  Cuts what does not fit, not inside of a
 * character. */
char *turbotap_escape(const char *name, char *escaped, size_t size);

#endif /* turbotap-escape.h */
