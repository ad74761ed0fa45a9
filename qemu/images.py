# SPDX-License-Identifier: LGPL-2.1-or-later
"""From the base to what a machine gets: roots with bootmgr and the appliance, bundles, and the factory's disk.

    base      Debian, by mmdebstrap (debian.py)                 redone when the package list changes
    system    base + `make install` + rootfs/ + initramfs       redone when a program or a file of ours changes
    version   system as one version: root image, bundle         as system
    disk      version 1 installed on an empty disk by bootmgr   as system
"""

import json
import os
import shutil

import debian
import host
import stage

ROOTFS = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'rootfs')
ROOT_MIB = 256
UUID = 'b0071c0d-e000-4000-8000-%012d'

COMPATIBLE = 'demo-appliance'
ESP_MIB, DISK_MIB = 128, 1024
LOADER = '/usr/lib/systemd/boot/efi/systemd-bootx64.efi'

# What a version brings: the format of the shared settings that its appliance reads, and its security version.
VERSIONS = {'1': (1, 1), '2': (2, 1), '3': (3, 2), '16.1': (1, 1), '16.2': (1, 1), '17.1': (2, 1)}

# What nodes of a cluster need besides: as it is installed on this machine, since there is nothing to configure in it.
CLUSTER = ('etcd-server', 'libmicrohttpd12')

# QEMU's watchdog: its driver is loaded by the initramfs, before PID 1 looks for a watchdog. The full kernel alone has it.
WATCHDOG = {'etc/initramfs-tools/modules': 'i6300esb\n', 'etc/dracut.conf.d/guest.conf': 'force_drivers+=" i6300esb "\n'}

# What a guest does not need: left out, it starts sooner.
MASKED_UNITS = ('dev-hugepages.mount', 'dev-mqueue.mount', 'sys-kernel-debug.mount', 'sys-kernel-tracing.mount',
                'sys-kernel-config.mount', 'sys-fs-fuse-connections.mount', 'proc-sys-fs-binfmt_misc.automount',
                'systemd-network-generator.service', 'systemd-update-utmp.service', 'systemd-update-utmp-runlevel.service')
MASKED_GENERATORS = ('cryptsetup', 'integritysetup', 'veritysetup', 'gpt-auto', 'hibernate-resume', 'rc-local', 'run', 'sysv',
                     'system-update')


