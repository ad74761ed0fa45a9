# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cached stages of a build: a directory named by the digest of what it is made from.

A stage is made beside its final name and renamed when it is complete: an interrupted build leaves nothing that looks finished.
Two builds at once wait for each other.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import sys
import time

import host


def digest(*parts):
    """Of strings, and of files and directory trees given as ('file', path)."""
    state = hashlib.sha256()
    for part in parts:
        if isinstance(part, tuple):
            _add_tree(state, part[1])
        else:
            state.update(repr(part).encode())
    return state.hexdigest()[:16]


def _add_tree(state, top):
    if not os.path.isdir(top):
        return _add_file(state, top, '')
    for directory, names, files in os.walk(top):
        names.sort()
        for name in sorted(files):
            path = os.path.join(directory, name)
            _add_file(state, path, os.path.relpath(path, top))
    return None


def _add_file(state, path, name):
    info = os.lstat(path)
    state.update(('%s %o ' % (name, info.st_mode)).encode())
    if os.path.islink(path):
        return state.update(os.readlink(path).encode())
    with open(path, 'rb') as file:
        while data := file.read(1 << 20):
            state.update(data)
    return None


@contextlib.contextmanager
def locked(name):
    os.makedirs(host.CACHE, exist_ok=True)
    with open(os.path.join(host.CACHE, name + '.lock'), 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def make(name, key, build, text):
    """The directory of stage `name` for this key; build(directory) fills it if it is not there. Older keys of the name go."""
    final = os.path.join(host.CACHE, '%s-%s' % (name, key))
    with locked(name):
        if os.path.isdir(final):
            return final
        remove_others(name)
        partial = final + '.partial'
        os.makedirs(partial)
        start = time.monotonic()
        say('%s ...' % text)
        try:
            build(partial)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        os.rename(partial, final)
        say('%s: %.1f s' % (text, time.monotonic() - start))
    return final


def remove_others(name):
    for entry in os.listdir(host.CACHE):
        stem, _, key = entry.partition('.partial')[0].rpartition('-')
        if stem == name and len(key) == 16:
            shutil.rmtree(os.path.join(host.CACHE, entry), ignore_errors=True)


def say(text):
    print('image: ' + text, file=sys.stderr, flush=True)
