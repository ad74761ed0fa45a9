# SPDX-License-Identifier: LGPL-2.1-or-later
"""One guest, its disk behind a write log, through every operation: what qemu/replay looks at."""

import json
import os
import re
import shutil

import cuts
import host
import scenario
import server
import writelog

BEGUN, CHANGED, TWO_VERSIONS = 'factory', 'the appliance changes its configuration', 'rollback, restore, confirm'
BY_ITSELF = {BEGUN, CHANGED}        # the appliance writes, not bootmgr
LOST = {'both copies of the record destroyed'}
UNHEALTHY = '/etc/bootmgr/health.d/required/99-not-in-3'


class Place:
    """Where the recording and what is made of it lie."""

    def __init__(self, directory):
        self.directory = directory
        self.base, self.log, self.work = (os.path.join(directory, name) for name in ('base.img', 'write.log', 'work.img'))

    def is_whole(self, build):
        """And of the same programs."""
        if not os.path.exists(os.path.join(self.directory, 'recording.json')):
            return False
        facts = self.facts()
        return facts['whole'] and facts.get('disk') == build.disk()

    def renew(self, disk):
        shutil.rmtree(self.directory, ignore_errors=True)
        os.makedirs(os.path.join(self.directory, 'images'))
        host.run(['cp', '--sparse=always', '--reflink=auto', disk, self.base])

    def renew_work(self):
        host.run(['cp', '--sparse=always', '--reflink=auto', self.base, self.work])

    def image(self, step, slot):
        return os.path.join(self.directory, 'images', '%s-%d.img' % (re.sub(r'\W+', '-', step), slot))

    def facts(self):
        """versions: version -> [format, digest of its root]; steps: [[flushes before it, name]]; configurations: version -> [texts];
        disk: the image it began with; whole: it came to its end. One that did not can be looked at all the same."""
        return self._read('recording.json')

    def candidates(self):
        return self._read('candidates.json')

    def keep_facts(self, facts):
        self._write('recording.json', facts)

    def keep_figures(self, **figures):
        self._write('figures.json', figures)

    def keep_candidates(self, candidates):
        self._write('candidates.json', candidates)

    def _read(self, name):
        with open(os.path.join(self.directory, name)) as file:
            return json.load(file)

    def _write(self, name, content):
        with open(os.path.join(self.directory, name), 'w') as file:
            json.dump(content, file, indent=1)


class Steps:
    """Which step an epoch of the log belongs to."""

    def __init__(self, steps):
        self.steps = steps

    def of(self, epoch):
        return [name for first, name in self.steps if first <= epoch][-1]


class Recorder:
    def __init__(self, place, build):
        self.place, self.build = place, build
        self.facts = {'steps': [[0, BEGUN]], 'configurations': {}, 'whole': False, 'disk': build.disk(), 'versions': cuts.roots(build)}
        self.box = scenario.Machine(self, 'crash', build)
        self.box.boot_seconds = cuts.BOOT_SECONDS
        self.flushes = 0

    @staticmethod
    def note(text):
        print('--         ' + text, flush=True)

    def step(self, name):
        """From here on the log belongs to that step. What the version that runs has as its configuration is noted before."""
        self.remember()
        self.flushes += sum(entry is writelog.FLUSH for entry in self.follower.new())
        self.facts['steps'].append([self.flushes, name])
        self.note('flush %d: %s' % (self.flushes, name))

    def remember(self):
        known = self.facts['configurations'].setdefault(self.box.appliance()['version'], [])
        text = cuts.plain(self.box.configuration())
        if text not in known:
            known.append(text)

    def configure(self, number):
        """A step of its own: half of a change is no configuration that the appliance has flushed."""
        self.step(CHANGED)
        self.box.sh(cuts.change(number))

    def run(self):
        self.box.guest.cut()
        self.place.renew(self.build.disk())
        self.box.guest.create(self.place.base, write_log=self.place.log)
        self.box.guest.start()
        self.follower = writelog.Follower(self.place.log)
        try:
            self.box.await_boot(new=False)
            with server.serve(two=self.build.bundle('2'), three=self.build.bundle('3')) as url:
                self.operations(self.box, url('two'), url('three'))
            self.remember()
            self.facts['whole'] = self.box.guest.down()
        finally:
            self.follower.close()
            self.box.guest.cut()
            self.place.keep_facts(self.facts)

    def operations(self, box, two, three):
        self.configure(11)
        self.step('install')
        cuts.patiently(box, 'upgrade', 'system', '--no-reboot', two)
        self.step('switch at shutdown, migrate, confirm')
        box.reboots('systemctl reboot')
        self.configure(12)
        self.step(TWO_VERSIONS)
        box.reboots('bootmgr rollback system')
        self.configure(13)
        self.step('mark bad')
        cuts.patiently(box, 'slot', 'mark-bad', 'b')
        self.step('upgrade over a bad slot')
        cuts.patiently(box, 'upgrade', 'clear')
        box.reboots('bootmgr upgrade system --yes ' + two)
        self.step('upgrade over the previous slot')
        box.reboots('bootmgr upgrade system --yes ' + three)
        self.step('second rollback')
        box.reboots('bootmgr rollback system')
        self.recoveries(box, three)

    def recoveries(self, box, three):
        # Read-only roots carry /etc into the next slot: there it says no.
        box.sh('printf "#!/bin/sh\\n! grep -q VERSION_ID=3 /usr/lib/os-release\\n" >%s; chmod 755 %s; sync' % ((UNHEALTHY,) * 2))
        cuts.patiently(box, 'upgrade', 'clear')
        self.step('upgrade that is not healthy, and the way back')
        box.sh('systemd-run', '--quiet', '--collect', 'bootmgr', 'upgrade', 'system', '--yes', three)
        # Not any operation that is over: the one before is, too, until this one has begun.
        box.wait('the upgrade has failed, and the machine is back',
                 lambda: (box.appliance()['version'], box.operation()['state']) == ('2', 'FAILED'), 2 * cuts.BOOT_SECONDS)
        box.await_boot(new=False)
        box.sh('rm %s; sync' % UNHEALTHY)
        cuts.patiently(box, 'upgrade', 'clear')
        self.step('upgrade and finalize')
        box.reboots('bootmgr upgrade system --yes ' + three)
        cuts.patiently(box, 'finalize')
        self.step('one copy of the record destroyed')
        box.sh(destroy(0))
        box.reboots('systemctl reboot')
        self.step(*LOST)
        box.sh(destroy(0) + destroy(1024))
        box.reboots('systemctl reboot')
        self.step('afterwards')
        box.reboots('systemctl reboot')


def destroy(sector):
    return ('dd if=/dev/urandom of=/dev/disk/by-partlabel/bootmgr-state seek=%d count=8 conv=notrunc oflag=direct status=none; sync; '
            % sector)


def record(place, build):
    Recorder(place, build).run()
