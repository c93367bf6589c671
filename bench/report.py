# SPDX-License-Identifier: Apache-2.0
#
# Copyright (c) 2026 The turbotap authors.

"""What the benchmark says in the end: results.json with every single run,
table.md with the medians and what they are to each other's, and SVG plots.
Must not know how anything was measured."""

import json
import os
import shutil
import statistics
import subprocess

from work import FAULTS


# Part of the machine's CPU time that may go elsewhere before a run.
QUIET = 0.05


class Results:
    """All that was found out.  runs[name][peer] is a list of dicts, one per
    run."""

    def __init__(self):
        self.machine = {}
        self.settings = {}
        self.facts = {}
        self.unavailable = {}
        self.failures = []
        self.generator = {}
        self.runs = {}

    def add(self, name, peer, run):
        self.runs.setdefault(name, {}).setdefault(peer, []).append(run)

    def median(self, name, peer, key="value"):
        """Returns the median of 'key' over the runs of work 'name', None if
        'peer' has none."""
        values = [run[key] for run in self.runs.get(name, {}).get(peer, [])
                  if run.get(key) is not None]
        return statistics.median(values) if values else None

    def spread(self, name, peer, key="value"):
        values = [run[key] for run in self.runs[name][peer]]
        return min(values), max(values)

    def peers(self):
        """Returns the labels of all peers that ran with one queue and no
        TSO, in the order of their first run."""
        labels = []
        for name, by_peer in self.runs.items():
            if not name.startswith(("queues, ", "TSO, ", "offload, ",
                                    "LOCAL, ", "OVN, ", "many, ")):
                labels += [peer for peer in by_peer if peer not in labels]
        return labels


class Row:
    """A row of the table: 'key' of work 'name', divided by 'scale'."""

    def __init__(self, text, unit, name, key="value", scale=1, less=False):
        self.text = text
        self.unit = unit
        self.name = name
        self.key = key
        self.scale = scale
        self.less = less            # True if less is better.


def rows(results):
    """Returns the rows of the table, for what was measured."""
    found = []
    for name in results.runs:
        if name.startswith(("forward, ", "broadcast, ")):
            found.append(Row(name, "kframe/s", name, scale=1e3))
        elif name.startswith("idle, "):
            found.append(Row(name, "kframe/s", name, scale=1e3))
        elif name.startswith("TCP, "):
            found.append(Row(name, "Gb/s", name, scale=1e9))
        elif name.startswith("UDP, "):
            found.append(Row(name, "kdgram/s", name, scale=1e3))
        elif name == "latency":
            found.append(Row("round trip, p50", "us", name, less=True))
            found.append(Row("round trip, p99", "us", name, "p99", less=True))
    for name in results.runs:
        if name.startswith(("paced, ", "TCP, ", "UDP, ")) or (
                name.startswith("forward, ") and name.endswith(" 1 flow")):
            found.append(Row("CPU, " + name, "ns/frame", name,
                             "cpu_ns_per_frame", less=True))
    return found


def _number(value):
    if value is None:
        return "-"
    return "%.0f" % value if value >= 100 else "%.3g" % value


def _markdown(header, lines):
    """Returns a table, "" if it would have no lines.  The first column is
    text, the others are numbers."""
    if not lines:
        return ""
    widths = [max(len(line[i]) for line in [header] + lines)
              for i in range(len(header))]

    def row(cells):
        return "| " + " | ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths))) + " |"

    rule = "|" + "|".join(
        "-" * (width + 2) if i == 0 else "-" * (width + 1) + ":"
        for i, width in enumerate(widths)) + "|"
    return "\n".join([row(header), rule] + [row(line) for line in lines])


def _limited(results, row, peer):
    """Returns true if 'row' is a throughput and the generator limited most of
    the runs."""
    if row.key != "value" or row.name.startswith("paced"):
        return False
    runs = results.runs[row.name].get(peer, [])
    return sum(run.get("generator_limited", False)
               for run in runs) * 2 > len(runs)


def medians_table(results):
    peers = results.peers()
    lines = []
    for row in rows(results):
        cells = []
        for peer in peers:
            value = results.median(row.name, peer, row.key)
            cells.append(_number(None if value is None else value / row.scale)
                         + (" g" if value is not None
                            and _limited(results, row, peer) else ""))
        lines.append([row.text, row.unit] + cells)
    return _markdown(["median", "unit"] + peers, lines)


