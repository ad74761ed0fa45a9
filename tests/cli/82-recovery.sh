#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Ways back that nobody asked the running system for: the boot menu's previous version, the firmware's last boot option, an
# entry that was deleted; and a rollback without the snapshot.
# shellcheck disable=SC2317 # recover is called through ok
. "$(dirname "$0")/lib.sh"
RECOVER=${RECOVER:-$(dirname "$BOOTMGR")/bootmgr-recover}

recover() { "$RECOVER" --disk disk.img --esp esp --result result --cmdline "$running ${2-}" "$1" 2>recover.log; }
next_boot() { python3 "$top/tests/cli/record.py" new-boot disk.img; }
states() { status '[s["state"] for s in j["slots"]]'; }
operation() { m show upgrade status --json | json "$1"; }
config() { cat data/root/cfg/app.conf; }
options_of() { sed -n 's/^options *//p' "esp/loader/entries/$1"; }
# The initramfs, then the units; a new boot as the kernel would tell it.
this_boot() {
        next_boot
        recover boot && m boot-config -q
}
units() { m check-health -q && m confirm -q; }
upgraded() {
        rm -rf disk.img esp data trust conf && running='' && make_machine
        m upgrade system -q 1.bundle && boots && mkdir -p data/root/cfg && echo one >data/root/cfg/app.conf
        m upgrade system -q 2.bundle && boots && echo two >data/root/cfg/app.conf
}

bundle 1 && bundle 2 && bundle 3 || exit 2

# ---- the boot menu ----
upgraded || exit 2
is "the menu offers version 1" bootmgr-previous-a-1.conf "$(offered)"
ok "a second confirmation" m confirm
is "keeps it" bootmgr-previous-a-1.conf "$(offered)"
running=$(options_of bootmgr-previous-a-1.conf)
has "its command line says what it is" ' bootmgr.rollback=1' "$running"
ok "a person chooses it" this_boot
is "the initramfs leaves that it is one, and on trial: what goes wrong now costs a try" "found=chosen trial=1" \
        "$(grep -E '^(found|trial)=' result | tr '\n' ' ' | sed 's/ $//')"
is "it is a rollback" '["ROLLBACK", "2", "1", "IN_PROGRESS", false]' \
        "$(operation '[j["operation"], j["from_version"], j["to_version"], j["state"], j["automatic"]]')"
is "and says who asked" "asked for by a person at the boot menu" "$(operation 'j["reason"]')"
is "on trial, and 2 can be fallen back to" '["trial", "confirmed"]' "$(states)"
is "this boot is its first try" 2 "$(status 'j["slots"][0]["tries_left"]')"
is "with an entry in front" "bootmgr-1-a.conf bootmgr-2-b.conf bootmgr-3-a+3-0.conf" "$(entries)"
is "version 1 has its configuration" one "$(config)"
is "what 2 had is sealed" 2 "$(m snapshot list --json | json 'j[0]["version"]')"
ok "the same boot once more" recover boot
ok "changes nothing" m boot-config
ok "it is healthy and confirmed" units
is "the rollback is done, every step" '["DONE", []]' \
        "$(operation '[j["state"], [s["name"] for s in j["steps"] if s["state"] not in ("DONE", "SKIPPED")]]')"
is "nothing is offered: the way back is used up" "" "$(offered)"
fails 3 no-previous-version "a further rollback" m rollback system
fails 3 version-refused "an updater that brings 2 again" m upgrade system --automatic 2.bundle

