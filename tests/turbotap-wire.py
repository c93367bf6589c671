#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
#
# Copyright (c) 2026 The turbotap authors.

"""Is a bad wire between two devices of its network namespace: forwards what
comes in by one to the other one, except that some TCP segments are lost,
doubled, overtaken or damaged.

A damaged one, which always has a payload, has one bit of its TCP header or
payload flipped, so that its checksum is wrong.  What closes a connection is
not damaged: nobody may be there any more to see it.  The program ends when its
standard input does, and then prints what it did.
"""

import argparse
import random
import select
import socket
import struct
import sys

ETH_P_ALL = 3
SO_RCVBUFFORCE = 33

FATES = ("lost", "doubled", "overtaken", "damaged")
PROBABILITY = 0.01                  # Of each fate.
MAX_OVERTAKEN = 5                   # How many packets may overtake one.
IDLE_TIMEOUT = 0.005                # Seconds until it goes on, nevertheless.


def tcp_range(frame):
    """Returns where in 'frame' TCP begins and ends, or None if this is not
    TCP."""
    ethertype = struct.unpack_from("!H", frame, 12)[0]
    if ethertype == 0x0800 and frame[23] == socket.IPPROTO_TCP:
        return (14 + (frame[14] & 15) * 4,
                14 + struct.unpack_from("!H", frame, 16)[0])
    if ethertype == 0x86dd and frame[20] == socket.IPPROTO_TCP:
        return 54, 54 + struct.unpack_from("!H", frame, 18)[0]
    return None


def has_payload(frame, begin, end):
    """Returns whether the TCP segment from 'begin' to 'end' in 'frame' is
    longer than its header."""
    return end - begin > (frame[begin + 12] >> 4) * 4


class Direction:
    """What goes from the device of 'rx' to that of 'tx', two packet
    sockets."""

    def __init__(self, rx, tx, rand):
        self.rx = rx
        self.tx = tx
        self.rand = rand
        self.count = dict.fromkeys(FATES, 0)
        self.held = []              # Pairs of how many may overtake, a frame.

    def send(self, frame):
        self.tx.send(frame)
        self.held = [(n - 1, late) for n, late in self.held]
        while self.held and self.held[0][0] <= 0:
            self.tx.send(self.held.pop(0)[1])

    def release(self):
        """Sends what has not been overtaken."""
        for _, frame in self.held:
            self.tx.send(frame)
        self.held = []

    def forward(self, frame):
        tcp = tcp_range(frame)
        fate = int(self.rand.random() / PROBABILITY)
        if not tcp or fate >= len(FATES):
            self.send(frame)
            return
        fate = FATES[fate]
        if fate == "damaged" and not has_payload(frame, *tcp):
            self.send(frame)
            return
        self.count[fate] += 1
        if fate == "doubled":
            self.send(frame)
            self.send(frame)
        elif fate == "overtaken":
            self.held.append((self.rand.randint(1, MAX_OVERTAKEN), frame))
            self.held.sort(key=lambda late: late[0])
        elif fate == "damaged":
            damaged = bytearray(frame)
            damaged[self.rand.randrange(*tcp)] ^= 1 << self.rand.randrange(8)
            self.send(bytes(damaged))

    def receive(self):
        while True:
            try:
                frame, address = self.rx.recvfrom(65536)
            except BlockingIOError:
                return
            if address[2] != socket.PACKET_OUTGOING:
                self.forward(frame)


def packet_socket(device):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW,
                         socket.htons(ETH_P_ALL))
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    sock.bind((device, ETH_P_ALL))
    sock.setblocking(False)
    return sock


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("a", metavar="A", help="device at one end")
    parser.add_argument("b", metavar="B", help="device at the other end")
    args = parser.parse_args()

    rand = random.Random(1)
    a, b = packet_socket(args.a), packet_socket(args.b)
    directions = {"from a": Direction(a, b, rand),
                  "from b": Direction(b, a, rand)}
    while True:
        ready = select.select([sys.stdin, a, b], [], [], IDLE_TIMEOUT)[0]
        if sys.stdin in ready:
            break
        for direction in directions.values():
            direction.receive()
            if not ready:
                direction.release()
    for name, direction in directions.items():
        print(name + ": " + ", ".join("%s %d" % (fate, direction.count[fate])
                                      for fate in FATES))
    return 0


if __name__ == '__main__':
    sys.exit(main())
