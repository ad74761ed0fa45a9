# SPDX-License-Identifier: LGPL-2.1-or-later
"""bootmgr, and what could be used instead of it, each installing an image onto a loop device."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time

import host
from measure import ENV, Usage, launched, launcher, run, usage_of

NO_IO_URING = sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'cli', 'no_io_uring.py')
IN_SLOT_A = 'bootmgr.slot=a bootmgr.generation=1'       # the kernel command line that says so


class Bootmgr:
    """A machine whose slots are the two loop devices."""

    def __init__(self, work, loops):
        self.work, self.program, self.cmdline = work, os.path.join(host.BUILD, 'bootmgr'), ''
        os.makedirs(work, exist_ok=True)
        self.keys = os.path.join(work, 'release')
        if not os.path.exists(self.keys + '.key'):
            run(self.program, 'bundle', 'keygen', self.keys)
        self.trust = os.path.join(work, 'trust')
        os.makedirs(self.trust, exist_ok=True)
        shutil.copy(self.keys + '.pem', self.trust)
        self.disk = os.path.join(work, 'disk.img')
        if not os.path.exists(self.disk):
            run(self.program, 'init', self.disk, '--image-size', '128M', '--esp-size', '40M', '--root-size', '16M')
        with open(os.path.join(work, 'conf'), 'w') as file:
            file.write('[System]\nCompatible=bench\n[Storage]\nSlots=a:%s b:%s\nState=%s/state.0 %s/state.1\n[Boot]\nLoader=none\n'
                       '[Trust]\nDirectory=%s\n' % (loops[0].device, loops[1].device, work, work, self.trust))

    def bundle(self, image, version, *options):
        path = os.path.join(self.work, version + '.bundle')
        if not os.path.exists(path):
            start = time.monotonic()
            run(self.program, 'bundle', 'create', '-q', '--version', version, '--compatible', 'bench', '--root', image, *options,
                '--key', self.keys + '.key', path + '.part')
            os.rename(path + '.part', path)
            seconds = time.monotonic() - start
            print('bundle create %s: %.2f s, %d MiB' % (' '.join(options), seconds, os.path.getsize(path) >> 20), flush=True)
        return path

    def reset(self, saved=None):
        """A machine on which nothing was installed, or one that was kept by save()."""
        self.cmdline = ''
        for name in 'esp', 'data':
            shutil.rmtree(os.path.join(self.work, name), ignore_errors=True)
            if saved:
                shutil.copytree(os.path.join(saved, name), os.path.join(self.work, name), symlinks=True)
            else:
                os.mkdir(os.path.join(self.work, name))
        for name in 'state.0', 'state.1':
            if saved:
                shutil.copyfile(os.path.join(saved, name), os.path.join(self.work, name))
            else:
                with open(os.path.join(self.work, name), 'wb') as file:
                    file.write(bytes(4096))

    def save(self, name):
        where = os.path.join(self.work, name)
        shutil.rmtree(where, ignore_errors=True)
        for kept in 'esp', 'data':
            shutil.copytree(os.path.join(self.work, kept), os.path.join(where, kept), symlinks=True)
        for kept in 'state.0', 'state.1':
            shutil.copyfile(os.path.join(self.work, kept), os.path.join(where, kept))
        return where

    def command(self, *words):
        where = [word for name in ('esp', 'data') for word in ('--' + name, os.path.join(self.work, name))]
        return (self.program, '--disk', self.disk, *where, '--config', os.path.join(self.work, 'conf'), '--cmdline', self.cmdline, *words)

    def upgrade(self, bundle, *options, inside=()):
        return launched(*inside, *self.command('upgrade', 'system', '-q', '--no-reboot', '--full-speed', *options, bundle))

    def step(self):
        """What it says of the last install."""
        operation = json.loads(run(*self.command('show', 'upgrade', 'status', '--json')))
        return next(step for step in operation['steps'] if step['name'] == 'WRITE_IMAGE')

    def fetched(self):
        return self.step()['transfer']['fetched']

    def used_io_uring(self):
        return 'io_uring' in self.step()['message']

    def runs_a(self):
        """What was installed into slot a is started, and is well."""
        run(*self.command('switch-at-shutdown', '-q'))
        self.cmdline = IN_SLOT_A
        for verb in 'boot-config', 'check-health', 'confirm':
            run(*self.command(verb, '-q'))


def certificate(work):
    key, cert = os.path.join(work, 'key.pem'), os.path.join(work, 'cert.pem')
    if not os.path.exists(cert):
        run('openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', key, '-out', cert, '-subj', '/O=bench/CN=bench',
            '-days', '30', '-addext', 'extendedKeyUsage=emailProtection,codeSigning', '-addext', 'basicConstraints=CA:TRUE',
            '-addext', 'keyUsage=digitalSignature,keyCertSign')
    return key, cert


def swupdate_file(work, zst, device):
    key, cert = certificate(work)
    where = os.path.join(work, 'swu')
    shutil.rmtree(where, ignore_errors=True)
    os.mkdir(where)
    os.link(zst, os.path.join(where, 'root.zst'))
    with open(zst, 'rb') as file:
        digest = hashlib.file_digest(file, 'sha256').hexdigest()
    with open(os.path.join(where, 'sw-description'), 'w') as file:
        file.write('software = { version = "1.0"; hardware-compatibility: [ "1.0" ]; images: ( { filename = "root.zst"; device = '
                   '"%s"; type = "raw"; compressed = "zstd"; installed-directly = true; sha256 = "%s"; } ); }\n' % (device, digest))
    run('openssl', 'cms', '-sign', '-in', 'sw-description', '-out', 'sw-description.sig', '-signer', cert, '-inkey', key,
        '-outform', 'DER', '-nosmimecap', '-binary', cwd=where)
    path = os.path.join(work, 'image.swu')
    with open(path, 'wb') as file:
        subprocess.run(['cpio', '-o', '-H', 'crc', '--quiet'], input=b'sw-description\nsw-description.sig\nroot.zst\n', cwd=where,
                       stdout=file, check=True)
    return path, cert


class Rauc:
    """Its service on a bus of its own. The service does the work, so what it takes is added to what its client does."""

    def __init__(self, work, image, loops):
        key, cert = certificate(work)
        self.work = os.path.join(work, 'rauc')
        os.makedirs(os.path.join(self.work, 'mnt'), exist_ok=True)
        self.bundle = os.path.join(self.work, 'plain.raucb')
        if not os.path.exists(self.bundle):
            self.make_bundle(image, key, cert)
        conf = os.path.join(self.work, 'system.conf')
        with open(conf, 'w') as file:
            file.write('[system]\ncompatible=bench\nbootloader=noop\nmountprefix=%s/mnt\nstatusfile=%s/status\n[keyring]\npath=%s\n'
                       '[slot.rootfs.0]\ndevice=%s\ntype=ext4\nbootname=A\n[slot.rootfs.1]\ndevice=%s\ntype=ext4\nbootname=B\n' %
                       (self.work, self.work, cert, loops[0].device, loops[1].device))
        address = 'unix:path=' + os.path.join(self.work, 'bus')
        self.env = {**ENV, 'DBUS_SYSTEM_BUS_ADDRESS': address}
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.work, 'bus'))
        self.log = open(os.path.join(self.work, 'log'), 'wb')
        self.bus = subprocess.Popen(['dbus-daemon', '--session', '--nofork', '--address=' + address], stdout=self.log,
                                    stderr=self.log)
        while not os.path.exists(os.path.join(self.work, 'bus')):
            time.sleep(0.05)
        self.report = os.path.join(self.work, 'report')
        self.service = subprocess.Popen([*launcher(self.report), 'rauc', '--conf', conf, '--override-boot-slot=B', 'service'],
                                        env=self.env, stdout=self.log, stderr=self.log)
        time.sleep(1)

    def make_bundle(self, image, key, cert):
        content = os.path.join(self.work, 'content')
        shutil.rmtree(content, ignore_errors=True)
        os.makedirs(content)
        os.link(image, os.path.join(content, 'root.ext4'))
        with open(os.path.join(content, 'manifest.raucm'), 'w') as file:
            file.write('[update]\ncompatible=bench\nversion=1\n[bundle]\nformat=plain\n[image.rootfs]\nfilename=root.ext4\n')
        run('rauc', '--cert', cert, '--key', key, 'bundle', '--mksquashfs-args=-comp zstd -Xcompression-level 3', content, self.bundle)
        shutil.rmtree(content)

    def bytes(self):
        """Read and written so far."""
        with open('/proc/%d/task/%d/children' % (self.service.pid, self.service.pid)) as file:
            service = file.read().split()[0]
        with open('/proc/%s/io' % service) as file:
            words = dict(line.split(': ') for line in file)
        return int(words['read_bytes']), int(words['write_bytes'])

    def install(self):
        before = self.bytes()
        usage = launched('rauc', 'install', self.bundle, env=self.env)
        read, written = (now - then for now, then in zip(self.bytes(), before))
        return Usage(usage.peak_kib, usage.read + read, usage.written + written)

    def close(self):
        """Its peak in MiB, over all runs: it is known when the service has ended."""
        self.service.terminate()
        self.service.wait()
        self.bus.terminate()
        self.bus.wait()
        self.log.close()
        return usage_of(self.report).peak_kib / 1024


class Tool:
    """install() onto the first loop device, and how many bytes it got for that."""

    def __init__(self, install, *files, fetched=None):
        self.install = install
        self.fetched = fetched or (lambda: sum(map(os.path.getsize, files)))


def tools(work, image, bootmgr, bundle, loops, rauc):
    device, zst, bmap = loops[0].device, image + '.zst', image + '.bmap'
    if not os.path.exists(zst):
        run('zstd', '-3', '-q', '-T0', image, '-o', zst)
    if not os.path.exists(bmap):
        run('bmaptool', 'create', '-o', bmap, image)
    swu, cert = swupdate_file(work, zst, device)
    table = {
        'dd': Tool(lambda: dd(image, device), image),
        'zstd | dd': Tool(lambda: launched('sh', '-c', 'zstd -dcq "$1" | dd of="$2" bs=1M iflag=fullblock oflag=direct conv=fsync '
                                           'status=none', 'sh', zst, device), zst),
        'bootmgr': Tool(lambda: bootmgr.upgrade(bundle, '--no-read-back'), fetched=bootmgr.fetched),
        'bootmgr, no io_uring': Tool(lambda: without_io_uring(bootmgr, bundle), fetched=bootmgr.fetched),
        'bootmgr, read back': Tool(lambda: bootmgr.upgrade(bundle), fetched=bootmgr.fetched),
        'SWUpdate': Tool(lambda: launched('swupdate', '-i', swu, '-k', cert, '-H', 'bench:1.0', '-M', '-m', '-l', '1'), swu),
        'bmaptool': Tool(lambda: launched('sh', '-c', 'bmaptool -q copy --bmap "$1" "$2" "$3" && sync "$3"', 'sh', bmap, zst, device),
                         zst, bmap),
    }
    if rauc:
        table['RAUC'] = Tool(rauc.install, rauc.bundle)
    return table


def without_io_uring(bootmgr, bundle):
    """Threads that write and wait, as where the kernel does not allow it."""
    usage = bootmgr.upgrade(bundle, '--no-read-back', inside=NO_IO_URING)
    if bootmgr.used_io_uring():
        sys.exit('io_uring was used')
    return usage


def dd(image, device):
    return launched('dd', 'if=' + image, 'of=' + device, 'bs=1M', 'oflag=direct', 'conv=fsync', 'status=none')
