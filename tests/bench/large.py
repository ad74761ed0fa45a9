# SPDX-License-Identifier: LGPL-2.1-or-later
"""The peak of memory for an image that is large and has no zeros (tests/bench/large.c).

The image itself is made on the device, and a bundle of it; then the device is emptied, and it is installed there. So it takes the length of
the image once, and for two bundles half of that each."""

import contextlib
import os
import shutil
import sys

import host
from installers import Bootmgr
from measure import MIB, Loop, run


def peaks(work, mib):
    """In MiB: of an install of all of it, with read-back, and of an update in which a sixty-fourth changed."""
    need = 2 * mib + 64
    if shutil.disk_usage(work).free < need * MIB:
        sys.exit('%s needs %d MiB for the large image (--no-large goes without)' % (work, need))
    work = os.path.join(work, 'large')
    os.makedirs(work, exist_ok=True)
    program = os.path.join(host.BUILD, 'bench', 'large')
    with contextlib.ExitStack() as stack:
        loops = []
        stack.callback(shutil.rmtree, work)
        for name, size in ('a', mib * MIB), ('b', MIB):
            loops.append(Loop(os.path.join(work, name + '.img'), size))
            stack.callback(loops[-1].close)
        machine = Bootmgr(work, loops)
        bundles = []
        for version in '1', '2':
            run(program, 'write', loops[0].path, str(mib), version)
            bundles.append(machine.bundle(loops[0].path, version, '--level', '1'))
        found = []
        loops[0].clear()
        machine.reset()
        for version, bundle in enumerate(bundles, 1):
            found.append(machine.upgrade(bundle).peak_kib / 1024)
            run(program, 'check', loops[0].device, str(mib), str(version))
            print('%d MiB without zeros, %s: peak %.1f MiB, %s' % (mib, ('installed', 'updated')[version - 1], found[-1],
                                                                   machine.step()['message']), flush=True)
            if version == 1:
                run(*machine.command('abort'))
                machine.cmdline = 'bootmgr.slot=b bootmgr.generation=1'         # so that the update goes into slot a too
        return found
