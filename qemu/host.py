# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the host offers: where things lie, the firmware, and whether KVM really starts a guest."""

import os
import platform
import shutil
import subprocess
import threading

REPO = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.abspath(os.environ.get('BOOTMGR_BUILD', os.path.join(REPO, 'build')))
CACHE = os.path.join(BUILD, 'qemu')
GUESTS = os.path.abspath(os.environ.get('BOOTMGR_VM_DIR', os.path.join(BUILD, 'vm')))

QEMU = 'qemu-system-x86_64'
FIRMWARE = (
    ('/usr/share/OVMF/OVMF_CODE_4M.fd', '/usr/share/OVMF/OVMF_VARS_4M.fd'),
    ('/usr/share/OVMF/OVMF_CODE.fd', '/usr/share/OVMF/OVMF_VARS.fd'),
    ('/usr/share/edk2/x64/OVMF_CODE.4m.fd', '/usr/share/edk2/x64/OVMF_VARS.4m.fd'),
)
EPOCH = 1700000000              # times in what is built: the same input gives the same bytes
MACHINE = ('-machine', 'q35,smm=off,hpet=off')
KVM, TCG = 'kvm', 'tcg,thread=multi'


class HostError(Exception):
    """Something that this host lacks, or that went wrong on it."""


def need(program, package):
    path = shutil.which(program) or shutil.which(program, path='/usr/sbin:/sbin')
    if not path:
        raise HostError('%s is not installed: `apt-get install %s`, or `make deps`' % (program, package))
    return path


def firmware():
    """Paths of OVMF's code and of its empty variable store."""
    for code, variables in FIRMWARE:
        if os.path.exists(code) and os.path.exists(variables):
            return code, variables
    raise HostError('no OVMF firmware found: `apt-get install ovmf`, or `make deps`')


def accelerator():
    """QEMU's -accel value. KVM counts only if a guest ran under it: /dev/kvm may open and yet start nothing."""
    os.makedirs(CACHE, exist_ok=True)
    cache = os.path.join(CACHE, 'accel')
    key = '%s %s\n' % (platform.node(), platform.release())
    try:
        with open(cache) as file:
            known, answer = file.readline(), file.readline().strip()
        if known == key and answer in (KVM, TCG):
            return answer
    except OSError:
        pass
    answer = KVM if os.access('/dev/kvm', os.R_OK | os.W_OK) and _runs_under_kvm() else TCG
    with open(cache, 'w') as file:
        file.write(key + answer + '\n')
    return answer


def _runs_under_kvm():
    # The firmware itself is the tiny guest: it has made it when its boot manager speaks on the serial console.
    code, variables = firmware()
    command = [need(QEMU, 'qemu-system-x86'), *MACHINE, '-accel', KVM, '-cpu', 'host', '-nodefaults', '-display', 'none', '-snapshot',
               '-drive', 'if=pflash,unit=0,format=raw,readonly=on,file=' + code, '-drive', 'if=pflash,unit=1,format=raw,file=' + variables,
               '-serial', 'stdio']
    probe = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    ended = threading.Timer(15, probe.kill)
    ended.start()
    try:
        return any(b'BdsDxe' in line for line in probe.stdout)
    finally:
        ended.cancel()
        probe.kill()
        probe.wait()


def chroot(root, *command):
    """Run a command in the tree, with /proc and /dev of its own mount namespace: nothing stays mounted, however it ends."""
    script = 'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" "$@"'
    environment = {'PATH': '/usr/sbin:/usr/bin:/sbin:/bin', 'LC_ALL': 'C.UTF-8', 'TMPDIR': '/tmp', 'SOURCE_DATE_EPOCH': str(EPOCH)}
    run(['unshare', '--mount', 'sh', '-c', script, root, *command], env=environment)


def run(command, **options):
    """Run a program of the host quietly; its output is shown if it fails."""
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            errors='replace', **options)
    if result.returncode:
        raise HostError('`%s` failed (%d):\n%s' % (' '.join(command), result.returncode, result.stdout.strip()[-4000:]))
    return result.stdout
