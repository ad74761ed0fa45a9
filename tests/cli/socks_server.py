#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A SOCKS5 proxy (RFC 1928) on 127.0.0.1 that has no way to where it is asked for, at first.

usage: socks_server.py PORT-FILE N

N requests are answered with "host unreachable"; the others are connected. IPv4 addresses only."""

import os
import socket
import sys
import threading

UNREACHABLE, SUCCEEDED = 4, 0
HEAD = 10               # of a request for an IPv4 address, and of its answer


def exactly(peer, n):
    data = b''
    while len(data) < n:
        part = peer.recv(n - len(data))
        if not part:
            raise ConnectionError
        data += part
    return data


def carry(source, to):
    try:
        while data := source.recv(1 << 16):
            to.sendall(data)
        to.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def serve(peer, refuse):
    with peer:
        exactly(peer, exactly(peer, 2)[1])
        peer.sendall(b'\5\0')
        request = exactly(peer, HEAD)
        address = socket.inet_ntoa(request[4:8]), int.from_bytes(request[8:10], 'big')
        if refuse:
            peer.sendall(bytes([5, UNREACHABLE, 0, 1]) + bytes(HEAD - 4))
            return
        with socket.create_connection(address) as server:
            peer.sendall(bytes([5, SUCCEEDED, 0, 1]) + bytes(HEAD - 4))
            threading.Thread(target=carry, args=(peer, server), daemon=True).start()
            carry(server, peer)


def main():
    left = int(sys.argv[2])
    with socket.create_server(('127.0.0.1', 0)) as listener:
        with open(sys.argv[1] + '.part', 'w') as file:
            file.write('%d\n' % listener.getsockname()[1])
        os.rename(sys.argv[1] + '.part', sys.argv[1])
        while True:
            peer, _ = listener.accept()
            threading.Thread(target=serve, args=(peer, left > 0), daemon=True).start()
            left -= 1


main()
