# SPDX-License-Identifier: LGPL-2.1-or-later
"""A cluster of real daemons on one machine: each node is a bootmgrd with a disk image, an ESP directory, a data directory and a bus of
its own; controllers run a real etcd. A reboot is what a machine would do: the daemon ends, the newest entry that the boot menu would
choose becomes what runs, the units' work is done, and the daemon starts again.

Everything lies below one directory; ports are found free; nothing but loopback is used."""

import http.client
import json
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get('BUILD') or TOP / 'build').resolve()
BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><listen>unix:path=%s</listen><auth>EXTERNAL</auth><policy context="default"><allow user="*"/><allow own="*"/>
<allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>
"""


class Failure(Exception):
    pass


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def is_open(address, port):
    with socket.socket() as s:
        return s.connect_ex((address, port)) == 0


def run(*words, check=True, **more):
    p = subprocess.run([str(w) for w in words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120,
                       **more)
    if check and p.returncode != 0:
        raise Failure('%s: %d\n%s%s' % (' '.join(map(str, words)), p.returncode, p.stdout.decode(), p.stderr.decode()))
    return p


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


class Node:
    def __init__(self, world, name, address='127.0.0.1', program=None):
        self.world, self.name, self.address = world, name, address
        self.directory = world.directory / name
        self.data = self.directory / 'data'
        self.port = free_port()
        self.program = program or BUILD / 'bootmgr'
        self.daemon_program = self.program.parent / 'bootmgrd'
        self.running = ''
        self.sick = None                # the version that does not become healthy on it
        self.daemon = self.etcd = self.bus = None
        self.boots = 0
        self.lock = threading.RLock()
        for part in ('esp', 'data', 'run'):
            (self.directory / part).mkdir(parents=True)
        self.configure()
        run(self.program, 'init', '-q', '--image-size', '64M', '--esp-size', '34M', '--root-size', '4M', self.directory / 'run/disk.img')

    def configure(self, role='standalone'):
        lines = ['[System]', 'Compatible=test-box', '[Storage]', 'DataDirectory=%s' % self.data, '[Configuration]', 'SharedPaths=/cfg',
                 '[Trust]', 'Directory=%s' % (self.world.factory.directory / 'trust'), '[Cluster]', 'Name=%s' % self.name]
        if role == 'controller':
            lines += ['[API]', 'Listen=%s:%d' % (self.address, self.port)]
        (self.directory / 'conf').write_text('\n'.join(lines) + '\n')
        program = self.directory / 'bootmgr'
        program.write_text('#!/bin/sh\ncd %s && exec %s --disk run/disk.img --esp esp --data data --config conf '
                           '--cmdline "$(cat running)" "$@"\n' % (self.directory, self.program))
        program.chmod(0o755)
        if not (self.directory / 'running').exists():
            (self.directory / 'running').write_text('')

    def set_gate(self, version):
        path = self.directory / 'conf'
        path.write_text(path.read_text().replace('[System]', '[System]\nRollbackMinVersion=' + version))

    # --- the machine ---

    def bootmgr(self, *words, check=True):
        return run(self.directory / 'bootmgr', *words, check=check)

    def json(self, *words):
        return json.loads(self.bootmgr('--json', *words).stdout)

    def next_entry(self):
        ours = re.compile(r'bootmgr-\d+-[a-h](\+[1-9].*)?\.conf')
        entries = [p for p in (self.directory / 'esp/loader/entries').iterdir() if ours.fullmatch(p.name)]
        entries.sort(key=lambda p: int(p.name.split('-')[1]))
        for line in entries[-1].read_text().splitlines():
            if line.startswith('options '):
                return line.split(None, 1)[1]
        raise Failure('%s: no options in %s' % (self.name, entries[-1]))

    def boot(self):
        """What happens between the reset and the login."""
        self.running = self.next_entry()
        (self.directory / 'running').write_text(self.running)
        self.boots += 1
        self.bootmgr('boot-config', '-q')
        if self.sick and self.version() == self.sick:
            self.bootmgr('rollback', 'system', '-q', '--automatic')     # as its health checks or its deadline would
            self.boot()
            return
        self.bootmgr('check-health', '-q')
        self.bootmgr('confirm', '-q')

    def install(self, version):
        self.bootmgr('upgrade', 'system', '-q', self.world.factory.bundle(version))
        self.boot()

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
                self.world.wait('the bus of ' + self.name, socket_path.exists)
            env = dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS='unix:path=%s' % socket_path, BOOTMGR_PROGRAM=str(self.directory / 'bootmgr'),
                       BOOTMGR_CONFIG=str(self.directory / 'conf'), RUNTIME_DIRECTORY=str(self.directory / 'run'))
            self.daemon = self.spawn('daemon.log', self.daemon_program, env=env)

    def start_etcd(self):
        env = dict(os.environ)
        for line in (self.data / 'cluster/etcd.env').read_text().splitlines():
            if line and not line.startswith('#'):
                key, value = line.split('=', 1)
                env[key] = value
        self.etcd = self.spawn('etcd.log', 'etcd', env=env)

    def spawn(self, log, *words, **more):
        with open(self.directory / log, 'ab') as f:
            return subprocess.Popen([str(w) for w in words], stdin=subprocess.DEVNULL, stdout=f, stderr=f, start_new_session=True, **more)

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

    def stop(self, how=signal.SIGTERM):
        with self.lock:
            self.end(self.daemon, how)
            self.daemon = None

    def cut(self):
        """What a reset ends: the daemon, and what works for it. Etcd has a machine of its own here, so to say."""
        with self.lock:
            self.stop(signal.SIGKILL)
            for process in Path('/proc').iterdir():
                try:
                    if process.name.isdigit() and os.readlink(process / 'cwd') == str(self.directory):
                        os.kill(int(process.name), signal.SIGKILL)
                        while process.exists() and os.readlink(process / 'cwd') == str(self.directory):
                            time.sleep(0.01)
                except OSError:
                    pass                # it has ended

    def stop_all(self):
        self.cut()
        self.end(self.etcd)
        self.end(self.bus)
        self.etcd = self.bus = None

    # --- its reboot, when it has switched ---

    def wants_reboot(self):
        return self.running and self.next_entry() != self.running

    def reboot_if_wanted(self):
        with self.lock:
            if self.daemon and self.wants_reboot():
                self.cut()
                self.boot()
                self.start()
                return True
        return False

    # --- the API ---

    def request(self, method, path, body=None, headers=None, certificate=None):
        home = (certificate or self).data / 'cluster'
        context = ssl.create_default_context(cafile=home / 'ca.pem')
        context.load_cert_chain(home / 'node.pem', home / 'node.key')
        c = http.client.HTTPSConnection(self.address, self.port, context=context, timeout=20)
        c.request(method, path, body, headers or {})
        answer = c.getresponse()
        content = answer.read()
        c.close()
        return answer.status, content

    def ask(self, method, path, body=None, certificate=None):
        status, text = self.request(method, path, json.dumps(body) if body is not None else None, certificate=certificate)
        return status, json.loads(text) if text else None

    def fetch(self, path, headers=None):
        return self.request('GET', path, headers=headers)


class World:
    def __init__(self, directory):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True)
        self.factory = Factory(self.directory / 'factory')
        self.nodes = {}
        self.network, self.n_addresses = (random.randrange(1, 255), random.randrange(0, 255)), 0
        self.stopping = threading.Event()
        self.rebooter = threading.Thread(target=self.reboot_nodes, daemon=True)
        self.troubles = []

    def wait(self, what, condition, seconds=60):
        end = time.monotonic() + seconds
        while not condition():
            if self.troubles:
                raise Failure(self.troubles[0])
            if time.monotonic() > end:
                raise Failure('not within %d s: %s' % (seconds, what))
            time.sleep(0.1)

    def reboot_nodes(self):
        while not self.stopping.wait(0.1):
            for node in list(self.nodes.values()):
                try:
                    node.reboot_if_wanted()
                except (Failure, OSError, IndexError) as e:
                    self.troubles.append('%s does not come up: %s' % (node.name, e))

    def address(self):
        """One of loopback for each controller: their stores listen on the usual ports."""
        self.n_addresses += 1
        return '127.%d.%d.%d' % (self.network[0], self.network[1], self.n_addresses)

    def controller(self, name, version, first=None):
        node = Node(self, name, self.address())
        node.install(version)
        node.configure('controller')
        if first:
            self.join(node, first, 'controller', '--address', node.address)
        else:
            node.bootmgr('cluster', 'init', 'test', '--name', name, '--address', node.address)
        for name in ('etcd.env', 'store.endpoints'):
            path = node.data / 'cluster' / name
            path.write_text(re.sub(r'0\.0\.0\.0|127\.0\.0\.1', node.address, path.read_text()))
        node.start_etcd()
        if first:
            node.bootmgr('cluster', 'promote')
        node.start()
        self.nodes[node.name] = node
        self.wait('the interface of ' + node.name, lambda: is_open(node.address, node.port) and self.is_up(node))
        return node

    @staticmethod
    def is_up(node):
        p = node.bootmgr('--json', 'show', 'nodes', check=False)
        return p.returncode == 0 and any(n['name'] == node.name and n['state'] == 'up' for n in json.loads(p.stdout)['nodes'])

    def engine(self, name, version, controller):
        node = Node(self, name)
        node.install(version)
        self.join(node, controller)
        node.start()
        self.nodes[name] = node
        return node

    def join(self, node, controller, role='engine', *words):
        token = controller.bootmgr('cluster', 'token', '--role', role).stdout.decode().strip()
        node.bootmgr('node', 'join', 'https://%s:%d' % (controller.address, controller.port), token, '--name', node.name, *words)

    def __enter__(self):
        self.rebooter.start()
        return self

    def __exit__(self, kind, value, trace):
        self.stopping.set()
        self.rebooter.join()
        for node in self.nodes.values():
            node.stop_all()
        if kind and issubclass(kind, Failure):
            print('NOT OK: %s' % value, file=sys.stderr)
