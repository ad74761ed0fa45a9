#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What bootmgr-carry.service may do is enough to copy one slot's /etc to the other beforehand: capabilities are those of the unit, the
# umask is that of bootmgrd (root only; elsewhere nothing is tested). That it is started is a matter of scenario `daemon`.
#
# Functions that ok calls by their names:
# shellcheck disable=SC2317
. "$(dirname "$0")/lib.sh"

[ "$(id -u)" -eq 0 ] || finish
unit=$top/units/system/bootmgr-carry.service
capabilities=-all$(sed -n 's/^CapabilityBoundingSet=//p' "$unit" | tr 'A-Z ' 'a-z\n' | sed 's/^cap_/,+/' | tr -d '\n')
umask=$(sed -n 's/^UMask=//p' "$top/units/system/bootmgrd.service")

bundle 1 && bundle 2 && bundle 3 || exit 2
make_machine
ok "the first version" m upgrade system 1.bundle
ok "it boots" boots
fails 1 failed "the unit, when no upgrade is at work" m carry-config

worker() {
        (umask "$umask" && exec setpriv --bounding-set="$capabilities" "$BOOTMGR" --disk disk.img --esp esp --data data \
                --config conf --cmdline "$running" "$@")
}
ok "an upgrade of a version without changes to /etc" worker upgrade system 2.bundle
is "whose /etc anybody may read, whatever the umask" 755 "$(stat -c %a data/etc/b/upper)"
ok "it boots" boots

# As on the machine: overlayfs marks with trusted.*, a work directory that nobody may read, files of others.
mkdir -p data/etc/b/upper data/etc/a/upper/daemon
(
        cd data/etc/b/upper || exit 1
        mkdir -p peers daemon
        chgrp 30 peers && chmod 2750 peers
        echo secret >daemon/key && ln daemon/key daemon/link && ln -s key daemon/symlink && mkfifo daemon/pipe
        chown -h 101:102 daemon daemon/* && chmod 700 daemon && chmod 4640 daemon/key
        echo tool >tool && mknod removed c 0 0
        setfattr -n trusted.overlay.opaque -v y daemon && setfattr -n user.note -v x daemon/key
        setcap cap_net_raw+ep tool
        setfacl -m u:103:r daemon/key && setfacl -d -m g:104:rx peers
)
(
        cd data/etc/a || exit 1
        touch upper/daemon/old && chown -R 101:102 upper/daemon && chmod 700 upper/daemon
        mkdir -p work/work && chmod 0 work/work
)
# Everything but the addresses of inodes
listing() {
        (cd "data/etc/$1/upper" && find . ! -type l -printf '%P %y %m %U %G %n %l %T@\n' | sort &&
                find . ! -type l -print0 | sort -z | xargs -0 getfattr -d -m - -e hex --)
}
ok "an upgrade with the capabilities that the unit has" worker upgrade system 3.bundle
has_not "it prepares /etc without a warning" "is not prepared" "$(cat err)"
is "all of it, with owners, modes and attributes" "$(listing b)" "$(listing a)"
is "nothing is left beside it" "upper work " "$(find data/etc/a -mindepth 1 -maxdepth 1 -printf '%f\n' | sort | tr '\n' ' ')"
has "set-group-ID directories are allowed to it" '^peers d 2750 0 30 ' "$(listing a)"
is "and its unit does not forbid them" "" "$(grep '^RestrictSUIDSGID=yes' "$unit")"
finish
