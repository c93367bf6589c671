/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Names that come from the kernel, as text for people.  Must not know whose
 * names they are. */

#include <config.h>

#include "turbotap-escape.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Returns how many octets the character at 's' has, 0 if that is not UTF-8 or
 * is a control character (of ASCII, or U+0080 to U+009F). */
static size_t
char_len(const unsigned char *s)
{
    /* The first code point of so many octets: with less than that, it would be
     * longer than it need be, or a control character. */
    static const uint32_t first[] = { 0, 0, 0xa0, 0x800, 0x10000 };
    uint32_t code;
    size_t n;

    if (s[0] < 0x80) {
        return s[0] >= 0x20 && s[0] != 0x7f;
    }
    n = s[0] < 0xc0 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3
        : s[0] < 0xf8 ? 4 : 0;
    if (!n) {
        return 0;
    }
    code = s[0] & (0x7f >> n);
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;           /* The terminating null, perhaps. */
        }
        code = code << 6 | (s[i] & 0x3f);
    }
    return (code < first[n] || (code >= 0xd800 && code <= 0xdfff)
            || code > 0x10ffff ? 0 : n);
}

char *
turbotap_escape(const char *name, char *escaped, size_t size)
{
    const unsigned char *s = (const unsigned char *) name;
    size_t len = 0;

    while (*s) {
        size_t n = char_len(s);
        char c[sizeof "\\xHH"];
        size_t c_len;

        if (!n) {
            n = 1;
            c_len = snprintf(c, sizeof c, "\\x%02x", *s);
        } else if (*s == '\\') {
            c_len = snprintf(c, sizeof c, "\\\\");
        } else {
            c_len = n;
            memcpy(c, s, n);
        }
        if (len + c_len >= size) {
            break;
        }
        memcpy(escaped + len, c, c_len);
        len += c_len;
        s += n;
    }
    escaped[len] = '\0';
    return escaped;
}
