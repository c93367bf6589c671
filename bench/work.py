# SPDX-License-Identifier: Apache-2.0
#
# Copyright (c) 2026 The turbotap authors.

"""The work that a peer is given, one short run at a time.  Each function gives
one run to one peer and returns what was measured, as a dict whose 'value' is
the figure that counts.  Must not know how a peer is made."""

import contextlib
import json
import os
import re

import machine
from machine import Error, HOST_CPU
from peers import ADDRESSES, DEVICES

# A run is thrown away and the benchmark fails on any of these.
FAULTS = ("corrupt", "duplicates", "reordered")

# With less than this part of the frames lost, or with the switch busy for less
# than this part of the time, there was no backlog: the generator is what
# limits.
NO_LOSS = 0.005
SPARE_TIME = 0.85

WARM_UP = 0.1                   # Seconds before the window opens.

# The payload of a TCP segment in a packet of 1500 octets, with timestamps.
TCP_PAYLOAD = 1448

_next_run = [1]


# Frames of one flow that the generator sends in a row: with many flows fewer,
# so that what a batch of the switch has in it is of several.
BURST_1_FLOW = 64
BURST_MANY_FLOWS = 8
BURST_OCTETS = 60000


class Tools:
    """Runs our own programs, which are in folder 'path'."""

    def __init__(self, path):
        self.path = path
        self.bursts = True      # Can the kernel make frames of a burst?

    def burst(self, size, flows):
        """Returns the generator's frames in a burst."""
        if not self.bursts:
            return 1
        return min(BURST_1_FLOW if flows == 1 else BURST_MANY_FLOWS,
                   BURST_OCTETS // size)

    def generator(self, peer, size, flows, seconds, *more, burst=None):
        return machine.Process(
            [os.path.join(self.path, "turbotap-gen"), "-i", DEVICES["a"],
             "-s", str(size), "-f", str(flows), "-t", "%.3f" % seconds,
             "-g", str(burst or self.burst(size, flows))]
            + list(more), ns=peer.namespaces["a"], cpu=HOST_CPU)

    def sink(self, peer, mode, *more):
        return machine.Process(
            [os.path.join(self.path, "turbotap-sink"), "-m", mode,
             "-i", DEVICES["b"]] + list(more),
            ns=peer.namespaces["b"], cpu=HOST_CPU)


def _counts(peer):
    """Returns how many frames host a's device dropped and host b's got."""
    stats = {host: machine.link_stats(peer.namespaces[host], DEVICES[host])
             for host in "ab"}
    return stats["a"]["tx"]["dropped"], stats["b"]["rx"]["packets"]


def _account(peer, gen, before):
    """Returns where the frames of generator result 'gen' went: 'tried' is
    what it made, 'delivered' what arrived, and each 'lost_...' says by whom
    the rest was lost.  'before' is what _counts() was then."""
    after = machine.settle(lambda: _counts(peer))
    dropped, delivered = (after[i] - before[i] for i in range(2))
    counters = peer.counters()
    account = {
        "tried": gen["tried"],
        "delivered": delivered,
        # The sending device had no room, and said so.
        "lost_at_device": dropped,
        "send_errors": gen["errors"],
    }
    sent = gen["tried"] - gen["errors"] - dropped
    if "received" in counters:
        # Between the device and the switch: a queue or a socket was full.
        account["lost_before_switch"] = sent - counters["received"]
        # The switch took it and the other host did not get it.
        account["lost_in_switch"] = counters["received"] - delivered
        account["switch_tx_drop"] = counters.get("tx_drop")
    else:
        account["lost_in_between"] = sent - delivered
    if "busy_seconds" in counters:
        account["switch_busy"] = min(
            1, counters["busy_seconds"] / gen["seconds"])
    return account


def check_bursts(tools, peer):
    """Finds out whether the kernel, on the way to 'peer', makes frames of the
    generator's bursts."""
    gen = tools.generator(peer, 64, 1, 1, "-n", "64").finish()
    tools.bursts = not gen["errors"]


def ceiling(tools, peer, seconds, size, flows):
    """Returns the frames per second that the generator sends to 'peer'."""
    gen = tools.generator(peer, size, flows, seconds).finish(seconds + 20)
    return (gen["tried"] - gen["errors"]) / gen["seconds"]


def forward(tools, peer, seconds, size=64, flows=1, rate=0, burst=None):
    """Forwards UDP from a to b at 'rate' frames per second, 0: as fast as it
    will go, in bursts of 'burst' frames of one flow, None: as many as are good
    for the generator.  'value' is the frames per second that arrived, by the
    kernel's counters."""
    before = _counts(peer)
    peer.clear_counters()
    # The generator outlasts the sink's window at both ends, however long it
    # takes to start either.
    gen = tools.generator(peer, size, flows, seconds + 20, "-r", str(rate),
                          "-b", "32" if rate else "256",
                          burst=1 if rate else burst)
    gen.ready()
    window = tools.sink(peer, "count", "-w", str(WARM_UP),
                        "-t", str(seconds)).finish(timeout=seconds + 20)
    gen.terminate()
    result = _account(peer, gen.finish(), before)

    if not window["frames"]:
        raise Error("nothing arrived")
    busy = _busy_seconds(window["cpu"])
    lost = result["tried"] - result["delivered"]
    result.update({
        "value": window["frames"] / window["seconds"],
        "bits_per_second": window["bytes"] * 8 / window["seconds"],
        "cpu": window["cpu"],
        "cpu_ns_per_frame": busy * 1e9 / window["frames"],
        "window_seconds": window["seconds"],
        "generator_limited": (lost < NO_LOSS * result["tried"]
                              or result.get("switch_busy", 1) < SPARE_TIME),
    })
    return result


def check_sink(tools, peer):
    """Raises Error unless verify() notices each fault on the way to 'peer',
    which makes none, and notices none without."""
    for fault, key in ((None, None), ("corrupt", "corrupt"),
                       ("duplicate", "duplicates"), ("reorder", "reordered")):
        more = ["-n", "1000"] + (["-e", fault] if fault else [])
        try:
            verify(tools, peer, 1, more=more, burst=1 if fault else None)
            noticed = ""
        except Error as e:
            noticed = str(e)
        expected = ", ".join("%d %s" % (k == key, k) for k in FAULTS)
        if noticed != (expected if fault else ""):
            raise Error("the sink says \"%s\" where the generator's fault is "
                        "\"%s\"" % (noticed, fault))


def verify(tools, peer, seconds, size=64, flows=1, more=(), burst=None):
    """Forwards as forward() does, with each frame looked at.  Raises Error
    when one is corrupt, duplicated or out of order in its flow.  'more' are
    options of the generator."""
    run = str(_next_run[0])
    _next_run[0] += 1
    before = _counts(peer)
    peer.clear_counters()
    sink = tools.sink(peer, "verify", "-x", run, "-t", str(seconds + 30))
    sink.ready()
    gen = tools.generator(peer, size, flows, seconds, "-x", run, *more,
                          burst=burst)
    result = _account(peer, gen.finish(timeout=seconds + 20), before)
    sink.terminate()
    seen = sink.finish()

    result.update({k: seen[k] for k in FAULTS})
    result["looked_at"] = seen["frames"]
    result["foreign"] = seen["foreign"]
    result["lost_in_sink"] = seen["ring_drops"]
    result["unaccounted"] = (result["delivered"] - seen["frames"]
                             - seen["foreign"] - seen["ring_drops"])
    result["value"] = seen["frames"]
    if not seen["frames"]:
        raise Error("nothing arrived")
    if any(result[k] for k in FAULTS):
        raise Error(", ".join("%d %s" % (result[k], k) for k in FAULTS))
    return result


def _busy_seconds(cpu):
    """Returns how much of the CPU times 'cpu' was spent on something."""
    return sum(v for k, v in cpu.items()
               if k not in ("idle", "iowait", "steal"))


@contextlib.contextmanager
def by_default(peer, default=True):
    """Has 'peer' as users have it, for what does not count frames, unless
    'default' is false."""
    peer.set_offload(default)
    try:
        yield
    finally:
        peer.set_offload(False)


def tcp(peer, seconds, streams=1, reverse=False, default=True,
        pinned=True):
    """Sends TCP from a to b, or from b to a.  'peer' is as users have it if
    'default'; the hosts' programs run on the hosts' CPU if 'pinned', else on
    any.  'value' is bits per second; CPU time is that of a packet on the wire,
    whatever it crosses the switch in."""
    cpu = HOST_CPU if pinned else None
    peer.server(["iperf3", "-s", "--forceflush"], cpu)
    with by_default(peer, default):
        busy = machine.busy_seconds()
        out = machine.run(["iperf3", "-c", ADDRESSES["b"], "-J",
                           "-t", "%d" % max(seconds, 1), "-P", str(streams)]
                          + (["-R"] if reverse else []),
                          ns=peer.namespaces["a"], cpu=cpu, check=False,
                          timeout=seconds + 20)
        busy = machine.busy_seconds() - busy
    try:
        result = json.loads(out)
    except ValueError as e:
        raise Error("iperf3: said nothing") from e
    if "error" in result:
        raise Error("iperf3: " + result["error"])
    end = result["end"]
    received = end["sum_received"]
    return {"value": received["bits_per_second"],
            "cpu_ns_per_frame": busy * 1e9 * TCP_PAYLOAD / received["bytes"],
            "retransmits": end["sum_sent"].get("retransmits")}


def udp(tools, peer, seconds, segments, default=True):
    """Sends datagrams of 1,200 octets from a socket of host a to one of host
    b, as fast as the former will: with 'segments' by UDP_SEGMENT to UDP_GRO.
    'peer' is as users have it if 'default'.  'value' is how many b reads per
    second."""
    program = os.path.join(tools.path, "turbotap-udp")
    more = ["-g"] if segments else []
    with by_default(peer, default):
        receiver = machine.Process(
            [program, "-l", "-w", str(WARM_UP), "-t", str(seconds)] + more,
            ns=peer.namespaces["b"], cpu=HOST_CPU)
        receiver.ready()
        sender = machine.Process(
            [program, "-s", "1200", ADDRESSES["b"]] + more,
            ns=peer.namespaces["a"], cpu=HOST_CPU)
        try:
            result = receiver.finish(timeout=seconds + 20)
        finally:
            sender.stop()
    if not result["datagrams"]:
        raise Error("nothing arrived")
    result["value"] = result["datagrams"] / result["seconds"]
    result["cpu_ns_per_frame"] = (_busy_seconds(result["cpu"]) * 1e9
                                  / result["datagrams"])
    return result


def forward_alone(tools, peer, seconds, default):
    """Forwards frames as forward() does, none of which can merge with the
    next: one by one, of 1,000 flows.  'peer' is as users have it if
    'default'."""
    with by_default(peer, default):
        return forward(tools, peer, seconds, flows=1000, burst=1)


def broadcast(tools, peer, seconds, n):
    """Forwards frames as forward() does, to host b and to 'n' ports that are
    down."""
    peer.add_idle_ports(n, up=False)
    peer.set_broadcast(True)
    try:
        return forward(tools, peer, seconds)
    finally:
        peer.set_broadcast(False)
        peer.delete_idle_ports()


def many_ports(peer, n):
    """Adds 'n' ports to 'peer' at once, brings them up and deletes them.
    'value' is how many seconds it takes to add them, 'delete' to delete them,
    'memory', 'kernel' and 'fds' are what each takes, in kB and pieces."""
    before = peer.memory()
    value = peer.add_idle_ports(n)
    peer.wait_for_idle_ports()
    after = peer.memory()
    each = [(a - b) / n for a, b in zip(after, before)]
    return {"value": value, "delete": peer.delete_idle_ports(),
            "memory": each[0], "kernel": each[1], "fds": each[2]}


def latency(peer, seconds, rate=1000, over_tcp=False, default=True):
    """Asks host b 'rate' times a second, one question at a time, by UDP or,
    if 'over_tcp', by TCP.  'peer' is as users have it if 'default'.  'value'
    is the median round trip in microseconds."""
    more = ["--tcp"] if over_tcp else []
    peer.server(["sockperf", "server", "-i", ADDRESSES["b"]] + more)
    with by_default(peer, default):
        out = machine.run(["sockperf", "ping-pong", "-i", ADDRESSES["b"],
                           "-t", "%d" % max(seconds, 1), "--mps", str(rate),
                           "--full-rtt"] + more,
                          ns=peer.namespaces["a"], cpu=HOST_CPU,
                          timeout=seconds + 20)
    found = {p: re.search(r"percentile %s0* *= *([\d.]+)" % p, out)
             for p in ("50.", "99.")}
    if not all(found.values()):
        raise Error("sockperf: " + out.strip())
    return {"value": float(found["50."].group(1)),
            "p99": float(found["99."].group(1)),
            "dropped": int(re.search(r"# dropped messages = (\d+)",
                                     out).group(1))}
