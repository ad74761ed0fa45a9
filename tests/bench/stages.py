# SPDX-License-Identifier: LGPL-2.1-or-later
"""What bounds an install: its stages one by one, by other programs, and the pipeline with stages removed."""

import concurrent.futures
import hashlib
import os
import statistics
import subprocess
import time

from measure import MIB, drop_caches, launched


def data_pieces(image):
    """Of the image what is no hole, in pieces."""
    pieces, at = [], 0
    with open(image, 'rb') as file:
        size = os.fstat(file.fileno()).st_size
        while at < size:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                break           # nothing but a hole behind it
            end = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            for start in range(at, end, MIB):
                pieces.append(os.pread(file.fileno(), min(MIB, end - start), start))
            at = end
    return pieces


def hash_all(pieces, threads):
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda piece: hashlib.sha256(piece).digest(), pieces))


def decode(zst, processes):
    """So many at once, each the whole image."""
    running = [subprocess.Popen(['zstd', '-dcq', zst], stdout=subprocess.DEVNULL) for _ in range(processes)]
    if any([process.wait() for process in running]):
        raise SystemExit('zstd failed')


def seconds_of(call, runs, cold, before=None):
    seconds = []
    for _ in range(runs):
        if before:
            before()
        if cold:
            drop_caches()
        start = time.monotonic()
        call()
        seconds.append(time.monotonic() - start)
    return statistics.median(seconds)


def measure_stages(image, bundle, bootmgr, loop, runs, whole):
    """Prints the table. whole: seconds of an install without read-back."""
    cpus = len(os.sched_getaffinity(0))
    zst, pieces = image + '.zst', data_pieces(image)
    content = sum(map(len, pieces))
    threads = sorted({1, cpus})
    verify = [bootmgr.program, 'bundle', 'verify', '-q', '--trust', bootmgr.trust, bundle]
    rows = {'reading the bundle (dd, direct)': (lambda: launched('dd', 'if=' + bundle, 'of=/dev/null', 'bs=1M', 'iflag=direct'), True, 1)}
    for n in threads:
        rows['decoding, %d at once (zstd -d)' % n] = (lambda n=n: decode(zst, n), False, n)
    for n in threads:
        rows['SHA-256, %d threads (OpenSSL)' % n] = (lambda n=n: hash_all(pieces, n), False, 1)
    rows['writing the content (dd, direct)'] = (lambda: launched(
        'dd', 'if=/dev/zero', 'of=' + loop.device, 'bs=1M', 'count=%d' % (content // MIB), 'oflag=direct', 'conv=fsync'), True, 1)
    rows['read, decode, hash (bundle verify)'] = (lambda: launched(*verify), True, 1)
    print('\nStages of an install (%d MiB of content), %d processors, seconds (medians of %d)' % (content / MIB, cpus, runs))
    found = {}
    for name, (call, cold, share) in rows.items():
        found[name] = seconds_of(call, runs, cold, loop.allocate) / share
        print('%-38s %6.2f s  %6.0f MB/s' % (name, found[name], content / found[name] / 1e6), flush=True)
    print('%-38s %6.2f s  %6.0f MB/s' % ('all of it (upgrade, no read-back)', whole, content / whole / 1e6))
    seconds = list(found.values())
    computing, writing = seconds[len(threads)] + seconds[2 * len(threads)], seconds[-2]
    bound = max(computing, writing, seconds[0])
    print('Decoding and hashing on all processors take %.2f s, writing %.2f s, reading %.2f s: nothing that overlaps all of them can be\n'
          'quicker than %.2f s here. The install is at %.2f times that.' % (computing, writing, seconds[0], bound, whole / bound))
