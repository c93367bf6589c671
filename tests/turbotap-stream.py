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
PACKET_AUXDATA = 8
TP_STATUS_CSUMNOTREADY = 8
AUXDATA = struct.Struct("=IIIHHHH")

PREFIXES = {"4": ("10.1.1.",), "6": ("fc00::",), "both": ("10.1.1.", "fc00::")}
UDP_SIZES = (0, 1, 2, 13, 512, 1024, 1200)      # Of payload, in octets.
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


def checksums_are_good(frame, partial):
    """Returns whether the checksums of an Ethernet 'frame' are right, of which
    the transport checksum may be 'partial'.  What has none is good."""
    ofs = 12
    while frame[ofs:ofs + 2] in (b"\x81\0", b"\x88\xa8"):
        ofs += 4
    ethertype = struct.unpack_from("!H", frame, ofs)[0]
    ip = frame[ofs + 2:]
    if ethertype == 0x0800:
        hlen = (ip[0] & 15) * 4
        ip = ip[:struct.unpack_from("!H", ip, 2)[0]]
        if ones_sum(ip[:hlen]) != 0xffff:
            return False
        if struct.unpack_from("!H", ip, 6)[0] & 0x3fff:
            return True
        proto, addresses = ip[9], ip[12:20]
    elif ethertype == 0x86dd:
        hlen, proto, addresses = 40, ip[6], ip[8:40]
        ip = ip[:40 + struct.unpack_from("!H", ip, 4)[0]]
    else:
        return True
    payload = ip[hlen:]
    if proto not in (socket.IPPROTO_TCP, socket.IPPROTO_UDP):
        return True
    pseudo = ones_sum(addresses, proto + len(payload))
    at = 16 if proto == socket.IPPROTO_TCP else 6
    checksum = struct.unpack_from("!H", payload, at)[0]
    if partial:
        return checksum % 0xffff == pseudo % 0xffff
    if not checksum and proto == socket.IPPROTO_UDP:
        return ethertype == 0x0800
    return ones_sum(payload, pseudo) == 0xffff


class Sniffer:
    """Looks at all that host 'pid' receives from 'device'."""

    def __init__(self, pid, device):
        enter(pid)
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW,
                                  socket.htons(ETH_P_ALL))
        self.sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 256 << 20)
        self.sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self.sock.bind((device, ETH_P_ALL))
        self.sock.setblocking(False)
        self.frames = self.partial = self.bad = self.longest = 0

    def run(self):
        while True:
            try:
                frame, control, _, address = self.sock.recvmsg(
                    70000, socket.CMSG_SPACE(AUXDATA.size))
            except BlockingIOError:
                return
            if address[2] == socket.PACKET_OUTGOING:
                continue
            status = AUXDATA.unpack(control[0][2])[0] if control else 0
            partial = bool(status & TP_STATUS_CSUMNOTREADY)
            self.frames += 1
            self.partial += partial
            self.longest = max(self.longest, len(frame))
            self.bad += not checksums_are_good(frame, partial)


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

    def tcp(self, client_end, server_end, target, chunks):
        """Returns whether 'chunks', each one write, arrive at the server,
        which the client knows under the address 'target'."""
        server = open_socket(server_end, socket.SOCK_STREAM, PORT)
        server.listen()
        client = open_socket(client_end, socket.SOCK_STREAM)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.connect_ex((target, PORT))
        if not self.wait([server]):
            return False
        conn = server.accept()[0]
        conn.setblocking(False)

        expected = b"".join(chunks)
        received = bytearray()
        pending = list(reversed(chunks))
        while len(received) < len(expected):
            if not self.wait([conn], [client] if pending else []):
                return False
            if pending:
                try:
                    n = client.send(pending[-1])
                    rest = pending.pop()[n:]
                    if rest:
                        pending.append(rest)
                except BlockingIOError:
                    pass
            try:
                received += conn.recv(1 << 20)
            except BlockingIOError:
                pass
        for sock in (client, conn, server):
            sock.close()
        return received == expected

    def udp(self, client_end, server_end, target, datagrams):
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


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--bytes", type=int, default=2000000,
                        help="octets in each TCP stream")
    parser.add_argument("-i", "--ip", choices=PREFIXES, default="both",
                        help="IP version")
    parser.add_argument("-k", "--kind", default="",
                        help="only transfers whose name begins so")
    parser.add_argument("-t", "--timeout", type=float, default=5.0,
                        help="seconds without progress that end a transfer")
    parser.add_argument("-c", "--connect", metavar="ADDRESS",
                        help="only connect from A, and to this address")
    parser.add_argument("-l", "--longest", action="store_true",
                        help="print the longest frame of each direction")
    for host in "AB":
        parser.add_argument("host" + host, metavar=host,
                            help="PID,DEVICE,NUMBER: a process in the "
                            "namespace, and the address 10.1.1.NUMBER or "
                            "fc00::NUMBER there")
    args = parser.parse_args()

    hosts = [arg.split(",") for arg in (args.hostA, args.hostB)]
    sniffers = [Sniffer(pid, device) for pid, device, _ in hosts]
    transfer = Transfer(args, sniffers)
    rand = random.Random(1)
    kinds = (
        ("tcp small", transfer.tcp,
         [rand.randbytes(1 + i % 99) for i in range(SMALL_WRITES)]),
        ("tcp bulk", transfer.tcp, [rand.randbytes(args.bytes)]),
        ("udp", transfer.udp, [rand.randbytes(size) for size in UDP_SIZES]),
    )
    ok = True
    for prefix in PREFIXES[args.ip]:
        ends = [(pid, prefix + number) for pid, _, number in hosts]
        for client, server in ((0, 1), (1, 0)):
            if args.connect and client:
                continue
            target = args.connect or ends[server][1]
            for name, function, data in kinds:
                if (name.startswith(args.kind)
                        and not function(ends[client], ends[server], target,
                                         data)):
                    print("%s from %s to %s failed"
                          % (name, ends[client][1], target))
                    ok = False
    for name, sniffer in zip("ab", sniffers):
        sniffer.run()
        print("%s: %d bad checksums" % (name, sniffer.bad)
              + (", longest %d, partial %s"
                 % (sniffer.longest, sniffer.partial > 0)
                 if args.longest else ""))
    print("ok" if ok else "failed")
    return 0 if ok else 1


if __name__ == '__main__':
    sys.exit(main())
