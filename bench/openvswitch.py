# SPDX-License-Identifier: Apache-2.0
#
# Copyright (c) 2026 The turbotap authors.

"""The daemons of an Open vSwitch and the programs that talk to them.  Must not
know which bridges and ports there are, nor what for."""

import os
import shutil

import machine


def start_daemon(path, name, argv, ns=None, cpu=None, env=None):
    """Starts 'argv', a daemon of Open vSwitch or OVN, whose log in folder
    'path' gets 'name', in network namespace 'ns', and returns its process."""
    with open(os.path.join(path, name + ".err"), "a",
              encoding="utf-8") as log:
        return machine.Process(
            argv + ["-vconsole:off", "-vsyslog:off",
                    "--log-file=%s/%s.log" % (path, name)],
            ns=ns, cpu=cpu, env=env, log=log)


class OpenvSwitch:
    """ovsdb-server and ovs-vswitchd of the 'tree' that they were built in,
    with all their files in folder 'path', in network namespace 'ns'.
    'program' is another ovs-vswitchd, None: that of the tree."""

    def __init__(self, tree, path, ns, program=None):
        self.tree = tree
        self.path = path
        self.ns = ns
        self.program = program or self.built("vswitchd/ovs-vswitchd")
        self.env = dict(os.environ, OVS_RUNDIR=path, OVS_LOGDIR=path,
                        OVS_DBDIR=path, OVS_SYSCONFDIR=path)
        self.db = "unix:%s/db.sock" % path
        self.processes = []

    def built(self, path):
        """Returns where the program 'path' of the tree is."""
        return os.path.join(self.tree, path)

    def vsctl(self, *args):
        return machine.run([self.built("utilities/ovs-vsctl"),
                            "--db=" + self.db, "--timeout=30"] + list(args),
                           env=self.env)

    def appctl(self, *args):
        ctl = os.path.join(self.path, "vswitchd.ctl")
        return machine.run([self.built("utilities/ovs-appctl"),
                            "-t", ctl] + list(args), env=self.env)

    def ofctl(self, command, bridge, *args):
        return machine.run([self.built("utilities/ovs-ofctl"), command,
                            "unix:%s/%s.mgmt" % (self.path, bridge)]
                           + list(args), env=self.env)

    def start_database(self, cpu=None):
        """Starts ovsdb-server with an empty database."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.makedirs(self.path)
        db = os.path.join(self.path, "conf.db")
        machine.run([self.built("ovsdb/ovsdb-tool"), "create", db,
                     self.built("vswitchd/vswitch.ovsschema")])
        self.start_daemon(self.built("ovsdb/ovsdb-server"),
                          ["--remote=p" + self.db, db], cpu)
        self.vsctl("--retry", "--no-wait", "init")

    def start_switch(self, cpu=None):
        """Starts ovs-vswitchd, and returns its process."""
        return self.start_daemon(self.program, [
            "--unixctl=%s/vswitchd.ctl" % self.path, self.db], cpu)

    def start_daemon(self, program, args, cpu=None):
        """Starts a daemon in this namespace, and returns its process."""
        process = start_daemon(self.path, os.path.basename(program),
                               [program] + args, self.ns, cpu, self.env)
        self.processes.append(process)
        return process