# On an ESP that cannot be written it is no rollback: nothing says that one was made
if [ "$(id -u)" -eq 0 ] && unshare -m mount --bind esp esp 2>/dev/null; then
        upgraded || exit 2
        # shellcheck disable=SC2016
        read_only() { unshare -m sh -c 'mount --bind esp esp && mount -o remount,bind,ro esp && exec "$@"' sh "$@"; }
        running=$(options_of bootmgr-previous-a-1.conf)
        ok "chosen, the ESP read-only: the initramfs" read_only "$RECOVER" --disk disk.img --esp esp --result result --cmdline "$running" boot
        is "no trial has begun" trial=0 "$(grep ^trial= result)"
        ok "and the system go on" read_only "$BOOTMGR" --disk disk.img --esp esp --data data --config conf --cmdline "$running" boot-config
        is "version 1 has its configuration" one "$(config)"
        is "there is no rollback" '["UPGRADE", "DONE"]' "$(operation '[j["operation"], j["state"]]')"
        is "2 is not refused, and 1 is the way back" '[[], "a"]' "$(status '[j["refused_versions"], j["previous"]]')"

        # Nor can a version be left that has used up its tries: it is booted slowly, for it may be reached then
        upgraded && m upgrade clear -q && m upgrade system --yes -q 3.bundle || exit 2
        running=$(options_of bootmgr-3-a+3-0.conf)
        page() { read_only python3 "$top/tests/cli/console.py" "" page "$RECOVER" --disk disk.img --esp esp --cmdline "$running" --console TTY boot; }
        for start in first second third; do
                next_boot
                ok "the $start start of 3, the ESP read-only" page
                is "goes on" "" "$(cat page)"
        done
        for start in fourth fifth; do
                next_boot
                page >out 2>&1
                is "the $start waits" 0 $?
                has "the page says why" 'slot b is to boot instead' "$(cat page)"
                has "and for how long" 'It boots all the same in 300 seconds' "$(cat page)"
                is "3 is bad" '["bad", "confirmed"]' "$(states)"
        done
        ok "once it can be written" recover boot
        is "2 is switched to" '["bad", "trial"]' "$(states)"

        # What is healthy goes on where another version cannot have its entry again
        system() { read_only "$BOOTMGR" --disk disk.img --esp esp --data data --config conf --cmdline "$running" boot-config; }
        upgraded || exit 2
        running=$(options_of bootmgr-1-a.conf)
        mv esp/loader/entries/bootmgr-2-b.conf kept
        next_boot
        ok "the newest has no entry, and the ESP is read-only" system
        has "it is said" 'slot a goes on, and slot b has no boot entry' "$(cat err)"
        is "nothing failed" '["confirmed", "confirmed"]' "$(states)"
        is "version 1 has its configuration" one "$(config)"
        ok "once it can be written" recover boot
        is "it is made again" "bootmgr-1-a.conf bootmgr-3-b+3-0.conf" "$(entries)"
        rm esp/loader/entries/bootmgr-3-b*
        next_boot
        ok "the one on trial has none" system
        is "it has one try less" '["confirmed", "trial", 2]' "$(status '[s["state"] for s in j["slots"]] + [j["slots"][1]["tries_left"]]')"
        next_boot && system && next_boot
        ok "a loader that loses it each time" system
        is "comes to an end" '["confirmed", "bad"]' "$(states)"
fi

# It does not come up: the version that was left does, with its own
upgraded || exit 2
running=$(options_of bootmgr-previous-a-1.conf)
ok "version 1 is chosen again" this_boot
is "it has its configuration" one "$(config)"
echo lost >data/root/cfg/app.conf
running=$(options_of bootmgr-3-a+3-0.conf)
ok "its second try" this_boot
ok "its third" this_boot
next_boot
ok "the fourth is one too many" recover boot
is "it is bad, 2 is switched to" '["bad", "trial"]' "$(states)"
running=$(options_of bootmgr-4-b+3-0.conf)
ok "2 boots" this_boot
is "with its own configuration" two "$(config)"
is "the rollback failed" FAILED "$(operation 'j["state"]')"
ok "2 is confirmed" units

# It is not offered where it would be refused
upgraded && m finalize -q || exit 2
is "finalized: nothing is offered" "" "$(offered)"
upgraded && cp esp/loader/entries/bootmgr-previous-a-1.conf kept && m finalize -q && cp kept esp/loader/entries/bootmgr-previous-a-1.conf || exit 2
running=$(options_of bootmgr-previous-a-1.conf)
ok "one that was kept" this_boot
is "is a boot and nothing else" '["UPGRADE", "DONE"]' "$(operation '[j["operation"], j["state"]]')"
upgraded && m upgrade system --yes -q 3.bundle || exit 2
is "its slot was overwritten: nothing is offered" "" "$(offered)"

