# SPDX-License-Identifier: Apache-2.0
#
# Copyright (c) 2026 The turbotap authors.

"""The machine that the benchmark runs on: its description, network namespaces
and processes, and that none of these is left behind.  Must not know what is
measured."""

import contextlib
import json
import os
import platform
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import time

# All namespaces are called this, the process ID of the run, and a name.
PREFIX = "ttbench-"

# The hosts (generator, sink, TCP) run on one CPU and the switch on another.
HOST_CPU = 0
SWITCH_CPU = 1


class Error(Exception):
    """Something that the benchmark needs did not work; str() says what."""


def run(argv, ns=None, cpu=None, check=True, timeout=60, env=None, text=""):
    """Runs 'argv' to its end, in namespace 'ns', on 'cpu' (None: anywhere),
    with 'text' as its standard input, and returns its standard output.  Raises
    Error if it fails."""
    try:
        p = subprocess.run(_wrap(argv, ns, cpu), input=text,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           timeout=timeout, env=env, text=True)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise Error("%s: %s" % (argv[0], e)) from e
    if check and p.returncode:
        raise Error("%s: %s" % (" ".join(argv), p.stderr.strip()
                                or p.stdout.strip() or p.returncode))
    return p.stdout


def _wrap(argv, ns, cpu):
    wrapped = list(argv)
    if cpu is not None:
        wrapped = ["taskset", "-c", str(cpu)] + wrapped
    if ns:
        wrapped = ["ip", "netns", "exec", ns] + wrapped
    return wrapped


class Process:
    """A process in the background that ends with us at the latest, even if we
    are killed."""

    def __init__(self, argv, ns=None, cpu=None, env=None, log=None):
        self.argv = argv
        self.popen = subprocess.Popen(
            _wrap(["setpriv", "--pdeathsig", "KILL"] + argv, ns, cpu),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=log or subprocess.PIPE, env=env, text=True)
        _processes.append(self)

    def ready(self, timeout=30):
        """Waits for a line of output.  Raises Error if the process ends
        instead."""
        if not select.select([self.popen.stdout], [], [], timeout)[0]:
            self.stop()
            raise Error("%s: said nothing" % self.argv[0])
        if not self.popen.stdout.readline():
            raise Error(self._failure())

    def ignore_output(self):
        """Takes all further output and throws it away, so that the process
        does not block."""
        threading.Thread(target=self.popen.stdout.read, daemon=True).start()

    def finish(self, timeout=30):
        """Waits for the process to end by itself and returns the JSON that it
        printed last."""
        # Not communicate(), which loses what ready() has read ahead.
        timer = threading.Timer(timeout, self.popen.kill)
        timer.start()
        out = self.popen.stdout.read()
        self.popen.wait()
        timer.cancel()
        _processes.remove(self)
        if self.popen.returncode:
            raise Error(self._failure())
        self._close()
        return json.loads(out.strip().splitlines()[-1])

    def terminate(self):
        """Asks the process to end."""
        self.popen.send_signal(signal.SIGTERM)

    def suspend(self):
        self.popen.send_signal(signal.SIGSTOP)

    def resume(self):
        self.popen.send_signal(signal.SIGCONT)

    def stop(self):
        """Ends the process, by force if it does not end when asked."""
        if self in _processes:
            _processes.remove(self)
        if self.popen.poll() is None:
            self.resume()
            self.terminate()
            try:
                self.popen.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        self._close()

    def _close(self):
        self.popen.stdout.close()
        if self.popen.stderr:
            self.popen.stderr.close()

    def _failure(self):
        """Returns why the process, which is ending, failed."""
        status = self.popen.wait()
        err = self.popen.stderr.read().strip() if self.popen.stderr else ""
        self._close()
        return "%s: %s" % (os.path.basename(self.argv[0]),
                           err or "exit status %d" % status)


_processes = []
_namespaces = []


def add_namespace(name):
    """Creates a network namespace for 'name' and returns what it is called.
    IPv6 is off in it, so that nothing is sent that the benchmark does not
    send."""
    ns = "%s%d-%s" % (PREFIX, os.getpid(), name)
    run(["ip", "netns", "add", ns])
    _namespaces.append(ns)
    run(["sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1",
         "net.ipv6.conf.default.disable_ipv6=1"], ns=ns)
    run(["ip", "link", "set", "lo", "up"], ns=ns)
    return ns


