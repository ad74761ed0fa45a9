# SPDX-License-Identifier: LGPL-2.1-or-later
"""The base of the guests: Debian 12 by mmdebstrap, from the machine's own package sources, and slimmed."""

import glob
import os
import re
import shutil
import subprocess

import host
import stage

SUITE = 'bookworm'
PACKAGES = (
    'systemd-sysv udev dbus polkitd kmod procps zstd attr acl curl e2fsprogs qemu-guest-agent less efibootmgr openssh-server '
    # what bootmgr links
    'libacl1 libarchive13 libblkid1 libcurl4 libeconf0 libedit2 libfdisk1 libjansson4 libsmartcols1 libssl3 libsystemd0 liburing2 libzstd1'
).split()
KERNELS = {'cloud': 'linux-image-cloud-amd64', 'full': 'linux-image-amd64'}
INITRAMFS = {'initramfs-tools': ['initramfs-tools'], 'dracut': ['dracut']}

# Documentation and translations are left out while unpacking, the rest below afterwards: nothing of it runs in a guest.
EXCLUDED = ('/usr/share/doc/*', '/usr/share/man/*', '/usr/share/locale/*', '/usr/share/info/*', '/usr/share/lintian/*',
            '/usr/share/bug/*', '/usr/share/i18n/*')
SLIMMED = (
    'usr/share/perl*', 'usr/lib/x86_64-linux-gnu/perl', 'usr/lib/x86_64-linux-gnu/libperl.so*', 'usr/bin/perl5*',
    'usr/lib/x86_64-linux-gnu/gconv', 'usr/share/zoneinfo', 'usr/lib/udev/hwdb.d', 'usr/lib/udev/hwdb.bin', 'usr/share/pixmaps',
    'var/cache/*', 'var/lib/apt/*', 'var/log/*', 'etc/resolv.conf', 'etc/apt/sources.list.d/*', 'etc/cron.daily', 'etc/machine-id',
)
DRIVERS = ('net/ethernet', 'net/wireless', 'net/usb', 'net/can', 'net/phy', 'net/wan', 'infiniband', 'gpu', 'nvme', 'hv', 'xen',
           'media', 'message', 'target', 'iio', 'staging', 'hwmon', 'platform', 'comedi', 'mtd', 'isdn', 'mmc', 'bluetooth',
           'video', 'usb/gadget', 'usb/serial', 'usb/misc', 'input/touchscreen', 'input/joystick')
SCSI = ('scsi_common.ko', 'scsi_mod.ko', 'sd_mod.ko')           # what a USB stick needs
FILESYSTEMS = ('btrfs', 'xfs', 'ceph', 'cifs', 'smb', 'nfs', 'nfsd', 'ocfs2', 'gfs2', 'f2fs', 'jfs', 'dlm', 'afs', 'ntfs3', 'orangefs',
               'coda', 'udf', 'lockd', 'nfs_common', 'ksmbd', 'reiserfs', 'ubifs', 'jffs2', 'nilfs2', 'ecryptfs', 'hfs', 'hfsplus', 'ntfs',
               'ufs', 'affs')
NETWORKS = ('sctp', 'tipc', 'rxrpc', 'ceph', 'sunrpc', 'openvswitch', 'netfilter', 'sched', 'ipv4', 'mptcp', 'smc', 'rds', 'l2tp', 'mpls',
            'batman-adv', 'dccp', '9p', 'bluetooth', 'wireless', 'mac80211')


def base(initramfs, kernel):
    """The directory whose `root` is the tree, and `kernel` the kernel."""
    packages = sorted(PACKAGES + INITRAMFS[initramfs] + [KERNELS[kernel]])
    key = stage.digest(packages, ('file', __file__))
    return stage.make('base-%s-%s' % (initramfs, kernel), key, lambda directory: _build(directory, packages),
                      'Debian %s with %s and the %s kernel' % (SUITE, initramfs, kernel))


