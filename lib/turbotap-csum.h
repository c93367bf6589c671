/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The Internet checksum (RFC 1071), at the speed of memory.
 *
 * Sums are kept in the machine's own order of octets (RFC 1071, 2.B), as wide
 * as it takes never to overflow, and folded to 16 bits at the end. */

#ifndef TURBOTAP_CSUM_H
#define TURBOTAP_CSUM_H 1

#include <arpa/inet.h>
#include <stddef.h>
#include <stdint.h>

/* Returns 'sum' with the 'n' octets at 'p', less than 4 GB, added to it.  'p'
 * must be at an even distance from where the summation began. */
uint64_t turbotap_csum_add(uint64_t sum, const void *p, size_t n);

/* Returns 'sum' with 'x', in the machine's order of octets, added to it as two
 * octets in the network's. */
static inline uint64_t
turbotap_csum_add16(uint64_t sum, uint16_t x)
{
    return sum + htons(x);
}

/* Returns the 16 bits that 'sum' comes to, not complemented. */
static inline uint16_t
turbotap_csum_fold(uint64_t sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

#endif /* turbotap-csum.h */
