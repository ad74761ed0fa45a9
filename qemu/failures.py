# SPDX-License-Identifier: LGPL-2.1-or-later
"""Versions that fail, and what must come of it. One machine meets one failure after another:

    with scenario.Scenario('root', __doc__) as s:
        for line in failures.lines(s, 'root'):                  one machine for each kind of initramfs
            bad = line.bundle('90.1', root=failures.GARBAGE)
            line.fails('its root cannot be mounted', bad, reason='its root could not be mounted',
                       where='found out in the initramfs', starts=2)

Each failure begins on a version that is confirmed, and ends on it: it runs, with its configuration to the byte, the upgrade
has FAILED with the true reason and where that was found out, the machine started exactly as often as was to be expected and
stays up, and a good upgrade works, which is what the next failure begins on.
"""

import contextlib
import json
import os
import re
import shutil
import time

import host
import images
import scenario
import server
from agent import AgentError

KINDS = ('initramfs-tools', 'dracut')
GARBAGE = b'no file system' * 80000
GOOD = ('16.1', '16.2')         # take turns
TEMPLATE = '17.1'               # what the failing versions are made from; it brings another format of the settings
RETURN_SECONDS = 900
ESP_OFFSET = 1 << 20          # in the reference layout
CONF = '/etc/bootmgr/bootmgr.conf.d/failure.conf'

# exit(1), as the whole of a program.
_CODE = b'\xb8\x3c\x00\x00\x00\xbf\x01\x00\x00\x00\x0f\x05'
DIES = (b'\x7fELF\x02\x01\x01' + bytes(9) + b'\x02\0\x3e\0\x01\0\0\0' + (0x400078).to_bytes(8, 'little') + (64).to_bytes(8, 'little')
        + bytes(12) + b'\x40\0\x38\0\x01\0' + bytes(6) + b'\x01\0\0\0\x05\0\0\0' + bytes(8) + 2 * (0x400000).to_bytes(8, 'little')
        + 2 * (0x78 + len(_CODE)).to_bytes(8, 'little') + (0x1000).to_bytes(8, 'little') + _CODE)

# A shell's condition: this is the version that is to fail.
FAILS_HERE = '. /usr/lib/os-release; [ "$VERSION_ID" = %s ]' % TEMPLATE


def lines(s, kernel='cloud', **options):
    """A machine for each kind of initramfs that the command line asks for, one after another."""
    for kind in [s.options.initramfs] if s.options.initramfs else KINDS:
        with Line(s, kind, kernel, **options) as line:
            yield line


