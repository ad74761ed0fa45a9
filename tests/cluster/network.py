# SPDX-License-Identifier: LGPL-2.1-or-later
"""A network of its own on one machine: one private network namespace in which a bridge lies, and one for each node, with a cable (a
pair of veth) to the bridge. Nothing of the machine's own network is touched, and all of it is gone with the process.

    node c1 ── eth0 ═══ c1 ┐
    node c2 ── eth0 ═══ c2 ├─ hub0 ── whoever looks on
    node e1 ── eth0 ═══ e1 ┘

What can be done to a cable: it is unplugged (both ends see it), the port of the bridge is shut (nobody sees it: packets are gone), two
or more nodes are kept from each other while all others reach them, and everything on it is held back for some time, in both directions
(a process of ours between cable and bridge: this needs no netem, which many kernels lack)."""

import array
import ctypes
import fcntl
import heapq
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

NET = '10.117.0'
HUB = NET + '.254'
ENTERED = 'BOOTMGR_TEST_NETWORK'
SHUT, FORWARDING = '0', '3'             # states of a port of a bridge
SIOCETHTOOL, ETHTOOL_STXCSUM = 0x8946, 0x17
ETH_P_ALL, PACKET_OUTGOING, PR_SET_PDEATHSIG = 3, 4, 1


class NoNetwork(Exception):
    pass


def end_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def own():
    return os.readlink('/proc/self/ns/net')


def enter():
    """Starts this very program again in a network of its own, and returns there. NoNetwork: that cannot be had."""
    if os.environ.get(ENTERED) not in (None, own()):
        ip('link', 'set', 'lo', 'up')
        ip('link', 'add', 'name', 'hub0', 'type', 'bridge')
        ip('link', 'set', 'hub0', 'address', '02:00:00:00:00:fe')  # else it is that of the lowest cable
        ip('address', 'add', HUB + '/24', 'dev', 'hub0')
        ip('link', 'set', 'hub0', 'up')
        return
    # With processes of their own, too: none outlives the first of them.
    words = ['unshare', '--net', '--pid', '--fork', '--kill-child', '--mount-proc'] + ([] if os.geteuid() == 0 else ['--map-root-user'])
    try:
        p = subprocess.run(words + ['ip', 'link', 'add', 'name', 'hub0', 'type', 'bridge'], capture_output=True, timeout=60)
    except OSError as e:
        raise NoNetwork(str(e)) from e
    if p.returncode != 0:
        raise NoNetwork(p.stderr.decode().strip())
    os.environ[ENTERED] = own()
    sys.exit(subprocess.run(words + [sys.executable] + sys.argv, preexec_fn=end_with_parent, check=False).returncode)


def ip(*words, program='ip'):
    p = subprocess.run([program, *map(str, words)], capture_output=True, timeout=60)
    if p.returncode != 0:
        raise OSError('%s %s: %s' % (program, ' '.join(map(str, words)), p.stderr.decode().strip()))


def bridge(*words):
    ip(*words, program='bridge')


def whole_packets(interface):
    """What leaves by it has its checksum: a veth would hand packets over without one, and who reads them raw sees them so."""
    off = array.array('B', struct.pack('II', ETHTOOL_STXCSUM, 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, SIOCETHTOOL, struct.pack('16sP8x', interface.encode(), off.buffer_info()[0]))


class Cable:
    """A node's namespace, and the cable to the bridge."""

    def __init__(self, name, number):
        self.name, self.address = name, '%s.%d' % (NET, number)
        self.holder = subprocess.Popen(['unshare', '--net', 'cat'], stdin=subprocess.PIPE, start_new_session=True)  # ends with us
        self.namespace = '/proc/%d/ns/net' % self.holder.pid
        self.slow, self.lock = None, threading.Lock()
        end = time.monotonic() + 30
        while os.readlink(self.namespace) == own():
            if self.holder.poll() is not None or time.monotonic() > end:
                raise OSError('no network namespace for ' + name)
            time.sleep(0.01)
        ip('link', 'add', 'name', name, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', self.holder.pid)
        for words in (('link', 'set', 'lo', 'up'), ('address', 'add', self.address + '/24', 'dev', 'eth0'),
                      ('link', 'set', 'eth0', 'gso_max_segs', '1'), ('link', 'set', 'eth0', 'up')):
            ip('--net=' + self.namespace, 'ip', *words, program='nsenter')
        ip('--net=' + self.namespace, sys.executable, os.path.abspath(__file__), 'eth0', program='nsenter')
        ip('link', 'set', name, 'master', 'hub0', 'arp', 'off', 'up')

    def inside(self, *words):
        return ['nsenter', '--net=' + self.namespace, *map(str, words)]

    def unplug(self):
        ip('link', 'set', self.name, 'down')

    def shut(self):
        bridge('link', 'set', 'dev', self.name, 'state', SHUT)

    def keep_from(self, others):
        """It and the others do not reach each other."""
        for cable in [self, *others]:
            bridge('link', 'set', 'dev', cable.name, 'isolated', 'on')

    def hold_back(self, seconds):
        if self.slow:
            return
        ip('link', 'set', self.name, 'nomaster')
        ip('link', 'add', 'name', 'slow-' + self.name, 'type', 'veth', 'peer', 'name', 'hub-' + self.name)
        for name in ('slow-', 'hub-'):
            ip('link', 'set', name + self.name, 'arp', 'off', 'up')
        ip('link', 'set', 'hub-' + self.name, 'master', 'hub0')
        self.slow = subprocess.Popen([sys.executable, os.path.abspath(__file__), self.name, 'slow-' + self.name, str(seconds)],
                                     stdin=subprocess.DEVNULL, start_new_session=True)

    def repair(self):
        """As it was at first."""
        if self.slow:
            self.slow.kill()
            self.slow.wait()
            self.slow = None
            ip('link', 'del', 'slow-' + self.name)
            ip('link', 'set', self.name, 'master', 'hub0')
        ip('link', 'set', self.name, 'up')
        bridge('link', 'set', 'dev', self.name, 'isolated', 'off')
        end = time.monotonic() + 30
        while True:
            try:
                bridge('link', 'set', 'dev', self.name, 'state', FORWARDING)
                return
            except OSError:             # the kernel tells the bridge of a cable that is plugged in a moment later
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def end(self):
        if self.slow:
            self.repair()
        ip('link', 'del', self.name)    # the namespace goes with its last process, but when is the kernel's
        self.holder.stdin.close()
        self.holder.wait()


def hold_back(a, b, seconds):
    """The process between two interfaces: each packet goes on `seconds` after it came. Ends with who started it."""
    end_with_parent()
    ends = []
    for name in (a, b):
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        s.bind((name, 0))
        s.setblocking(False)
        ends.append(s)
    waiting, n = [], 0
    while True:
        timeout = max(0, waiting[0][0] - time.monotonic()) if waiting else None
        for s in select.select(ends, [], [], timeout)[0]:
            packet, source = s.recvfrom(65536)
            if source[2] != PACKET_OUTGOING:
                n += 1
                heapq.heappush(waiting, (time.monotonic() + seconds, n, ends[s is ends[0]], packet))
        while waiting and waiting[0][0] <= time.monotonic():
            try:
                waiting[0][2].send(waiting[0][3])
            except OSError:
                pass                    # lost: the cable was unplugged, or the packet is longer than one
            heapq.heappop(waiting)


if __name__ == '__main__':
    if len(sys.argv) == 2:
        whole_packets(sys.argv[1])
    else:
        hold_back(sys.argv[1], sys.argv[2], float(sys.argv[3]))
