# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the scenarios share: a machine, what one does with it, and checks that are printed and counted.

A scenario is an executable file of qemu/scenarios. It runs alone or by qemu/run:

    with Scenario('circle', __doc__) as s:
        box = s.machine()                       a guest with version 1, booted
        box.bootmgr('status')                   fails the scenario when the command fails
        box.reboots('bootmgr rollback system')  and waits for the boot that follows
        s.equal('a runs', box.status()['booted'], 'a')

Every check prints a line "ok: ..." or "NOT OK: ..."; the last line counts them. A step that a later one needs raises, which ends
the scenario with a failure and leaves the guest's console log under build/vm.
"""

import argparse
import hashlib
import io
import json
import os
import signal
import sys
import time

sys.dont_write_bytecode = True
import guest                                                    # noqa: E402
import host                                                     # noqa: E402
import images                                                   # noqa: E402
from agent import AgentError, AgentLost                         # noqa: E402

BOOT_SECONDS = 400
BLOCK = 1 << 16


def text(content):
    """A string as the open file that Agent.push wants."""
    return io.BytesIO(content.encode())


def digest_of_range(file, start, size):
    """Of what lies there; zeros and holes are the same, and are not hashed: most of a partition is one."""
    state, at, end = hashlib.sha256(), start, start + size
    while at < end:
        try:
            at = max(at, os.lseek(file.fileno(), at, os.SEEK_DATA) // BLOCK * BLOCK)
        except OSError:
            break       # a hole up to the end
        data = os.pread(file.fileno(), min(BLOCK, end - at), at) if at < end else b''
        if data.strip(b'\0'):
            state.update(b'%d:' % at)
            state.update(data)
        at += BLOCK
    return state.hexdigest()


def _boot_option(data):
    """An EFI load option: its description, and its arguments where it has some of text."""
    path_size, text = int.from_bytes(data[4:6], 'little'), data[6:].decode('utf-16-le', errors='replace')
    name = text.split('\0')[0]
    return name, data[6 + 2 * len(name) + 2 + path_size:].decode('utf-16-le', errors='replace').rstrip('\0')


class ScenarioError(Exception):
    """A step failed that the rest of the scenario stands on."""


class Scenario:
    def __init__(self, name, description=''):
        options = argparse.ArgumentParser(prog=name, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        options.add_argument('--keep', action='store_true', help='leave the guests on, to look at them with qemu/vm')
        options.add_argument('--quick', action='store_true', help='only what `make test` has time for')
        options.add_argument('--initramfs', choices=('initramfs-tools', 'dracut'),
                             help='with this kind only, where a scenario runs with each')
        self.options = options.parse_args()
        self.name, self.keep = name, self.options.keep
        self.passed = self.failed = 0
        self.machines = []
        self.start = time.monotonic()
        self._builds = {}

    def __enter__(self):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))     # guests end with what has started them
        return self

    def __exit__(self, kind, error, _):
        if isinstance(error, (ScenarioError, guest.GuestError, AgentError, host.HostError)):
            self._flunk('the scenario goes on', str(error))
        elif kind:
            self._flunk('the scenario goes on', '%s: %s' % (kind.__name__, error))
        for machine in self.machines:
            if self.failed:
                machine.show_trouble()
            if not self.keep:
                machine.guest.cut()
                if not self.failed:
                    machine.delete()
        print('%s: %d passed, %d failed, %.0f s' % (self.name, self.passed, self.failed, time.monotonic() - self.start), flush=True)
        if kind is None or isinstance(error, Exception):
            sys.exit(1 if self.failed else 0)

    # --- checks -------------------------------------------------------------------------------------------------------------

    def note(self, text):
        print('-- %4.0f s  %s' % (time.monotonic() - self.start, text), flush=True)

    def ok(self, what, condition, detail=''):
        if condition:
            self.passed += 1
            print('ok: %s' % what, flush=True)
        else:
            self._flunk(what, detail)
        return bool(condition)

    def equal(self, what, found, expected):
        return self.ok(what, found == expected, 'expected: %r\nfound:    %r' % (expected, found))

    def has(self, what, text, part):
        return self.ok(what, part in text, 'no %r in:\n%s' % (part, text))

    def refused(self, what, result, kind, code=3):
        """A --json command ended as a refusal of that kind, with a sentence and a way out."""
        try:
            error = json.loads(result.text)
        except ValueError:
            error = {}
        return self.ok('%s: %s' % (what, kind), (result.code, error.get('kind')) == (code, kind) and error.get('message'),
                       'exit status %d, out: %s, err: %s' % (result.code, result.text, result.errors))

    def _flunk(self, what, detail):
        self.failed += 1
        print('NOT OK: %s\n    %s' % (what, detail.replace('\n', '\n    ')), flush=True)

    # --- machines -----------------------------------------------------------------------------------------------------------

    def build(self, initramfs='initramfs-tools', kernel='cloud'):
        key = (initramfs, kernel)
        if key not in self._builds:
            self._builds[key] = images.Build(*key)
        return self._builds[key]

    def machine(self, version='1', name=None, build=None, **options):
        """A new guest with that version from the factory, booted."""
        # With its kind: the same scenario may run beside it with the other one.
        machine = Machine(self, name or '-'.join(filter(None, (self.name, self.options.initramfs))), build or self.build())
        self.machines.append(machine)
        machine.guest.cut()
        machine.create(version, **options)
        self.note('guest %s is switched on' % machine.guest.name)
        machine.guest.start()
        machine.await_boot(new=False)
        return machine


# Shell: the ESP becomes /efi. Who looks at it at that moment, as bootmgrd does, has it mounted read-only, and the kernel mounts it one way
# only: EBUSY.
MOUNT_ESP = ('n=0; until mount /dev/disk/by-partlabel/esp /efi; do n=$((n + 1)); [ $n -lt 50 ] || exit 1; sleep 0.1; done; ')


class Machine:
    """A guest with bootmgr in it."""

    def __init__(self, scenario, name, build):
        self.scenario, self.build = scenario, build
        self.boot_seconds = BOOT_SECONDS
        self.guest = guest.Guest('scenario-' + name)
        self.raw = None         # the disk as a file of its own, where it is to be read from the host

    def create(self, version, raw=False, **options):
        image = self.build.disk(version)
        if raw:
            self.raw = self.guest.directory + '.img'
            os.makedirs(os.path.dirname(self.raw), exist_ok=True)
            host.run(['cp', '--sparse=always', '--reflink=auto', image, self.raw])
            options['overlay'] = False
        self.guest.create(self.raw or image, **options)

    def delete(self):
        self.guest.delete()
        if self.raw:
            os.unlink(self.raw)

    def run(self, *argv, timeout=300, **options):
        """Any exit status; a string alone is a shell command."""
        argv = ['bash', '-c', argv[0]] if len(argv) == 1 else list(argv)
        return self.guest.run(argv, timeout=timeout, **options)

    def sh(self, *argv, **options):
        """Must succeed; returns what it prints."""
        result = self.run(*argv, **options)
        if result.code:
            raise ScenarioError('`%s` failed (%d): %s%s' % (' '.join(argv), result.code, result.text[-2000:], result.errors[-2000:]))
        return result.text

    def bootmgr(self, *words):
        return self.sh('bootmgr', *words)

    def json(self, *words):
        return json.loads(self.bootmgr(*words, '--json'))

    def status(self):
        return self.json('status')

    def slot(self, name):
        return next(slot for slot in self.status()['slots'] if slot['name'] == name)

    def operation(self):
        return self.json('show', 'upgrade', 'status')

    def try_json(self, *words):
        return self.run('bootmgr', *words, '--json')

    # --- boots --------------------------------------------------------------------------------------------------------------

    def await_boot(self, new=True):
        _, system = self.guest.wait_boot(self.boot_seconds, new)
        version = self.run('sed', '-n', 's/^VERSION_ID=//p', '/usr/lib/os-release').text.strip()
        self.scenario.note('version %s is up (%s)' % (version, system))
        return system

    def reboots(self, command, new=True):
        """Runs a command after which the machine starts again, and waits for that."""
        pieces = []
        try:
            code = self.run(command, on_out=pieces.append, on_err=pieces.append).code
        except AgentLost:
            code = 0            # it went down under the command: what was printed before is kept
        output = b''.join(pieces).decode(errors='replace')
        if code:
            raise ScenarioError('`%s` failed (%d): %s' % (command, code, output))
        self.await_boot(new)
        return output

    def wait(self, what, condition, timeout=120):
        """Until condition() holds; a guest that does not answer is waited for."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                if condition():
                    return
            except (AgentError, ScenarioError):
                pass
            if time.monotonic() > deadline:
                raise ScenarioError('not within %d s: %s' % (timeout, what))
            time.sleep(0.3)

    # --- what a machine has -------------------------------------------------------------------------------------------------

    def appliance(self):
        """What the appliance says it has read: a dictionary."""
        text = self.sh('systemctl is-active appliance >/dev/null && cat /run/appliance/state')
        return dict(line.split(' ', 1) for line in text.splitlines())

    def configuration(self):
        """Every file of the shared configuration and of the slot's /etc: name, mode, owner, time, content."""
        return self.sh('cd / && find data/appliance/config etc/appliance -printf "%p %y %m %U:%G %T@ %l\\n" | sort && '
                       'find data/appliance/config etc/appliance -type f -exec sha256sum {} + | sort -k 2')

    def disk_digest(self):
        """Of everything that a refusal may not change: the ESP, the record, both slots, what bootmgr keeps on data. The partitions
        are read from the host: that is many times quicker than in an emulated guest. Needs a raw disk."""
        text = self.sh('cd /data && tar --sort=name -cf - --exclude=bootmgr/etc/*/work bootmgr appliance | sha256sum; sync; '
                       'for i in 1 2 3 4; do cat /sys/class/block/vda$i/start /sys/class/block/vda$i/size; done')
        data, *numbers = text.split('\n')
        digests = [data]
        with open(self.raw, 'rb') as disk:
            for i in range(0, 8, 2):
                digests.append(digest_of_range(disk, int(numbers[i]) * 512, int(numbers[i + 1]) * 512))
        return digests

    def esp(self, script):
        """A shell script in the ESP's root, flushed."""
        return self.sh(MOUNT_ESP + 'cd /efi && { %s\n}; code=$?; cd /; umount /efi; exit $code' % script)

    def upgraded(self, url, version='2'):
        """That version from there, confirmed, each with a configuration of its own; returns that of the first one, and of this."""
        self.sh("sed -i 's/30/45/' /data/appliance/config/settings; echo 'GREETING=\"hello from 1\"' >/etc/appliance/appliance.conf")
        of_one = self.configuration()
        self.reboots('bootmgr upgrade system ' + url)
        self.scenario.equal('version %s runs, is confirmed' % version, [self.appliance()['version'], self.slot('b')['state']],
                            [version, 'confirmed'])
        self.sh("sed -i 's/45/60/' /data/appliance/config/settings; echo 2 >/data/appliance/config/new-in-2")
        return of_one, self.configuration()

    def boot_options(self):
        """The firmware's boot options in their order: [(name, arguments)]."""
        script = ('cd /sys/firmware/efi/efivars && for n in $(od -A n -v -t x2 -j 4 BootOrder-*); do '
                  'f=$(echo $n | tr a-f A-F); od -A n -v -t x1 -w100000 Boot$f-* ; done')
        return [_boot_option(bytes.fromhex(line.replace(' ', ''))[4:]) for line in self.sh(script).splitlines()]

    def show_trouble(self):
        """What a person would look at first."""
        for command in ('bootmgr status', 'bootmgr show upgrade status', 'systemctl --failed --no-pager',
                        'journalctl -b --no-pager -p warning -n 40', 'journalctl -b --no-pager -u "bootmgr*" -n 60'):
            try:
                result = self.run(command, timeout=30, connect_timeout=3)
                print('    # %s\n    %s' % (command, (result.text + result.errors).strip().replace('\n', '\n    ')))
            except (AgentError, guest.GuestError) as error:
                print('    # the guest cannot be asked: %s' % error)
                break
        log = self.guest.path('console.log')
        if os.path.exists(log):
            with open(log, errors='replace') as file:
                print('    # the end of its console (%s)\n    %s' % (log, '\n    '.join(file.read().splitlines()[-25:])), flush=True)