def _build(directory, packages):
    sources = os.path.join(directory, 'apt.list')
    with open(sources, 'w') as file:
        file.write('\n'.join(apt_sources()) + '\n')
    root = os.path.join(directory, 'root')
    log = os.path.join(host.CACHE, 'mmdebstrap.log')
    command = [host.need('mmdebstrap', 'mmdebstrap'), '--variant=minbase', '--include=' + ','.join(packages),
               '--aptopt=APT::Install-Recommends "false"', *_acquire_options(),
               *('--dpkgopt=path-exclude=' + pattern for pattern in EXCLUDED), SUITE, root, sources]
    with open(log, 'w') as output:
        if subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output).returncode:
            raise host.HostError('mmdebstrap failed; %s says why' % log)
    _slim(root)


def _acquire_options():
    """How this machine's apt reaches its sources (proxies, transports), for mmdebstrap's own apt."""
    dump = subprocess.run(['apt-config', 'dump', '--format', '%f %v%n', 'Acquire'], capture_output=True, text=True, check=True).stdout
    for line in dump.splitlines():
        name, _, value = line.partition(' ')
        if value and re.match(r'Acquire::(https?|ftp|Retries|ForceIPv)', name):
            yield '--aptopt=%s "%s"' % (name, value)


def _slim(root):
    for pattern in SLIMMED:
        for path in glob.glob(os.path.join(root, pattern)):
            _remove(path)
    for modules in glob.glob(os.path.join(root, 'usr/lib/modules/*')):
        for kind, names in (('', ('sound',)), ('drivers', DRIVERS), ('fs', FILESYSTEMS), ('net', NETWORKS)):
            for name in names:
                _remove(os.path.join(modules, 'kernel', kind, name))
        for path in glob.glob(os.path.join(modules, 'kernel/drivers/scsi/*')):
            if os.path.basename(path) not in SCSI:
                _remove(path)
        host.chroot(root, 'depmod', os.path.basename(modules))


def _remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


# --- package sources --------------------------------------------------------------------------------------------------------

def apt_sources():
    """The machine's own binary sources for the suite, in one-line form."""
    lines = []
    for path in ['/etc/apt/sources.list', *sorted(glob.glob('/etc/apt/sources.list.d/*'))]:
        if not os.path.exists(path):
            continue
        with open(path, errors='replace') as file:
            text = re.sub(r'(?m)^\s*#.*\n?', '', file.read())
        if path.endswith('.list'):
            lines += _from_list(text)
        elif path.endswith('.sources'):
            lines += _from_deb822(text)
    if not lines:
        raise host.HostError('no apt source for %s is configured on this machine; /etc/apt/sources.list is where one belongs' % SUITE)
    return list(dict.fromkeys(lines))


def _of_suite(suite):
    return suite in (SUITE, SUITE + '-updates', SUITE + '-security', SUITE + '/updates')


def _from_list(text):
    for line in text.splitlines():
        match = re.match(r'deb\s+(\[[^]]*\]\s+)?\S+\s+(\S+)\s+(.*)', line.split('#')[0].strip())
        if match and _of_suite(match[2]) and 'main' in match[3].split():
            yield line.split('#')[0].strip()


def _from_deb822(text):
    for stanza in re.split(r'\n\s*\n', text):
        fields = {name.lower(): ' '.join(value.split()) for name, value in re.findall(r'(?m)^(\S+):((?:.*\n?)(?:[ \t]+.*\n?)*)', stanza)}
        if 'deb' not in fields.get('types', '').split() or fields.get('enabled', 'yes').lower() in ('no', 'false'):
            continue
        key = fields.get('signed-by', '')
        option = '[signed-by=%s] ' % key if key.startswith('/') else ''
        for uri in fields.get('uris', '').split():
            for suite in filter(_of_suite, fields.get('suites', '').split()):
                yield 'deb %s%s %s %s' % (option, uri, suite, fields.get('components', 'main'))