# ---- the firmware's last boot option ----
upgraded || exit 2
kernel=$(sed -n 's/^linux //p' esp/loader/entries/bootmgr-2-b.conf)
content "damage" 4096 | dd of="esp$kernel" conv=notrunc status=none
running="$(options_of bootmgr-1-a.conf) bootmgr.fallback=1"
ok "the firmware starts slot a" this_boot
is "2 is bad" '["trial", "bad"]' "$(states)"
is "and why" "its kernel or initrd on the ESP is missing or damaged" "$(status 'j["slots"][1]["reason"]')"
is "an automatic rollback" '["ROLLBACK", true]' "$(operation '[j["operation"], j["automatic"]]')"
is "with the reason and where it was found out" \
        "slot b, version 2 FAILED: its kernel or initrd on the ESP is missing or damaged (found out by the firmware, which started slot a)" \
        "$(operation 'j["reason"]')"
is "2 has no entry any more" "bootmgr-1-a.conf bootmgr-3-a+3-0.conf" "$(entries)"
is "version 1 has its configuration" one "$(config)"
ok "it is confirmed" units
is "the rollback is done" DONE "$(operation 'j["state"]')"
ok "a later upgrade" m upgrade system -q 3.bundle
ok "boots" boots

# Its files are whole: something else keeps it from starting
upgraded || exit 2
running="$(options_of bootmgr-1-a.conf) bootmgr.fallback=1"
ok "the firmware starts slot a, and all files are whole" this_boot
is "that is what is said" "neither the bootloader nor the firmware could start it" "$(status 'j["slots"][1]["reason"]')"

# The same on trial, with tries left
upgraded && m upgrade system -q 3.bundle || exit 2
running="$(options_of bootmgr-2-b.conf) bootmgr.fallback=1"
ok "the firmware starts slot b, and not 3 in slot a" this_boot
is "3 is bad" '["bad", "confirmed"]' "$(states)"
is "it failed where it was found out, and was never confirmed" \
        "slot a, version 3: neither the bootloader nor the firmware could start it (found out by the firmware, which started slot b)" \
        "$(operation 'j["reason"]')"

# The file is gone: systemd-boot hides the entry
upgraded || exit 2
rm "esp$(sed -n 's/^linux //p' esp/loader/entries/bootmgr-2-b.conf)"
running=$(options_of bootmgr-1-a.conf)
ok "the bootloader starts slot a" this_boot
has "and is named" 'missing or damaged \(found out by the bootloader, which started slot a\)' "$(operation 'j["reason"]')"

