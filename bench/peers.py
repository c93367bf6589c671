# SPDX-License-Identifier: Apache-2.0
#
# Copyright (c) 2026 The turbotap authors.

"""What is compared: switches, each with two ports and a host behind either.

A peer has two host namespaces 'a' and 'b' with a device in each; all else is
the switch's.  All peers are up at the same time and all but one suspended, so
that runs can go round the peers without the cost, and the luck, of setting
them up each time.  Must not know what is measured."""

import os
import re
import time

import machine
import ovn
from machine import Error, HOST_CPU, SWITCH_CPU
from openvswitch import OpenvSwitch

ADDRESSES = {"a": "198.18.0.1", "b": "198.18.0.2"}
DEVICES = {"a": "pa", "b": "pb"}


# For ovs-vsctl, when it adds or deletes many ports.
MANY_TIMEOUT = "--timeout=300"
# What status:io may say for a value of options:io, where that is not the same.
IO_STATUS = {"socket": ("ring", "socket")}


def is_turbotap(kind):
    return kind in ("turbotap", "turbotap-nonpmd", "turbotap-internal")


class Peer:
    """A switch.  'label' is what it is called in the output; 'reason' says
    why it is not available, None if it is; 'failures' is for the caller to
    count what went wrong; 'tso' is true if the hosts need not segment."""

    tso = False

    def __init__(self, label):
        self.label = label
        self.reason = None
        self.failures = 0
        self.namespaces = {}
        self.processes = []
        self.servers = {}

    def start(self):
        """Brings the peer up, and leaves it suspended.  If that fails, cleans
        up and sets 'reason'."""
        try:
            self.namespaces["switch"] = machine.add_namespace(
                self.label + "-sw")
            for host in "a", "b":
                self.namespaces[host] = machine.add_namespace(
                    "%s-%s" % (self.label, host))
            self._start()
            for host in "a", "b":
                self._configure_host(host)
            self.suspend()
        except Error as e:
            self.reason = str(e)
            self.stop()

    def stop(self):
        for server in self.servers.values():
            server.stop()
        self.servers.clear()
        for process in reversed(self.processes):
            process.stop()
        self.processes.clear()
        for ns in self.namespaces.values():
            machine.delete_namespace(ns)
        self.namespaces.clear()

    def suspend(self):
        for process in self.processes:
            process.suspend()

    def resume(self):
        for process in self.processes:
            process.resume()

    def server(self, argv, cpu=HOST_CPU):
        """Returns the server 'argv' in host b, started if need be, on 'cpu',
        as soon as it says something."""
        key = " ".join(argv)
        if key not in self.servers:
            server = machine.Process(argv, ns=self.namespaces["b"], cpu=cpu)
            server.ready()
            server.ignore_output()
            self.servers[key] = server
        return self.servers[key]

    def _configure_host(self, host):
        ns, device = self.namespaces[host], DEVICES[host]
        if not self.tso and not is_turbotap(self._kind_at(device)):
            # A switch in user space gets each frame as it is, in one piece:
            # checksums and segmentation are the host's work.  (A tap's are so
            # already, and a turbotap port's are as it says.)
            for feature in "tx", "sg":
                machine.run(["ethtool", "-K", device, feature, "off"], ns=ns,
                            check=False)
        # The generator goes past the queueing discipline, so let all.
        machine.run(["tc", "qdisc", "replace", "dev", device, "root",
                     "noqueue"], ns=ns)
        machine.run(["ip", "address", "add", ADDRESSES[host] + "/24", "dev",
                     device], ns=ns)
        machine.run(["ip", "link", "set", device, "up"], ns=ns)

    def _move_in(self, host):
        machine.run(["ip", "link", "set", DEVICES[host], "netns",
                     self.namespaces[host]], ns=self.namespaces["switch"])

    def _kind_at(self, _name):
        """Returns the kind of the port with the host's device '_name'."""
        return self.kind

    def set_offload(self, on):
        """Lets a peer that can do so have its hosts' checksums and
        segmentation left to it, and merge what it sends to them: as it is by
        default, but not here, since the kernel's counters, by which frames
        are counted, take a large frame for one."""

    def clear_counters(self):
        """Zeroes what counters() returns."""

    def counters(self):
        """Returns what the switch counted, a dict with any of: 'received',
        frames that it took from its ports; 'busy_seconds', the time in which
        its polling found something to do; 'tx_drop', frames that it says it
        dropped at the port to b."""
        return {}


