#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# dracut: puts bootmgr-recover, its units and the modules it needs into the initramfs.

check() {
        require_binaries /usr/lib/bootmgr/bootmgr-recover || return 1
        return 0
}

depends() {
        echo systemd
}

installkernel() {
        hostonly='' instmods vfat nls_cp437 nls_ascii nls_iso8859-1 nls_utf8 ext4 overlay efivarfs virtio_blk \
                dm_verity sha256_generic sha256_ssse3 sha2_ce sha256_arm64
}

# moddir, systemdsystemunitdir, initdir and SYSTEMCTL are dracut's own variables.
# shellcheck disable=SC2154
install() {
        inst_binary /usr/lib/bootmgr/bootmgr-recover
        inst_simple "$moddir/bootmgr-boot.service" "$systemdsystemunitdir/bootmgr-boot.service"
        inst_simple "$moddir/bootmgr-mount.service" "$systemdsystemunitdir/bootmgr-mount.service"
        inst_simple "$moddir/bootmgr-root-failed.service" "$systemdsystemunitdir/bootmgr-root-failed.service"
        inst_script "$moddir/verity-generator" /usr/lib/systemd/system-generators/bootmgr-verity-generator
        inst_multiple cat mkdir
        # By itself dracut waits for ever for a root device that does not come, or with a shell: nobody is there, and the tries of
        # a version on trial would never be used up. The kernel command line and kernel_cmdline= (01-default.conf) come later.
        inst_simple "$moddir/cmdline.conf" /etc/cmdline.d/00-bootmgr.conf
        inst_simple "$moddir/fsck-root.conf" "$systemdsystemunitdir/systemd-fsck-root.service.d/bootmgr.conf"
        $SYSTEMCTL -q --root "$initdir" add-wants initrd-root-device.target bootmgr-boot.service
        $SYSTEMCTL -q --root "$initdir" add-wants initrd-root-fs.target bootmgr-mount.service
        $SYSTEMCTL -q --root "$initdir" add-wants emergency.target bootmgr-root-failed.service
}