def ratios_table(results, label):
    """Returns the table of what 'label' is to the other peers."""
    others = [peer for peer in results.peers() if peer != label]
    lines = []
    for row in rows(results):
        mine = results.median(row.name, label, row.key)
        if mine is None:
            continue
        cells = []
        for peer in others:
            theirs = results.median(row.name, peer, row.key)
            if not theirs or not mine:
                cells.append("-")
            else:
                ratio = theirs / mine if row.less else mine / theirs
                cells.append("%.2f" % ratio)
        if any(cell != "-" for cell in cells):
            lines.append([row.text] + cells)
    return _markdown([label + " is better than"]
                     + [peer + " x" for peer in others], lines)


LOSSES = ("tried", "delivered", "lost_at_device", "send_errors",
          "lost_before_switch", "lost_in_switch", "lost_in_between",
          "lost_in_sink", "unaccounted", "foreign")


def losses_table(results, prefix, keys):
    """Returns the table of the medians of 'keys' of all work whose name begins
    with 'prefix'."""
    lines = []
    for name, by_peer in results.runs.items():
        if name.startswith(prefix):
            for peer in by_peer:
                lines.append([name, peer] + [
                    _number(results.median(name, peer, key)) for key in keys])
    return _markdown(["", "peer"] + [key.replace("_", " ") for key in keys],
                     lines)


def pairs_table(results, header, names, scale, key="value"):
    """Returns the table, with 'header', of 'key' of the work named by the
    first of 'names' against that named by the second, and what the second is
    to the first."""
    lines = []
    for peer in results.runs.get(names[0], {}):
        medians = [results.median(name, peer, key) for name in names]
        lines.append([peer] + [_number(value and value / scale)
                               for value in medians]
                     + ["%.2f" % (medians[1] / medians[0])
                        if all(medians) else "-"])
    return _markdown(header + ["x"], lines)


def tso_tables(results):
    """Returns the tables of what TSO does and costs, "" if there are none."""
    tables = [
        pairs_table(results, ["TCP, %s, Gb/s" % streams, "without TSO",
                              "with TSO"],
                    ["TSO, %s: TCP, %s" % (how, streams)
                     for how in ("without", "with")], 1e9)
        for streams in ("1 stream", "8 streams")
    ] + [
        pairs_table(results, ["TCP, 8 streams, with TSO, Gb/s",
                              "1 queue", "2 queues, 2 PMDs"],
                    ["TSO, %s: TCP, 8 streams" % how
                     for how in ("with", "with, 2 queues")], 1e9),
        pairs_table(results, ["64 B, 1 flow, kframe/s", "without header",
                              "with header"],
                    ["TSO, %s: 64 B, 1 flow" % how
                     for how in ("without", "with")], 1e3),
    ]
    return "\n\n".join(table for table in tables if table)


def offload_tables(results):
    """Returns the tables of what the default gains where hosts and switch do
    not both have large frames, and costs where there are none, "" if nothing
    was measured."""
    tables = [
        pairs_table(results, [header, "offload=off", "offload=auto"],
                    ["offload, %s: %s" % (how, name)
                     for how in ("off", "auto")], scale, key)
        for header, name, scale, key in (
            ("TCP, 1 stream, Gb/s", "TCP, 1 stream", 1e9, "value"),
            ("UDP, single datagrams, kdgram/s", "single datagrams", 1e3,
             "value"),
            ("64 B, 1000 flows, one by one, kframe/s", "64 B, 1000 flows", 1e3,
             "value"),
            ("UDP round trip, p50, us", "latency, UDP", 1, "value"),
            ("UDP round trip, p99, us", "latency, UDP", 1, "p99"),
            ("TCP round trip, p50, us", "latency, TCP", 1, "value"),
            ("TCP round trip, p99, us", "latency, TCP", 1, "p99"))
    ]
    return "\n\n".join(table for table in tables if table)


def ovn_table(results):
    """Returns the table of ports of one kind between two chassis of OVN, ""
    if there is none."""
    names = [name for name in results.runs if name.startswith("OVN, ")]
    kinds = [kind for kind in ("tap", "system", "turbotap")
             if any("ovn-" + kind in results.runs[name] for name in names)]
    lines = []
    for name in names:
        medians = {kind: results.median(name, "ovn-" + kind)
                   for kind in kinds}
        mine = medians.get("turbotap")
        lines.append([name + ", Gb/s"]
                     + [_number(value and value / 1e9)
                        for value in medians.values()]
                     + ["%.2f" % (mine / value) if mine and value else "-"
                        for kind, value in medians.items()
                        if kind != "turbotap"])
    return _markdown([""] + kinds + [kind + " x" for kind in kinds
                                     if kind != "turbotap"], lines)


