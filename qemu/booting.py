# SPDX-License-Identifier: LGPL-2.1-or-later
"""Boots disks that a power cut could have left, some side by side, and looks at what came up."""

import concurrent.futures
import queue
import re
import threading
import time

import cuts
import figures
import host
import scenario
from agent import AgentError
from guest import GuestError

STARTING = 'BdsDxe: starting'       # OVMF, of each option that it starts
SETTLED_SECONDS = 900       # a trial that fails, and the boots of the way back


class Booter:
    """submit() each of them, then finish(): how many were not as they must be."""

    def __init__(self, place, build, side_by_side):
        self.place, self.start, self.lock = place, time.monotonic(), threading.Lock()
        self.submitted, self.booted, self.failed = 0, 0, 0
        self.commit = figures.commit(host.REPO)
        self.machines = [scenario.Machine(self, 'crash-boot-%d' % number, build) for number in range(side_by_side)]
        self.idle = queue.SimpleQueue()
        for machine in self.machines:
            machine.boot_seconds = cuts.BOOT_SECONDS
            machine.guest.cut()
            self.idle.put(machine)
        self.pool = concurrent.futures.ThreadPoolExecutor(side_by_side)
        self.running = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.pool.shutdown(wait=False, cancel_futures=True)
        for machine in self.machines:
            machine.guest.cut()

    @staticmethod
    def note(text):
        """What a Machine says of itself."""

    def submit(self, step, slot, where, entry, version):
        self.submitted += 1
        self.running.append(self.pool.submit(self._boot, step, slot, where, entry, version))

    def finish(self):
        for one in self.running:
            one.result()
        print('replay: %d images booted, %d failures, %.0f s' % (self.booted, self.failed, time.monotonic() - self.start), flush=True)
        return self.failed

    def _boot(self, step, slot, where, entry, version):
        machine = self.idle.get()
        try:
            wrong = None
            found = self._started(machine, self.place.image(step, slot), entry, version)
        except (cuts.Wrong, GuestError, AgentError, scenario.ScenarioError) as error:
            wrong = error
        with self.lock:
            self.booted += 1
            self.failed += wrong is not None
            print('%s: image %d of %d, %s, %s: systemd-boot would start %s (version %s), %s'
                  % ('NOT OK' if wrong else 'ok', self.booted, self.submitted, step, where, entry, version,
                     wrong or 'version %s is up with a configuration of its own' % found), flush=True)
            if wrong:
                machine.show_trouble()
            figures.merge(cuts.FIGURES, 'boot', {'images_booted': self.booted, 'images_failed': self.failed}, [self.commit])
        machine.guest.cut()
        self.idle.put(machine)

    def _started(self, machine, image, entry, version):
        machine.guest.create(image)
        mark = machine.guest.console_size()
        machine.guest.start()
        machine.await_boot(new=False)
        compare(machine, mark, entry, version)
        machine.wait('no operation is at work, and it is up', lambda: is_at_rest(machine), SETTLED_SECONDS)
        return look(machine, self.place.facts())


def compare(machine, mark, entry, version):
    """Whether what the reader has predicted is what has come up. Where the machine has started more than once before it could be
    asked, what came up is what became of that start."""
    words = dict(word.partition('=')[::2] for word in machine.run('cat', '/proc/cmdline').text.split())
    found = machine.run('sed', '-n', 's/^VERSION_ID=//p', '/usr/lib/os-release').text.strip().strip('"')
    if machine.guest.console(mark).count(STARTING) != 1:
        return
    started = 'bootmgr-%s-%s' % (words.get('bootmgr.generation'), words.get('bootmgr.slot'))
    if (started, found) != (re.sub(r'(\+[0-9-]+)?\.conf$', '', entry or 'none'), version):
        raise cuts.Wrong('the reader has said that %s (version %s) would be started, and %s (version %s) was'
                         % (entry, version, started, found))


def is_at_rest(machine):
    """Not on its way down either."""
    return cuts.is_settled(machine.operation()) and machine.run('systemctl', 'is-system-running').text.strip() == 'running'


def look(machine, facts):
    """A version with a configuration that it had while it was recorded, and that would be started again."""
    version = machine.appliance()['version']
    if machine.status()['next'] != machine.status()['booted']:
        raise cuts.Wrong('it runs, and would not be started again: %s' % machine.bootmgr('status'))
    found = cuts.plain(machine.configuration())
    if found not in facts['configurations'].get(version, ()):
        raise cuts.Wrong('version %s has a configuration that it never had:\n%s' % (version, found))
    return version
