# SPDX-License-Identifier: LGPL-2.1-or-later
"""What lies on a disk, read without a line of bootmgr: partition table, state record, boot entries and what systemd-boot starts by
them, and the data partition. docs/formats.md says what is where."""

import functools
import re
import struct
import uuid
import zlib

import fat

STATE_TYPE = uuid.UUID('82bd29ac-0de7-4774-91b2-c365ccf4cb9a')
COPIES, COPY_SIZE = (0, 524288), 4096
ENTRY = re.compile(r'bootmgr-(\d+)-([a-h])(?:\+(\d)-(\d))?\.conf')
COUNTER = re.compile(r'\+(\d+)(?:-(\d+))?\.conf$')
STATES = ('empty', 'incomplete', 'installed', 'trial', 'confirmed', 'bad')
PHASES = ('none', 'switching', 'switched')


class ReadError(Exception):
    """The disk cannot be read; the text says what of it."""


# --- partition table ------------------------------------------------------------------------------------------------------------

class Partition:
    def __init__(self, kind, unique, offset, size, label):
        self.kind, self.unique, self.offset, self.size, self.label = kind, unique, offset, size, label


def partitions(read, size):
    """By label. The backup counts when the primary table is damaged: every entry of ours carries `gpt`."""
    for at in (512, size - 512):
        header = read(at, 92)
        if header[:8] != b'EFI PART' or zlib.crc32(header[:16] + bytes(4) + header[20:]) != struct.unpack_from('<I', header, 16)[0]:
            continue
        first, count, length, crc = struct.unpack_from('<QIII', header, 72)
        table = read(first * 512, count * length)
        if zlib.crc32(table) == crc:
            return {part.label: part for part in _parse_table(table, length)}
    raise ReadError('neither partition table is whole')


def _parse_table(table, length):
    for at in range(0, len(table), length):
        kind, unique, first, last = struct.unpack_from('<16s16sQQ', table, at)
        if any(kind):
            label = table[at + 56:at + 128].decode('utf-16-le', 'replace').split('\0')[0]
            yield Partition(uuid.UUID(bytes_le=kind), uuid.UUID(bytes_le=unique), first * 512, (last - first + 1) * 512, label)


# --- state record ---------------------------------------------------------------------------------------------------------------

def _crc_table():
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82f63b78 if value & 1 else 0)
        yield value


CRC = tuple(_crc_table())


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc = CRC[(crc ^ byte) & 0xff] ^ crc >> 8
    return crc ^ 0xffffffff


class Slot:
    def __init__(self, data):
        self.version = data[:64].split(b'\0')[0].decode('ascii', 'replace')
        self.security_version, self.generation = struct.unpack_from('<QQ', data, 64)
        self.digest, self.snapshot, self.kernel, self.initrd = data[80:112], data[112:144], data[144:160], data[160:176]
        self.state, self.reason, self.tries, self.attempts = STATES[data[192]], data[193], data[194], data[195]


class Record:
    def __init__(self, sequence, payload):
        self.sequence = sequence
        count, self.previous, phase, self.target, self.operation, self.operation_state = payload[:6]
        self.phase = PHASES[phase]
        self.generation, self.target_generation, self.floor = struct.unpack_from('<QQQ', payload, 16)
        self.slots = {chr(ord('a') + i): Slot(payload[128 + 208 * i:336 + 208 * i]) for i in range(count)}


@functools.lru_cache(256)
def _parse_copy(data):
    magic, major, _, length, sequence, _, crc = struct.unpack_from('<8sHHIQII', data)
    if magic != b'BOOTMGRS' or major != 1 or not 1792 <= length <= 4064 or crc32c(data[:28] + data[32:32 + length]) != crc:
        return None
    return Record(sequence, data[32:32 + length])


def record(read, partition):
    """The valid copy with the highest sequence, or None."""
    copies = [_parse_copy(bytes(read(partition.offset + at, COPY_SIZE))) for at in COPIES]
    return max((copy for copy in copies if copy), key=lambda copy: copy.sequence, default=None)


# --- boot entries, as systemd-boot reads them -------------------------------------------------------------------------------------

class Entry:
    """One file of loader/entries with a kernel that can be opened."""

    def __init__(self, name, text):
        self.name, self.keys = name, {}
        for line in text.splitlines():
            key, _, value = line.strip().partition(' ')
            if key and not key.startswith('#'):
                self.keys.setdefault(key, []).append(value.strip())
        counter = COUNTER.search(name)
        self.left = int(counter[1]) if counter else None
        self.confirmed = not counter or self.key('bootmgr-confirmed') == 'yes'
        ours = ENTRY.fullmatch(name)
        self.generation, self.slot = (int(ours[1]), ours[2]) if ours else (0, None)
        self.options = dict(word.partition('=')[::2] for word in ' '.join(self.keys.get('options', ())).split())

    def key(self, name):
        return self.keys.get(name, [''])[0]

    def order(self):
        """Exhausted last; then the sort key; then the highest version, which is a plain number in ours."""
        version = self.key('version')
        return (self.left == 0, not self.key('sort-key'), self.key('sort-key'), self.key('machine-id'),
                -int(version) if version.isdigit() else 0, self.name)


def entries(system):
    """In the order in which systemd-boot offers them; it starts the first. `system`: a fat.Fat."""
    result = []
    directory = system.find('loader/entries')
    if not directory:
        return []
    for name, file in system.listing(directory).items():
        if not name.endswith('.conf') or name.startswith('auto-') or file.directory:
            continue
        try:
            entry = Entry(name, system.content(file).decode('utf-8', 'replace'))
            kernel = system.find(entry.key('linux')) if entry.key('linux') else None
        except fat.FatError:
            continue
        if kernel and not kernel.directory:
            result.append(entry)
    return sorted(result, key=Entry.order)
