# SPDX-License-Identifier: Apache-2.0
#
# Copyright (c) 2026 The turbotap authors.
#
# The tests of turbotap in Open vSwitch's own test suite, an Automake fragment
# that its tests/automake.mk includes.

COMMON_MACROS_AT += tests/turbotap-macros.at
TESTSUITE_AT += \
	tests/turbotap.at \
	tests/turbotap-port.at \
	tests/turbotap-queue.at \
	tests/turbotap-many.at \
	tests/turbotap-link.at \
	tests/turbotap-netns.at \
	tests/turbotap-names.at \
	tests/turbotap-keeper.at \
	tests/turbotap-device.at \
	tests/turbotap-claim.at \
	tests/turbotap-internal.at \
	tests/turbotap-offload.at
CHECK_PYFILES += \
	tests/turbotap-attach.py \
	tests/turbotap-frames.py \
	tests/turbotap-keeper.py \
	tests/turbotap-soak.py \
	tests/turbotap-stream.py \
	tests/turbotap-wire.py
