# SPDX-License-Identifier: Apache-2.0
#
# Copyright (c) 2026 The turbotap authors.

"""Does to a tap device what any process may that can attach a queue to it.

turbotap-attach.py [--uid UID] [--hdr N] [--offload N] [--sndbuf N]
                   [--unpersist] [--hold] DEVICE

Attaches a queue to DEVICE, in the network namespace that it runs in, as user
UID without capabilities if that is given; sets the size of the virtio-net
header, the offloads and the send buffer of the device, and takes its
persistence away; prints "attached"; and ends, or with --hold waits until it is
killed.  What is refused is printed, with exit status 1.
"""

import argparse
import fcntl
import os
import signal
import struct
import sys

TUNSETIFF = 0x400454ca
TUNSETPERSIST = 0x400454cb
TUNSETOFFLOAD = 0x400454d0
TUNSETSNDBUF = 0x400454d4
TUNSETVNETHDRSZ = 0x400454d8

IFF_TAP = 0x0002
IFF_NO_PI = 0x1000
IFF_VNET_HDR = 0x4000
IFF_MULTI_QUEUE = 0x0100


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--uid", type=int)
    parser.add_argument("--hdr", type=int)
    parser.add_argument("--offload", type=int)
    parser.add_argument("--sndbuf", type=int)
    parser.add_argument("--unpersist", action="store_true")
    parser.add_argument("--hold", action="store_true")
    parser.add_argument("device")
    args = parser.parse_args()

    # Before privileges go: the file's mode is nothing to rely on.
    tun = os.open("/dev/net/tun", os.O_RDWR)
    if args.uid is not None:
        os.setgroups([])
        os.setgid(args.uid)
        os.setuid(args.uid)
    try:
        fcntl.ioctl(tun, TUNSETIFF,
                    struct.pack("16sH22x", args.device.encode(),
                                IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
                                | IFF_MULTI_QUEUE))
        if args.hdr is not None:
            fcntl.ioctl(tun, TUNSETVNETHDRSZ, struct.pack("i", args.hdr))
        if args.sndbuf is not None:
            fcntl.ioctl(tun, TUNSETSNDBUF, struct.pack("i", args.sndbuf))
        if args.offload is not None:
            fcntl.ioctl(tun, TUNSETOFFLOAD, args.offload)
        if args.unpersist:
            fcntl.ioctl(tun, TUNSETPERSIST, 0)
    except OSError as error:
        print(error.strerror)
        sys.exit(1)
    print("attached", flush=True)
    if args.hold:
        signal.pause()


if __name__ == "__main__":
    main()
