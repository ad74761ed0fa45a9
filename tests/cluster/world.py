# SPDX-License-Identifier: LGPL-2.1-or-later
"""A cluster of real daemons on one machine: each node is a bootmgrd in a network namespace of its own (network.py), with a disk image,
an ESP directory, a data directory and a bus of its own; controllers run a real etcd. A reboot is what a machine would do: the daemon,
what works for it and etcd end, the newest entry that the boot menu would choose becomes what runs, the units' work is done by the
programs of that version, and the daemon starts again.

Everything lies below one directory."""

import base64
import http.client
import json
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import network

TOP = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get('BUILD') or TOP / 'build').resolve()
BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><listen>unix:path=%s</listen><auth>EXTERNAL</auth><policy context="default"><allow user="*"/><allow own="*"/>
<allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>
"""


class Failure(Exception):
    pass


def is_open(address, port):
    with socket.socket() as s:
        return s.connect_ex((address, port)) == 0


def run(*words, check=True, timeout=120):
    words = [str(w) for w in words]
    try:
        p = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout)
    except subprocess.TimeoutExpired as e:
        raise Failure('not within %d s: %s' % (timeout, ' '.join(words))) from e
    if check and p.returncode != 0:
        raise Failure('%s: %d\n%s%s' % (' '.join(words), p.returncode, p.stdout.decode(), p.stderr.decode()))
    return p


def send(pid, how):
    try:
        os.kill(pid, how)
    except ProcessLookupError:
        pass                            # it has ended


class Factory:
    """Keys and bundles."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.program = BUILD / 'bootmgr'
        run(self.program, 'bundle', 'keygen', '-q', self.directory / 'release')
        (self.directory / 'trust').mkdir()
        (self.directory / 'trust/release.pem').write_bytes((self.directory / 'release.pem').read_bytes())

    def bundle(self, version, size=1 << 20):
        path = self.directory / ('%s.bundle' % version)
        if not path.exists():
            for name, n in (('root', size), ('kernel', 20000), ('initrd', 30000)):
                text = ('%s of version %s\n' % (name, version)).encode()
                (self.directory / (name + '.img')).write_bytes((text * (n // len(text) + 1))[:n])
            images = [w for name in ('root', 'kernel', 'initrd') for w in ('--' + name, self.directory / (name + '.img'))]
            run(self.program, 'bundle', 'create', '-q', '--version', version, '--compatible', 'test-box', *images,
                '--key', self.directory / 'release.key', path)
        return path


def accepts(path):
    """A socket is there before anybody listens on it."""
    with socket.socket(socket.AF_UNIX) as s:
        return s.connect_ex(str(path)) == 0


class Node:
    PORT = 8443

    def __init__(self, world, name, version):
        self.world, self.name = world, name
        self.cable = world.cable(name)
        self.address = self.cable.address
        self.directory = world.directory / name
        self.data = self.directory / 'data'
        self.running = ''
        self.sick = None                # the version that does not become healthy on it
        self.daemon = self.etcd = self.promotion = self.bus = None
        self.boots, self.was_reset, self.log_from = 0, False, 0
        self.away = []                  # from when to when, each time that it has rebooted because it wanted to
        self.coming_up = None           # the command of its boot that is at work
        self.lock = threading.RLock()
        self.directory.mkdir()
        self.use(version)
        self.configure()

    def use(self, version):
        """What lies in the slot with that version: its programs."""
        self.program = self.world.programs.get(version, BUILD / 'bootmgr')
        script = self.directory / 'bootmgr.new'
        script.write_text('#!/bin/sh\ncd %s && exec %s --disk run/disk.img --esp esp --data data --config conf '
                          '--cmdline "$(cat running)" "$@"\n' % (self.directory, self.program))
        script.chmod(0o755)
        script.rename(self.directory / 'bootmgr')

    def configure(self, role='standalone'):
        lines = ['[System]', 'Compatible=test-box', '[Storage]', 'DataDirectory=%s' % self.data, '[Configuration]', 'SharedPaths=/cfg',
                 '[Trust]', 'Directory=%s' % (self.world.factory.directory / 'trust'), '[Cluster]', 'Name=%s' % self.name]
        if role == 'controller':
            lines += ['[API]', 'Listen=%s:%d' % (self.address, self.PORT)]
        (self.directory / 'conf').write_text('\n'.join(lines) + '\n')
        if not (self.directory / 'running').exists():
            (self.directory / 'running').write_text('')

    def set_gate(self, version):
        path = self.directory / 'conf'
        path.write_text(path.read_text().replace('[System]', '[System]\nRollbackMinVersion=' + version))

    # --- the machine ---

    def bootmgr(self, *words, check=True):
        return run(*self.cable.inside(self.directory / 'bootmgr', *words), check=check)

    def json(self, *words):
        return json.loads(self.bootmgr('--json', *words).stdout)

    def entries(self):
        """Those that the boot menu would start, the newest last. A list that was read while one was renamed may lack it: read it twice."""
        ours, last = re.compile(r'bootmgr-\d+-[a-h](\+[1-9].*)?\.conf'), None
        while True:
            entries = [p for p in (self.directory / 'esp/loader/entries').iterdir() if ours.fullmatch(p.name)]
            entries.sort(key=lambda p: int(p.name.split('-')[1]))
            if entries and entries == last:
                return entries
            last = entries

    def newest_entry(self):
        """What the boot menu would choose: the version in its title, and its command line."""
        while True:
            entries = self.entries()
            try:
                lines = dict(line.split(None, 1) for line in entries[-1].read_text().splitlines() if ' ' in line)
                return lines['title'].split(' (slot ')[0], lines['options']
            except FileNotFoundError:
                pass                    # it was confirmed meanwhile, and has another name

    def next_entry(self):
        return self.newest_entry()[1]

    def boot(self):
        """What happens between the reset and the login; and again, if it is reset meanwhile."""
        for _ in range(20):
            version, self.running = self.newest_entry()
            self.use(version)
            (self.directory / 'running').write_text(self.running)
            self.boots += 1
            self.was_reset = False
            if self.comes_up():
                return
            self.end_processes(signal.SIGKILL)
        raise Failure('%s does not come up' % self.name)

    def comes_up(self):
        sick = self.sick and self.version() == self.sick
        if not self.step('boot-config'):
            return False
        if self.data.joinpath('cluster/etcd.env').exists() and not self.was_reset:
            self.start_etcd()
        if sick:
            self.step('rollback', 'system', '--automatic')      # as its health checks or its deadline would
            return False
        self.step('check-health')
        self.step('confirm')
        return not self.was_reset

    def step(self, *words):
        """False: it was reset meanwhile, or boot-config has given this slot up, and asks for the reboot into another one."""
        if self.was_reset:
            return False
        p = self.spawn('boot.log', self.directory / 'bootmgr', *words, '-q')
        self.coming_up = p
        try:
            p.wait(120)
        except subprocess.TimeoutExpired as e:
            raise Failure('%s of %s does not end' % (words[0], self.name)) from e
        finally:
            self.coming_up = None
        if p.returncode != 0 and not self.was_reset and not (words[0] == 'boot-config' and self.wants_reboot()):
            raise Failure('%s: %d\n%s' % (' '.join(words), p.returncode, (self.directory / 'boot.log').read_text()))
        return p.returncode == 0 and not self.was_reset

    def install(self, version):
        """As in the factory: an empty disk, and its first version."""
        for part in ('esp', 'data', 'run'):
            (self.directory / part).mkdir()
        run(self.program, 'init', '-q', '--image-size', '64M', '--esp-size', '34M', '--root-size', '4M', self.directory / 'run/disk.img')
        self.bootmgr('upgrade', 'system', '-q', self.world.factory.bundle(version))
        self.boot()

    def copy(self, image):
        """A machine is a copy of the image that the factory has made."""
        run('cp', '-a', *(image.directory / part for part in ('esp', 'data', 'run', 'running')), self.directory)
        self.running = image.running

    def version(self):
        s = self.json('status')
        return next((x['version'] for x in s['slots'] if x['name'] == s['booted']), None)

    # --- processes ---

    def start(self):
        with self.lock:
            if self.daemon:
                return
            socket_path = self.directory / 'bus'
            if not self.bus:
                (self.directory / 'bus.conf').write_text(BUS % socket_path)
                self.bus = self.spawn('bus.log', 'dbus-daemon', '--config-file=%s' % (self.directory / 'bus.conf'), '--nofork',
                                      '--nopidfile')
                self.world.wait('the bus of ' + self.name, lambda: accepts(socket_path))
            env = dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS='unix:path=%s' % socket_path, BOOTMGR_PROGRAM=str(self.directory / 'bootmgr'),
                       BOOTMGR_CONFIG=str(self.directory / 'conf'), RUNTIME_DIRECTORY=str(self.directory / 'run'))
            log = self.directory / 'daemon.log'
            self.log_from = log.stat().st_size if log.exists() else 0
            self.daemon = self.spawn('daemon.log', self.program.parent / 'bootmgrd', env=env)

    def was_beaten(self):
        """By one that was killed while it forked: until the child is another program it has the name on the bus, and the port. systemd
        starts bootmgrd again then (Restart=on-failure)."""
        return self.daemon.returncode == 1 and b'bootmgrd: File exists\n' in (self.directory / 'daemon.log').read_bytes()[self.log_from:]

    def start_etcd(self):
        with self.lock:
            if self.etcd and self.etcd.poll() is None:
                return
            env = dict(os.environ)
            for line in (self.data / 'cluster/etcd.env').read_text().splitlines():
                if line and not line.startswith('#'):
                    key, value = line.split('=', 1)
                    env[key] = value
            self.etcd = self.spawn('etcd.log', 'etcd', env=env)
            # bootmgr-promote.service, which every start of etcd starts
            self.promotion = self.spawn('promote.log', 'sh', '-c', 'until ./bootmgr cluster promote; do sleep 3; done')

    def spawn(self, log, *words, **more):
        """In its directory: by that workers() knows it, and what it starts, from the fork on."""
        with open(self.directory / log, 'ab') as f:
            return subprocess.Popen(self.cable.inside(*words), stdin=subprocess.DEVNULL, stdout=f, stderr=f, start_new_session=True,
                                    cwd=self.directory, **more)

    @staticmethod
    def end(process, how=signal.SIGTERM):
        if process and process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(how)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def workers(self):
        """The daemon, etcd, and what works for them or for a boot: each runs in its directory. Not the bus, which outlives a reset."""
        return [int(p.name) for p in Path('/proc').iterdir() if p.name.isdigit() and int(p.name) != (self.bus.pid if self.bus else 0) and
                self.is_worker(int(p.name))]

    def is_worker(self, pid):
        try:
            return os.readlink('/proc/%d/cwd' % pid) == str(self.directory)
        except OSError:
            return False

    def freeze(self, how):
        """SIGSTOP: all of it stands still, as a machine that hangs; SIGCONT: it goes on."""
        for pid in self.workers():
            send(pid, how)

    def stop(self, how=signal.SIGTERM):
        with self.lock:
            self.end(self.daemon, how)
            self.daemon = None

    def end_processes(self, how):
        """What a reset ends, or a shutdown."""
        self.stop(signal.SIGKILL)
        self.end(self.etcd, how)
        self.etcd = None
        self.kill_workers()

    def kill_workers(self):
        """Until there are none: one may fork while they are listed."""
        end = time.monotonic() + 30
        while pids := self.workers():
            for pid in pids:
                send(pid, signal.SIGKILL)
            if time.monotonic() > end:
                raise Failure('these of %s cannot be killed: %s' % (self.name, pids))
            time.sleep(0.01)

    def cut(self, how=signal.SIGKILL):
        with self.lock:
            self.end_processes(how)

    def reset(self):
        """In the middle of whatever it does, its boot too."""
        self.was_reset = True
        coming_up = self.coming_up
        if coming_up:
            for pid in self.workers():  # whoever boots it ends the rest
                send(pid, signal.SIGKILL)
            return
        with self.lock:
            if not self.daemon:
                return                  # it is off, or has just come up from a reset
            self.cut()
            self.boot()
            self.start()

    def stop_all(self):
        self.cut()
        self.end(self.bus)
        self.bus = None
        self.cable.end()

    # --- its reboot, when it has switched ---

    def wants_reboot(self):
        return self.running and self.next_entry() != self.running

    def reboot_if_wanted(self):
        with self.lock:
            if self.daemon and self.daemon.poll() is not None and self.was_beaten():
                self.daemon = None
                self.start()
            if self.daemon and self.daemon.poll() is not None:
                raise Failure('bootmgrd has ended by itself: %d' % self.daemon.returncode)
            if self.daemon and self.wants_reboot():
                begin = time.monotonic()
                self.cut(signal.SIGTERM)
                self.boot()
                self.start()
                self.away.append((begin, time.monotonic()))

    # --- the API ---

    def request(self, method, path, body=None, headers=None, certificate=None, timeout=20, sent=None):
        """`sent`: an event, set as soon as the daemon can read all of it."""
        home = (certificate or self).data / 'cluster'
        context = ssl.create_default_context(cafile=home / 'ca.pem')
        context.load_cert_chain(home / 'node.pem', home / 'node.key')
        c = http.client.HTTPSConnection(self.address, self.PORT, context=context, timeout=timeout)
        c.request(method, path, body, headers or {})
        if sent:
            sent.set()
        answer = c.getresponse()
        content = answer.read()
        c.close()
        return answer.status, content

    def ask(self, method, path, body=None, certificate=None, timeout=20):
        status, text = self.request(method, path, json.dumps(body) if body is not None else None, certificate=certificate, timeout=timeout)
        return status, json.loads(text) if text else None

    def try_ask(self, path):
        """None: it does not answer."""
        try:
            status, answer = self.ask('GET', path, timeout=5)
        except (OSError, http.client.HTTPException, ValueError):
            return None
        return answer if status == 200 else None

    def stored(self, prefix):
        """What the store has below a key, as this controller's etcd says: {key: value}."""
        home = self.data / 'cluster'
        context = ssl.create_default_context(cafile=home / 'store-ca.pem')
        context.load_cert_chain(home / 'store.pem', home / 'store.key')
        code = [base64.b64encode(key.encode()).decode() for key in (prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1))]
        c = http.client.HTTPSConnection(self.address, 2379, context=context, timeout=20)
        c.request('POST', '/v3/kv/range', json.dumps({'key': code[0], 'range_end': code[1]}))
        pairs = json.loads(c.getresponse().read()).get('kvs', [])
        c.close()
        return {base64.b64decode(p['key']).decode(): json.loads(base64.b64decode(p['value'])) for p in pairs}

    def state_record(self):
        """The newest copy on its disk (docs/formats.md): minor, length of its payload, and what is behind the payload of minor 0."""
        disk = (self.directory / 'run/disk.img').read_bytes()
        copies = []
        for at in (m.start() for m in re.finditer(b'BOOTMGRS', disk)):
            minor, length, sequence = struct.unpack_from('<2xHIQ', disk, at + 8)
            if at % 4096 == 0 and length <= 4064:
                copies.append((sequence, minor, length, disk[at + 32 + 1792:at + 32 + length]))
        return max(copies)[1:]

    def fetch(self, path, headers=None):
        return self.request('GET', path, headers=headers)


class World:
    def __init__(self, directory, programs=None):
        """`programs`: bootmgr of each version, which a bootmgrd lies beside; else what was built is all of them. network.enter() first."""
        self.directory = Path(directory)
        self.directory.mkdir(parents=True)
        self.factory = Factory(self.directory / 'factory')
        self.nodes, self.made, self.images = {}, [], {}
        self.programs, self.n_cables = programs or {}, 0
        self.stopping, self.rebooters = threading.Event(), []
        self.troubles = []

    def wait(self, what, condition, seconds=180):
        """So long: several schedules go side by side on a small machine."""
        end = time.monotonic() + seconds
        while not condition():
            self.check()
            if time.monotonic() > end:
                raise Failure('not within %d s: %s' % (seconds, what))
            time.sleep(0.2)

    def reboot(self, node):
        while not self.stopping.wait(0.1):
            try:
                node.reboot_if_wanted()
            except Exception as e:      # whatever it is, it must be told: this node would never boot again
                self.trouble(node.name, e)

    def trouble(self, where, e):
        """What went wrong in a thread, and would be heard of nowhere else."""
        told = isinstance(e, (Failure, OSError))
        self.troubles.append('%s: %s' % (where, e if told else ''.join(traceback.format_exception(type(e), e, e.__traceback__))))

    def check(self):
        if self.troubles:
            raise Failure(self.troubles[0])

    def cable(self, name):
        self.n_cables += 1
        return network.Cable(name, self.n_cables)

    def add(self, node):
        self.nodes[node.name] = node
        self.rebooters.append(threading.Thread(target=self.reboot, args=(node,), daemon=True))
        self.rebooters[-1].start()

    def machine(self, name, version):
        if version not in self.images:
            image = self.images[version] = Node(self, 'image' + version, version)
            image.install(version)
            image.cable.end()
        node = Node(self, name, version)
        self.made.append(node)
        node.copy(self.images[version])
        return node

    def controller(self, name, version, first=None):
        node = self.machine(name, version)
        node.configure('controller')
        if first:
            self.join(node, first, 'controller', '--address', node.address)
        else:
            node.bootmgr('cluster', 'init', 'test', '--name', name, '--address', node.address)
        node.start_etcd()
        if first:
            self.wait('the store of ' + name, lambda: node.promotion.poll() == 0)
        node.start()
        self.add(node)
        self.wait('the interface of ' + name, lambda: is_open(node.address, node.PORT) and self.is_up(node))
        return node

    @staticmethod
    def is_up(node):
        answer = node.try_ask('/api/cluster/nodes') or {}
        return any(n['name'] == node.name and n['state'] == 'up' for n in answer.get('nodes', []))

    def engine(self, name, version, controller):
        node = self.machine(name, version)
        self.join(node, controller)
        node.start()
        self.add(node)
        return node

    def join(self, node, controller, role='engine', *words):
        token = controller.bootmgr('cluster', 'token', '--role', role).stdout.decode().strip()
        node.bootmgr('node', 'join', 'https://%s:%d' % (controller.address, controller.PORT), token, '--name', node.name, *words)

    def write_down(self):
        """Into its directory: what can be found out only while all of it runs."""
        (self.directory / 'processes').write_bytes(run('ps', '-eo', 'pid,ppid,stat,etimes,wchan:20,args', check=False).stdout)
        for node in self.made:
            status = node.directory / 'status.json'
            try:
                if not (self.directory / 'store.json').exists() and (node.data / 'cluster/etcd.env').exists():
                    (self.directory / 'store.json').write_text(json.dumps(node.stored('bootmgr/'), indent=1))
                status.write_bytes(run(node.directory / 'bootmgr', '--json', 'status', check=False, timeout=20).stdout)
            except Exception as e:      # whatever it is: this only explains another failure
                print('# of %s nothing can be written down: %s' % (node.name, e), file=sys.stderr)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.stopping.set()
        for rebooter in self.rebooters:
            rebooter.join()
        if kind:
            self.write_down()
        for node in self.made:
            try:
                node.stop_all()
            except (Failure, OSError) as e:
                print('# %s: %s' % (node.name, e), file=sys.stderr)
        if kind and issubclass(kind, Failure):
            print('NOT OK: %s' % value, file=sys.stderr)