def local_table(results):
    """Returns the table of the host's own port, "" if there is none."""
    names = [name for name in results.runs if name.startswith("LOCAL, ")]
    peers = list(results.runs[names[0]]) if names else []
    return _markdown(
        ["Gb/s"] + ["internal ports" if peer == "tap" else peer
                    for peer in peers],
        [[name.partition(", ")[2]]
         + [_number(value and value / 1e9)
            for value in (results.median(name, peer) for peer in peers)]
         for name in names])


def many_table(results):
    """Returns the table of what many ports cost, "" if there is none."""
    names = [name for name in results.runs if name.startswith("many, ")]
    peers = list(results.runs[names[0]]) if names else []
    return _markdown(
        [""] + peers,
        [["%s ports, %s" % (name.partition(", ")[2], text)]
         + [_number(results.median(name, peer, key)) for peer in peers]
         for name in names
         for text, key in (("added at once, s", "value"),
                           ("deleted at once, s", "delete"),
                           ("resident memory of each, kB", "memory"),
                           ("the kernel's, which are up, of each, kB",
                            "kernel"),
                           ("descriptors of each", "fds"))])


def spreads_table(results):
    lines = []
    for name, by_peer in results.runs.items():
        if name.startswith("verify"):
            continue
        for peer in by_peer:
            low, high = results.spread(name, peer)
            middle = results.median(name, peer)
            lines.append([name, peer, str(len(by_peer[peer])),
                          "%+.0f %%" % ((low / middle - 1) * 100),
                          "%+.0f %%" % ((high / middle - 1) * 100)])
    return _markdown(["", "peer", "runs", "least", "most"], lines)


def text(results):
    """Returns table.md."""
    m, s = results.machine, results.settings
    parts = [
        "# turbotap benchmark",
        "%s, %d CPUs (%s), Linux %s, %s.  `%s`: %d runs of each kind, "
        "windows of %g s, peers interleaved, %s s in all." % (
            m["cpu"], m["cpus"],
            "virtual machine" if m["virtual"] else "bare metal",
            m["kernel"], s["date"], s["command"], s["rounds"],
            s["window_seconds"], s.get("duration_seconds", "?")),
    ]
    if m["background_cpu"] > QUIET:
        parts.append("**The machine was not quiet**: %.0f %% of its CPU time "
                     "went elsewhere before the start.  The figures are not "
                     "comparable." % (m["background_cpu"] * 100))
    if results.failures:
        parts.append("**FAILED**:\n\n" + "\n".join(
            "- " + failure for failure in results.failures))
    if results.unavailable:
        parts.append("Not available here:\n\n" + "\n".join(
            "- %s: %s" % item for item in results.unavailable.items()))
    if rows(results):
        parts.append("## Medians\n\n"
                     "g: generator-limited.  Nothing waited for the switch "
                     "(less than %g %% lost, or its thread busy for less than "
                     "%g %% of the time): it could do more.\n\n%s" % (
                         s["no_loss"] * 100, s["spare_time"] * 100,
                         medians_table(results)))
    if results.generator:
        parts.append("The generator alone, into a veth with nobody behind it: "
                     + ", ".join("%s: %s kframe/s" % (
                         size, _number(statistics.median(values) / 1e3))
                         for size, values in results.generator.items()) + ".")
    if "queues, 1" in results.runs:
        parts.append("## Two queues\n\n" + pairs_table(
            results, ["64 B, 1000 flows, kframe/s", "1 queue, 1 PMD",
                      "2 queues, 2 PMDs"], ["queues, 1", "queues, 2"], 1e3)
                     + "\n\n" + s["queues_note"])
    tso = tso_tables(results)
    if tso:
        parts.append("## TCP segmentation offload\n\n" + tso)
    offload = offload_tables(results)
    if offload:
        parts.append("## What cutting and merging gain and cost\n\n"
                     + offload)
    ovn = ovn_table(results)
    if ovn:
        parts.append("## Two chassis of OVN, a Geneve tunnel between them\n\n"
                     + ovn)
    local = local_table(results)
    if local:
        parts.append("## The host's own port\n\n" + local)
    many = many_table(results)
    if many:
        parts.append("## Many ports\n\n" + many)
    for label in results.peers():
        if label.startswith("turbotap"):
            parts.append("## %s against the others\n\n"
                         "More than 1 is better, for all kinds of work.\n\n%s"
                         % (label, ratios_table(results, label)))
    for title, table in (
            ("Lost by whom, throughput runs (kernel counters)",
             losses_table(results, "forward", LOSSES[:7])),
            ("Verification runs (each frame looked at)",
             losses_table(results, "verify",
                          ("looked_at",) + FAULTS + LOSSES)),
            ("Spread of the runs", spreads_table(results))):
        if table:
            parts.append("## %s\n\n%s" % (title, table))
    return "\n\n".join(parts) + "\n"


