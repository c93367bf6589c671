/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Names as text. */

#include <config.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "turbotap-escape.h"

/* Checks that 'name' becomes 'expected', and that it does in exactly as much
 * room as that needs. */
static void
check(const char *name, const char *expected)
{
    char escaped[TURBOTAP_ESCAPED_SIZE(64)];
    size_t size = strlen(expected) + 1;

    assert_ptr_equal(turbotap_escape(name, escaped, sizeof escaped), escaped);
    assert_string_equal(escaped, expected);

    memset(escaped, '#', sizeof escaped);
    turbotap_escape(name, escaped, size);
    assert_string_equal(escaped, expected);
    assert_int_equal(escaped[size], '#');
}

static void
test_text(void **state)
{
    (void) state;
    check("", "");
    check("eth0", "eth0");
    check("a'b\"c d", "a'b\"c d");
    check("\u00e9\u00df-\u0442\u0435\u0441\u0442-\u65e5\u672c",
          "\u00e9\u00df-\u0442\u0435\u0441\u0442-\u65e5\u672c");

    /* The first and the last character of each length. */
    check("\x7e\xc2\xa0\xdf\xbf", "\x7e\xc2\xa0\xdf\xbf");
    check("\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf",
          "\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf");
    check("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf",
          "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf");
}

static void
test_no_text(void **state)
{
    (void) state;
    check("\xff\xfe", "\\xff\\xfe");
    check("a\x80z\xbf", "a\\x80z\\xbf");

    /* Control characters. */
    check("\x01\x1b[31m\n\x1f\x7f", "\\x01\\x1b[31m\\x0a\\x1f\\x7f");
    check("\xc2\x80\xc2\x9f", "\\xc2\\x80\\xc2\\x9f");

    /* Longer than need be. */
    check("\xc0\x80\xc1\xbf", "\\xc0\\x80\\xc1\\xbf");
    check("\xe0\x9f\xbf", "\\xe0\\x9f\\xbf");
    check("\xf0\x8f\xbf\xbf", "\\xf0\\x8f\\xbf\\xbf");

    /* Surrogates, and more than there is. */
    check("\xed\xa0\x80\xed\xbf\xbf", "\\xed\\xa0\\x80\\xed\\xbf\\xbf");
    check("\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80");
    check("\xf8\x88\x80\x80\x80", "\\xf8\\x88\\x80\\x80\\x80");

    /* It ends too early, or something else follows. */
    check("\xc3", "\\xc3");
    check("\xe2\x82", "\\xe2\\x82");
    check("\xf0\x9f\x98", "\\xf0\\x9f\\x98");
    check("\xe2\x82z", "\\xe2\\x82z");
    check("\xe2\xc3\xa9", "\\xe2\xc3\xa9");
}

/* No two names look the same. */
static void
test_backslash(void **state)
{
    (void) state;
    check("\\", "\\\\");
    check("\\xff", "\\\\xff");
    check("\\\xff", "\\\\\\xff");
}

/* The longest name fits; what does not fit is cut between characters. */
static void
test_size(void **state)
{
    char escaped[TURBOTAP_ESCAPED_SIZE(16)];
    char name[16];

    (void) state;
    memset(name, 0xff, sizeof name);
    name[sizeof name - 1] = '\0';
    turbotap_escape(name, escaped, sizeof escaped);
    assert_int_equal(strlen(escaped), 4 * (sizeof name - 1));

    for (size_t size = 1; size <= 4; size++) {
        turbotap_escape("a\xff", escaped, size);
        assert_string_equal(escaped, size > 1 ? "a" : "");
        turbotap_escape("\xe6\x97\xa5z", escaped, size);
        assert_string_equal(escaped, size > 3 ? "\xe6\x97\xa5" : "");
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_no_text),
        cmocka_unit_test(test_backslash),
        cmocka_unit_test(test_size),
    };

    return cmocka_run_group_tests_name("escape", tests, NULL, NULL);
}
