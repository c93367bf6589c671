#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
#
# Copyright (c) 2026 The turbotap authors.

"""Sends TCP streams and UDP datagrams between two hosts, which are network
namespaces, in both directions, and says whether what arrived is what was sent,
octet by octet.

Below the IP stack of each receiver it looks at every frame: a checksum that is
complete must be right, and one that the receiver's kernel is told to be
incomplete must be the sum of the pseudo header, from which it can be
completed.  It must not know what is between the hosts.
"""

import argparse
import ctypes
import os
import random
import select
import socket
import struct
import sys

CLONE_NEWNET = 0x40000000
ETH_P_ALL = 3
SO_RCVBUFFORCE = 33
SOL_PACKET = 263
PACKET_VNET_HDR = 15
VNET_HDR = struct.Struct("=BBHHHH")
VNET_HDR_F_NEEDS_CSUM = 1

PREFIXES = {"4": ("10.1.1.",), "6": ("fc00::",), "both": ("10.1.1.", "fc00::")}
UDP_SIZES = (0, 1, 2, 13, 512, 1024, 1200)      # Of payload, in octets.
UDP_SEGMENT, UDP_GRO = 103, 104         # Socket options of linux/udp.h.
UDP_BURST_SIZE = 500                    # Of each datagram, in octets.
UDP_BURSTS = (1, 499, 501, 1000, 5000, 12345, 25000, 30000)
SMALL_WRITES = 200
PORT = 5001


def enter(pid):
    """Makes sockets opened from now on belong to the namespace of 'pid'."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/%s/ns/net" % pid, "rb") as netns:
        if libc.setns(netns.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


def ones_sum(data, total=0):
    """Returns the folded one's complement sum of 'data', plus 'total'."""
    if len(data) % 2:
        data += b"\0"
    total += sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return total


class Packet:
    """What is in an Ethernet frame: the 'header' of IPv4 or IPv6 and, unless
    it is a fragment, the 'payload', of protocol 'proto'."""

    def __init__(self, frame):
        ofs = 12
        while frame[ofs:ofs + 2] in (b"\x81\0", b"\x88\xa8"):
            ofs += 4
        ethertype = struct.unpack_from("!H", frame, ofs)[0]
        ip = frame[ofs + 2:]
        self.header = self.payload = b""
        self.proto = None
        self.ipv4 = ethertype == 0x0800
        if self.ipv4:
            hlen = (ip[0] & 15) * 4
            size = struct.unpack_from("!H", ip, 2)[0]
            if not struct.unpack_from("!H", ip, 6)[0] & 0x3fff:
                self.proto = ip[9]
            self.addresses = ip[12:20]
        elif ethertype == 0x86dd:
            hlen = 40
            size = 40 + struct.unpack_from("!H", ip, 4)[0]
            self.proto = ip[6]
            self.addresses = ip[8:40]
        else:
            return
        self.header = ip[:hlen]
        self.payload = ip[hlen:size]

    def is_stream(self):
        """Returns whether this is TCP or UDP."""
        return self.proto in (socket.IPPROTO_TCP, socket.IPPROTO_UDP)

    def data_size(self):
        """Returns how much TCP or UDP payload there is, in octets."""
        return len(self.payload) - ((self.payload[12] >> 4) * 4
                                    if self.proto == socket.IPPROTO_TCP else 8)

    def checksums_are_good(self, partial):
        """Returns whether the checksums are right, of which the one of TCP or
        UDP may be 'partial'.  What has none is good."""
        if self.ipv4 and ones_sum(self.header) != 0xffff:
            return False
        if not self.is_stream():
            return True
        pseudo = ones_sum(self.addresses, self.proto + len(self.payload))
        at = 16 if self.proto == socket.IPPROTO_TCP else 6
        checksum = struct.unpack_from("!H", self.payload, at)[0]
        if partial:
            return checksum % 0xffff == pseudo % 0xffff
        if not checksum and self.proto == socket.IPPROTO_UDP:
            return self.ipv4
        return ones_sum(self.payload, pseudo) == 0xffff


