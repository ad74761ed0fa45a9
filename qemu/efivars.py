# SPDX-License-Identifier: LGPL-2.1-or-later
"""Puts EFI variables into OVMF's empty store, as a guest finds them when it starts (EDK2 MdeModulePkg, VariableFormat.h)."""

import struct
import uuid

LOADER = uuid.UUID('4a67b082-0a4c-41cf-b6c7-440b29bb8c4f')      # systemd's, of the Boot Loader Interface
ATTRIBUTES = 7                          # non-volatile, for boot services, for the running system
STORE = uuid.UUID('aaf32c78-947b-439a-a180-2e144ec37792')       # gEfiAuthenticatedVariableGuid
STORE_HEADER = 28
START, ADDED = 0x55aa, 0x3f


def utf16(text):
    return (text + '\0').encode('utf-16-le')


def add(path, variables):
    """Appends NON-EXISTING variables of the loader's vendor, {name: text}, to a store that holds no variable yet."""
    with open(path, 'r+b') as file:
        head = file.read(4096)
        offset = head.index(STORE.bytes_le) + STORE_HEADER
        file.seek(offset)
        if file.read(2) == struct.pack('<H', START):
            raise ValueError('%s holds variables already' % path)
        file.seek(offset)
        for name, text in variables.items():
            name, data = utf16(name), utf16(text)
            record = struct.pack('<HBBIQ16sIII16s', START, ADDED, 0, ATTRIBUTES, 0, bytes(16), 0, len(name), len(data), LOADER.bytes_le)
            record += name + data
            file.write(record + b'\xff' * (-len(record) % 4))


def write_efivarfs(directory, variables):
    """The same as efivarfs would show them."""
    for name, text in variables.items():
        with open('%s/%s-%s' % (directory, name, LOADER), 'wb') as file:
            file.write(struct.pack('<I', ATTRIBUTES) + utf16(text))
