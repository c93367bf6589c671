# SPDX-License-Identifier: Apache-2.0
#
# Copyright (c) 2026 The turbotap authors.

"""Does to turbotap ports what hosts, containers and administrators may do, at
random, those among them who mean harm, and then checks that each port is there,
with its own device, and that nothing was done to the devices of others.

turbotap-soak.py --seconds N --seed N --ports N --switch PID

--switch is a process in the network namespace of the switch.  The containers
are this program's own.  The ports tt0 to ttN-1 of br0 are there already, with
a MAC address each.  To have the switch killed and started again, which happens
in the first half of the time only, it writes "restart" to its standard output
and waits for a line from its standard input.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time


N_CONTAINERS = 3

# How long what must happen at once may take, in seconds.
PATIENCE = 30


def run(*args, check=True):
    result = subprocess.run(args, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)
    if check and result.returncode:
        raise RuntimeError("%s: %s" % (" ".join(args), result.stderr))
    return result.stdout if not result.returncode else None


def ip(pid, *args, check=False):
    return run("nsenter", "--net=/proc/%d/ns/net" % pid, "ip", *args,
               check=check)


def netns(pid):
    return os.readlink("/proc/%d/ns/net" % pid)


def wait_until(condition, what):
    """Waits until condition() is true, else fails with what() says."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(what())
        time.sleep(.05)             # Between two looks, not in place of one.


