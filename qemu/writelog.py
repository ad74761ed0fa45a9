# SPDX-License-Identifier: LGPL-2.1-or-later
"""The write log of a guest's disk (QEMU's blklogwrites, the format of dm-log-writes), and the disks that a power cut can leave.

    sector 0     u64 magic, u64 version (1), u64 entries, u32 sector size
    then         u64 sector, u64 sectors, u64 flags, u64 length of a mark; padded to a sector; the data behind it

A write is logged when it has ended, a flush when it has: what stands before a flush is on the disk, of what stands behind the last one any
part may be. A disk loses and keeps sectors, not whole writes.
"""

import os
import struct

MAGIC = 0x6a736677736872
SUPER, HEADER = struct.Struct('<QQQI'), struct.Struct('<QQQQ')
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8


class Write:
    """Some sectors, one behind the other, and where their data lies in the log."""
    __slots__ = ('sector', 'count', 'offset', 'flags')

    def __init__(self, sector, count, offset, flags=0):
        self.sector, self.count, self.offset, self.flags = sector, count, offset, flags

    def part(self, first, last):
        return Write(self.sector + first, last - first, self.offset + first * 512, self.flags)


class LogError(Exception):
    """Not a log of this format."""


class Follower:
    """Reads the entries of a log that may still grow."""

    def __init__(self, path):
        self.file = open(path, 'rb', buffering=0)
        self.next, self.seen, self.missing = 512, 0, 0

    def close(self):
        self.file.close()

    def new(self):
        """The entries since the last call: Write or FLUSH."""
        head = os.pread(self.file.fileno(), SUPER.size, 0)
        if len(head) < SUPER.size:
            return
        magic, version, count, size = SUPER.unpack(head)
        if not magic:
            return
        if (magic, version, size) != (MAGIC, 1, 512):
            raise LogError('no log of 512-byte sectors: magic %#x, version %d, sector size %d' % (magic, version, size))
        self.missing = count - self.seen
        while self.missing:
            fields = self._header(self.next)
            if not fields:
                return
            self.missing -= 1
            yield self._entry(*fields)

    def _header(self, at):
        """The fields of an entry, or None: it counts from when QEMU begins to write it."""
        header = os.pread(self.file.fileno(), 512, at)
        if len(header) < 512 or any(header[HEADER.size:]):
            return None
        sector, count, flags, length = HEADER.unpack_from(header)
        size = 0 if flags & DISCARD else count * 512
        whole = at + 512 + size <= os.fstat(self.file.fileno()).st_size
        return (sector, count, flags, length) if (count or flags) and flags < 8 and not length and whole else None

    def skip(self):
        """QEMU was killed while it logged an entry, which no guest was told of: go on at the next that follows. False: there is none."""
        end = os.fstat(self.file.fileno()).st_size
        for at in range(self.next + 512, end, 512):
            here, left = at, self.missing - 1
            while left and (fields := self._header(here)):
                here, left = here + 512 + (0 if fields[2] & DISCARD else fields[1] * 512), left - 1
            if not left and self.missing > 1:
                self.next, self.seen = at, self.seen + 1
                return True
        return False

    def _entry(self, sector, count, flags, _):
        offset = self.next + 512
        self.seen += 1
        self.next = offset + (0 if flags & DISCARD else count * 512)
        return FLUSH if flags & FLUSH and not count else Write(sector, count, offset, flags)


def epochs(path):
    """Lists of writes; between one and the next the disk was flushed. What the guest only discarded is left as it was."""
    current, result = [], []
    follower = Follower(path)
    while True:
        for entry in follower.new():
            if entry is FLUSH:
                result.append(current)
                current = []
            elif not entry.flags & DISCARD:
                current.append(entry)
        if not follower.missing or not follower.skip():
            break
    follower.close()
    return result + [current]


def survivors(pending, rng):
    """What a power cut leaves of the writes since the last flush, in order: some of them, and of some only a part. Returns them, and
    what was done, in words."""
    share = rng.choice((0, 0.2, 0.5, 0.8, 1))
    torn = rng.choice((0, 0.2))
    kept, dropped, cut = [], 0, 0
    for write in pending:
        if not write.flags & FUA and rng.random() >= share:
            dropped += 1
        elif write.count > 1 and rng.random() < torn:
            first, last = sorted(rng.sample(range(write.count + 1), 2))
            kept.append(write.part(first, last))
            cut += 1
        else:
            kept.append(write)
    return kept, '%d unflushed writes: %d dropped, %d torn' % (len(pending), dropped, cut)