# ---- entries that were deleted ----
upgraded || exit 2
running=$(options_of bootmgr-1-a.conf)
rm esp/loader/entries/bootmgr-2-b.conf
next_boot
ok "the newest has no entry" recover boot
is "it is made again, on trial" "bootmgr-1-a.conf bootmgr-3-b+3-0.conf" "$(entries)"
is "nothing failed" '["confirmed", "trial"]' "$(states)"
running=$(options_of bootmgr-3-b+3-0.conf)
ok "2 boots" this_boot
is "with its configuration" two "$(config)"
ok "and is confirmed" units
is "what can be gone back to is still there" a "$(status 'j["previous"]')"
rm esp/loader/entries/*
ok "all were deleted: the next confirmation" m confirm
is "makes them again" "bootmgr-1-a.conf bootmgr-3-b.conf" "$(entries)"
is "and the menu's" bootmgr-previous-a-1.conf "$(offered)"
running=$(options_of bootmgr-1-a.conf)
rm esp/loader/entries/bootmgr-3-b.conf
ok "a confirmation of slot a, before a boot has looked at what is newer" m confirm
is "leaves that to it" "bootmgr-1-a.conf" "$(entries)"
running="$(options_of bootmgr-1-a.conf) bootmgr.fallback=1"
rm esp/loader/entries/*
next_boot
ok "all were deleted, the firmware starts slot a" recover boot
is "the newest gets its entry" "bootmgr-4-b+3-0.conf" "$(entries)"
is "and nothing is bad" '["confirmed", "trial"]' "$(states)"
running=$(options_of bootmgr-4-b+3-0.conf)
ok "2 boots" this_boot
ok "is confirmed" units
is "and the previous version has its entry again" "bootmgr-1-a.conf bootmgr-4-b.conf" "$(entries)"
ok "and its kernel" m rollback system --dry-run

# Marked bad and good again: no boot misses its entries
upgraded || exit 2
m rollback system -q && boots && m slot mark-bad -q b && m slot mark-good -q b || exit 2
ok "the next boot" this_boot
is "stays where it is" confirmed "$(status 'j["slots"][0]["state"]')"

# What the loader can go on to by itself is one again, if it is behind what runs
upgraded || exit 2
kept=$(entries) menu=$(offered)
m slot mark-bad -q a || exit 2
is "what is bad has no entry" "${kept#* }" "$(entries)"
ok "marked good" m slot mark-good a
is "it has its own again" "$kept" "$(entries)"
is "and is offered" "$menu" "$(offered)"
m slot mark-bad -q a && ln -s nowhere esp/loader/entries/bootmgr-1-a.conf || exit 2
fails 3 esp-unusable "where that cannot be made" m slot mark-good a
is "it stays bad" bad "$(status 'j["slots"][0]["state"]')"
rm esp/loader/entries/bootmgr-1-a.conf
m slot mark-good -q a || exit 2
is "else it does not" "$kept" "$(entries)"

# ---- without the snapshot ----
upgraded || exit 2
seal=$(grep -l '"version": *"1"' data/snapshots/*.json) && seal=${seal%.json}.tar.zst
content "altered" 20 | dd of="$seal" bs=1 seek=30 conv=notrunc status=none
before=$(fingerprint)
fails 3 snapshot-altered "a rollback with an altered snapshot" m rollback system
has "the way out is named" 'without-snapshot' "$(m rollback system 2>&1)"
ok "a dry run without it" m rollback system --without-snapshot --dry-run
has "says what the configuration would be" 'nothing is restored.*Version 1 gets that of the running version' "$(tr '\n' ' ' <out)"
is "none of them changed anything" "$before" "$(fingerprint)"
ok "a rollback without it" m rollback system --without-snapshot
ok "boots" boots
is "version 1 runs, confirmed" '["confirmed", "confirmed"]' "$(states)"
is "with the configuration of 2, as it was" two "$(config)"
is "it is recorded" '["DONE", true]' "$(operation '[j["state"], j["without_snapshot"]]')"
echo "one again" >data/root/cfg/app.conf
ok "forward again" m slot activate b
ok "2 boots" boots
is "and has its own" two "$(config)"
ok "back to 1, which is sealed now" m slot activate a
ok "1 boots" boots
is "and has its own" "one again" "$(config)"

# The rollback does not come up: what was left has its own configuration
upgraded && m rollback system --without-snapshot -q || exit 2
mv esp/loader/entries/bootmgr-3-a+3-0.conf esp/loader/entries/bootmgr-3-a+0-3.conf
echo "of 1" >data/root/cfg/app.conf
running=$(options_of bootmgr-2-b.conf)
ok "2 boots instead" this_boot
is "with what it had" two "$(config)"

# There is no switch after all: what 2 has never counts as that of 1
upgraded && m rollback system --without-snapshot --no-reboot -q || exit 2
echo 'default bootmgr-2-b.conf' >>esp/loader/loader.conf
fails 3 loader-would-not-choose "the bootloader is pinned at the shutdown" m switch-at-shutdown
sed -i '/^default /d' esp/loader/loader.conf
ok "2 boots" this_boot
is "with what it had" two "$(config)"
fails 3 snapshot-missing "nothing is there that could be restored for 1" m rollback system

# The record is lost between the boot and the confirmation: nothing is confirmed, and nothing says so; the boot makes it again
rm -rf disk.img esp data trust conf && running='' && make_machine
m upgrade system -q 1.bundle && boots && m upgrade system -q 2.bundle && choose_next && m boot-config -q && m check-health -q || exit 2
python3 "$top/tests/cli/record.py" lose disk.img
before=$(entries)
fails 1 state-unreadable "a confirmation without a record" m confirm
is "the entry keeps its tries" "$before" "$(entries)"
ok "the record is made again" m boot-config
ok "and the version confirmed" m confirm
is "with it" '"confirmed"' "$(status '[s["state"] for s in j["slots"]][1:]' | tr -d '[]')"
m rollback system -q --no-reboot || exit 2
python3 "$top/tests/cli/record.py" lose disk.img
before=$(entries)
fails 1 state-unreadable "a shutdown without a record" m switch-at-shutdown
is "switches nothing" "$before" "$(entries)"
finish
