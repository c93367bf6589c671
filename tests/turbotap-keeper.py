# SPDX-License-Identifier: Apache-2.0
#
# Copyright (c) 2026 The turbotap authors.

"""turbotap-keeper.py VERSION SOCKET

A keeper of another version, which takes over from the one at SOCKET as a
switch of version 1 would, and lets it end.

Of version 1, as it was landed first: it drops who says anything that is not
one of its messages, and knows four requests.  Of any other: it serves nobody,
but says so, and which version it is, until SIGUSR1 makes it one of version 1.

Prints "held NAME" for each device that it got, "ready", "removed NAME" for
each that it let go of, and "end" when its socket was replaced."""

import array
import errno
import os
import selectors
import signal
import socket
import struct
import sys

MSG = struct.Struct("=IIII64s128s")
MAGIC = 0x74746b31
PUT, GET, REMOVE, LIST, HELLO = range(1, 6)


def say(*words):
    print(*words, flush=True)


def send(sock, op, index=0, error=0, key=b"", data=b"", fds=()):
    socket.send_fds(sock, [MSG.pack(MAGIC, op, index, error, key, data)], fds)


def receive(sock):
    """Returns a message and its descriptors."""
    msg, fds, _, _ = socket.recv_fds(sock, 4096, 250)
    return msg, fds


def ask(sock, op, index=0, key=b""):
    """Returns error, key, data and descriptors of the answer."""
    send(sock, op, index, 0, key)
    msg, fds = receive(sock)
    _, _, _, error, key, data = MSG.unpack(msg)
    return error, key.rstrip(b"\0"), data, fds


def take_over(path):
    """Returns what the keeper at 'path' holds, by key."""
    entries = {}
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.connect(path)
    while True:
        error, key, _, _ = ask(sock, LIST, len(entries))
        if error == errno.ENOENT:
            break
        error, _, data, fds = ask(sock, GET, 0, key)
        # What a switch of version 1 insists on.
        n_rxq, n_txq, n_spares, owned = struct.unpack("=IIII", data[:16])
        assert not error and n_rxq and n_spares <= 4 and owned in (0, 1)
        assert n_rxq + n_txq + n_spares == len(fds)
        entries[key] = data, fds
        say("held", key.decode())
    for key in entries:
        assert not ask(sock, REMOVE, 0, key)[0]
    sock.close()
    return entries


def serve(client, entries, version):
    """Answers a request.  Returns False if 'client' is to be dropped."""
    msg, fds = receive(client)
    if len(msg) != MSG.size or struct.unpack_from("=I", msg)[0] != MAGIC:
        return False
    _, op, index, _, key, data = MSG.unpack(msg)
    key = key.rstrip(b"\0")
    if version != 1:
        send(client, op, 0, errno.EPROTONOSUPPORT, b"",
             struct.pack("=II", version, version))
    elif op == PUT:
        entries[key] = data, fds
        send(client, op, key=key)
    elif op == GET and key in entries:
        send(client, op, 0, 0, key, *entries[key])
    elif op == REMOVE and key in entries:
        for fd in entries.pop(key)[1]:
            os.close(fd)
        say("removed", key.decode())
        send(client, op, key=key)
    elif op == LIST and index < len(entries):
        send(client, op, index, 0, list(entries)[index])
    else:
        send(client, op, index, errno.ENOENT if op <= LIST
             else errno.EOPNOTSUPP, key)
    return True


def main():
    version, path = int(sys.argv[1]), sys.argv[2]
    entries = take_over(path)
    if os.path.exists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    os.chmod(path, 0o600)
    ours = os.stat(path).st_ino
    listener.listen(16)

    def become_first(*_):
        nonlocal version
        version = 1

    signal.signal(signal.SIGUSR1, become_first)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    say("ready")
    while os.path.exists(path) and os.stat(path).st_ino == ours:
        for key, _ in selector.select(.05):
            if key.fileobj is listener:
                selector.register(listener.accept()[0], selectors.EVENT_READ)
            elif not serve(key.fileobj, entries, version):
                selector.unregister(key.fileobj)
                key.fileobj.close()
    # It may still be asked for what it holds.
    for key in list(selector.get_map().values()):
        while key.fileobj is not listener:
            if not serve(key.fileobj, entries, version):
                break
    say("end")


if __name__ == "__main__":
    main()
