/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* The Internet checksum, in the widest vectors that this CPU has.  Must not
 * know what is summed. */

#include <config.h>

#include "turbotap-csum.h"

#include <string.h>

/* Makes the compiler build a function for each of these kinds of CPU, of which
 * the dynamic linker takes the best. */
#ifndef __has_attribute
#define __has_attribute(ATTRIBUTE) 0
#endif
#if defined __x86_64__ && defined __GLIBC__ && __has_attribute(target_clones)
#define VECTOR_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define VECTOR_CLONES
#endif

/* Four 64-bit sums.  The compiler makes do with what the CPU has. */
typedef uint64_t vector __attribute__((vector_size(32)));

/* Returns the sum of the 'n' pairs of vectors at 'p'.  Each vector is added up
 * as 32-bit numbers, so that there is room for all the carries. */
VECTOR_CLONES static uint64_t
sum_vectors(const uint8_t *p, size_t n)
{
    const vector low = { UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX };
    vector sum0 = { 0 }, sum1 = { 0 }, sum2 = { 0 }, sum3 = { 0 };
    vector v, w;

    for (; n; n--, p += sizeof v + sizeof w) {
        memcpy(&v, p, sizeof v);
        memcpy(&w, p + sizeof v, sizeof w);
        sum0 += v & low;
        sum1 += v >> 32;
        sum2 += w & low;
        sum3 += w >> 32;
    }
    sum0 += sum1 + sum2 + sum3;
    return sum0[0] + sum0[1] + sum0[2] + sum0[3];
}

uint64_t
turbotap_csum_add(uint64_t sum, const void *p_, size_t n)
{
    size_t n_pairs = n / (2 * sizeof(vector));
    const uint8_t *p = p_;
    uint32_t word = 0;

    if (n_pairs) {
        sum += sum_vectors(p, n_pairs);
        p += n_pairs * 2 * sizeof(vector);
        n %= 2 * sizeof(vector);
    }
    for (; n >= sizeof word; p += sizeof word, n -= sizeof word) {
        memcpy(&word, p, sizeof word);
        sum += word;
    }
    if (n) {
        word = 0;
        memcpy(&word, p, n);
        sum += word;
    }
    return sum;
}
