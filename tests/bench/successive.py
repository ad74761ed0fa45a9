# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two successive versions of a small appliance's root: Debian 12 as released, and with the security updates and the updates of today.

Both are made from the same selection of packages, from the machine's own package sources; then each as images of several file systems."""

import hashlib
import os
import re
import subprocess

import debian
import host
import images
import stage

SELECTION = sorted(debian.PACKAGES + ['initramfs-tools', debian.KERNELS['cloud']] + (
    'ca-certificates chrony iproute2 nftables nginx-light openssh-server python3-minimal sudo tzdata').split())
LEFT = ('var/cache/apt/*.bin', 'var/cache/apt/archives/*.deb', 'var/lib/apt/lists/*_*', 'var/log/*.log', 'etc/resolv.conf',
        'etc/machine-id', 'etc/ssh/ssh_host_*', 'boot/initrd.img-*')
UUID = '6c1c3f0a-0000-4000-8000-0000000000%02d'


def before():
    """Its main archive alone."""
    return _tree('before', [line for line in debian.apt_sources() if re.search(r' %s ' % debian.SUITE, line)])


def after():
    return _tree('after', debian.apt_sources())


def _tree(name, sources):
    key = stage.digest(SELECTION, list(LEFT), list(debian.EXCLUDED), sources)
    return os.path.join(stage.make('successive-' + name, key, lambda directory: _build(directory, sources),
                                   'the root %s the updates' % name), 'root')


def _build(directory, sources):
    listed, log, root = (os.path.join(directory, name) for name in ('apt.list', 'log', 'root'))
    with open(listed, 'w') as file:
        file.write('\n'.join(sources) + '\n')
    command = [host.need('mmdebstrap', 'mmdebstrap'), '--variant=minbase', '--include=' + ','.join(SELECTION),
               '--aptopt=APT::Install-Recommends "false"', *debian._acquire_options(),
               *('--dpkgopt=path-exclude=' + pattern for pattern in debian.EXCLUDED), debian.SUITE, root, listed]
    environment = {**os.environ, 'SOURCE_DATE_EPOCH': str(host.EPOCH)}
    with open(log, 'w') as output:
        if subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment).returncode:
            with open(log, errors='replace') as file:
                raise host.HostError('mmdebstrap failed: ' + file.read()[-2000:])
    for pattern in LEFT:
        host.run(['sh', '-c', 'rm -rf "$0"/%s' % pattern, root])
    versions = host.run(['dpkg-query', '--admindir=' + os.path.join(root, 'var/lib/dpkg'), '-W', '-f', '${Package} ${Version}\n'])
    with open(os.path.join(directory, 'versions'), 'w') as file:
        file.write(versions)


def versions(tree):
    """Of each package."""
    with open(os.path.join(os.path.dirname(tree), 'versions')) as file:
        return dict(line.split() for line in file)


def files(tree):
    """The digest of each regular file, by its path."""
    found = {}
    for directory, _, names in os.walk(tree):
        for name in names:
            path = os.path.join(directory, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, 'rb') as file:
                    found[os.path.relpath(path, tree)] = hashlib.file_digest(file, 'sha256').digest()
    return found


# --- images -----------------------------------------------------------------------------------------------------------------

def _ext4_plain(tree, path, mib):
    """As one does who thinks of nothing: another UUID, another hash seed and the time of today in every image."""
    with open(path, 'wb') as file:
        file.truncate(mib << 20)
    host.run([host.need('mke2fs', 'e2fsprogs'), '-q', '-F', '-t', 'ext4', '-m', '0', '-d', tree, path])


def _ext4_fixed(tree, path, mib):
    images.make_ext4(path, mib, tree, 'root', UUID % 1)


def _erofs(*options):
    def make(tree, path, _):
        host.run([host.need('mkfs.erofs', 'erofs-utils'), '-T', str(host.EPOCH), '-U', UUID % 2, *options, path, tree])
    return make


def _squashfs(*options):
    def make(tree, path, _):
        host.run([host.need('mksquashfs', 'squashfs-tools'), tree, path, '-noappend', '-no-progress', '-mkfs-time', str(host.EPOCH),
                  '-all-time', str(host.EPOCH), '-reproducible', *options])
    return make


FORMATS = {
    'ext4': _ext4_plain,
    'ext4-fixed': _ext4_fixed,
    'erofs': _erofs(),
    'erofs-lz4hc': _erofs('-zlz4hc,12'),
    'squashfs': _squashfs('-noI', '-noD', '-noF', '-noX'),
    'squashfs-zstd': _squashfs('-comp', 'zstd'),
}


def image(name, tree, mib, directory):
    """The image of a tree in that format. An ext4 image updated in place is made by update()."""
    path = os.path.join(directory, '%s.%s' % (name, os.path.basename(os.path.dirname(tree)).split('-')[1]))
    if not os.path.exists(path):
        FORMATS[name](tree, path + '.part', mib)
        os.rename(path + '.part', path)
    return path