class Veth(Peer):
    """No switch at all: a veth from host to host."""

    kind = "veth"

    def __init__(self):
        super().__init__("veth")

    def _start(self):
        machine.run(["ip", "link", "add", DEVICES["a"], "type", "veth", "peer",
                     "name", DEVICES["b"]], ns=self.namespaces["switch"])
        self._move_in("a")
        self._move_in("b")


class Forwarder(Peer):
    """turbotap's queues with I/O class 'io' and no switch; with 'tso', large
    TCP frames cross whole; with 'merge', they and large datagrams are cut and
    merged, as turbotap ports do it by default."""

    kind = "bare"

    def __init__(self, tools, io, tso=False, merge=False):
        super().__init__("bare-%s%s%s" % (io, "-tso" * tso, "-merge" * merge))
        self.tools = tools
        self.io = io
        self.tso = tso or merge
        self.options = ["-w"] * tso + ["-m"] * merge

    def _start(self):
        process = machine.Process(
            [os.path.join(self.tools, "turbotap-forward"),
             "-a", DEVICES["a"], "-b", DEVICES["b"], "-c", self.io]
            + self.options,
            ns=self.namespaces["switch"], cpu=SWITCH_CPU)
        self.processes.append(process)
        process.ready()
        self._move_in("a")
        self._move_in("b")


def pmd_cpus(n):
    """Returns the CPUs for 'n' PMD threads: the hosts' only if need be."""
    first = SWITCH_CPU if os.cpu_count() > n else HOST_CPU
    return range(first, first + n)


