# SPDX-License-Identifier: Apache-2.0
#
# Copyright (c) 2026 The turbotap authors.
#
# The unit tests, one program tests/unit/test-NAME for each test-NAME.c.  make
# check runs them twice, the second time with sanitizers.

unit_tests = \
	tests/unit/test-addrs \
	tests/unit/test-csum \
	tests/unit/test-dev \
	tests/unit/test-escape \
	tests/unit/test-gro \
	tests/unit/test-gso \
	tests/unit/test-idle \
	tests/unit/test-io \
	tests/unit/test-keeper \
	tests/unit/test-kernel-gso \
	tests/unit/test-link \
	tests/unit/test-merge \
	tests/unit/test-place \
	tests/unit/test-queue \
	tests/unit/test-record \
	tests/unit/test-ring \
	tests/unit/test-ring-wrap \
	tests/unit/test-vnet
if HAVE_LIBURING
unit_tests += \
	tests/unit/test-uring \
	tests/unit/test-uring-soak
endif

EXTRA_PROGRAMS += $(unit_tests)
CLEANFILES += $(unit_tests)
AM_CFLAGS += $(CMOCKA_CFLAGS)
LDADD += $(CMOCKA_LIBS)

unit_test_host = \
	tests/unit/host.c \
	tests/unit/host.h

unit_test_packet = \
	tests/unit/packet.c \
	tests/unit/packet.h

tests_unit_test_addrs_SOURCES = tests/unit/test-addrs.c $(unit_test_host)
tests_unit_test_csum_SOURCES = tests/unit/test-csum.c
tests_unit_test_dev_SOURCES = tests/unit/test-dev.c $(unit_test_host)
tests_unit_test_escape_SOURCES = tests/unit/test-escape.c
tests_unit_test_gro_SOURCES = tests/unit/test-gro.c $(unit_test_packet)
tests_unit_test_gso_SOURCES = tests/unit/test-gso.c $(unit_test_packet)
tests_unit_test_idle_SOURCES = tests/unit/test-idle.c $(unit_test_host)
tests_unit_test_io_SOURCES = tests/unit/test-io.c $(unit_test_host)
tests_unit_test_keeper_SOURCES = \
	tests/unit/test-keeper.c \
	tests/unit/test-keeper.h \
	tests/unit/test-keeper-foreign.c \
	tests/unit/test-keeper-process.c \
	$(unit_test_host)
tests_unit_test_kernel_gso_SOURCES = \
	tests/unit/test-kernel-gso.c \
	$(unit_test_host) \
	$(unit_test_packet)
tests_unit_test_link_SOURCES = tests/unit/test-link.c $(unit_test_host)
tests_unit_test_merge_SOURCES = \
	tests/unit/test-merge.c \
	$(unit_test_host) \
	$(unit_test_packet)
tests_unit_test_place_SOURCES = tests/unit/test-place.c $(unit_test_host)
tests_unit_test_queue_SOURCES = \
	tests/unit/test-queue.c \
	tests/unit/test-queue.h \
	tests/unit/test-queue-device.c \
	tests/unit/test-queue-fixture.c \
	tests/unit/test-queue-rx.c \
	tests/unit/test-queue-tx.c \
	$(unit_test_host)
tests_unit_test_ring_SOURCES = tests/unit/test-ring.c $(unit_test_host)
tests_unit_test_record_SOURCES = tests/unit/test-record.c tests/unit/host.h
tests_unit_test_ring_wrap_SOURCES = \
	tests/unit/test-ring-wrap.c \
	$(unit_test_host)
tests_unit_test_vnet_SOURCES = tests/unit/test-vnet.c
tests_unit_test_uring_SOURCES = \
	tests/unit/test-uring.c \
	tests/unit/test-uring.h \
	tests/unit/test-uring-fixture.c \
	tests/unit/test-uring-probe.c \
	tests/unit/test-uring-rx.c \
	tests/unit/test-uring-threads.c \
	$(unit_test_host)
tests_unit_test_uring_soak_SOURCES = \
	tests/unit/test-uring-soak.c \
	$(unit_test_host)