class Sniffer:
    """Looks at all that host 'pid' receives from 'device'."""

    def __init__(self, pid, device):
        enter(pid)
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW,
                                  socket.htons(ETH_P_ALL))
        self.sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 256 << 20)
        self.sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self.sock.bind((device, ETH_P_ALL))
        self.sock.setblocking(False)
        self.packets = self.partial = self.bad = 0
        self.longest = self.segment = 0

    def run(self):
        while True:
            try:
                data, address = self.sock.recvfrom(70000)
            except BlockingIOError:
                return
            if address[2] == socket.PACKET_OUTGOING:
                continue
            flags, _, _, gso_size, _, _ = VNET_HDR.unpack_from(data)
            frame = data[VNET_HDR.size:]
            partial = bool(flags & VNET_HDR_F_NEEDS_CSUM)
            packet = Packet(frame)
            if packet.is_stream():
                self.packets += (-(-packet.data_size() // gso_size)
                                 if gso_size else 1)
            if packet.proto == socket.IPPROTO_TCP:
                self.segment = max(self.segment,
                                   gso_size or packet.data_size())
            self.partial += partial
            self.longest = max(self.longest, len(frame))
            self.bad += not packet.checksums_are_good(partial)


def open_socket(end, kind, port=0):
    """Returns a socket at 'end', a pair of host and address."""
    pid, address = end
    enter(pid)
    sock = socket.socket(socket.AF_INET6 if ":" in address
                         else socket.AF_INET, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    sock.setblocking(False)
    return sock


class Transfer:
    """What all transfers need: time, and sniffers that keep up."""

    def __init__(self, args, sniffers):
        self.timeout = args.timeout
        self.sniffers = sniffers

    def wait(self, readers, writers=()):
        """Waits until one of the sockets is ready.  Returns false when
        nothing has moved for too long."""
        for sniffer in self.sniffers:
            sniffer.run()
        return any(select.select(readers, writers, [], self.timeout)[:2])

    def wait_until(self, condition):
        """Waits until the function 'condition' returns true, which depends on
        what the sniffers see.  Returns false when they saw nothing for too
        long."""
        while True:
            for sniffer in self.sniffers:
                sniffer.run()
            if condition():
                return True
            if not select.select([s.sock for s in self.sniffers], [], [],
                                 self.timeout)[0]:
                return False

    def tcp(self, client_end, server_end, target, chunks, backward):
        """Returns whether 'chunks', each one write, arrive at the server,
        which the client knows under the address 'target', or at the client
        if 'backward'."""
        server = open_socket(server_end, socket.SOCK_STREAM, PORT)
        server.listen()
        client = open_socket(client_end, socket.SOCK_STREAM)
        client.connect_ex((target, PORT))
        if not self.wait([server]):
            return False
        conn = server.accept()[0]
        conn.setblocking(False)
        sender, receiver = (conn, client) if backward else (client, conn)
        sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        expected = b"".join(chunks)
        received = bytearray()
        pending = list(reversed(chunks))
        while len(received) < len(expected):
            if not self.wait([receiver], [sender] if pending else []):
                return False
            if pending:
                try:
                    n = sender.send(pending[-1])
                    rest = pending.pop()[n:]
                    if rest:
                        pending.append(rest)
                except BlockingIOError:
                    pass
            try:
                received += receiver.recv(1 << 20)
            except BlockingIOError:
                pass
        for sock in (client, conn, server):
            sock.close()
        return received == expected

    def udp(self, client_end, server_end, target, datagrams, _):
        """Returns whether 'datagrams' come back from an echo server, which
        the client knows under the address 'target'."""
        server = open_socket(server_end, socket.SOCK_DGRAM, PORT)
        client = open_socket(client_end, socket.SOCK_DGRAM)
        client.connect((target, PORT))
        for data in datagrams:
            client.send(data)
            if not self.wait([server]):
                return False
            got, peer = server.recvfrom(65536)
            server.sendto(got, peer)
            if not self.wait([client]):
                return False
            if got != data or client.recv(65536) != data:
                return False
        client.close()
        server.close()
        return True

    def udp_burst(self, client_end, server_end, target, bursts, backward):
        """Returns whether each of 'bursts' arrives at the server, which the
        client knows under the address 'target', or at the client if
        'backward', in datagrams of UDP_BURST_SIZE octets that the sender's
        kernel may take as one.  Every other burst is for a socket that takes
        several datagrams at once."""
        server = open_socket(server_end, socket.SOCK_DGRAM, PORT)
        client = open_socket(client_end, socket.SOCK_DGRAM)
        client.connect((target, PORT))
        client.send(b"")
        if not self.wait([server]):
            return False
        server.connect(server.recvfrom(1)[1])

        sender, receiver = (server, client) if backward else (client, server)
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, UDP_BURST_SIZE)
        for i, burst in enumerate(bursts):
            receiver.setsockopt(socket.IPPROTO_UDP, UDP_GRO, i % 2)
            sender.send(burst)
            left = burst
            while left:
                if not self.wait([receiver]):
                    return False
                got, control, _, _ = receiver.recvmsg(65536, 64)
                size = min(len(left), UDP_BURST_SIZE)
                for level, kind, value in control:
                    if (level, kind) == (socket.IPPROTO_UDP, UDP_GRO):
                        if struct.unpack("=i", value)[0] != size:
                            return False
                        size = len(got)
                if len(got) != size or got != left[:size]:
                    return False
                left = left[size:]
        client.close()
        server.close()
        return True


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--bytes", type=int, default=2000000,
                        help="octets in each TCP stream")
    parser.add_argument("-i", "--ip", choices=PREFIXES, default="both",
                        help="IP version")
    parser.add_argument("-k", "--kind", default="",
                        help="only transfers whose name begins so")
    parser.add_argument("-t", "--timeout", type=float, default=10.0,
                        help="seconds without progress that end a transfer")
    parser.add_argument("-c", "--connect", metavar="ADDRESS",
                        help="only connect from A, and to this address; TCP "
                        "streams go in both directions nevertheless")
    parser.add_argument("-w", "--watch", metavar="HOST",
                        help="a third host, which must receive a copy of each "
                        "TCP and UDP packet that A and B receive")
    parser.add_argument("-l", "--longest", action="store_true",
                        help="print the longest frame of each direction")
    parser.add_argument("-s", "--segment", action="store_true",
                        help="print the longest TCP segment of each "
                        "direction, as it is once a longer frame has been cut "
                        "for a wire")
    for host in "AB":
        parser.add_argument("host" + host, metavar=host,
                            help="PID,DEVICE,NUMBER: a process in the "
                            "namespace, and the address 10.1.1.NUMBER or "
                            "fc00::NUMBER there")
    args = parser.parse_args()

    hosts = [arg.split(",") for arg in (args.hostA, args.hostB)]
    if args.watch:
        hosts.append(args.watch.split(","))
    sniffers = [Sniffer(pid, device) for pid, device, _ in hosts]
    transfer = Transfer(args, sniffers)
    rand = random.Random(1)
    kinds = (
        ("tcp small", transfer.tcp,
         [rand.randbytes(1 + i % 99) for i in range(SMALL_WRITES)]),
        ("tcp bulk", transfer.tcp, [rand.randbytes(args.bytes)]),
        ("udp", transfer.udp, [rand.randbytes(size) for size in UDP_SIZES]),
        ("burst", transfer.udp_burst,
         [rand.randbytes(size) for size in UDP_BURSTS]),
    )
    ok = True
    for prefix in PREFIXES[args.ip]:
        ends = [(pid, prefix + number) for pid, _, number in hosts[:2]]
        for sender, receiver in ((0, 1), (1, 0)):
            client, server = (0, 1) if args.connect else (sender, receiver)
            target = args.connect or ends[server][1]
            for name, function, data in kinds:
                if (name.startswith(args.kind)
                        and not function(ends[client], ends[server], target,
                                         data, client != sender)):
                    print("%s from %s to %s failed"
                          % (name, ends[client][1], target))
                    ok = False
    if args.watch and not transfer.wait_until(
            lambda: sniffers[2].packets == sniffers[0].packets
            + sniffers[1].packets):
        print("copies: %d of %d" % (sniffers[2].packets, sniffers[0].packets
                                    + sniffers[1].packets))
        ok = False
    for name, sniffer in zip(("a", "b", "copies"), sniffers):
        sniffer.run()
        print("%s: %d bad checksums" % (name, sniffer.bad)
              + (", longest %d, partial %s"
                 % (sniffer.longest, sniffer.partial > 0)
                 if args.longest else "")
              + (", segment %d" % sniffer.segment if args.segment else ""))
    print("ok" if ok else "failed")
    return 0 if ok else 1


if __name__ == '__main__':
    sys.exit(main())