class Build:
    """One build of the guests' images. What is asked for is made, unless it is there."""

    def __init__(self, initramfs='initramfs-tools', kernel='cloud', install=True, cluster=False):
        self.initramfs, self.kernel, self.install = initramfs, kernel, install
        self.name = '%s-%s%s' % (initramfs, kernel, '-cluster' if cluster else '')
        self.packages = CLUSTER if cluster else ()
        self._system = None

    # --- system: base, bootmgr, the guest's own files, initramfs ------------------------------------------------------------

    def system(self):
        """The directory with `root`, `vmlinuz`, `initrd` and the files that `make install` put into it, in `installed`."""
        if not self._system:
            base = debian.base(self.initramfs, self.kernel)
            installed = self._make_install()
            key = stage.digest(base, ('file', installed), ('file', ROOTFS), ('file', keys() + '.pem'), ('file', __file__),
                               *[('file', path) for path in _files_of(self.packages)])
            self._system = stage.make('system-' + self.name, key, lambda directory: self._build_system(directory, base, installed),
                                      'system with bootmgr, %s' % self.initramfs)
        return self._system

    def _make_install(self):
        """The directory that `make install` filled: named by what is in it, so that others may look at it while it is made again."""
        partial = os.path.join(host.CACHE, 'installed.partial')
        with stage.locked('installed'):
            shutil.rmtree(partial, ignore_errors=True)
            os.makedirs(partial)
            if self.install:
                host.run(['make', '-C', host.REPO, '--no-print-directory', 'install', 'DESTDIR=' + partial, 'PREFIX=/usr',
                          'SYSCONFDIR=/etc'])
            final = os.path.join(host.CACHE, 'installed-' + stage.digest(('file', partial)))
            if not os.path.isdir(final):
                stage.remove_others('installed')
                os.rename(partial, final)
        return final

    def _build_system(self, directory, base, installed):
        root = os.path.join(directory, 'root')
        host.run(['cp', '-a', '--reflink=auto', os.path.join(base, 'root'), root])
        for tree in (installed, ROOTFS):
            host.run(['cp', '-a', '--no-preserve=ownership', tree + '/.', root])
        for path in _files_of(self.packages):
            os.makedirs(os.path.dirname(root + path), exist_ok=True)
            shutil.copy2(path, root + path, follow_symlinks=False)
        self._configure(root)
        self._make_initramfs(root, directory)
        self._make_rescue(root, directory)
        shutil.rmtree(os.path.join(root, 'boot'))
        os.mkdir(os.path.join(root, 'boot'))

    def _configure(self, root):
        for name in ('data', 'efi'):
            os.makedirs(os.path.join(root, name), exist_ok=True)
        os.makedirs(os.path.join(root, 'etc/bootmgr/trust.d'), exist_ok=True)
        shutil.copyfile(keys() + '.pem', os.path.join(root, 'etc/bootmgr/trust.d/demo.pem'))
        for name, text in WATCHDOG.items() if self.kernel == 'full' else ():
            with open(os.path.join(root, name), 'a') as file:
                file.write(text)
        _symlink('/data/bootmgr/machine-id', os.path.join(root, 'etc/machine-id'))
        _symlink('../run/resolv.conf', os.path.join(root, 'etc/resolv.conf'))
        for unit in MASKED_UNITS:
            _symlink('/dev/null', os.path.join(root, 'etc/systemd/system', unit))
        for generator in MASKED_GENERATORS:
            _symlink('/dev/null', os.path.join(root, 'etc/systemd/system-generators/systemd-%s-generator' % generator))
        host.chroot(root, 'passwd', '--delete', 'root')
        host.chroot(root, 'systemctl', 'preset-all')

    def _make_initramfs(self, root, directory):
        release, = os.listdir(os.path.join(root, 'usr/lib/modules'))
        if self.initramfs == 'dracut':
            host.chroot(root, 'dracut', '--force', '--kver', release, '/boot/initrd')
        else:
            host.chroot(root, 'mkinitramfs', '-o', '/boot/initrd', release)
        shutil.move(os.path.join(root, 'boot/initrd'), os.path.join(directory, 'initrd'))
        shutil.copyfile(os.path.join(root, 'boot/vmlinuz-' + release), os.path.join(directory, 'vmlinuz'))

    def _make_rescue(self, root, directory):
        """The initrd of the rescue system, where there is initramfs-tools to make it; its kernel is the system's."""
        if self.initramfs == 'dracut':
            return
        release, = os.listdir(os.path.join(root, 'usr/lib/modules'))
        host.chroot(root, 'bootmgr-rescue-image', '/boot/rescue', release)
        shutil.move(os.path.join(root, 'boot/rescue'), os.path.join(directory, 'rescue'))

    # --- versions -----------------------------------------------------------------------------------------------------------

    def version(self, version):
        """The directory with root.ext4, vmlinuz, initrd and `bundle` of one version."""
        if version not in VERSIONS:
            raise host.HostError('there is no version %s; there are %s' % (version, ', '.join(VERSIONS)))
        system, key_pair = self.system(), keys()
        key = stage.digest(system, version, ('file', key_pair + '.pem'))
        return stage.make('version-%s-%s' % (self.name, version), key,
                          lambda directory: self._build_version(directory, system, version, key_pair), 'version ' + version)

    def bundle(self, version):
        return os.path.join(self.version(version), 'bundle')

    def _build_version(self, directory, system, version, key_pair):
        root = os.path.join(system, 'root')
        with stage.locked('tree-' + self.name):         # the versions take turns in the one tree
            _dress(root, version)
            make_ext4(os.path.join(directory, 'root.ext4'), ROOT_MIB, root, 'root', UUID % list(VERSIONS).index(version))
        for name in filter(lambda name: os.path.exists(os.path.join(system, name)), ('vmlinuz', 'rescue')):
            os.link(os.path.join(system, name), os.path.join(directory, name))
        _make_initrd(os.path.join(system, 'initrd'), os.path.join(directory, 'initrd'), version)
        bootmgr('bundle', 'create', os.path.join(directory, 'bundle'), '--version', version, '--compatible', COMPATIBLE,
                '--security-version', str(VERSIONS[version][1]), '--key', key_pair + '.key',
                *(option for image, name in (('root', 'root.ext4'), ('kernel', 'vmlinuz'), ('initrd', 'initrd'))
                  for option in ('--' + image, os.path.join(directory, name))))

    def verified_root(self, version, path, mib):
        """Its root for `bundle create --verity`: blocks as dm-verity has them, and room for the tree in the partition."""
        root = os.path.join(self.system(), 'root')
        with stage.locked('tree-' + self.name):
            _dress(root, version)
            make_ext4(path, mib, root, 'root', UUID % 96, block=4096)
        return path

    # --- the factory's disk -------------------------------------------------------------------------------------------------

    def disk(self, version='1'):
        """A disk image with that version in slot a, as a machine leaves the factory."""
        made = self.version(version)
        key = stage.digest(made, ('file', __file__))
        directory = stage.make('disk-%s-%s' % (self.name, version), key, lambda directory: self._build_disk(directory, made),
                               'disk with version %s' % version)
        return os.path.join(directory, 'disk.img')

    def _build_disk(self, directory, made):
        disk, esp, data = (os.path.join(directory, name) for name in ('disk.img', 'esp', 'data'))
        os.makedirs(os.path.join(data, 'bootmgr'))
        os.makedirs(os.path.join(data, 'log/journal'))
        for name in ('EFI/BOOT/BOOTX64.EFI', 'EFI/systemd/systemd-bootx64.efi'):
            os.makedirs(os.path.join(esp, os.path.dirname(name)))
            shutil.copyfile(LOADER, os.path.join(esp, name))
        write(esp, 'loader/loader.conf', 'timeout 0\n')
        layout = json.loads(bootmgr('init', disk, '--json', '--image-size', '%dM' % DISK_MIB, '--esp-size', '%dM' % ESP_MIB,
                                    '--root-size', '%dM' % ROOT_MIB))
        bootmgr('upgrade', 'system', os.path.join(made, 'bundle'), '--disk', disk, '--esp', esp, '--data', os.path.join(data, 'bootmgr'),
                '--config', self._factory_config(directory))
        if os.path.exists(os.path.join(made, 'rescue')):
            bootmgr('rescue', 'install', '--kernel', os.path.join(made, 'vmlinuz'), '--initrd', os.path.join(made, 'rescue'), '--append',
                    'console=ttyS0', '--disk', disk, '--esp', esp, '--config', os.path.join(directory, 'bootmgr.conf'))
        parts = {part['label']: part for part in layout['partitions']}
        fill_esp(disk, parts['esp']['offset'], esp)
        make_ext4(disk, parts['data']['size'] >> 20, data, 'data', UUID % 98, parts['data']['offset'])
        for name in ('esp', 'data'):
            shutil.rmtree(os.path.join(directory, name))

    def _factory_config(self, directory):
        """The guest's configuration, but the factory's trusted key."""
        path = os.path.join(directory, 'bootmgr.conf')
        with open(os.path.join(ROOTFS, 'etc/bootmgr/bootmgr.conf')) as source, open(path, 'w') as file:
            file.write(source.read() + '\n[Trust]\nDirectory=%s\n' % os.path.dirname(keys()))
        return path


