#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A long link between two network namespaces: a TUN device in each, and this process, which carries the packets.

usage: relay.py SERVER MACHINE SERVER-ADDRESS MACHINE-ADDRESS RATE LOSS ROUND-TRIP

What the server sends leaves it at RATE Mbit/s, is lost with the probability LOSS, and arrives half a round trip (seconds) later; at most a
fifth of a second's packets wait, and what comes beyond is dropped. The other way nothing is shaped or lost. Says "ready" once it works."""

import ctypes
import fcntl
import heapq
import itertools
import os
import random
import select
import struct
import subprocess
import sys
import time

import host

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454ca, 1, 0x1000
CLONE_NEWNET = 0x40000000
QUEUE = 0.2             # seconds
MTU, HEADER = 1500, 14  # the header of a frame counts, as with tbf


def start(names, addresses, rate, loss, round_trip):
    command = [sys.executable, '-B', os.path.abspath(__file__), *names, *addresses, str(rate), str(loss), str(round_trip)]
    where = os.path.dirname(os.path.abspath(host.__file__))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, 'PYTHONPATH': where})
    if process.stdout.readline() != b'ready\n':
        process.kill()
        process.wait()
        raise host.HostError('no packets can be carried between the namespaces (/dev/net/tun)')
    return process


def open_tun(name, address):
    libc = ctypes.CDLL(None, use_errno=True)
    with open('/run/netns/' + name) as file:
        if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), 'setns')
    tun = os.open('/dev/net/tun', os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack('16sH22x', b'tun0', IFF_TUN | IFF_NO_PI))
    host.run(['ip', 'address', 'add', address + '/24', 'dev', 'tun0'])
    host.run(['ip', 'link', 'set', 'tun0', 'up', 'mtu', str(MTU)])
    return tun


class Carrier:
    def __init__(self, server, machine, rate, loss, round_trip):
        self.server, self.machine = server, machine
        self.byte, self.loss, self.delay = 8 / (rate * 1e6), loss, round_trip / 2
        self.free = 0.0         # when the link has sent what waits
        self.late = []          # (when, number, where to, packet)
        self.number = itertools.count()
        self.random = random.Random(1)

    def arrives(self, source, packet, now):
        if source == self.machine:
            self.put(now + self.delay, self.server, packet)
            return
        begin = max(self.free, now)
        if begin - now > QUEUE:
            return
        self.free = begin + (len(packet) + HEADER) * self.byte
        if self.random.random() >= self.loss:
            self.put(self.free + self.delay, self.machine, packet)

    def put(self, when, where, packet):
        heapq.heappush(self.late, (when, next(self.number), where, packet))

    def deliver(self):
        """How long nothing has to be done, in seconds; None: until something comes."""
        while self.late:
            rest = self.late[0][0] - time.monotonic()
            if rest > 0:
                return rest
            _, _, where, packet = heapq.heappop(self.late)
            os.write(where, packet)
        return None

    def work(self):
        while True:
            readable, _, _ = select.select([self.server, self.machine], [], [], self.deliver())
            for source in readable:
                self.arrives(source, os.read(source, 2 * MTU), time.monotonic())


def main():
    names, addresses = sys.argv[1:3], sys.argv[3:5]
    carrier = Carrier(*[open_tun(name, address) for name, address in zip(names, addresses)], *map(float, sys.argv[5:8]))
    print('ready', flush=True)
    carrier.work()


if __name__ == '__main__':
    main()
