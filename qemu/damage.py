# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether the judge of qemu/states.py sees what it is there for: each kind of damage, done to a whole disk, must be called by its name."""

import fat
import reader
import states


class Damaged(states.State):
    """A state with some bytes changed."""

    def __init__(self, state):
        super().__init__(state.disk, state.writes)
        self.patches = []

    def patch(self, offset, data):
        self.patches.append((offset, bytes(data)))

    def read(self, offset, size):
        data = bytearray(super().read(offset, size))
        for at, piece in self.patches:
            low, high = max(at, offset), min(at + len(piece), offset + size)
            if low < high:
                data[low - offset:high - offset] = piece[low - at:high - at]
        return bytes(data)

    def mark(self, offset, size):
        return super().mark(offset, size), tuple(patch for patch in self.patches if offset <= patch[0] < offset + size)


class Bench:
    """A disk, and where on it things lie."""

    def __init__(self, state):
        self.state = Damaged(state)
        self.parts = reader.partitions(state.read, state.disk.size)
        self.esp = self.parts['esp'].offset
        self.system = fat.Fat(lambda at, size: state.read(self.esp + at, size))
        self.order = reader.entries(self.system)

    def flip(self, offset):
        self.state.patch(offset, bytes([self.state.read(offset, 1)[0] ^ 0x10]))

    def flip_file(self, path):
        file = self.system.find(path)
        at, size = self.system.extents(file.cluster, file.size)[-1]
        self.flip(self.esp + at + min(size, file.size) // 2)

    def name_of(self, path):
        """Where the directory entry of a file lies: its first cluster and size stand in it."""
        file, directory = self.system.find(path), self.system.find(path.rpartition('/')[0])
        wanted = (file.cluster & 0xffff).to_bytes(2, 'little') + file.size.to_bytes(4, 'little')
        for at, size in self.system.extents(directory.cluster):
            data = self.state.read(self.esp + at, size)
            for entry in range(0, size, 32):
                if data[entry + 26:entry + 32] == wanted and data[entry] != 0xe5:       # a rename leaves its old one behind
                    return self.esp + at + entry
        raise ValueError('no directory entry of ' + path)

    def replace_all(self, part, old, new):
        data = self.state.read(part.offset, part.size)
        at = data.find(old)
        while at >= 0:
            self.state.patch(part.offset + at, new)
            at = data.find(old, at + 1)


def kernel(bench):
    bench.flip_file(bench.order[0].key('linux'))


def initrd(bench):
    bench.flip_file(bench.order[0].key('initrd'))


def root(bench):
    part = bench.parts['root-' + bench.order[0].slot]
    bench.flip(part.offset + part.size // 2)


def lost_entries(bench):
    for entry in bench.order:
        bench.state.patch(bench.name_of('loader/entries/' + entry.name), b'\xe5')


def no_fallback(bench):
    for entry in bench.order[1:]:
        bench.state.patch(bench.name_of('loader/entries/' + entry.name), b'\xe5')
    for path in ('linux', 'initrd'):
        bench.flip_file(bench.order[0].key(path))


def chain(bench):
    """The kernel's chain of clusters is cut off."""
    file = bench.system.find(bench.order[0].key('linux'))
    reserved = int.from_bytes(bench.state.read(bench.esp + 14, 2), 'little')
    bench.state.patch(bench.esp + reserved * 512 + 4 * (file.cluster + 3), bytes(4))


def record(bench):
    for at in reader.COPIES:
        bench.flip(bench.parts['bootmgr-state'].offset + at + 40)


def settings(bench):
    bench.replace_all(bench.parts['data'], b'format 1\ninterval', b'format 7\ninterval')
    bench.replace_all(bench.parts['data'], b'format 2\ninterval', b'format 7\ninterval')
    bench.replace_all(bench.parts['data'], b'format 3\ninterval', b'format 7\ninterval')


def snapshots(bench):
    """Of every sealed archive some bytes: the frame's magic is found wherever it lies."""
    bench.replace_all(bench.parts['data'], b'\x28\xb5\x2f\xfd', b'\x28\xb5\x2f\xfd' + b'\xff' * 12)


# What is done, and a part of what the judge must say.
ALL = ((kernel, 'is damaged'), (initrd, 'is damaged'), (root, 'is not that of version'), (lost_entries, 'there is no entry'),
       (no_fallback, 'there is no fallback'), (chain, 'a chain goes to'), (record, 'no copy of the record'),
       (settings, 'settings in format 7'), (snapshots, 'is not what was sealed'))


def unseen(state, judge):
    """The kinds of damage that are not told of. On a disk that is whole, with a version that runs and a sealed one to go back to."""
    entry, _, wrong = judge.verdict(state)
    if wrong:
        return ['the disk is not whole: %s' % wrong]
    result = []
    for damage, expected in ALL:
        bench = Bench(state)
        damage(bench)
        if not any(expected in text for text in judge.verdict(bench.state)[2]):
            result.append('%s: %s' % (damage.__name__, judge.verdict(bench.state)[2]))
    return result
