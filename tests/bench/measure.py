# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every figure of an install is taken with: loop devices, a way to start a tool, and its time and bytes."""

import collections
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import host

MIB = 1 << 20
BLOCK = 4096
PACKAGES = {'swupdate': 'swupdate', 'rauc': 'rauc', 'bmaptool': 'bmap-tools', 'mksquashfs': 'squashfs-tools', 'zstd': 'zstd',
            'cpio': 'cpio', 'mkfs.ext4': 'e2fsprogs', 'dbus-daemon': 'dbus-daemon', 'openssl': 'openssl', 'casync': 'casync',
            'zck': 'zchunk', 'mkfs.erofs': 'erofs-utils', 'mmdebstrap': 'mmdebstrap', 'tc': 'iproute2'}
ENV = {**os.environ, 'LC_ALL': 'C.UTF-8', 'E2FSPROGS_FAKE_TIME': '1700000000'}
WORKQUEUES = '/sys/devices/virtual/workqueue/cpumask'

Usage = collections.namedtuple('Usage', 'peak_kib read written')


def run(*command, **options):
    p = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=ENV, **options)
    if p.returncode:
        sys.exit('%s: exit status %d\n%s' % (' '.join(command), p.returncode, p.stdout.decode(errors='replace')[-2000:]))
    return p.stdout.decode(errors='replace')


def need_tools(packages=None):
    """packages: by the name of the tool; all."""
    missing = sorted({package for tool, package in (packages or PACKAGES).items() if not shutil.which(tool)})
    if missing:
        print('installing:', *missing, flush=True)
        run('apt-get', 'install', '-y', '--no-install-recommends', *missing, stdin=subprocess.DEVNULL)


def launcher(report):
    return [os.path.join(host.BUILD, 'bench', 'launch'), report]


def usage_of(report):
    with open(report) as file:
        return Usage(**json.load(file))


def launched(*command, env=ENV):
    """What the command took."""
    with tempfile.NamedTemporaryFile() as report, tempfile.TemporaryFile() as output:  # no pipe: a daemon left behind would hold it open
        status = subprocess.run([*launcher(report.name), *command], stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                env=env).returncode
        if status:
            output.seek(0)
            sys.exit('%s: exit status %d\n%s' % (' '.join(command), status, output.read().decode(errors='replace')[-2000:]))
        return usage_of(report.name)


def pin(cpus, stack):
    """To the first processors only, the kernel's threads behind the loop devices too; whether they are is returned."""
    chosen = sorted(os.sched_getaffinity(0))[:cpus]
    os.sched_setaffinity(0, chosen)
    try:
        with open(WORKQUEUES) as file:
            before = file.read()
        write_text(WORKQUEUES, '%x' % sum(1 << cpu for cpu in chosen))
    except OSError as error:
        return str(error)
    stack.callback(write_text, WORKQUEUES, before)
    return ''


def write_text(path, text):
    with open(path, 'w') as file:
        file.write(text)


def drop_caches():
    os.sync()
    write_text('/proc/sys/vm/drop_caches', '3')


class Loop:
    def __init__(self, path, size):
        self.path = path
        with open(path, 'ab') as file:
            file.truncate(size)
        self.device = run('losetup', '-f', '--show', path).strip()

    def allocate(self):
        """As a disk is: a write finds its place."""
        with open(self.path, 'r+b') as file:
            os.posix_fallocate(file.fileno(), 0, os.path.getsize(self.path))

    def clear(self):
        run('fallocate', '--punch-hole', '--offset', '0', '--length', str(os.path.getsize(self.path)), self.path)
        run('blockdev', '--flushbufs', self.device)
        self.allocate()

    def wipe(self):
        """No image is there, nor a part of one; unlike clear() it leaves the blocks where they are."""
        count = os.path.getsize(self.path) // MIB
        run('dd', 'if=/dev/zero', 'of=' + self.device, 'bs=1M', 'count=%d' % count, 'conv=fsync', 'status=none')

    def fill(self, image):
        run('dd', 'if=' + image, 'of=' + self.device, 'bs=1M', 'conv=fsync', 'status=none')

    def holds(self, image):
        with open(self.device, 'rb') as a, open(image, 'rb') as b:
            return all(block == a.read(len(block)) for block in iter(lambda: b.read(MIB), b''))

    def close(self):
        run('losetup', '-d', self.device)


class Measure:
    """The runs of one way."""

    HEAD = '%-37s %8s  %8s %8s %9s %8s %8s %8s' % ('', 'median', 'fastest', 'slowest', 'peak', 'read', 'written', 'fetched')

    def __init__(self):
        self.seconds, self.peaks, self.read, self.written, self.fetched = [], [], [], [], []

    def add(self, loop, call, fetched):
        """call() returns its Usage; fetched() the bytes of the new version that came from somewhere else than the machine."""
        loop.allocate()
        drop_caches()
        start = time.monotonic()
        usage = call()
        self.seconds.append(time.monotonic() - start)
        self.peaks.append(usage.peak_kib / 1024)
        self.read.append(usage.read)
        self.written.append(usage.written)
        self.fetched.append(fetched())

    def median(self):
        return statistics.median(self.seconds)

    def peak(self):
        return max(self.peaks)

    def row(self, name):
        return '%-37s %6.2f s  %6.2f s %6.2f s %5.1f MiB %s' % (
            name, self.median(), min(self.seconds), max(self.seconds), self.peak(),
            ' '.join('%8.1f' % (statistics.median(n) / MIB) for n in (self.read, self.written, self.fetched)))


def differing_bytes(have, want):
    """In blocks; what `have` (None: zeros) is shorter by counts as zeros."""
    different, zeros = 0, bytes(MIB)
    with open(have or '/dev/zero', 'rb') as x, open(want, 'rb') as y:
        while q := y.read(MIB):
            p = (x.read(len(q)) + zeros)[:len(q)]
            if p != q:
                different += sum(BLOCK for i in range(0, len(q), BLOCK) if p[i:i + BLOCK] != q[i:i + BLOCK])
    return different