class Switch(Peer):
    """ovs-vswitchd with two ports of 'kind', one of tap, system, afxdp,
    turbotap, turbotap-nonpmd, of 'io' if it is one of the latter, with
    'queues' each; with 'tso', the hosts leave checksums and the segmentation
    of TCP to the switch; with 'kind_of_a', the port to host a is of that kind,
    turbotap-internal, too: as the host's own port with
    other_config:turbotap-internal."""

    # Kinds that a PMD thread polls; the others are the main thread's.
    PMD_KINDS = ("afxdp", "turbotap", "turbotap-internal", "dpdk")

    def __init__(self, tree, workdir, kind, io=None, queues=1, tso=False,
                 kind_of_a=None):
        label = "%s-%s" % (kind, io) if io else kind
        if kind_of_a:
            label = "%s-to-%s" % (kind_of_a, label)
        if queues != 1:
            label += "-q%d" % queues
        super().__init__(label + "-tso" * tso)
        self.tree = tree
        self.kind = kind
        self.kind_of_a = kind_of_a or kind
        self.io = io
        self.queues = queues
        self.tso = tso
        self.idle_ports = 0
        self.path = os.path.join(workdir, self.label)
        self.program = None     # ovs-vswitchd, if not that of the tree.

    def _start(self):
        ovs = OpenvSwitch(self.tree, self.path, self.namespaces["switch"],
                          self.program)
        self.ovs = ovs
        self.processes = ovs.processes
        ovs.start_database(HOST_CPU)
        self._configure()
        pmd = self.kind in self.PMD_KINDS
        if pmd:
            ovs.vsctl("--no-wait", "set", "Open_vSwitch", ".",
                      "other_config:pmd-cpu-mask=%#x" % sum(
                          1 << cpu for cpu in pmd_cpus(self.queues)))
        # What polls the ports gets a CPU for itself: the PMD thread by the
        # mask, the main thread by not being let go elsewhere.
        self.vswitchd = ovs.start_switch(HOST_CPU if pmd else SWITCH_CPU)
        ovs.vsctl("add-br", "br0", "--", "set", "bridge", "br0",
                  "datapath_type=netdev", "fail_mode=secure")
        for host in "a", "b":
            self._add_port(host)
        ovs.ofctl("add-flow", "br0", "in_port=1,actions=output:2")
        ovs.ofctl("add-flow", "br0", "in_port=2,actions=output:1")

    def _configure(self):
        """Sets up the database before ovs-vswitchd starts."""
        self.ovs.vsctl("--no-wait", "set", "Open_vSwitch", ".",
                       "other_config:userspace-tso-enable=%s"
                       % str(self.tso).lower(),
                       "other_config:turbotap-internal=%s"
                       % str(self.kind_of_a == "turbotap-internal").lower())

    # Ports.

    def _kind_at(self, name):
        return self.kind_of_a if name == DEVICES["a"] else self.kind

    def _interface(self, name):
        """Returns the columns of Interface 'name' and creates its kernel
        devices as far as OVS does not."""
        kind = self._kind_at(name)
        options = []
        if kind in ("system", "afxdp"):
            self._add_veth(name)
        if kind == "afxdp":
            options.append("options:xdp-mode=best-effort")
        if is_turbotap(kind):
            options.append("options:io=" + self.io)
            if not self.tso:
                options.append("options:offload=off")
        if kind in self.PMD_KINDS:
            options.append("options:n_rxq=%d" % self.queues)
        ovs_type = ("internal" if kind in ("tap", "turbotap-internal")
                    else kind)
        return ["type=" + ovs_type] + options

    def _add_veth(self, name):
        """Creates a veth pair, 'name' and that with an s appended, which is
        the switch's."""
        ns = self.namespaces["switch"]
        queues = ["numrxqueues", str(self.queues),
                  "numtxqueues", str(self.queues)]
        machine.run(["ip", "link", "add", name] + queues + ["type", "veth",
                    "peer", "name", name + "s"] + queues, ns=ns)
        machine.run(["ip", "link", "set", name + "s", "up"], ns=ns)

    def _port_name(self, name):
        veth = self._kind_at(name) in ("system", "afxdp")
        return name + "s" if veth else name

    def _add_port(self, host):
        name = DEVICES[host]
        columns = self._interface(name)
        port = self._port_name(name)
        self.ovs.vsctl(
            "add-port", "br0", port, "--", "set", "interface", port,
            "ofport_request=%d" % (1 if host == "a" else 2), *columns)
        self._check_port(port, self._kind_at(name))
        self._move_in(host)

    def _column(self, port, column):
        """Returns 'column' of Interface 'port', "" if it is not set."""
        value = self.ovs.vsctl("--if-exists", "get", "interface", port,
                               column)
        return value.strip().strip('"[]')

    def _check_port(self, port, kind):
        """Raises Error if 'port', of 'kind', does not work or is not what was
        asked for."""
        error = self._column(port, "error")
        if is_turbotap(kind):
            # ovs-vswitchd writes the status a moment after it made the port.
            deadline = time.monotonic() + 10
            good = IO_STATUS.get(self.io, (self.io,))
            while not error and self._column(port, "status:io") not in good:
                if time.monotonic() > deadline:
                    raise Error("asked for io=%s and got \"%s\""
                                % (self.io, self._column(port, "status:io")))
                time.sleep(0.05)
                error = self._column(port, "error")
        if error:
            raise Error(error)

    def set_offload(self, on):
        for host in "a", "b":
            if is_turbotap(self._kind_at(DEVICES[host])) and not self.tso:
                self.ovs.vsctl("set", "interface", DEVICES[host],
                               "options:offload=" + ("auto" if on else "off"))

    def set_broadcast(self, on):
        """Sends what comes from host a to all ports, or to host b only."""
        self.ovs.ofctl("add-flow", "br0",
                       "in_port=1,actions=" + ("all" if on else "output:2"))

    def add_idle_ports(self, n, up=True):
        """Adds ports that get no traffic until there are 'n' of them, and
        brings their devices 'up'.  Returns how many seconds the switch
        took."""
        names = ["i%d" % i for i in range(self.idle_ports, n)]
        self.idle_ports = n
        if not names:
            return 0
        args = []
        for name in names:
            columns = self._interface(name)
            port = self._port_name(name)
            args += ["--", "add-port", "br0", port, "--", "set", "interface",
                     port] + columns
        start = time.monotonic()
        self.ovs.vsctl(MANY_TIMEOUT, *args[1:])
        elapsed = time.monotonic() - start
        self._check_port(self._port_name(names[-1]), self.kind)
        errors = self.ovs.vsctl("--bare", "--columns=error", "find",
                                "interface", "error!=[]").strip()
        if errors:
            raise Error(errors.splitlines()[0])
        if up:
            machine.run(["ip", "-batch", "-"], ns=self.namespaces["switch"],
                        text="".join("link set %s up\n" % name
                                     for name in names))
        return elapsed

    def wait_for_idle_ports(self):
        """Waits until the switch knows that the ports of add_idle_ports() are
        up."""
        ovn.wait_until(lambda: not re.search(
            r"^i\d+$", self.ovs.vsctl("--bare", "--columns=name", "find",
                                      "interface", "link_state=down"),
            re.MULTILINE), "all idle ports are up")

    def delete_idle_ports(self):
        """Deletes the ports that add_idle_ports() added, of a kind whose
        devices go along.  Returns how many seconds the switch took."""
        args = []
        for i in range(self.idle_ports):
            args += ["--", "del-port", "br0", "i%d" % i]
        self.idle_ports = 0
        start = time.monotonic()
        self.ovs.vsctl(MANY_TIMEOUT, *args[1:])
        return time.monotonic() - start

    def memory(self):
        """Returns the memory of ovs-vswitchd that is resident, the kernel's
        that cannot be reclaimed, both in kB, and the number of descriptors of
        ovs-vswitchd."""
        proc = "/proc/%d/" % self.vswitchd.popen.pid
        found = []
        for path, key in ((proc + "status", "VmRSS"),
                          ("/proc/meminfo", "SUnreclaim")):
            with open(path) as f:
                found.append(int(re.search(r"^%s:\s*(\d+)" % key, f.read(),
                                           re.MULTILINE).group(1)))
        return found + [len(os.listdir(proc + "fd"))]

    # Counters.

    def clear_counters(self):
        self.ovs.appctl("dpif-netdev/pmd-stats-clear")
        self.cleared = time.monotonic()

    def counters(self):
        elapsed = time.monotonic() - self.cleared
        # Open vSwitch 4.0 has the output of pmd-perf-show here.
        out = self.ovs.appctl("dpif-netdev/pmd-stats-show")
        result = {"received": 0}
        busiest = -1
        for thread in re.split(r"^(?=\S)", out, flags=re.MULTILINE):
            received = re.search(r"(?:packets received|Rx packets): *(\d+)",
                                 thread)
            idle = re.search(r"idle (?:cycles|iterations): *\d+ *"
                             r"\( *([\d.]+) *%", thread)
            n = int(received.group(1)) if received else 0
            result["received"] += n
            if idle and n > busiest:
                busiest = n
                result["busy_seconds"] = elapsed * (
                    1 - float(idle.group(1)) / 100)
        ports = self.ovs.ofctl("dump-ports", "br0", "2")
        m = re.search(r"tx pkts=(\d+|\?).*drop=(\d+|\?)", ports)
        if m and m.group(2).isdigit():
            result["tx_drop"] = int(m.group(2))
        return result

    def facts(self):
        """Returns what is in force, for the record."""
        port = self._port_name(DEVICES["a"])
        return {
            "version": self.ovs.appctl("version").splitlines()[0],
            "ports": [line.strip() for line in self.ovs.appctl(
                "dpif/show").splitlines() if re.search(r"\bp[ab]s?\b", line)],
            "options": self.ovs.vsctl("get", "interface", port,
                                      "options").strip(),
            "status": self.ovs.vsctl("get", "interface", port,
                                     "status").strip(),
        }