class Line:
    """A machine and the versions that come to it."""

    def __init__(self, s, kind, kernel, **options):
        self.s, self.kind, self.build = s, kind, s.build(kind, kernel)
        self.directory = os.path.join(host.GUESTS, '%s-%s.files' % (s.name, kind))
        self.version, self.options = GOOD[0], options

    def __enter__(self):
        shutil.rmtree(self.directory, ignore_errors=True)
        os.makedirs(self.directory)
        self.s.note('--- with %s' % self.kind)
        self.box = self.s.machine(self.version, name='%s-%s' % (self.s.name, self.kind), build=self.build, raw=True, **self.options)
        self.box.sh("sed -i 's/30/45/' /data/appliance/config/settings; echo precious >/data/appliance/config/extra; "
                    "echo 'GREETING=\"hello\"' >/etc/appliance/appliance.conf; systemctl restart appliance")
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.box.guest.cut()
        shutil.rmtree(self.directory, ignore_errors=True)

    # --- versions -----------------------------------------------------------------------------------------------------------

    def template(self, name):
        return os.path.join(self.build.version(TEMPLATE), name)

    def bundle(self, version, *options, **changed):
        """A signed bundle of the template with other images: bytes, or the path of a file."""
        options = list(options)
        for image, name in (('root', 'root.ext4'), ('kernel', 'vmlinuz'), ('initrd', 'initrd')):
            content = changed.get(image, self.template(name))
            if isinstance(content, bytes):
                path = os.path.join(self.directory, '%s.%s' % (version, image))
                with open(path, 'wb') as file:
                    file.write(content)
                content = path
            options += ['--' + image, content]
        path = os.path.join(self.directory, version + '.bundle')
        images.bootmgr('bundle', 'create', path, '--version', version, '--compatible', images.COMPATIBLE, '--security-version', '1',
                       '--key', images.keys() + '.key', *options)
        return version, path

    def unchanged(self):
        """The template itself: it is made to fail by what is put into its /etc."""
        return TEMPLATE, self.build.bundle(TEMPLATE)

    def root(self, files):
        """The path of a small root with these files (name: text or a program's bytes)."""
        tree, path = os.path.join(self.directory, 'tree'), os.path.join(self.directory, 'small.ext4')
        shutil.rmtree(tree, ignore_errors=True)
        for name in ('dev', 'proc', 'sys', 'run', 'tmp', 'data', 'etc', 'usr/lib'):
            os.makedirs(os.path.join(tree, name))
        for name, content in files.items():
            target = os.path.join(tree, name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, 'wb') as file:
                file.write(content if isinstance(content, bytes) else content.encode())
            os.chmod(target, 0o755)
        images.make_ext4(path, 8, tree, 'root', images.UUID % 97)
        return path

    # --- what can be done to the machine ------------------------------------------------------------------------------------

    def configure(self, text):
        self.box.guest.agent.push(scenario.text(text), '/run/failure.conf')
        self.box.sh('mkdir -p %s; cp /run/failure.conf %s' % (os.path.dirname(CONF), CONF))

    def put(self, path, content, mode='755'):
        """A file of the slot's /etc, which the next version gets too."""
        self.box.sh('mkdir -p ' + os.path.dirname(path))
        self.box.guest.agent.push(scenario.text(content), path)
        self.box.sh('chmod %s %s' % (mode, path))

    def unit(self, name, script, section='', service=''):
        """A service that runs a script, at each boot."""
        self.put('/etc/appliance/' + name, '#!/bin/bash\n' + script)
        self.put('/etc/systemd/system/%s.service' % name, '[Unit]\nDescription=%s\n%s\n[Service]\nExecStart=/etc/appliance/%s\n%s\n'
                 % (name, section, name, service), '644')
        self.box.sh('ln -sf ../{0}.service /etc/systemd/system/multi-user.target.wants/{0}.service'.format(name))

    @contextlib.contextmanager
    def served(self, bundle):
        """The command that installs it, over HTTP; also a version that was rolled back from."""
        self.box.bootmgr('upgrade', 'clear')
        with server.serve(bundle=bundle[1]) as url:
            yield 'bootmgr upgrade system --yes ' + url('bundle')

    def off_at_reboot(self, command, change):
        """The command makes the machine reboot: where it would start again it is off, its disk is changed, it is switched on."""
        guest = self.box.guest
        guest.qmp('set-action', reboot='shutdown', shutdown='poweroff')     # not to be started again by its keeper
        with contextlib.suppress(AgentError):
            self.box.run(command)
        guest.wait_off(300)
        change()
        guest.start()

    def other_slot(self):
        return 'b' if self.box.status()['booted'] == 'a' else 'a'

    def damage(self, bundle, image, slot, at, size=64):
        """Bytes of a boot file of that version in that slot, on the ESP, become others. The machine is off."""
        name = self.boot_file(bundle, image, slot)
        esp = '%s@@%d' % (self.box.raw, ESP_OFFSET)
        path = os.path.join(self.directory, 'damaged')
        host.run([host.need('mcopy', 'mtools'), '-n', '-i', esp, '::/bootmgr/' + name, path])
        with open(path, 'r+b') as file:
            file.seek(at)
            old = file.read(size)
            file.seek(at)
            file.write(bytes(byte ^ 0xff for byte in old))
        host.run([host.need('mcopy', 'mtools'), '-o', '-i', esp, path, '::/bootmgr/' + name])

    @staticmethod
    def boot_file(bundle, image, slot):
        text = images.bootmgr('bundle', 'inspect', '--json', bundle[1])
        return next(i['digest'][:30] for i in json.loads(text)['images'] if i['name'] == image) + '0' + slot

    # --- a failure ----------------------------------------------------------------------------------------------------------

    def fails(self, what, bundle, reason, where, starts, do=None, console=None, good=None):
        """An upgrade to that bundle fails. do(command): instead of running the command that upgrades and waiting. good: whether to upgrade
        afterwards; None: unless it must be quick."""
        s, box = self.s, self.box
        before, slot, mark = box.configuration(), box.status()['booted'], box.guest.console_size()
        s.note('%s, on version %s' % (what, self.version))
        with self.served(bundle) as command:
            if do:
                do(command)
            else:
                self.goes_down(command)
            self.await_version(self.version)
        other = self.other_slot()
        status, failed = box.status(), box.operation()
        s.equal(what + ': the previous version runs and is what boots next',
                [status['booted'], status['next'], box.appliance()['version']], [slot, slot, self.version])
        s.equal(what + ': it has its configuration, to the byte', box.configuration(), before)
        s.equal(what + ': the upgrade has FAILED', [failed['operation'], failed['to_version'], failed['state']],
                ['UPGRADE', bundle[0], 'FAILED'])
        self._explained(what, reason, where)
        s.equal(what + ': the version that failed is marked bad', box.slot(other)['state'], 'bad')
        if console:
            shown = box.guest.console(mark)
            s.ok(what + ': on the console: ' + console, re.search(console, shown), shown[-1500:])
        self._no_loop(what, mark, starts)
        if good or (good is None and not s.options.quick):
            self.upgrades(what)

    def succeeds(self, what, bundle, starts):
        """An upgrade that is disturbed and succeeds all the same; then an operator goes back."""
        s, box, mark = self.s, self.box, self.box.guest.console_size()
        before, slot = box.configuration(), box.status()['booted']
        s.note('%s, on version %s' % (what, self.version))
        with self.served(bundle) as command:
            self.goes_down(command)
            self.await_version(bundle[0])
        status = box.status()
        s.equal(what + ': the new version runs and is confirmed', [box.appliance()['version'], box.operation()['state'], status['previous'],
                box.slot(status['booted'])['state']], [bundle[0], 'DONE', slot, 'confirmed'])
        self._no_loop(what, mark, starts)
        box.reboots('bootmgr rollback system')
        s.equal(what + ': the previous one can be gone back to, with its configuration', [box.status()['booted'], box.configuration()],
                [slot, before])

    def breaks(self, what, unit, reason, where):
        """A good version is confirmed, and then a unit with OnFailure=rollback.target fails."""
        def fail():
            self.put('/run/systemd/system/%s.service' % unit, '[Unit]\nOnFailure=rollback.target\n[Service]\nExecStart=/bin/false\n', '644')
            return 'systemctl daemon-reload; systemctl start --no-block %s.service' % unit
        self.is_left(what, fail, reason, where, 1)

    def is_left(self, what, fail, reason, where, starts):
        """A good version is confirmed, and then the command that fail() returns makes it one that is left."""
        s, box, old = self.s, self.box, self.version
        before, slot = box.configuration(), box.status()['booted']
        self.upgrades(what)
        mark, new, self.version = box.guest.console_size(), self.version, old
        box.sh('echo changed >/data/appliance/config/extra')
        self.goes_down(fail())
        self.await_version(old)
        status, back = box.status(), box.operation()
        s.equal(what + ': the previous version runs and is what boots next', [status['booted'], status['next'], box.appliance()['version']],
                [slot, slot, old])
        s.equal(what + ': it has its configuration, to the byte', box.configuration(), before)
        s.equal(what + ': nobody asked for the return', [back['operation'], back['automatic'], back['from_version'], back['to_version']],
                ['ROLLBACK', True, new, old])
        self._explained(what, 'version %s FAILED: %s' % (new, reason), where)
        self._no_loop(what, mark, starts)
        self.upgrades(what)

    def _explained(self, what, reason, where):
        text = self.box.bootmgr('show', 'upgrade', 'status')
        self.s.has('%s: show upgrade status says FAILED' % what, text, 'FAILED')
        self.s.has('%s: why: %s' % (what, reason), text, reason)
        self.s.has('%s: and where: %s' % (what, where), text, where)

    def _no_loop(self, what, mark, starts):
        self.s.equal('%s: the machine started %d times' % (what, starts), self.box.guest.console(mark).count('BdsDxe: starting'), starts)
        self.s.equal('%s: and is as it should be' % what, self.box.sh('systemctl --failed --plain --no-legend'), '')

    def upgrades(self, what):
        """A later, good upgrade works."""
        after = GOOD[1 - GOOD.index(self.version)]
        with self.served((after, self.build.bundle(after))) as command:
            self.goes_down(command)
            self.await_version(after)
        self.version = after
        self.s.equal('%s: a later good upgrade works' % what,
                     [self.box.appliance()['version'], self.box.operation()['state'], self.box.slot(self.box.status()['booted'])['state']],
                     [after, 'DONE', 'confirmed'])

    def goes_down(self, command):
        """Something after which the machine goes down; in the middle of the command or behind it."""
        try:
            result = self.box.run(command)
        except AgentError:
            return
        if result.code:
            raise scenario.ScenarioError('`%s` failed (%d): %s%s' % (command, result.code, result.text, result.errors))

    def await_version(self, version):
        """Until a new boot has finished and is that version's, confirmed."""
        deadline = time.monotonic() + RETURN_SECONDS
        while time.monotonic() < deadline:
            self.box.guest.wait_boot(max(deadline - time.monotonic(), 1), True)
            with contextlib.suppress(AgentError):
                found = self.box.run('sed -n s/^VERSION_ID=//p /usr/lib/os-release; systemctl is-active bootmgr-confirm').text.split()
                self.s.note('version %s is up, bootmgr-confirm is %s' % tuple((found + ['?', '?'])[:2]))
                if found == [version, 'active']:
                    return
        raise scenario.ScenarioError('version %s is not back within %d s' % (version, RETURN_SECONDS))
