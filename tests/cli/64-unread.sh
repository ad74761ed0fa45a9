#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# No copy of the state record can be read, for one boot or for good: it is not written over before a second boot has found the
# same, and until then the machine goes on without it.
# shellcheck disable=SC2317 # recover is called through ok
. "$(dirname "$0")/lib.sh"
RECOVER=${RECOVER:-$(dirname "$BOOTMGR")/bootmgr-recover}
${CC:-cc} -shared -fPIC -o unreadable.so "$top/tests/cli/unreadable.c" || exit 2

recover() { "$RECOVER" --disk disk.img --esp esp --result result --cmdline "$running" "$1" 2>recover.log; }
config() { cat data/root/cfg/app.conf; }
record() { status '[j["generation"], j["previous"], [s["state"] for s in j["slots"]], j["snapshot"], j["security_floor"]]'; }
copies() { python3 -c 'import sys
d = open("disk.img", "rb").read()
a = d.find(b"BOOTMGRS")
print(a, d.find(b"BOOTMGRS", a + 4096))'; }
written() { test -e gone && echo no || echo yes; }

bundle 1 && bundle 2 --security-version 2 && bundle 3 --security-version 2 && bundle 4 --security-version 2 && make_machine || exit 2
m upgrade system -q 1.bundle && boots && mkdir -p data/root/cfg && echo one >data/root/cfg/app.conf
m upgrade system -q 2.bundle && boots && m finalize -q && m upgrade system -q 3.bundle && boots || exit 2
echo three >data/root/cfg/app.conf
before=$(record)
UNREADABLE=$W/gone UNREADABLE_AT=$(copies)
export UNREADABLE UNREADABLE_AT LD_PRELOAD="$W/unreadable.so" ASAN_OPTIONS="verify_asan_link_order=0:${ASAN_OPTIONS-}"

# For one boot
touch gone
ok "the initramfs goes on without it" recover boot
is "and writes nothing there" no "$(written)"
ok "so does the system" m boot-config
has "says so" 'no copy of the state record can be read: this boot goes on without it' "$(cat err)"
is "and writes nothing there" no "$(written)"
is "the version has its configuration" three "$(config)"
has "status says it, too" 'no copy of the state record can be read' "$(status 'j["notes"]')"
fails 1 state-unreadable "a confirmation" m confirm
is "writes nothing either" no "$(written)"
rm gone
is "it is what it was" "$before" "$(record)"
ok "the next boot finds it" recover boot
ok "and is confirmed" boots
is "with it as it was" "$before" "$(record)"
is "no mark is left" "" "$(find data -name record-unread)"

# Two boots that are not in a row
touch gone
ok "a boot without it" m boot-config
rm gone
ok "one with it" boots
touch gone
ok "one without it again" m boot-config
is "nothing is written there" no "$(written)"

# Two in a row
ok "the next initramfs cannot read it either" recover boot
is "and writes nothing there" no "$(written)"
ok "nor can the system" m boot-config
is "it is made again" yes "$(written)"
is "from what is there" '["confirmed"]' "$(status '[s["state"] for s in j["slots"] if s["version"] == "3"]')"
is "no mark is left" "" "$(find data -name record-unread)"
ok "the version is confirmed" m confirm
is "with its configuration" three "$(config)"

# On trial: the deadline holds, and the rollback that it asks for is left to the next boot
m upgrade system -q --yes 4.bundle && choose_next || exit 2
touch gone
ok "the initramfs of a version on trial" recover boot
is "leaves that it is one" "found=record-unread trial=1" "$(grep -E '^(found|trial)=' result | tr '\n' ' ' | sed 's/ $//')"
ok "a boot of it" m boot-config
fails 1 state-unreadable "it is not confirmed in time" m wait-confirmed
fails 1 state-unreadable "nobody knows whether it can be gone back from" m rollback system --automatic --reason 'unit app.service failed'
fails 1 state-unreadable "nor what an operator goes back to" m rollback system
is "nothing is written there" no "$(written)"
rm gone
boot_up || exit 2
touch gone
ok "a confirmed one has no deadline" m wait-confirmed
entry=$(grep -lw "$(printf %s "$running" | grep -o 'bootmgr.generation=[0-9]*')" esp/loader/entries/bootmgr-[0-9]*)
echo 'bootmgr-confirmed yes' >>"$entry" && mv "$entry" "${entry%.conf}+9-0.conf" || exit 2
ok "nor has one whose starts are counted" m wait-confirmed
rm gone

# The slot has to be left: nobody waits for a second boot
touch gone
ok "the root cannot be mounted" recover failed
is "the record is made again" yes "$(written)"
is "and the other slot boots" '["trial", "bad"]' "$(status '[s["state"] for s in j["slots"]]')"

# A state partition that can be neither read nor written: each boot goes on without it
boots && UNWRITABLE=1 && export UNWRITABLE && touch gone || exit 2
for boot in 1 2 3; do
        ok "boot $boot: the initramfs goes on" recover boot
        ok "boot $boot: so does the system" m boot-config
        has "boot $boot: and says so" 'this boot goes on without it' "$(cat err)"
        ok "boot $boot: a confirmed version has no deadline" m wait-confirmed
done
fails 1 state-unreadable "a rollback" m rollback system
unset UNWRITABLE
ok "it can be written again: a boot" m boot-config
is "makes it anew" yes "$(written)"
ok "and the version is confirmed" m confirm

finish
