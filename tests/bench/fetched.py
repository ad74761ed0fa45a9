# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an update fetches of one image when another one is there, by each way of cutting it into chunks."""

import hashlib
import json
import os
import re
import shutil
import time
import zlib

import host

WORK = os.path.join(host.BUILD, 'bench', 'chunking')
CASYNC = (16, 64, 256)          # KiB, on average
INDEX_ENTRY = {'fixed': 40, 'content': 44, 'blocks': 44}        # docs/formats.md
RAUC_BLOCK, RAUC_STORED = 4096, 128 << 10


def ours(old, new, way, size, level):
    output = host.run([os.path.join(host.BUILD, 'bench', 'chunks'), old, new, way, str(size << 10), str(level)])
    said = json.loads(output)
    return {'way': '%s %d' % (way, size), 'index': said['chunks'] * INDEX_ENTRY[way], **said}


def delta(old, new):
    directory, bootmgr = scratch('delta'), os.path.join(host.BUILD, 'bootmgr')
    key, file, *bundles = (os.path.join(directory, name) for name in ('key', 'new.delta', '1.bundle', '2.bundle'))
    host.run([bootmgr, 'bundle', 'keygen', '-q', key])
    for version, (image, bundle) in enumerate(zip((old, new), bundles), 1):
        host.run([bootmgr, 'bundle', 'create', '-q', '--version', str(version), '--compatible', 'bench', '--root', image,
                  '--key', key + '.key', bundle])
    start = time.monotonic()
    host.run([bootmgr, 'bundle', 'delta', '-q', '--from', bundles[0], bundles[1], file])
    seconds = time.monotonic() - start
    chunks = json.loads(host.run([bootmgr, 'bundle', 'inspect', '--json', file]))['images'][0]['chunks']
    index, size = chunks * INDEX_ENTRY['content'], os.path.getsize(file)
    shutil.rmtree(directory)
    return {'way': 'delta', 'chunks': chunks, 'missing': 0, 'index': index, 'fetched': size - index, 'bundle': size, 'seconds': seconds}


def blocks(path, size):
    with open(path, 'rb') as file:
        while data := file.read(size):
            yield data


def rauc(old, new):
    start = time.monotonic()
    have = {hashlib.sha256(data).digest() for data in blocks(old, RAUC_BLOCK)}
    have.add(hashlib.sha256(bytes(RAUC_BLOCK)).digest())
    index, missing, fetched, ranges, needed_before = [], 0, 0, 0, False
    for stored in blocks(new, RAUC_STORED):
        digests = [hashlib.sha256(stored[at:at + RAUC_BLOCK]).digest() for at in range(0, len(stored), RAUC_BLOCK)]
        lacking = {digest for digest in digests if digest not in have}
        if lacking:
            fetched += min(len(zlib.compress(stored, 9)), len(stored))
        missing += len(lacking)
        ranges += bool(lacking) and not needed_before
        needed_before = bool(lacking)
        have |= lacking         # what was fetched is in the target, where it is looked for too
        index += digests
    seconds = time.monotonic() - start
    check_rauc_index(new, b''.join(index))
    return {'way': 'rauc', 'chunks': len(index), 'missing': missing, 'ranges': ranges, 'index': 32 * len(index), 'fetched': fetched,
            'seconds': seconds}


def check_rauc_index(image, index):
    """Against the one that rauc itself puts beside the image in its bundle."""
    directory = scratch('rauc')
    content = os.path.join(directory, 'content')
    os.mkdir(content)
    os.link(image, os.path.join(content, 'root.img'))
    with open(os.path.join(content, 'manifest.raucm'), 'w') as file:
        file.write('[update]\ncompatible=bench\nversion=1\n[bundle]\nformat=verity\n'
                   '[image.rootfs]\nfilename=root.img\nadaptive=block-hash-index\n')
    cert, key, bundle = (os.path.join(directory, name) for name in ('cert.pem', 'key.pem', 'out.raucb'))
    host.run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', key, '-out', cert, '-subj', '/CN=bench', '-days', '9'])
    host.run([host.need('rauc', 'rauc'), 'bundle', '--cert=' + cert, '--key=' + key, '--mksquashfs-args=-noD -processors 1',
              content, bundle])
    host.run([host.need('unsquashfs', 'squashfs-tools'), '-d', os.path.join(directory, 'out'), bundle])
    found = [name for name in os.listdir(os.path.join(directory, 'out')) if 'hash-index' in name]
    if not found:
        raise host.HostError('rauc made no hash index: %s' % os.listdir(os.path.join(directory, 'out')))
    with open(os.path.join(directory, 'out', found[0]), 'rb') as file:
        if file.read()[:len(index)] != index:
            raise host.HostError('the hash index of rauc is another one than that which is computed here')
    shutil.rmtree(directory)


def casync(old, new, size):
    directory = scratch('casync')
    stores, seconds = [], 0
    for number, image in enumerate((old, new)):
        store, index = (os.path.join(directory, '%s%d%s' % (name, number, end)) for name, end in (('store', '.castr'), ('index', '.caibx')))
        start = time.monotonic()
        host.run([host.need('casync', 'casync'), 'make', '--compression=zstd', '--chunk-size=%d' % (size << 10), '--store=' + store, index,
                  image])
        seconds = time.monotonic() - start
        stores.append({name: os.path.getsize(os.path.join(top, name)) for top, _, names in os.walk(store) for name in names})
        index_size = os.path.getsize(index)
    lacking = [name for name in stores[1] if name not in stores[0]]
    shutil.rmtree(directory)
    return {'way': 'casync %d' % size, 'chunks': (index_size - 104) // 40, 'missing': len(lacking), 'ranges': len(lacking),
            'index': index_size, 'fetched': sum(stores[1][name] for name in lacking), 'bundle': sum(stores[1].values()), 'seconds': seconds}


def zchunk(old, new):
    directory = scratch('zchunk')
    files, seconds = [], 0
    for number, image in enumerate((old, new)):
        files.append(os.path.join(directory, '%d.zck' % number))
        start = time.monotonic()
        host.run([host.need('zck', 'zchunk'), '-o', files[-1], image])
        seconds = time.monotonic() - start
    said = host.run([host.need('zck_delta_size', 'zchunk'), *files])
    # Would download N of M bytes / Matched A of B chunks
    size, total = map(int, re.search(r'(\d+) of (\d+) bytes', said).groups())
    matched, chunks = map(int, re.search(r'(\d+) of (\d+) chunks', said).groups())
    header = int(re.search(r'(?i)header size: *(\d+)', host.run(['zck_read_header', files[1]]))[1])
    shutil.rmtree(directory)
    return {'way': 'zchunk', 'chunks': chunks, 'missing': chunks - matched, 'index': header, 'fetched': size - header, 'bundle': total,
            'seconds': seconds, 'said': said}


def scratch(name):
    directory = os.path.join(WORK, name + '.scratch')
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)
    return directory