def _files_of(packages):
    for package in packages:
        for path in host.run(['dpkg-query', '--listfiles', package]).split('\n'):
            if os.path.isfile(path) and not path.startswith('/usr/share/'):
                yield path


def keys():
    """The pair that bundles are signed with: its path without .key and .pem."""
    directory = stage.make('keys', '0' * 16, lambda directory: bootmgr('bundle', 'keygen', os.path.join(directory, 'demo')), 'signing keys')
    return os.path.join(directory, 'demo')


def bootmgr(*arguments):
    """Run the bootmgr that was built; returns what it prints."""
    return host.run([os.path.join(host.BUILD, 'bootmgr'), *arguments])


def _make_initrd(source, path, version):
    """A version's own initrd: the system's, and behind it an archive with one file that says the version."""
    text = version.encode() + b'\n'
    with open(source, 'rb') as file:
        data = file.read()
    archive = _cpio(1, 0o100644, 'etc/appliance-version', text) + _cpio(0, 0, 'TRAILER!!!', b'')
    with open(path, 'wb') as file:
        file.write(data + b'\0' * (-len(data) % 4) + archive)


def _cpio(inode, mode, name, data):
    fields = (inode, mode, 0, 0, 1, host.EPOCH, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b'070701' + b''.join(b'%08X' % field for field in fields) + name.encode() + b'\0'
    return head + b'\0' * (-len(head) % 4) + data + b'\0' * (-len(data) % 4)


def fill_esp(disk, offset, tree):
    """Copy a directory into the vfat file system at that offset: no mount, the host's kernel may have no vfat."""
    names = [os.path.join(tree, name) for name in sorted(os.listdir(tree))]
    host.run([host.need('mcopy', 'mtools'), '-s', '-Q', '-m', '-i', '%s@@%d' % (disk, offset), *names, '::/'])


def _dress(root, version):
    """Make the tree that version: its os-release, the settings format of its appliance, its migration hook if it has one."""
    write(root, 'usr/lib/os-release', 'PRETTY_NAME="Demo appliance {0}"\nNAME="Demo appliance"\nID=demo-appliance\nID_LIKE=debian\n'
          'VERSION_ID={0}\nVERSION="{0}"\n'.format(version))
    write(root, 'usr/lib/appliance/format', '%d\n' % VERSIONS[version][0])
    write(root, 'usr/share/appliance/notes-' + version, 'What is new in version %s.\n' % version)
    for name in os.listdir(os.path.join(root, 'usr/share/appliance')):
        if name != 'notes-' + version:
            os.unlink(os.path.join(root, 'usr/share/appliance', name))
    hook = os.path.join(root, 'usr/lib/bootmgr/migrate.d/50-appliance')
    if VERSIONS[version][0] > 1:
        shutil.copy(os.path.join(ROOTFS, 'usr/lib/bootmgr/migrate.d/50-appliance'), hook)
    elif os.path.exists(hook):
        os.unlink(hook)


def make_ext4(path, mib, tree, label, uuid, offset=0, block=None):
    """An ext4 file system with what is in tree, in a sparse file, or in a partition of one at a byte offset."""
    if not offset:
        with open(path, 'wb') as file:
            file.truncate(mib << 20)
    environment = {**os.environ, 'E2FSPROGS_FAKE_TIME': str(host.EPOCH), 'SOURCE_DATE_EPOCH': str(host.EPOCH)}
    size = ['-b', str(block)] if block else []
    host.run([host.need('mke2fs', 'e2fsprogs'), '-q', '-F', '-t', 'ext4', *size, '-L', label, '-U', uuid, '-m', '0', '-d', tree,
         '-E', 'hash_seed=%s,lazy_itable_init=0,root_owner=0:0,offset=%d' % (UUID % 99, offset), path, '%dM' % mib], env=environment)


def write(root, name, text):
    path = os.path.join(root, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w') as file:
        file.write(text)


def _symlink(target, path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.lexists(path):
        os.unlink(path)
    os.symlink(target, path)