class OvnSwitch(Peer):
    """Two chassis of OVN with a tunnel between them and a host at either, all
    ports to hosts of 'kind', one of tap, system, turbotap, and as they are by
    default.  'programs' is where OVN's packages were unpacked.  All processes
    run on any CPU but the PMD threads, of which each switch has one on a CPU
    of its own that sleeps when there is little to do.  The tunnel network is
    a veth, through AF_XDP."""

    def __init__(self, tree, workdir, programs, kind):
        super().__init__("ovn-" + kind)
        self.tree = tree
        self.path = os.path.join(workdir, self.label)
        self.programs = programs
        self.kind = kind

    def _start(self):
        if not os.path.isdir(self.programs):
            raise Error("%s is not there: see build-aux/ovn-programs"
                        % self.programs)
        self.namespaces["switch2"] = machine.add_namespace(self.label + "-sw2")
        central = ovn.Central(self.programs, self.tree,
                              os.path.join(self.path, "central"))
        both = [ovn.Chassis(central, os.path.join(self.path, str(i + 1)),
                            i + 1, self.namespaces[name], cpu,
                            tunnel=["type=afxdp",
                                    "options:xdp-mode=best-effort"])
                for i, (name, cpu) in enumerate((("switch", HOST_CPU),
                                                 ("switch2", SWITCH_CPU)))]
        central.start()
        self.processes += central.processes
        ovn.connect(*both)
        central.nbctl("ls-add", "ls0")
        for chassis, host in zip(both, "ab"):
            device = DEVICES[host]
            mac = "02:00:00:00:00:0" + host
            chassis.start()
            self.processes += chassis.ovs.processes
            central.nbctl("lsp-add", "ls0", device, "--", "lsp-set-addresses",
                          device, "%s %s" % (mac, ADDRESSES[host]))
            chassis.add_port("to-" + device, device, self.kind, device, mac,
                             self.namespaces[host])
            machine.run(["ip", "link", "set", device, "mtu",
                         str(ovn.TUNNEL_MTU)], ns=self.namespaces[host])
        central.sync()
        for host in "ab":
            ovn.wait_until(lambda host=host: central.is_up(DEVICES[host]),
                           "%s is up" % DEVICES[host])


class DpdkSwitch(Switch):
    """Debian's ovs-vswitchd with DPDK, 'vswitchd', and two net_tap devices,
    without huge pages."""

    def __init__(self, tree, workdir, vswitchd):
        super().__init__(tree, workdir, "dpdk", "tap")
        self.program = vswitchd

    def _start(self):
        if not os.path.exists(self.program):
            raise Error("%s is not there (Debian: openvswitch-switch-dpdk, "
                        "librte-net-tap23)" % self.program)
        super()._start()

    def _configure(self):
        super()._configure()
        # --legacy-mem only because Open vSwitch adds --in-memory without it,
        # which --no-huge does not go with.
        self.ovs.vsctl("--no-wait", "set", "Open_vSwitch", ".",
                       "other_config:dpdk-init=true",
                       'other_config:dpdk-extra="--legacy-mem --no-huge '
                       '-m 512 --no-pci"')

    def _interface(self, name):
        # net_tap wants as many receive as transmit queues, and Open vSwitch
        # asks for one of the latter for each PMD thread and the main thread.
        # 'name' ends in a letter or number of its own.
        return ["type=dpdk", "options:n_rxq=2",
                "options:dpdk-devargs=net_tap%s,iface=%s" % (name, name)]
