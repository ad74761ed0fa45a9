#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Changes the state record of an image behind the program's back (docs/formats.md, "State record").

    record.py new-boot IMAGE    no boot was counted yet: the boot id is the kernel's, so a new boot is played like this
    record.py lose IMAGE        no copy is readable
    record.py from-is-previous IMAGE    what a shutdown that is cut before it switches has said of the slot it was to leave
    record.py no-bundle IMAGE   no slot was installed from a bundle, as far as the record knows
"""
import os
import struct
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '../../qemu'))
from reader import crc32c                                       # noqa: E402

COPY, HEADER, SLOTS, SLOT_SIZE, LAST_BOOT, DIGEST = 4096, 32, 128, 208, 176, 80
PREVIOUS, FROM = 1, 8


def forget_boot(copy):
    clear(copy, LAST_BOOT, 16)


def forget_digest(copy):
    clear(copy, DIGEST, 32)


def previous_is_from(copy):
    copy[HEADER + PREVIOUS] = copy[HEADER + FROM]
    sign(copy)


def clear(copy, member, size):
    for slot in range(8):
        start = HEADER + SLOTS + slot * SLOT_SIZE + member
        copy[start:start + size] = bytes(size)
    sign(copy)


def sign(copy):
    length = struct.unpack_from('<I', copy, 12)[0]
    struct.pack_into('<I', copy, 28, crc32c(bytes(copy[:28]) + bytes(copy[HEADER:HEADER + length])))


def lose(copy):
    copy[:4] = b'lost'


def main():
    change = {'new-boot': forget_boot, 'lose': lose, 'no-bundle': forget_digest,
              'from-is-previous': previous_is_from}[sys.argv[1]]
    found = 0
    with open(sys.argv[2], 'r+b') as f:
        data = f.read()
        at = data.find(b'BOOTMGRS')
        while at >= 0:
            copy = bytearray(data[at:at + COPY])
            change(copy)
            f.seek(at)
            f.write(copy)
            found += 1
            at = data.find(b'BOOTMGRS', at + COPY)
    sys.exit(0 if found == 2 else f'{found} copies of the record were found')


main()
