#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Holds the readers of qemu/ (write logs, FAT, record, entries) against files that others made.

    reader.py log               logs of the format of dm-log-writes, built here
    reader.py record IMAGE      what the state record of an image says, as one line
    reader.py order IMAGE       the entries on its ESP, the one that would be started first
    reader.py files IMAGE       every file of its ESP, as sha256sum says it
"""
import hashlib
import os
import random
import struct
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '../../qemu'))
import fat                                                      # noqa: E402
import reader                                                   # noqa: E402
import states                                                   # noqa: E402
import writelog                                                 # noqa: E402

FLUSH, DISCARD = writelog.FLUSH, writelog.DISCARD


def say(good, what):
    print(('ok: ' if good else 'NOT OK: ') + what)
    return good


# --- write logs -----------------------------------------------------------------------------------------------------------------

def make_log(directory, *entries):
    """(sector, data, flags), or a number of bytes that were never written."""
    body = b''
    for entry in entries:
        if isinstance(entry, int):
            body += bytes(entry)
            continue
        sector, data, flags = entry
        count = data if flags & DISCARD else len(data) // 512
        body += struct.pack('<QQQQ', sector, count, flags, 0).ljust(512, b'\0') + (b'' if flags & DISCARD else data)
    path = os.path.join(directory, 'log')
    with open(path, 'wb') as file:
        file.write(struct.pack('<QQQI', writelog.MAGIC, 1, len(entries), 512).ljust(512, b'\0') + body)
    return path


def shape(epochs):
    return [[(write.sector, write.count) for write in epoch] for epoch in epochs]


def sector(number, count=1):
    return bytes([number]) * 512 * count


def check_log():
    flush = (0, b'', FLUSH)
    first, second, third = (10, sector(1), 0), (11, sector(2, 3), 0), (10, sector(3), 0)
    good = True
    with tempfile.TemporaryDirectory() as d:
        log = make_log(d, first, flush, second, (5, 100, DISCARD), third)
        good &= say(shape(writelog.epochs(log)) == [[(10, 1)], [(11, 3), (10, 1)]], 'writes between flushes; a discard has no data')
        log = make_log(d, first, flush, 512 + 2048, second, flush, third)
        good &= say(shape(writelog.epochs(log)) == [[(10, 1)], [(11, 3)], [(10, 1)]], 'an entry that was never written is passed over')
        log = make_log(d, first, flush, 4096)
        good &= say(shape(writelog.epochs(log)) == [[(10, 1)], []], 'also at the end')
        log = make_log(d, first, second)
        os.truncate(log, os.stat(log).st_size - 512)
        good &= say(shape(writelog.epochs(log)) == [[(10, 1)]], 'an entry whose data is not whole does not count')
        return good & check_states(d, make_log(d, first, flush, second, third))


def check_states(directory, log):
    image = os.path.join(directory, 'disk')
    with open(image, 'wb') as file:
        file.truncate(1 << 20)
    disk, (durable, pending) = states.Disk(image, log), writelog.epochs(log)
    disk.advance(durable)
    good = True
    for kept, expected in ((pending, sector(3) + sector(2, 3)), (pending[:1], sector(1) + sector(2, 3)),
                           (pending[1:], sector(3) + bytes(1536)),
                           ([pending[0].part(1, 2)], sector(1) + bytes(512) + sector(2) + bytes(512))):
        state = states.State(disk, kept)
        good &= say(state.read(10 * 512, 2048) == expected, 'a disk with %s' % [(write.sector, write.count) for write in kept])
        state.save(os.path.join(directory, 'saved'))
        with open(os.path.join(directory, 'saved'), 'rb') as file:
            good &= say(file.read() == state.read(0, disk.size), 'and saved')
    marks = {states.State(disk, kept).mark(10 * 512, 2048) for kept in ([], pending, pending[:1], pending[1:])}
    good &= say(len(marks) == 4, 'what differs has other marks')
    good &= say(states.State(disk, pending).mark(0, 512) == states.State(disk).mark(0, 512), 'what does not has the same')
    selections = {tuple(shape([kept])[0]) for kept in states.sampled(pending, random.Random(1), 4)}
    good &= say(selections >= {((11, 3),), ((10, 1),)}, 'all of a few')
    disk.close()
    return good


# --- disks ----------------------------------------------------------------------------------------------------------------------

class Image:
    def __init__(self, path):
        self.file = open(path, 'rb')
        self.size = os.fstat(self.file.fileno()).st_size
        self.parts = reader.partitions(self.read, self.size)
        self.esp = fat.Fat(lambda at, size: self.read(self.parts['esp'].offset + at, size))

    def read(self, offset, size):
        return os.pread(self.file.fileno(), size, offset)


def show_record(path):
    image = Image(path)
    record = reader.record(image.read, image.parts['bootmgr-state'])
    print('none' if not record else '%d %s %s' % (record.generation, record.phase, ' '.join(
        '%s:%s:%s:%d:%s' % (name, slot.version, slot.state, slot.generation, slot.digest.hex()) for name, slot in record.slots.items())))


def show_files(esp, top=None, prefix=''):
    for name, file in sorted(esp.listing(top).items()):
        if file.directory and name not in ('.', '..'):
            show_files(esp, file, prefix + file.name + '/')
        elif not file.directory:
            print(hashlib.sha256(esp.content(file)).hexdigest(), prefix + file.name)


def main():
    verb, *words = sys.argv[1:]
    if verb == 'log':
        return 0 if check_log() else 1
    if verb == 'record':
        show_record(words[0])
    elif verb == 'order':
        order = reader.entries(Image(words[0]).esp)
        print(' '.join(entry.name for entry in order))
    elif verb == 'files':
        show_files(Image(words[0]).esp)
    return 0


sys.exit(main())
