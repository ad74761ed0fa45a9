#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What `make install` puts into the tree of an image.
#
# Functions that ok calls by their names:
# shellcheck disable=SC2317
. "$(dirname "$0")/lib.sh"

install_to() { DESTDIR=$W/$1 BUILD=$(dirname "$BOOTMGR") "$top/units/install"; }

ok "an installation" install_to image
units=image/usr/lib/systemd/system
for unit in systemd-bless-boot systemd-boot-update; do
        is "$unit.service leaves the versions of bootmgr alone" 'ConditionKernelCommandLine=!bootmgr.slot' \
                "$(grep '^Condition' $units/$unit.service.d/bootmgr.conf)"
done
is "a try to give the configuration is not repeated by what else is started" "AssertPathExists=!/run/bootmgr/config-failed" \
        "$(grep '^Assert' $units/bootmgr-config.service)"
is "and no start limit counts conditions that do not hold" "" "$(grep '^StartLimit' $units/bootmgr-config.service)"
is "what the initramfs has not mounted waits for its check" 'ConditionPathExists=!/run/bootmgr/data-error' \
        "$(grep '^Condition' $units/data.mount.d/bootmgr.conf)"
is "nothing is masked in /etc" "" "$(find image/etc -type l)"
# For other machines
mkdir bin
cat >bin/cross-strip <<END
#!/bin/sh
echo "\$1" >>$W/stripped
END
chmod +x bin/cross-strip
ok "stripped by another program" env STRIP="$W/bin/cross-strip" DESTDIR="$W/other" BUILD="$(dirname "$BOOTMGR")" "$top/units/install"
is "which had all three" "bootmgr bootmgr-recover bootmgrd" "$(sed 's/.*\///' stripped | sort | tr '\n' ' ' | sed 's/ $//')"
mkdir cross
for program in bootmgr bootmgrd bootmgr-recover; do
        printf '\177ELF of another machine' >cross/$program
        chmod +x cross/$program
done
ok "programs that do not run here, not stripped" env STRIP= DESTDIR="$W/cross-image" BUILD="$W/cross" "$top/units/install"
has "are not run" "is of another machine" "$(cat err)"
ok "and installed as they are" cmp cross/bootmgr cross-image/usr/bin/bootmgr
is "without what they would have to run for" "" "$(ls cross-image/usr/share/bash-completion/completions)"
for other in PREFIX=/usr/local SYSCONFDIR=/opt/etc; do
        env "$other" DESTDIR="$W/refused" BUILD="$(dirname "$BOOTMGR")" "$top/units/install" >out 2>err
        is "$other is refused" "2 no" "$? $([ -e refused ] && echo yes || echo no)"
        has "with the reason" "$other.*/usr and /etc only" "$(cat err)"
done

# The mount is no part of local-fs.target with nofail
mkdir generated
printf 'LABEL=data /data ext4 nofail 0 0\n' >fstab
SYSTEMD_FSTAB=$W/fstab SYSTEMD_SYSROOT_FSTAB=/dev/null /usr/lib/systemd/system-generators/systemd-fstab-generator \
        "$W/generated" "$W/generated" "$W/generated" 2>/dev/null
set --
[ "$(id -u)" != 0 ] || set -- unshare --user
SYSTEMD_UNIT_PATH=$W/generated:$W/$units:/usr/lib/systemd/system timeout 60 "$@" /usr/lib/systemd/systemd --test --system \
        --unit=multi-user.target >planned 2>/dev/null
for unit in bootmgr-config.service bootmgr-switch.service; do
        is "$unit waits for /data" data.mount \
                "$(awk -v u="$unit:" '/-> Unit /{of = $3} of == u && $1 == "After:"{print $2}' planned | grep -x data.mount)"
done
# Whatever a version comes up with, on trial it ends in time: rescue mode, emergency mode, a default target that is not there
for target in multi-user rescue emergency; do
        SYSTEMD_UNIT_PATH=$W/generated:$W/$units:/usr/lib/systemd/system timeout 60 "$@" /usr/lib/systemd/systemd --test --system \
                --unit=$target.target >planned 2>/dev/null
        for unit in bootmgr-deadline.service bootmgr-switch.service; do
                is "$unit is started with $target.target" "$unit" \
                        "$(sed -n "s/.*Action: \($unit\) -> start.*/\1/p" planned | sort -u)"
        done
done
is "and is not stopped with what emergency mode stops" "" \
        "$(sed -n 's/^\(Requires\|BindsTo\|PartOf\)=//p' $units/bootmgr-deadline.service $units/bootmgr-switch.service $units/bootmgr-rollback.service)"
finish