def delete_namespace(ns):
    """Deletes namespace 'ns' and ends what still runs in it: turbotap-keeper,
    which would keep the devices that a switch left there."""
    _namespaces.remove(ns)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        pids = run(["ip", "netns", "pids", ns], check=False).split()
        if not pids:
            break
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.01)
    run(["ip", "netns", "del", ns], check=False)


def clean_up():
    """Ends all processes and deletes all namespaces."""
    for process in list(_processes):
        process.stop()
    for ns in list(_namespaces):
        delete_namespace(ns)


def make_workdir():
    """Creates a temporary folder with a short name, as sockets in it need, and
    returns its path.  It is the caller's to remove."""
    return tempfile.mkdtemp(prefix="%s%d-" % (PREFIX, os.getpid()))


def clean_up_after_others():
    """Removes what runs that were killed left.  Their processes died with
    them."""
    def is_stale(name):
        pid = name[len(PREFIX):].split("-")[0]
        return (name.startswith(PREFIX) and pid.isdigit()
                and not os.path.exists("/proc/" + pid))

    for line in run(["ip", "netns", "list"]).splitlines():
        if is_stale(line.split()[0]):
            run(["ip", "netns", "del", line.split()[0]], check=False)
    for name in os.listdir(tempfile.gettempdir()):
        if is_stale(name):
            shutil.rmtree(os.path.join(tempfile.gettempdir(), name),
                          ignore_errors=True)


def link_stats(ns, device):
    """Returns the kernel's counters of 'device' in 'ns', a dict with 'rx' and
    'tx'."""
    out = run(["ip", "-n", ns, "-s", "-j", "link", "show", "dev", device])
    return json.loads(out)[0]["stats64"]


def settle(read, timeout=10):
    """Calls 'read' until it returns the same value three times in a row, 10 ms
    apart, and returns that."""
    deadline = time.monotonic() + timeout
    values = [read()]
    while len(values) < 3 or len(set(values[-3:])) > 1:
        if time.monotonic() > deadline:
            raise Error("frames still arrive after the generator's end")
        time.sleep(0.01)
        values.append(read())
    return values[-1]


def _first_line(path):
    try:
        with open(path, encoding="utf-8") as f:
            return f.readline().strip()
    except OSError:
        return "not there"


def _cpu_times():
    """Returns the CPU time of the machine since it started, busy and total, in
    ticks."""
    with open("/proc/stat", encoding="ascii") as f:
        ticks = [int(n) for n in f.readline().split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def busy_seconds():
    """Returns the CPU time of the whole machine since it started."""
    return _cpu_times()[0] / os.sysconf("SC_CLK_TCK")


def _background_cpu():
    """Returns the part of the machine's CPU time that goes elsewhere."""
    before = _cpu_times()
    time.sleep(1)
    after = _cpu_times()
    return (after[0] - before[0]) / (after[1] - before[1])


def describe():
    """Returns what somebody needs to know of the machine to compare, and how
    busy it is."""
    model, virtual = "unknown", False
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        for line in f:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
            elif line.startswith("flags"):
                virtual = "hypervisor" in line.split()
    with open("/proc/meminfo", encoding="utf-8") as f:
        memory = f.readline().split()[1]
    sysctls = ["net/core/rmem_default", "net/core/wmem_default",
               "net/core/netdev_max_backlog", "net/core/netdev_budget",
               "net/core/bpf_jit_enable", "net/ipv4/tcp_rmem",
               "net/ipv4/tcp_wmem", "net/ipv4/tcp_congestion_control",
               "kernel/io_uring_disabled"]
    vulnerabilities = "/sys/devices/system/cpu/vulnerabilities"
    return {
        "cpu": model,
        "cpus": os.cpu_count(),
        "memory_kib": int(memory),
        "virtual": virtual,
        "kernel": platform.release(),
        "kernel_version": platform.version(),
        "command_line": _first_line("/proc/cmdline"),
        "clocksource": _first_line("/sys/devices/system/clocksource/"
                                   "clocksource0/current_clocksource"),
        "governor": _first_line("/sys/devices/system/cpu/cpu0/cpufreq/"
                                "scaling_governor"),
        "mitigations": {
            name: _first_line(os.path.join(vulnerabilities, name))
            for name in sorted(os.listdir(vulnerabilities))}
        if os.path.isdir(vulnerabilities) else {},
        "background_cpu": _background_cpu(),
        "sysctl": {name.replace("/", "."): _first_line("/proc/sys/" + name)
                   for name in sysctls},
    }
