# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads a FAT16 or FAT32 file system as a firmware would: chains, directories, long names. Nothing is repaired, nothing written."""

import array
import struct

VOLUME, DIRECTORY, LONG = 0x08, 0x10, 0x0f
PART = struct.Struct('<B10sBBB12sH4s')


class FatError(Exception):
    """A firmware could not read that."""


class File:
    def __init__(self, name, directory, cluster, size):
        self.name, self.directory, self.cluster, self.size = name, directory, cluster, size


class Fat:
    """read(offset, size) gives the bytes of the partition."""

    def __init__(self, read):
        self.read = read
        boot = read(0, 512)
        if boot[510:] != b'\x55\xaa':
            raise FatError('no boot sector')
        sector, self.sectors, reserved, fats, self.root_entries, small = struct.unpack_from('<HBHBHH', boot, 11)
        fat16, large, fat32 = struct.unpack_from('<H', boot, 22)[0], *struct.unpack_from('<II', boot, 32)
        if sector != 512 or not self.sectors:
            raise FatError('sectors of %d bytes, clusters of %d sectors' % (sector, self.sectors))
        size = fat16 or fat32
        self.root_start = (reserved + fats * size) * 512
        self.data = self.root_start + self.root_entries * 32
        self.clusters = ((small or large) * 512 - self.data) // (self.sectors * 512)
        wide = self.clusters >= 65525
        self.root_cluster = struct.unpack_from('<I', boot, 44)[0] if wide else 0
        self.table = array.array('I' if wide else 'H')
        self.table.frombytes(read(reserved * 512, size * 512))
        self.end = 0x0ffffff8 if wide else 0xfff8

    def extents(self, cluster, size=None):
        """[(offset, bytes)] of a chain; with a size, of so many bytes, which the chain must have."""
        unit = self.sectors * 512
        wanted = None if size is None else -(-size // unit)
        result, count, table, end = [], 0, self.table, self.end
        start = previous = None
        while wanted is None or count < wanted:
            if not 2 <= cluster < self.clusters + 2:
                if wanted is None and cluster >= end and count:
                    break
                raise FatError('a chain goes to cluster %d' % cluster)
            if start is None or cluster != previous + 1:
                if start is not None:
                    result.append((start, previous))
                start = cluster
            previous = cluster
            count += 1
            if count > self.clusters:
                raise FatError('a chain without an end')
            cluster = table[cluster] & 0x0fffffff
        if start is not None:
            result.append((start, previous))
        return [(self.data + (first - 2) * unit, (last - first + 1) * unit) for first, last in result]

    def content(self, file):
        data = b''.join(self.read(*extent) for extent in self.extents(file.cluster, file.size)) if file.size else b''
        return data[:file.size]

    def listing(self, directory=None):
        """Every file of a directory: {name in lower case: File}. Without one, of the root directory."""
        if directory is None and not self.root_cluster:
            data = self.read(self.root_start, self.root_entries * 32)
        else:
            cluster = directory.cluster if directory else self.root_cluster
            data = b''.join(self.read(*extent) for extent in self.extents(cluster))
        return {file.name.lower(): file for file in self._entries(data)}

    def room(self, path):
        """How many slots behind the last one that was ever used."""
        data = b''.join(self.read(*extent) for extent in self.extents(self.find(path).cluster))
        return sum(not data[at] for at in range(0, len(data), 32))

    def _entries(self, data):
        parts = []
        for at in range(0, len(data), 32):
            entry = data[at:at + 32]
            if not entry[0]:
                return
            if entry[0] == 0xe5:
                parts = []
            elif entry[11] & 0x3f == LONG:
                parts.append(entry)
            else:
                if not entry[11] & VOLUME:
                    yield self._file(entry, parts)
                parts = []

    def _file(self, entry, parts):
        low, size = struct.unpack_from('<HI', entry, 26)
        high, = struct.unpack_from('<H', entry, 20)
        name = _long_name(parts, _checksum(entry[:11])) or _short_name(entry)
        return File(name, bool(entry[11] & DIRECTORY), (high << 16 | low) if self.root_cluster else low, size)

    def find(self, path):
        """The File, or None."""
        found = None
        for name in path.strip('/').split('/'):
            if found and not found.directory:
                return None
            found = self.listing(found).get(name.lower())
            if not found:
                return None
        return found


def _checksum(short):
    total = 0
    for byte in short:
        total = ((total & 1) << 7) + (total >> 1) + byte & 0xff
    return total


def _long_name(parts, checksum):
    """The name that the parts before a short entry make, or None when they are not whole or not its."""
    text = b''
    for number, part in enumerate(reversed(parts), 1):
        order, first, _, _, found, second, _, third = PART.unpack(part)
        last = number == len(parts)
        if found != checksum or order != (number | 0x40 if last else number):
            return None
        text += first + second + third
    name = text.decode('utf-16-le', 'replace')
    return name.split('\0')[0] or None


def _short_name(entry):
    base, suffix = (entry[a:b].decode('cp437').rstrip() for a, b in ((0, 8), (8, 11)))
    lower = entry[12]
    base, suffix = base.lower() if lower & 0x08 else base, suffix.lower() if lower & 0x10 else suffix
    return base + ('.' + suffix if suffix else '')
