# SPDX-License-Identifier: LGPL-2.1-or-later
"""The data partition of a disk as the next boot finds it: a torn superblock is made right (bootmgr-recover), its journal is replayed on a
copy (e2fsck), then it is read (debugfs)."""

import functools
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile

import host

SETTINGS = 'data/appliance/config/settings'
SUPERBLOCK, CHECKSUM = 1024, 1024 + 1020


class DataError(Exception):
    """The file system cannot be brought to order, or what bootmgr keeps on it is not what it must be."""


class Data:
    """owner: the marker's lines; settings: the shared file, None without one; archives: {name: content} of the sealed snapshots;
    seals: what is said of them."""

    def __init__(self, image, scratch):
        before = _checksum(image)
        if subprocess.run([os.path.join(host.BUILD, 'bootmgr-recover'), 'superblock', image]).returncode:
            raise DataError('the superblock is damaged')
        self.torn = _checksum(image) != before
        run = subprocess.run([host.need('e2fsck', 'e2fsprogs'), '-fy', image], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True, errors='replace')
        if run.returncode not in (0, 1):
            raise DataError('e2fsck: exit status %d: %s' % (run.returncode, run.stdout))
        # A journal alone leaves nothing to repair: what e2fsck then mends is told by its questions.
        self.repaired = re.findall(r'^.*(?:FIXED|<y>).*$', run.stdout, re.M)
        shutil.rmtree(os.path.join(scratch, 'snapshots'), ignore_errors=True)
        for name in ('owner', 'settings'):
            if os.path.exists(os.path.join(scratch, name)):
                os.unlink(os.path.join(scratch, name))
        commands = 'dump /bootmgr/owner %s/owner\ndump /appliance/config/settings %s/settings\nrdump /bootmgr/snapshots %s\n'
        subprocess.run([host.need('debugfs', 'e2fsprogs'), '-f', '-', image], input=commands % ((scratch,) * 3), text=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        self.owner = dict(line.partition('=')[::2] for line in (_read(scratch, 'owner') or b'').decode('ascii', 'replace').splitlines())
        self.settings = _read(scratch, 'settings')
        place = os.path.join(scratch, 'snapshots')
        names = os.listdir(place) if os.path.isdir(place) else []
        self.archives = {name: _read(place, name) for name in names if name.endswith('.tar.zst') and not name.startswith('.')}

        self.seals = [seal for name in names if name.endswith('.json') and (seal := _seal(_read(place, name)))]

    def newest_seal(self, slot, version):
        """The digest of the newest whole snapshot of that version in that slot: what a record that was made again is completed with.
        None: there is none."""
        for seal in sorted(self.seals, key=lambda seal: (seal['created'], seal['generation']), reverse=True):
            archive = self.archives.get(seal['digest'][:16] + '.tar.zst')
            if (seal['slot'], seal['version']) == (slot, version) and archive and hashlib.sha256(archive).hexdigest() == seal['digest']:
                return bytes.fromhex(seal['digest'])
        return None

    def snapshot(self, digest):
        """The settings in the archive with that digest, which must be there and whole; None when it holds none."""
        name = digest.hex()[:16] + '.tar.zst'
        archive = self.archives.get(name)
        if archive is None:
            raise DataError('snapshot %s is missing' % name)
        if hashlib.sha256(archive).digest() != digest:
            raise DataError('snapshot %s is not what was sealed' % name)
        return _settings_of(archive)


@functools.lru_cache(64)
def _settings_of(archive):
    run = subprocess.run([host.need('zstd', 'zstd'), '-dc'], input=archive, stdout=subprocess.PIPE, check=True)
    with tarfile.open(fileobj=io.BytesIO(run.stdout)) as tar:
        try:
            return tar.extractfile(SETTINGS).read()
        except KeyError:
            return None


def _read(directory, name):
    try:
        with open(os.path.join(directory, name), 'rb') as file:
            return file.read()
    except FileNotFoundError:
        return None


def _seal(text):
    """What bootmgr cannot read is no seal for it, either."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def _checksum(image):
    with open(image, 'rb') as file:
        return os.pread(file.fileno(), 4, CHECKSUM)


def tear(disk, offset):
    """Gives the superblock of the partition at `offset` of a map the checksum of another, as a cut in the middle of its write does."""
    disk[offset + CHECKSUM] ^= 0xff


def form(settings):
    """The format that says the first line of the shared settings; 0 without the file, -1 when it is none."""
    if settings is None:
        return 0
    match = re.match(rb'format (\d+)\n', settings)
    return int(match[1]) if match else -1
