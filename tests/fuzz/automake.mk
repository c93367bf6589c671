# SPDX-License-Identifier: Apache-2.0
#
# Copyright (c) 2026 The turbotap authors.
#
# The fuzzers, each tests/fuzz/fuzz-NAME.c with its corpus in corpus-NAME/.
# make check runs them for some seconds, as it runs the unit tests; make fuzz
# runs them under libFuzzer, which needs clang.

FUZZ_SECONDS = 300

unit_tests += \
	tests/fuzz/fuzz-gro \
	tests/fuzz/fuzz-vnet

tests_fuzz_fuzz_gro_SOURCES = \
	tests/fuzz/fuzz-gro.c \
	tests/fuzz/fuzz.h \
	tests/fuzz/standalone.c
tests_fuzz_fuzz_gro_CPPFLAGS = $(AM_CPPFLAGS) \
	-DCORPUS='"$(abs_top_srcdir)/tests/fuzz/corpus-gro"'
tests_fuzz_fuzz_vnet_SOURCES = \
	tests/fuzz/fuzz-vnet.c \
	tests/fuzz/fuzz.h \
	tests/fuzz/standalone.c
tests_fuzz_fuzz_vnet_CPPFLAGS = $(AM_CPPFLAGS) \
	-DCORPUS='"$(abs_top_srcdir)/tests/fuzz/corpus-vnet"'

# Inputs that add coverage are put beside the corpus, in the build folder.
fuzz: fuzz-gro fuzz-vnet
fuzz-gro fuzz-vnet:
	@mkdir -p tests/fuzz/found-$(@:fuzz-%=%)
	clang -g -O1 -fsanitize=fuzzer,address,undefined \
	  -fno-sanitize-recover=all -I. $(AM_CPPFLAGS) \
	  -o tests/fuzz/lib$@ $(top_srcdir)/tests/fuzz/$@.c \
	  $(top_srcdir)/lib/turbotap-csum.c $(top_srcdir)/lib/turbotap-frame.c \
	  $(top_srcdir)/lib/turbotap-gro.c $(top_srcdir)/lib/turbotap-gso.c \
	  $(top_srcdir)/lib/turbotap-vnet.c
	tests/fuzz/lib$@ -max_total_time=$(FUZZ_SECONDS) \
	  -print_final_stats=1 tests/fuzz/found-$(@:fuzz-%=%) \
	  $(top_srcdir)/tests/fuzz/corpus-$(@:fuzz-%=%)

.PHONY: fuzz fuzz-gro fuzz-vnet
