# SPDX-License-Identifier: LGPL-2.1-or-later
"""The figures of all tests of power cuts: build/bench/crash.json. Each part is written by those who made it, with when and of which
commits; what the others wrote stays, 0 where they were not run.

    crash         states, failures, mutations, mutations_caught: make crash (tests/crash/run)
    crash-log     log_states, log_failures: make crash-log, and soak --states
    boot          images_booted, images_failed: make crash-log
    soak          cuts, cut_failures: make soak; over all seeds"""

import contextlib
import fcntl
import json
import os
import subprocess
import time

PARTS = {
    'crash': ('states', 'failures', 'mutations', 'mutations_caught'),
    'crash-log': ('log_states', 'log_failures'),
    'boot': ('images_booted', 'images_failed'),
    'soak': ('cuts', 'cut_failures'),
}


def commit(repository):
    """Of the source as it lies there; '+': and what is not committed."""
    p = subprocess.run(['git', '-C', repository, 'describe', '--always', '--dirty=+', '--exclude=*'], stdout=subprocess.PIPE,
                       stderr=subprocess.DEVNULL, check=False)
    return p.stdout.decode().strip() or 'unknown'


def merge(path, part, figures, commits, when=None):
    """One at a time: soak and replay may run side by side."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + '.lock', 'w', encoding='utf-8') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = {**{name: 0 for names in PARTS.values() for name in names}, **read(path)}
        of = known.get('of', {})
        of[part] = {'time': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(when)), 'commits': sorted(commits)}
        with open(path + '.new', 'w', encoding='utf-8') as file:
            json.dump({**known, **figures, 'of': of}, file, indent=1)
            file.write('\n')
        os.replace(path + '.new', path)


def read(path):
    with contextlib.suppress(FileNotFoundError, ValueError), open(path, encoding='utf-8') as file:
        return json.load(file)
    return {}


def lines(path):
    """All of them, for people."""
    known = read(path)
    for part, names in PARTS.items():
        of = known.get('of', {}).get(part)
        figures = ', '.join('%s %s' % (name, known.get(name, 0) if of else 'not run') for name in names)
        yield '%-10s %s%s' % (part, figures, ' (%s, of %s)' % (of['time'], ' '.join(of['commits'])) if of else '')
