#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The decision that is begun beforehand in the initramfs, and what waits for it: with a /run of its own.
. "$(dirname "$0")/lib.sh"
RECOVER=${RECOVER:-$(dirname "$BOOTMGR")/bootmgr-recover}

# COMMANDS: in a /run of their own, which lasts as long as they do. What they end with is this one's exit status.
in_run() {
        BOOTMGR_RECOVER=$RECOVER timeout 60 unshare --map-root-user --mount sh -c "
                mount -t tmpfs tmpfs /run || exit 99
                recover() { \"\$BOOTMGR_RECOVER\" \"\$@\" 2>>recover.log; }
                lock=/run/bootmgr/recover.lock decided=/run/bootmgr/decided
                $1"
}
# A command line that is not ours is decided at once; a slot that lies on no disk is looked for, for ten seconds.
not_ours="--cmdline root=/dev/sda1"
nowhere="--cmdline bootmgr.slot=a\\ bootmgr.generation=1\\ root=PARTUUID=00000000-0000-4000-8000-000000000000"

in_run 'exit 7'
is "a /run of their own can be made" 7 $?

ok "begun, ended well, and not done again" in_run "
        recover $not_ours start try || exit 1
        flock \$lock true
        [ -e \$decided ] || exit 2
        timeout 5 \"\$BOOTMGR_RECOVER\" $nowhere boot try || exit 3"

ok "start returns at once; what it began holds the lock, and is begun once" in_run "
        timeout 5 \"\$BOOTMGR_RECOVER\" $nowhere start || exit 1
        flock --nonblock \$lock true && exit 2
        [ ! -e \$decided ] || exit 3
        recover $nowhere start
        [ \$? -eq 1 ] || exit 4"

ok "boot waits for it, and how long is kept" in_run "
        mkdir -p /run/bootmgr
        echo boot_id=0 >/run/bootmgr/boot
        (flock 9; sleep 2; : >\$decided) 9>\$lock &
        sleep 0.5
        timeout 8 \"\$BOOTMGR_RECOVER\" $nowhere boot || exit 1
        [ \$(sed -n 's/^wait_usec=//p' /run/bootmgr/boot) -ge 1000000 ] || exit 2"

ok "begun but not ended well: boot does it itself" in_run "
        mkdir -p /run/bootmgr
        : >\$lock
        recover $nowhere boot
        [ \$? -eq 1 ] || exit 1
        recover $not_ours boot || exit 2"

ok "never begun: boot does it" in_run "
        recover $not_ours boot || exit 1
        [ ! -e \$decided ]"
finish
