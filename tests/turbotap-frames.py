#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
#
# Copyright (c) 2026 The turbotap authors.

"""Sends a known number of frames through a switch and says what became of
them.  The frames leave on the host's side of one device and are awaited on the
host's side of another one in the same network namespace, below the IP stack.

Each frame is UDP in IPv4, belongs to a flow (its pair of ports) and carries
its direction and its place in that flow, so that a lost, doubled, damaged or
overtaken frame is noticed.  It must not know what kind of devices these are.
"""

import argparse
import select
import socket
import struct
import sys
import time

ETH_P_IP = 0x0800
HEADERS_LEN = 14 + 20 + 8
TAG = struct.Struct("!4sBHI")       # Magic, direction, flow, place in flow.
MAGIC = b"ttap"
MIN_SIZE = HEADERS_LEN + TAG.size

WINDOW = 64                         # Most frames under way in one direction.
RCVBUF = 64 * 1024 * 1024           # In octets: room for WINDOW large frames.

IP = (socket.inet_aton("192.0.2.1"), socket.inet_aton("192.0.2.2"))
PORT = (10000, 20000)               # Plus the flow's number.


def ip_checksum(header):
    total = sum(struct.unpack("!%dH" % (len(header) // 2), header))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def mac_address(sock):
    """Returns the address of the host behind the device of 'sock', always the
    same one, so that a switch that learns addresses is not led astray."""
    ifindex = socket.if_nametoindex(sock.getsockname()[0]) if sock else 0
    return b"\x02\0" + struct.pack("!I", ifindex)


class Direction:
    """The frames from the device of 'tx' to the device of 'rx', two packet
    sockets, in the direction with index 'way' (0 or 1)."""

    def __init__(self, way, tx, rx, args):
        self.way = way
        self.tx = tx
        self.rx = rx
        self.count = args.count
        self.flows = range(args.first_flow, args.first_flow + args.flows)
        self.size = args.size
        self.sent = self.received = 0
        self.reordered = self.doubled = self.damaged = 0
        self.tx_seq = {flow: 0 for flow in self.flows}
        self.highest = {flow: -1 for flow in self.flows}
        self.seen = set()
        self.filler = bytes(i & 0xff for i in range(self.size))
        self.macs = (mac_address(tx), mac_address(rx))
        self.headers = {flow: self.make_headers(flow) for flow in self.flows}

    def make_headers(self, flow):
        src, dst = self.way, 1 - self.way
        ip_len = self.size - 14
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, ip_len, 0, 0, 64,
                         socket.IPPROTO_UDP, 0, IP[src], IP[dst])
        ip = ip[:10] + struct.pack("!H", ip_checksum(ip)) + ip[12:]
        return (self.macs[1] + self.macs[0] + struct.pack("!H", ETH_P_IP) + ip
                + struct.pack("!HHHH", PORT[src] + flow, PORT[dst] + flow,
                              ip_len - 20, 0))

    def make_frame(self, flow, seq):
        head = (self.headers[flow]
                + TAG.pack(MAGIC, self.way, flow, seq))
        return head + self.filler[len(head):]

    def is_starting(self):
        """Returns true until the first frame of each flow has arrived."""
        return self.received < min(len(self.flows), self.count)

    def send(self, window):
        """Sends frames until 'window' of them are under way.  Returns true if
        one was sent."""
        progress = False
        while (self.sent < self.count
               and self.sent - self.received < window):
            flow = self.flows[self.sent % len(self.flows)]
            try:
                self.tx.send(self.make_frame(flow, self.tx_seq[flow]))
            except BlockingIOError:
                break
            self.tx_seq[flow] += 1
            self.sent += 1
            progress = True
        return progress

    def receive(self):
        """Takes all the frames that are there.  Returns true if one was this
        direction's."""
        progress = False
        while True:
            try:
                frame, address = self.rx.recvfrom(65536)
            except BlockingIOError:
                return progress
            if (address[2] == socket.PACKET_OUTGOING
                    or len(frame) < MIN_SIZE):
                continue
            magic, way, flow, seq = TAG.unpack_from(frame, HEADERS_LEN)
            if magic != MAGIC or way != self.way or flow not in self.highest:
                continue
            progress = True
            if frame != self.make_frame(flow, seq):
                self.damaged += 1
            elif (flow, seq) in self.seen:
                self.doubled += 1
            else:
                self.seen.add((flow, seq))
                self.received += 1
                if seq < self.highest[flow]:
                    self.reordered += 1
                else:
                    self.highest[flow] = seq

    def is_done(self):
        return self.sent == self.count and self.received == self.count


def packet_socket(device):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW,
                         socket.htons(ETH_P_IP))
    # 33 is SO_RCVBUFFORCE.
    sock.setsockopt(socket.SOL_SOCKET, 33, RCVBUF)
    sock.bind((device, ETH_P_IP))
    sock.setblocking(False)
    return sock


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--count", type=int, default=1000,
                        help="frames to send in each direction")
    parser.add_argument("-s", "--size", type=int, default=100,
                        help="octets per frame, without FCS")
    parser.add_argument("-f", "--flows", type=int, default=1,
                        help="flows to spread the frames over, in turn")
    parser.add_argument("-F", "--first-flow", type=int, default=0,
                        help="number of the first flow")
    parser.add_argument("-b", "--both", action="store_true",
                        help="send the flows' replies at the same time")
    parser.add_argument("-t", "--timeout", type=float, default=5.0,
                        help="seconds without a frame that end the run")
    parser.add_argument("tx", help="device to send on")
    parser.add_argument("rx", nargs="?",
                        help="device to receive on; without it, nothing is "
                        "awaited")
    args = parser.parse_args()
    if not MIN_SIZE <= args.size <= 65535:
        parser.error("size must be from %d to 65535" % MIN_SIZE)

    tx = packet_socket(args.tx)
    if not args.rx:
        direction = Direction(0, tx, None, args)
        while direction.sent < args.count:
            select.select([], [tx], [])
            direction.received = direction.sent
            direction.send(WINDOW)
        print("sent %d" % direction.sent)
        return 0

    rx = packet_socket(args.rx)
    directions = [Direction(0, tx, rx, args)]
    if args.both:
        directions.append(Direction(1, rx, tx, args))

    deadline = time.monotonic() + args.timeout
    while not all(d.is_done() for d in directions):
        # Open vSwitch drops a frame that is the first to need an upcall in one
        # PMD thread while another thread is in the same situation (coverage
        # counter datapath_drop_lock_error), so begin with one at a time.
        starting = [d for d in directions if d.is_starting()]
        if starting:
            progress = starting[0].send(1)
        else:
            progress = any([d.send(WINDOW) for d in directions])
        if any([d.receive() for d in directions]) or progress:
            deadline = time.monotonic() + args.timeout
        elif time.monotonic() > deadline:
            break
        else:
            select.select([d.rx for d in directions], [], [], 0.1)

    for d in directions:
        print("sent %d, received %d, reordered %d, doubled %d, damaged %d"
              % (d.sent, d.received, d.reordered, d.doubled, d.damaged))
    return 0 if all(d.is_done() for d in directions) else 1


if __name__ == '__main__':
    sys.exit(main())
