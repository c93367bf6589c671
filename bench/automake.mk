# SPDX-License-Identifier: Apache-2.0
#
# Copyright (c) 2026 The turbotap authors.
#
# The benchmark: its programs, and "make bench".

bench_programs = \
	bench/turbotap-forward \
	bench/turbotap-gen \
	bench/turbotap-sink \
	bench/turbotap-udp
EXTRA_PROGRAMS += $(bench_programs)
CLEANFILES += $(bench_programs)

bench_turbotap_forward_SOURCES = bench/turbotap-forward.c \
	bench/bench-program.h
bench_turbotap_forward_LDADD = lib/libturbotap.a
bench_turbotap_gen_SOURCES = bench/turbotap-gen.c \
	bench/bench-frame.h bench/bench-program.h
bench_turbotap_gen_LDADD =
bench_turbotap_sink_SOURCES = bench/turbotap-sink.c \
	bench/bench-cpu.h bench/bench-frame.h bench/bench-program.h
bench_turbotap_sink_LDADD =
bench_turbotap_udp_SOURCES = bench/turbotap-udp.c \
	bench/bench-cpu.h bench/bench-program.h
bench_turbotap_udp_LDADD =

EXTRA_DIST += \
	bench/README.md \
	bench/machine.py \
	bench/openvswitch.py \
	bench/ovn.py \
	bench/peers.py \
	bench/report.py \
	bench/run \
	bench/work.py

# Needs root.  BENCH=full takes longer and does more: see bench/README.md.
bench: $(bench_programs)
	@tree=$$($(ovs_tree) $(ovs_programs)) && \
	{ $(top_srcdir)/build-aux/ovn-programs '$(WORKDIR)' >/dev/null || :; } && \
	$(top_srcdir)/bench/run --ovs "$$tree" --tools bench \
	  --ovn '$(WORKDIR)/ovn' \
	  --output '$(WORKDIR)/bench'
.PHONY: bench
