# SPDX-License-Identifier: Apache-2.0
#
# Copyright (c) 2026 The turbotap authors.

"""An OVN of several machines, called chassis, on this one.  Each chassis is a
network namespace with a switch, whose datapath is the userspace one, and
ovn-controller; a tunnel network connects them.  The databases of OVN and
ovn-northd are beside them.  Must not know what is measured or tested."""

import os
import shutil
import time

import machine
from machine import Error
from openvswitch import OpenvSwitch, start_daemon

# The network of the tunnels.
ENCAP_PREFIX = "203.0.113."

# What a packet of 1500 octets has room for in a Geneve tunnel over IPv4: that
# less IPv4 (20), UDP (8), Geneve (8) with OVN's option (8), Ethernet (14).
TUNNEL_MTU = 1442


def wait_until(condition, what, timeout=30):
    """Waits until the function 'condition' returns something true and returns
    that.  After 'timeout' seconds, raises Error, with what 'what' says."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Error("not in %d s: %s" % (timeout, what))
        time.sleep(0.05)            # Between two looks.


class Central:
    """The databases of an OVN, and ovn-northd.  'programs' is the folder that
    OVN's packages were unpacked in, 'tree' a built Open vSwitch, and 'path'
    a folder for all files."""

    def __init__(self, programs, tree, path):
        self.programs = programs
        self.tree = tree
        self.path = path
        self.remotes = {db: "unix:%s/%s.sock" % (path, db)
                        for db in ("nb", "sb")}
        self.processes = []

    def program(self, name):
        return os.path.join(self.programs, "usr/bin", name)

    def start(self, cpu=None):
        shutil.rmtree(self.path, ignore_errors=True)
        os.makedirs(self.path)
        for db, remote in self.remotes.items():
            path = os.path.join(self.path, db + ".db")
            machine.run([os.path.join(self.tree, "ovsdb/ovsdb-tool"), "create",
                         path, os.path.join(self.programs, "usr/share/ovn",
                                            "ovn-%s.ovsschema" % db)])
            self._start(db, [os.path.join(self.tree, "ovsdb/ovsdb-server"),
                             "--remote=p" + remote, path], cpu)
        self._start("northd", [self.program("ovn-northd"),
                               "--ovnnb-db=" + self.remotes["nb"],
                               "--ovnsb-db=" + self.remotes["sb"]], cpu)
        wait_until(lambda: all(os.path.exists(remote[len("unix:"):])
                               for remote in self.remotes.values()),
                   "the databases listen")
        self.nbctl("init")

    def _start(self, name, argv, cpu):
        self.processes.append(start_daemon(
            self.path, name,
            argv + ["--unixctl=%s/%s.ctl" % (self.path, name)], cpu=cpu))

    def nbctl(self, *args):
        """Runs ovn-nbctl and returns what it prints."""
        return machine.run([self.program("ovn-nbctl"), "--timeout=30",
                            "--db=" + self.remotes["nb"]] + list(args))

    def sbctl(self, *args):
        """Runs ovn-sbctl and returns what it prints."""
        return machine.run([self.program("ovn-sbctl"), "--timeout=30",
                            "--db=" + self.remotes["sb"]] + list(args))

    def is_up(self, logical_port):
        """Returns whether a chassis has the port for 'logical_port'."""
        return self.nbctl("get", "Logical_Switch_Port", logical_port,
                          "up").strip() == "true"

    def sync(self):
        """Waits until all chassis do what the northbound database says."""
        self.nbctl("--wait=hv", "sync")


class Chassis:
    """Chassis 'number' of 'central', with its files in folder 'path', in
    network namespace 'ns'.  Its PMD thread has 'pmd_cpu', and sleeps when
    there is little to do, since all else runs there, too.  'bridges' are other
    networks that it is in: names in OVN and of bridges here.  Each of 'tunnel'
    is a setting of the interface to the tunnel network."""

    def __init__(self, central, path, number, ns, pmd_cpu, bridges=None,
                 tunnel=("type=system",)):
        self.central = central
        self.name = "chassis%d" % number
        self.address = "%s%d" % (ENCAP_PREFIX, number)
        self.ovs = OpenvSwitch(central.tree, path, ns)
        self.ovs.env["OVN_RUNDIR"] = path
        self.settings = ["other_config:pmd-cpu-mask=%#x" % (1 << pmd_cpu),
                         # In 3.1, and since 3.2.
                         "other_config:pmd-maxsleep=100",
                         "other_config:pmd-sleep-max=100"]
        self.tunnel = tunnel
        if bridges:
            self.settings.append(
                "external_ids:ovn-bridge-mappings="
                + ",".join("%s:%s" % item for item in bridges.items()))
        self.bridges = bridges or {}
        self.switch = None
        self.controller = None

    def start(self, cpu=None):
        """Starts the chassis, which has the device 'tunnel0' for its tunnels
        already."""
        ovs = self.ovs
        ovs.start_database(cpu)
        ovs.vsctl("--no-wait", "set", "Open_vSwitch", ".", *self.settings,
                  "external_ids:system-id=" + self.name,
                  "external_ids:ovn-remote=" + self.central.remotes["sb"],
                  "external_ids:ovn-encap-type=geneve",
                  "external_ids:ovn-encap-ip=" + self.address,
                  "external_ids:ovn-bridge-datapath-type=netdev")
        self.start_switch(cpu)
        for bridge in ["br-tunnel"] + list(self.bridges.values()):
            ovs.vsctl("add-br", bridge, "--", "set", "bridge", bridge,
                      "datapath_type=netdev")
        ovs.vsctl("add-port", "br-tunnel", "tunnel0", "--", "set", "interface",
                  "tunnel0", *self.tunnel)
        machine.run(["ip", "address", "add", self.address + "/24", "dev",
                     "br-tunnel"], ns=ovs.ns)
        machine.run(["ip", "link", "set", "br-tunnel", "up"], ns=ovs.ns)
        self.start_controller(cpu)
        wait_until(lambda: "br-int" in ovs.vsctl("list-br").split(),
                   "ovn-controller makes br-int")

    def start_switch(self, cpu=None):
        self.switch = self.ovs.start_switch(cpu)

    def switch_log(self):
        """Returns the name of the switch's log."""
        return os.path.join(self.ovs.path, "ovs-vswitchd.log")

    def start_controller(self, cpu=None):
        self.controller = self.ovs.start_daemon(
            self.central.program("ovn-controller"), [self.ovs.db], cpu)

    def add_port(self, name, logical_port, kind, device, mac, ns):
        """Adds a port for the workload in network namespace 'ns', which
        gets it as 'device', with address 'mac', up.  'kind' is that of the
        port: turbotap, tap or system."""
        if kind == "system":
            machine.run(["ip", "link", "add", name, "type", "veth", "peer",
                         "name", device, "netns", ns], ns=self.ovs.ns)
            machine.run(["ip", "link", "set", name, "up"], ns=self.ovs.ns)
            machine.run(["ethtool", "-K", device, "tx", "off"], ns=ns)
        self.ovs.vsctl("add-port", "br-int", name, "--", "set", "interface",
                       name, "type=" + {"tap": "internal"}.get(kind, kind),
                       "external_ids:iface-id=" + logical_port)
        if kind != "system":
            machine.run(["ip", "link", "set", name, "netns", ns, "name",
                         device], ns=self.ovs.ns)
        machine.run(["ip", "link", "set", device, "address", mac, "up"], ns=ns)


def connect(first, second):
    """Connects two chassis that are not started yet: a cable between their
    devices 'tunnel0'."""
    machine.run(["ip", "link", "add", "tunnel0", "type", "veth", "peer",
                 "name", "tunnel0", "netns", second.ovs.ns], ns=first.ovs.ns)
    for chassis in first, second:
        machine.run(["ip", "link", "set", "tunnel0", "up"], ns=chassis.ovs.ns)
