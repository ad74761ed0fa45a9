# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest: its disk, its firmware's variables, its QEMU process, and what can be done with it.

Everything about a guest lies in its directory (build/vm/NAME):

    guest.json   the options it was made with, the process that runs it, the boot that was last waited for
    disk.qcow2   what it has written: an overlay, the image below stays as it was built
    vars.fd      its EFI variables; they survive a power cut like the disk
    console.log  everything that came over the serial console
    qemu.log     what QEMU said
    *.sock       the guest agent, QEMU's monitor (QMP), the serial console
"""

import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import host
import qmp
from agent import Agent, AgentError, AgentLost

DEFAULTS = {
    'mem': 768, 'cpus': 1, 'overlay': True, 'network': True, 'blockdev': [], 'disk_node': 'disk', 'disk_opts': '',
    'write_log': None, 'qemu': [],
}
NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9._-]{0,63}')
BOOTED = ('running', 'degraded')        # what systemctl says once all jobs of the boot have ended


class GuestError(Exception):
    """What was asked cannot be done with this guest; the text says why."""


def listed():
    """All guests that have a directory."""
    try:
        names = sorted(os.listdir(host.GUESTS))
    except FileNotFoundError:
        return []
    return [Guest(name) for name in names if os.path.exists(os.path.join(host.GUESTS, name, 'guest.json'))]


class Guest:
    def __init__(self, name):
        if not NAME.fullmatch(name):
            raise GuestError('%r is no name for a guest: letters, digits, ".", "_" and "-", 64 at most' % name)
        self.name = name
        self.directory = os.path.join(host.GUESTS, name)
        self.agent = Agent(self.directory, self._agent_listens)
        self.state = self._load()

    def path(self, name):
        return os.path.join(self.directory, name)

    # --- state --------------------------------------------------------------------------------------------------------------

    def _load(self):
        try:
            with open(self.path('guest.json')) as file:
                return json.load(file)
        except FileNotFoundError:
            return None

    def _save(self):
        temporary = self.path('guest.json.new')
        with open(temporary, 'w') as file:
            json.dump(self.state, file, indent=2)
        os.replace(temporary, self.path('guest.json'))

    @property
    def exists(self):
        return self.state is not None

    @property
    def pid(self):
        """The process id of its QEMU, or None. Told from a later process of the same number by its start time."""
        if not self.state or not self.state.get('pid'):
            return None
        return self.state['pid'] if _start_time(self.state['pid']) == self.state['started'] else None

    def must_exist(self):
        if not self.exists:
            raise GuestError('there is no guest %s: `qemu/vm up %s IMAGE` makes it' % (self.name, self.name))

    def must_run(self):
        self.must_exist()
        if not self.pid:
            raise GuestError('guest %s is off: `qemu/vm up %s` switches it on' % (self.name, self.name))

    # --- power --------------------------------------------------------------------------------------------------------------

    def create(self, image, **options):
        """A fresh guest over an image; what an earlier guest of this name wrote is gone."""
        if self.pid:
            raise GuestError('guest %s is running: `qemu/vm down %s` first' % (self.name, self.name))
        if not os.path.exists(image):
            raise GuestError('there is no image %s: `qemu/image` builds images' % image)
        self.delete()
        os.makedirs(self.directory)
        self.state = {'image': os.path.abspath(image), **DEFAULTS, **options}
        if self.state['write_log']:
            self.state['write_log'] = os.path.abspath(self.state['write_log'])
        self._make_disk()
        self.fresh_variables()
        self._save()

    def _make_disk(self):
        # What a link names may change; what lies below an overlay must not.
        image = self.state['base'] = os.path.realpath(self.state['image'])
        layout = _image_format(image)
        self.state['disk'], self.state['format'] = image, layout
        if self.state['overlay']:
            self.state['disk'], self.state['format'] = self.path('disk.qcow2'), 'qcow2'
            subprocess.run([host.need('qemu-img', 'qemu-utils'), 'create', '-q', '-f', 'qcow2', '-F', layout, '-b', image,
                            self.state['disk']], check=True)

    def renew_disk(self):
        """Throw away what the guest has written to its overlay: it goes on with the image below, and with its EFI variables."""
        self._make_disk()
        self._save()

    def fresh_variables(self):
        shutil.copyfile(host.firmware()[1], self.path('vars.fd'))

    def start(self, **changes):
        """Switch it on. Changed options stay with the guest."""
        self.must_exist()
        if self.pid:
            raise GuestError('guest %s is running already' % self.name)
        if not os.path.exists(self.state['base']):
            raise GuestError('the image below guest %s is gone (%s): `qemu/vm up %s --fresh` begins anew over %s'
                             % (self.name, self.state['base'], self.name, self.state['image']))
        self.state.update(changes)
        self.state.update(boot_id=None)
        for name in ('agent.sock', 'qmp.sock', 'gdb.sock', 'console.sock'):
            _unlink(self.path(name))
        with open(self.path('qemu.log'), 'ab') as log:
            process = subprocess.Popen(self._command(), cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       start_new_session=True)
        self.state.update(pid=process.pid, started=_start_time(process.pid))
        self._save()
        self._await_monitor(process)

    def _await_monitor(self, process):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if process.poll() is not None:
                with open(self.path('qemu.log'), errors='replace') as log:
                    raise GuestError('QEMU did not start guest %s: %s' % (self.name, log.read().strip()[-2000:]))
            try:
                return self.qmp('query-status')
            except (OSError, GuestError):
                time.sleep(0.05)
        raise GuestError('QEMU runs guest %s, but its monitor did not answer for 30 s' % self.name)

    def cut(self):
        """A power cut: QEMU is killed. What the guest had not flushed may be in the host's page cache all the same."""
        if pid := self.pid:
            os.kill(pid, signal.SIGKILL)
            self._await_end(10)
            try:
                os.waitpid(pid, 0)      # its threads may outlive it, and hold its files
            except ChildProcessError:
                pass

    def down(self, timeout=90):
        """Ask the guest to power off; after the timeout, pull the plug. Returns whether it went by itself."""
        if not self.pid:
            return True
        self.qmp('system_powerdown')
        if self._await_end(timeout):
            return True
        self.cut()
        return False

    def _await_end(self, timeout):
        deadline = time.monotonic() + timeout
        while self.pid:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def delete(self):
        shutil.rmtree(self.directory, ignore_errors=True)
        self.state = None

    # --- QEMU ---------------------------------------------------------------------------------------------------------------

    def _command(self):
        state = self.state
        accel = host.accelerator()
        code, _ = host.firmware()
        keeper = [] if accel == host.KVM else [sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'keeper.py')]
        return [
            *keeper, host.need(host.QEMU, 'qemu-system-x86'), '-name', self.name, '-nodefaults', '-no-user-config', '-display', 'none',
            *host.MACHINE, '-accel', accel, '-cpu', 'host' if accel == host.KVM else 'qemu64',
            '-m', str(state['mem']), '-smp', str(state['cpus']),
            '-drive', 'if=pflash,unit=0,format=raw,readonly=on,file=' + _comma(code),
            '-drive', 'if=pflash,unit=1,format=raw,file=vars.fd',
            '-chardev', 'socket,id=console,path=console.sock,server=on,wait=off,logfile=console.log,logappend=on',
            '-serial', 'chardev:console',
            '-device', 'virtio-serial-pci',
            '-chardev', 'socket,id=agent,path=agent.sock,server=on,wait=off',
            '-device', 'virtserialport,chardev=agent,name=org.qemu.guest_agent.0',
            '-qmp', 'unix:qmp.sock,server=on,wait=off',
            '-device', 'virtio-rng-pci',
            *self._disk_options(), *self._network_options(), *state['qemu'],
        ]

    def _disk_options(self):
        state = self.state
        options = ['-blockdev', 'driver=file,node-name=disk-file,filename=' + _comma(state['disk']),
                   '-blockdev', 'driver=%s,node-name=disk,file=disk-file' % state['format']]
        node, careful = state['disk_node'], ''
        if state['write_log']:
            # Begun anew each time. What counts as flushed is what the log says: the host need not flush anything.
            with open(state['write_log'], 'wb'):
                pass
            options[1] += ',cache.no-flush=on'
            options += ['-blockdev', 'driver=file,node-name=write-log-file,cache.no-flush=on,filename=' + _comma(state['write_log']),
                        '-blockdev', 'driver=blklogwrites,node-name=write-log,file=disk,log=write-log-file,log-append=off,'
                                     'log-super-update-interval=1']
            node = 'write-log' if node == 'disk' else node
            # Before QEMU 9.0 what is logged meanwhile may come between the entry of a write of zeros and its zeros; and requests that
            # were merged up to the 1024 parts that a write may have are one too many with their entry, and fail.
            careful = 'write-zeroes=off,request-merging=off'
        for blockdev in state['blockdev']:
            options += ['-blockdev', blockdev]
        device = 'virtio-blk-pci,drive=%s,serial=disk,bootindex=0' % node
        return [*options, '-device', ','.join(filter(None, (device, careful, state['disk_opts'])))]

    def _network_options(self):
        if not self.state['network']:
            return []
        return ['-netdev', 'user,id=net0', '-device', 'virtio-net-pci,netdev=net0,romfile=']

    def qmp(self, command, **arguments):
        """One command of QEMU's machine protocol; returns its answer."""
        directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(10)
                connection.connect('/proc/self/fd/%d/qmp.sock' % directory)
                return qmp.Monitor(connection).ask(command, **arguments)
        except (qmp.Refused, qmp.Gone) as error:
            raise GuestError(str(error)) from None
        finally:
            os.close(directory)

    def forward(self, port):
        """A port of this machine's own address that leads to that TCP port of the guest, until it is switched off."""
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            free = probe.getsockname()[1]
        answer = self.qmp('human-monitor-command', **{'command-line': 'hostfwd_add net0 tcp:127.0.0.1:%d-:%d' % (free, port)})
        if answer.strip():
            raise GuestError('QEMU leads no port to guest %s: %s' % (self.name, answer.strip()))
        return free

    def _agent_listens(self):
        try:
            return any(device['label'] == 'agent' and device['frontend-open'] for device in self.qmp('query-chardev'))
        except (OSError, GuestError):
            return False

    # --- its serial console -------------------------------------------------------------------------------------------------

    def console(self, offset=0):
        """What came over it, from that byte on."""
        try:
            with open(self.path('console.log'), 'rb') as log:
                log.seek(offset)
                return log.read().decode('utf-8', 'replace').replace('\r', '')
        except FileNotFoundError:
            return ''

    def console_size(self):
        return os.path.getsize(self.path('console.log')) if os.path.exists(self.path('console.log')) else 0

    def wait_console(self, text, timeout, offset=0, count=1):
        """Until the text came over it that often; returns all from the offset on."""
        deadline = time.monotonic() + timeout
        while (shown := self.console(offset)).count(text) < count:
            self.must_run()
            if time.monotonic() > deadline:
                raise GuestError('guest %s did not show %r %d times within %d s' % (self.name, text, count, timeout))
            time.sleep(0.5)
        return shown

    def type(self, text):
        """As if it were typed on it. One client at a time: not while `qemu/vm console` is there."""
        directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect('/proc/self/fd/%d/console.sock' % directory)
                connection.sendall(text.encode())
                time.sleep(1)       # closed at once, QEMU would drop what its guest has not taken yet
        finally:
            os.close(directory)

    def on_screen(self, text):
        """Whether a line of its screen (tty1) holds that text, in the colour that Linux writes by itself. Read from its memory, where each
        character lies beside its colour: so a guest needs no display. What was shown before a reset may be there still."""
        wanted, piece = bytes(byte for character in text.encode() for byte in (character, 7)), 64 << 20
        dump = self.path('memory')
        try:
            for at in range(0, self.state['mem'] << 20, piece):
                self.qmp('pmemsave', val=at, size=min(piece + 4096, (self.state['mem'] << 20) - at), filename=dump)
                with open(dump, 'rb') as file:
                    if wanted in file.read():
                        return True
            return False
        finally:
            _unlink(dump)

    # --- in the guest -------------------------------------------------------------------------------------------------------

    def run(self, argv, **options):
        self.must_run()
        return self.agent.run(argv, **options)

    def wait_boot(self, timeout=300, new=False):
        """Wait until all jobs of a boot have ended; returns (boot id, `systemctl is-system-running`).

        With new, a boot is awaited whose id differs from the one that was last returned here.
        """
        deadline = time.monotonic() + timeout
        last = self.state and self.state.get('boot_id')
        seen = 'the guest agent has not answered yet'
        while time.monotonic() < deadline:
            self.must_run()
            try:
                boot_id = self.run(['cat', '/proc/sys/kernel/random/boot_id'], connect_timeout=3, timeout=10).text.strip()
                if not boot_id or (new and boot_id == last):
                    seen = 'boot %s still runs' % boot_id
                    time.sleep(0.3)
                    continue
                left = max(deadline - time.monotonic(), 1)
                seen = 'boot %s has not finished' % boot_id
                system = self.run(['systemctl', 'is-system-running', '--wait'], connect_timeout=3, timeout=left).text.strip()
            except AgentError:
                time.sleep(0.2)
                continue
            if system in BOOTED:
                self.state = self._load()
                self.state['boot_id'] = boot_id
                self._save()
                return boot_id, system
            seen = 'boot %s is "%s"' % (boot_id, system)
            time.sleep(0.3)
        raise GuestError('guest %s did not boot within %d s: %s; `qemu/vm console %s` shows its console'
                         % (self.name, timeout, seen, self.name))

    def wait_off(self, timeout=120):
        if not self._await_end(timeout):
            raise GuestError('guest %s is still on after %d s' % (self.name, timeout))


def _start_time(pid):
    """When a process started, in clock ticks since the host's boot; None if there is none, or only its zombie."""
    try:
        with open('/proc/%d/stat' % pid) as file:
            fields = file.read().rpartition(')')[2].split()
    except OSError:
        return None
    return None if fields[0] == 'Z' else fields[19]


def _image_format(path):
    with open(path, 'rb') as file:
        return 'qcow2' if file.read(4) == b'QFI\xfb' else 'raw'


def _comma(text):
    """QEMU's options end at a comma; a comma in a path is written twice."""
    return text.replace(',', ',,')


def _unlink(path):
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