# Plots.

_GNUPLOT = """\
set terminal svg size %(width)d,420 dynamic background rgb 'white' \
font 'sans-serif,12'
set output '%(output)s'
set title '%(title)s'
set ylabel '%(unit)s'
set key outside right top
set grid ytics
set bmargin 4
%(body)s
"""


def _plot(folder, name, title, unit, header, lines, body, width=900):
    """Writes the data file of plot 'name' and has gnuplot draw it.  'body' is
    formatted with 'data', the file's name, and 'n', its last column."""
    data = os.path.join(folder, name + ".dat")
    with open(data, "w", encoding="utf-8") as f:
        for line in [header] + lines:
            f.write("\t".join('"%s"' % cell if isinstance(cell, str)
                              else "NaN" if cell is None else "%g" % cell
                              for cell in line) + "\n")
    script = _GNUPLOT % {
        "output": os.path.join(folder, name + ".svg"), "title": title,
        "unit": unit, "width": width,
        "body": body % {"data": data, "n": len(header)}}
    subprocess.run(["gnuplot"], input=script, text=True, check=True)


_BARS = """\
set style data histogram
set style histogram clustered gap 1
set style fill solid 0.9 noborder
set yrange [0:*]
plot for [i=2:%(n)d] '%(data)s' using i:xtic(1) title columnheader(i)"""

_LINES = """\
set style data linespoints
set xlabel 'idle ports on the same thread'
set yrange [0:*]
plot for [i=2:%(n)d] '%(data)s' using 0:i:xtic(1) title columnheader(i) \
lw 2 pt 7 ps 0.6"""


def _plot_rows(results, folder, name, title, wanted, body=_BARS, strip=""):
    if not wanted:
        return
    peers = [peer for peer in results.peers()
             if any(peer in results.runs[row.name] for row in wanted)]
    lines = []
    for row in wanted:
        values = [results.median(row.name, peer, row.key) for peer in peers]
        lines.append([row.text.replace(strip, "").replace(", ", "\\n")]
                     + [None if value is None else value / row.scale
                        for value in values])
    _plot(folder, name, title, wanted[0].unit, ["work"] + peers, lines, body)


def plots(results, folder):
    """Draws all plots.  Returns why not, or None."""
    for name in os.listdir(folder):
        if name.endswith((".svg", ".dat")):
            os.unlink(os.path.join(folder, name))
    if not shutil.which("gnuplot"):
        return "gnuplot is not installed"
    table = rows(results)

    def only(prefix):
        return [row for row in table if row.text.startswith(prefix)]

    _plot_rows(results, folder, "forward", "UDP forwarding, one polling core",
               only("forward, "), strip="forward, ")
    _plot_rows(results, folder, "tcp", "TCP without TSO", only("TCP, "),
               strip="TCP, ")
    _plot_rows(results, folder, "latency",
               "UDP round trip at 1,000 requests a second", only("round trip"),
               strip="round trip, ")
    idle = only("idle, ")
    for row in idle:
        row.text = row.text.split()[1]
    _plot_rows(results, folder, "idle",
               "A busy port beside idle ones, 64 B, 1 flow", idle, _LINES)
    _plot_rows(results, folder, "cpu",
               "CPU time of the whole machine per delivered frame",
               only("CPU, "), strip="CPU, forward, ")
    return None


def keep_logs(workdir, folder):
    """Keeps the daemons' logs under 'workdir' in 'folder'."""
    shutil.rmtree(folder, ignore_errors=True)
    for root, _, files in os.walk(workdir):
        for name in files:
            if name.endswith((".log", ".err")):
                target = os.path.join(folder, os.path.relpath(root, workdir))
                os.makedirs(target, exist_ok=True)
                shutil.copy(os.path.join(root, name), target)


def write(results, folder):
    """Writes everything into 'folder' and prints the table."""
    with open(os.path.join(folder, "results.json"), "w",
              encoding="utf-8") as f:
        json.dump(vars(results), f, indent=1)
        f.write("\n")
    table = text(results)
    with open(os.path.join(folder, "table.md"), "w", encoding="utf-8") as f:
        f.write(table)
    print("\n" + table)
    why = plots(results, folder)
    print("No plots: %s." % why if why else "Plots, results.json and "
          "table.md are in %s." % folder)
