/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Tests of turbotap-csum.h, against the plainest checksum. */

#include <config.h>

#include "turbotap-csum.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Returns the folded sum of the 'n' octets at 'p', in network order. */
static uint32_t
plain_sum(const uint8_t *p, size_t n)
{
    uint32_t s = 0;

    for (size_t i = 0; i < n; i++) {
        s += i % 2 ? p[i] : p[i] << 8;
        s = (s & 0xffff) + (s >> 16);
    }
    return s;
}

/* Fills in the 'n' octets at 'p' in one of several ways. */
static void
fill(uint8_t *p, size_t n, int way)
{
    for (size_t i = 0; i < n; i++) {
        p[i] = way == 0 ? 0xff : way == 1 ? random() : 0x80 * (i % 2);
    }
}

/* All lengths and alignments, with nothing read beyond the end. */
static void
test_lengths(void **state)
{
    (void) state;
    for (int way = 0; way < 3; way++) {
        for (size_t n = 0; n < 400; n++) {
            for (size_t align = 0; align < 4; align++) {
                uint8_t *p = malloc(align + n);
                uint16_t sum;

                fill(p + align, n, way);
                sum = turbotap_csum_fold(turbotap_csum_add(0, p + align, n));
                assert_int_equal(ntohs(sum), plain_sum(p + align, n));
                free(p);
            }
        }
    }
}

/* Sums of parts add up, with all the carries of the longest packet and of one
 * far beyond. */
static void
test_parts(void **state)
{
    const size_t size = 1 << 20;
    uint8_t *p = malloc(size);

    (void) state;
    for (int way = 0; way < 3; way++) {
        uint64_t sum = 0;
        size_t ofs = 0;

        fill(p, size, way);
        while (ofs < size) {
            size_t n = 2 * (random() % 5000);

            n = n < size - ofs ? n : size - ofs;
            sum = turbotap_csum_add(sum, p + ofs, n);
            ofs += n;
        }
        assert_int_equal(ntohs(turbotap_csum_fold(sum)), plain_sum(p, size));
        assert_int_equal(ntohs(turbotap_csum_fold(
                                   turbotap_csum_add(0, p, size))),
                         plain_sum(p, size));
    }
    free(p);
}

static void
test_add16(void **state)
{
    const uint8_t p[] = { 0x12, 0x34, 0xff, 0xfe };
    uint64_t sum = turbotap_csum_add16(turbotap_csum_add(0, p, 2), 0xfffe);

    (void) state;
    assert_int_equal(turbotap_csum_fold(sum),
                     turbotap_csum_fold(turbotap_csum_add(0, p, sizeof p)));
    assert_int_equal(turbotap_csum_fold(UINT64_MAX), 0xffff);
    assert_int_equal(turbotap_csum_fold(0), 0);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_add16),
    };

    return cmocka_run_group_tests_name("csum", tests, NULL, NULL);
}
