# SPDX-License-Identifier: Apache-2.0
#
# Copyright (c) 2026 The turbotap authors.
#
# The one list of turbotap's sources, an Automake fragment.  Both turbotap's
# own Makefile.am and lib/automake.mk of the Open vSwitch tree include it, so
# it must not know which of the two it is in.

# Plain C, free of Open vSwitch.
turbotap_sources = \
	lib/turbotap-addrs.c \
	lib/turbotap-addrs-fate.c \
	lib/turbotap-addrs-private.h \
	lib/turbotap-addrs-restore.c \
	lib/turbotap-addrs.h \
	lib/turbotap-cost.c \
	lib/turbotap-cost.h \
	lib/turbotap-csum.c \
	lib/turbotap-csum.h \
	lib/turbotap-dev.c \
	lib/turbotap-dev.h \
	lib/turbotap-escape.c \
	lib/turbotap-escape.h \
	lib/turbotap-frame.c \
	lib/turbotap-frame.h \
	lib/turbotap-gro.c \
	lib/turbotap-gro.h \
	lib/turbotap-gso.c \
	lib/turbotap-gso.h \
	lib/turbotap-idle.c \
	lib/turbotap-idle.h \
	lib/turbotap-io.c \
	lib/turbotap-io-ring.c \
	lib/turbotap-io-rw.c \
	lib/turbotap-io-socket.c \
	lib/turbotap-keeper.c \
	lib/turbotap-keeper.h \
	lib/turbotap-keeper-msg.c \
	lib/turbotap-keeper-start.c \
	lib/turbotap-link.c \
	lib/turbotap-link.h \
	lib/turbotap-module.c \
	lib/turbotap-module.h \
	lib/turbotap-netns.c \
	lib/turbotap-netns.h \
	lib/turbotap-nl.c \
	lib/turbotap-nl.h \
	lib/turbotap-place.c \
	lib/turbotap-place.h \
	lib/turbotap-queue.c \
	lib/turbotap-queue.h \
	lib/turbotap-record.c \
	lib/turbotap-record.h \
	lib/turbotap-rtmsg.c \
	lib/turbotap-rtmsg.h \
	lib/turbotap-util.h \
	lib/turbotap-vnet.c \
	lib/turbotap-vnet.h \
	lib/turbotap-watch.c \
	lib/turbotap-watch.h
if HAVE_LIBURING
turbotap_sources += \
	lib/turbotap-io-uring.c \
	lib/turbotap-uring.c \
	lib/turbotap-uring.h
endif

# The netdev classes: what knows Open vSwitch.
turbotap_netdev_sources = \
	lib/netdev-turbotap-compat.h \
	lib/netdev-turbotap-claim.c \
	lib/netdev-turbotap-device.c \
	lib/netdev-turbotap-guard.c \
	lib/netdev-turbotap-inherit.c \
	lib/netdev-turbotap-internal.c \
	lib/netdev-turbotap-keep.c \
	lib/netdev-turbotap-link.c \
	lib/netdev-turbotap-offload.c \
	lib/netdev-turbotap-packet.c \
	lib/netdev-turbotap-private.h \
	lib/netdev-turbotap-queue.c \
	lib/netdev-turbotap-receive.c \
	lib/netdev-turbotap-retry.c \
	lib/netdev-turbotap-send.c \
	lib/netdev-turbotap-stats.c \
	lib/netdev-turbotap-unixctl.c \
	lib/netdev-turbotap-watch.c \
	lib/netdev-turbotap.c \
	lib/netdev-turbotap.h

# The keeper, a program that ovs-vswitchd starts, and finds in its own folder.
sbin_PROGRAMS += vswitchd/turbotap-keeper
vswitchd_turbotap_keeper_SOURCES = \
	lib/turbotap-keeper-main.c \
	lib/turbotap-keeper-msg.c \
	lib/turbotap-keeper.h \
	lib/turbotap-util.h
# Objects of its own, since those of the library are made with libtool in Open
# vSwitch.
vswitchd_turbotap_keeper_CFLAGS = $(AM_CFLAGS)
vswitchd_turbotap_keeper_LDADD =
