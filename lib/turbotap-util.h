/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* What all of turbotap-*.c may use, and the C library lacks.  Must not know
 * any of them. */

#ifndef TURBOTAP_UTIL_H
#define TURBOTAP_UTIL_H 1

#include <stdlib.h>
#include <string.h>

/* In octets, on the machines that matter. */
#define TURBOTAP_CACHE_LINE 64

/* Returns 'size' zeroed octets that share no cache line with anything else, to
 * be freed with free(), or NULL if there is no memory. */
static inline void *
turbotap_zalloc(size_t size)
{
    void *p;

    size += TURBOTAP_CACHE_LINE - 1;
    size -= size % TURBOTAP_CACHE_LINE;
    p = aligned_alloc(TURBOTAP_CACHE_LINE, size);
    return p ? memset(p, 0, size) : NULL;
}

#endif /* turbotap-util.h */
