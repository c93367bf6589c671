# SPDX-License-Identifier: Apache-2.0
# Builds the programs of tests/kmod, static so that they need nothing in the
# guest: 'make -f tests.mk BUILD=DIR', which leaves them in DIR/vm/tests/.
#
# Copyright (c) 2026 The turbotap authors.

top := $(abspath $(dir $(lastword $(MAKEFILE_LIST)))/../..)
BUILD ?= $(top)/_build
out := $(BUILD)/vm/tests

CC := gcc
CFLAGS ?= -O2 -g
override CFLAGS += -std=gnu11 -Wall -Wextra -Werror -pthread

programs := $(patsubst $(top)/tests/kmod/%.c,$(out)/%,\
	      $(wildcard $(top)/tests/kmod/*.c))
headers := $(wildcard $(top)/tests/kmod/*.h) \
	   $(top)/kmod/uapi/linux/turbotap.h

all: $(programs)

$(out)/%: $(top)/tests/kmod/%.c $(headers)
	@mkdir -p $(out)
	$(CC) $(CFLAGS) -I$(top)/kmod/uapi -static -o $@ $< $(LDLIBS)

$(out)/uring $(out)/instructions: LDLIBS := -luring

.PHONY: all
