/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* What a fuzzer is: one function that takes an input, in libFuzzer's form.
 * libFuzzer calls it ("make fuzz"), or else standalone.c ("make check"). */

#ifndef FUZZ_H
#define FUZZ_H 1

#include <stddef.h>
#include <stdint.h>

/* Does with the 'size' octets at 'data' what is to be tested.  Always returns
 * 0; what is wrong aborts. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif /* fuzz.h */