class Container:
    """A network namespace, without IPv6, so that no frame is sent unasked.  It
    is there for as long as the switch sees the device 'canary', whose peer is
    inside."""

    serial = 0

    def __init__(self, switch):
        Container.serial += 1
        self.canary = "canary%d" % Container.serial
        self.process = subprocess.Popen(
            ["unshare", "--net", "sh", "-c",
             "sysctl -q -w net.ipv6.conf.all.disable_ipv6=1 "
             "net.ipv6.conf.default.disable_ipv6=1; "
             "echo; exec sleep infinity"], stdout=subprocess.PIPE)
        self.process.stdout.readline()
        self.pid = self.process.pid
        ip(switch, "link", "add", self.canary, "type", "veth", "peer", "name",
           "canary", "netns", str(self.pid), check=True)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Soak:
    def __init__(self, args):
        self.args = args
        self.containers = [Container(args.switch)
                           for _ in range(N_CONTAINERS)]
        self.strangers = {}             # (pid, name): what ip shows.
        self.serial = 0
        self.counts = {}

    @property
    def spaces(self):
        return [self.args.switch] + [c.pid for c in self.containers]

    def mac(self, port):
        return "02:00:00:00:01:%02d" % int(port[2:])

    def where(self, port):
        """Returns where the device with the MAC address of 'port' is, as a
        process in its namespace and its name, or None if there is none."""
        found = []
        for pid in self.spaces:
            for line in (ip(pid, "-o", "link") or "").splitlines():
                if self.mac(port) in line:
                    found.append((pid, line.split(": ")[1].split("@")[0]))
        if len(found) > 1:
            raise RuntimeError("%s has two devices: %s" % (port, found))
        return found[0] if found else None

    def show(self, pid, name):
        link = ip(pid, "-o", "link", "show", name)
        return link and link.split(": ", 1)[1].replace("NO-CARRIER,", "")

    # What may happen.  Each may fail, since devices come and go.

    def move(self, port):
        place = self.where(port)
        if place:
            ip(place[0], "link", "set", place[1], "netns",
               str(random.choice(self.spaces)))

    def rename(self, port):
        place = self.where(port)
        if place:
            name = random.choice([port, "eth0", "net%d" % random.randrange(9)])
            ip(place[0], "link", "set", place[1], "name", name)

    def change(self, port):
        place = self.where(port)
        if place:
            ip(place[0], "link", "set", place[1], *random.choice([
                ("mtu", str(random.randrange(1280, 4000))),
                ("up",), ("down",)]))

    def configure(self, port):
        run("ovs-vsctl", "set", "Interface", port,
            "mtu_request=%d" % random.randrange(1280, 4000),
            "options:n_rxq=%d" % random.randrange(1, 5),
            "ingress_policing_rate=%d" % random.choice([0, 1000]))

    def mod_port(self, port):
        run("ovs-ofctl", "mod-port", "br0", port,
            random.choice(["up", "down"]), check=False)

    def attach(self, port, *options):
        """Returns a process that attaches a queue to the device of 'port', and
        what it says of that, or None."""
        place = self.where(port)
        if not place:
            return None
        attacher = subprocess.Popen(
            ["nsenter", "--net=/proc/%d/ns/net" % place[0], sys.executable,
             os.path.join(os.path.dirname(__file__), "turbotap-attach.py"),
             *options, place[1]], stdout=subprocess.PIPE, text=True)
        return attacher, attacher.stdout.readline()

    def meddle(self, port):
        """Changes settings of the device that are not the host's to change."""
        attached = self.attach(port, *random.choice([
            ("--hdr", "10"), ("--hdr", "64"), ("--sndbuf", "1"),
            ("--offload", "0"), ("--unpersist",)]))
        if attached:
            attached[0].wait()

    def hold(self, port):
        """Has a queue of the device for as long as it takes the port to say
        so."""
        attached = self.attach(port, "--hold")
        if not attached:
            return
        try:
            if attached[1].startswith("attached"):
                wait_until(lambda: self.has_strange_queue(port),
                           lambda: "%s does not say that others have a queue:"
                           " %s" % (port, self.state(port)))
        finally:
            attached[0].kill()
            attached[0].wait()
        wait_until(lambda: not self.has_strange_queue(port),
                   lambda: "%s says that others have a queue: %s"
                   % (port, self.state(port)))

    def has_strange_queue(self, port):
        return "another process" in (self.state(port) or "")

    def forge(self, port):
        """Gives the device the alias that another port's may have."""
        place = self.where(port)
        if place:
            ip(place[0], "link", "set", place[1], "alias",
               random.choice(["customer", "Open vSwitch turbotap in %s, tt%d"
                              % (os.environ.get("OVS_RUNDIR"),
                                 random.randrange(self.args.ports))]))

    def delete(self, port):
        place = self.where(port)
        if place:
            ip(place[0], "link", "del", place[1])

    def replace(self, port):
        run("ovs-vsctl", "del-port", port)
        self.add(port)

    def add(self, port):
        run("ovs-vsctl", "add-port", "br0", port, "--", "set", "Interface",
            port, "type=turbotap", 'mac="%s"' % self.mac(port), check=False)

    def stranger(self, port):
        """A device of the name, and the index, that the port's has or had."""
        pid = random.choice(self.spaces)
        name = random.choice([port, "eth0"])
        index = self.where(port) and run(
            "nsenter", "--net=/proc/%d/ns/net" % self.where(port)[0], "cat",
            "/sys/class/net/%s/ifindex" % name, check=False)
        self.serial += 1
        args = ["link", "add", name]
        args += ["index", index.strip()] if index else []
        args += ["type", "veth", "peer", "name", "ve%d" % self.serial]
        if ip(pid, *args) is not None:
            self.strangers[(pid, name)] = self.show(pid, name)

    def send_away(self, _):
        if self.strangers:
            pid, name = random.choice(list(self.strangers))
            self.check_stranger(pid, name)
            ip(pid, "link", "del", name, check=True)
            del self.strangers[(pid, name)]

    def end_container(self, _):
        """A container ends, and nothing keeps its namespace alive."""
        i = random.randrange(N_CONTAINERS)
        self.end(self.containers[i])
        self.containers[i] = Container(self.args.switch)

    def end(self, container):
        for pid, name in list(self.strangers):
            if pid == container.pid:
                self.check_stranger(pid, name)
                del self.strangers[(pid, name)]
        container.kill()
        wait_until(lambda: self.show(self.args.switch,
                                     container.canary) is None,
                   lambda: "the namespace of a container is kept alive")

    def restart(self, _):
        if time.monotonic() > self.half_time:
            return
        print("restart", flush=True)
        if not sys.stdin.readline():
            raise RuntimeError("the switch did not come back")

    def check_stranger(self, pid, name):
        now = self.show(pid, name)
        if now != self.strangers[(pid, name)]:
            raise RuntimeError("a stranger was changed: %s, now %s"
                               % (self.strangers[(pid, name)], now))

    def happen(self):
        acts = [self.move] * 6 + [self.rename] * 4 + [self.change] * 4 \
            + [self.configure] * 3 + [self.mod_port] * 2 + [self.delete] * 2 \
            + [self.stranger] * 2 + [self.send_away] * 2 + [self.replace] \
            + [self.restart] + [self.end_container] \
            + [self.meddle] * 3 + [self.forge] * 2 + [self.hold]
        act = random.choice(acts)
        port = "tt%d" % random.randrange(self.args.ports)
        self.counts[act.__name__] = self.counts.get(act.__name__, 0) + 1
        act(port)

    def settle(self):
        """Waits for each port to be well, and says where its device is."""
        while self.strangers:
            self.send_away(None)
        for port in ["tt%d" % i for i in range(self.args.ports)]:
            run("ovs-vsctl", "set", "Interface", port,
                "ingress_policing_rate=0")
            wait_until(lambda: self.is_well(port),
                       lambda: "%s is dead: %s; its device is at %s"
                       % (port, self.state(port), self.where(port)))
            place = self.where(port)
            ip(place[0], "link", "set", place[1], "down", check=True)
            if place[0] != self.args.switch:
                ip(place[0], "link", "set", place[1], "netns",
                   str(self.args.switch), "name", port, check=True)
            elif place[1] != port:
                ip(place[0], "link", "set", place[1], "name", port,
                   check=True)
        for container in self.containers:
            left = [line.split(": ")[1].split("@")[0] for line
                    in ip(container.pid, "-o", "link").splitlines()]
            if sorted(left) != ["canary", "lo"]:
                raise RuntimeError("left in a container: %s" % left)
            self.end(container)

    def state(self, port):
        return run("ovs-vsctl", "get", "Interface", port, "error", "status",
                   "mac_in_use", "mtu", check=False)

    def is_well(self, port):
        state = self.state(port)
        place = self.where(port)
        if not state or not place or state.splitlines()[0] != "[]":
            return False
        link = self.show(*place)
        there = netns(place[0]) if place[0] != self.args.switch else None
        return (("ifname=%s," % place[1] in state) == (place[1] != port)
                and (there is None) == ("netns=" not in state)
                and (there is None or there in state)
                and link is not None
                and "mtu %s " % state.splitlines()[3] in link)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--ports", type=int, required=True)
    parser.add_argument("--switch", type=int, required=True)
    args = parser.parse_args()

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    random.seed(args.seed)
    soak = Soak(args)
    try:
        end = time.monotonic() + args.seconds
        soak.half_time = end - args.seconds / 2
        while time.monotonic() < end:
            soak.happen()
        soak.settle()
    finally:
        for container in soak.containers:
            container.kill()
        print("seed %d: %s" % (args.seed, soak.counts), file=sys.stderr)
    print("done", flush=True)


if __name__ == "__main__":
    main()
