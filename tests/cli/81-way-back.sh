#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What keeps the way back: every version that was rolled back from stays refused, no version gets another one's
# configuration, a lost record comes back whole, and a machine that is left with one slot goes on booting it.
# shellcheck disable=SC2317 # recover is called through ok
. "$(dirname "$0")/lib.sh"
RECOVER=${RECOVER:-$(dirname "$BOOTMGR")/bootmgr-recover}

recover() { "$RECOVER" --disk disk.img --esp esp --cmdline "$running ${2-}" "$1" 2>recover.log; }
record() { python3 "$top/tests/cli/record.py" "$1" disk.img; }
states() { status '[s["state"] for s in j["slots"]]'; }
operation() { m show upgrade status --json | json "$1"; }
factory() {
        rm -rf disk.img esp data trust conf && running='' && make_machine
        m upgrade system -q 1.bundle && boots && mkdir -p data/root/cfg && echo one >data/root/cfg/app.conf
}
# The command line of a system in slot a that knows nothing of bootmgr.
foreign() {
        printf 'root=PARTUUID=%s ro' \
                "$(sfdisk -J disk.img | json '[p["uuid"].lower() for p in j["partitiontable"]["partitions"] if p["name"] == "root-a"][0]')"
}
# Version 2 runs, with a configuration of its own.
upgraded() { factory && m upgrade system -q 2.bundle && boots && echo two >data/root/cfg/app.conf; }

bundle 1 && bundle 2 && bundle 3 || exit 2

# ---- refused versions ----
upgraded || exit 2
m rollback system -q && boots && m upgrade system -q 3.bundle && boots && m rollback system -q && boots || exit 2
fails 3 version-refused "3 was rolled back from" m upgrade system --automatic 3.bundle
fails 3 version-refused "and 2 before it" m upgrade system --automatic 2.bundle
is "both are listed, the newest first" "3 2" "$(cut -d ' ' -f 2 data/refused | tr '\n' ' ' | sed 's/ $//')"
is "by the digests of their manifests" true \
        "$(status "j['refused'] == '$(sed -n '1s/ .*//p' data/refused)' and [v['version'] for v in j['refused_versions']] == ['3', '2']")"
echo damaged >>data/refused
fails 3 version-refused "a damaged line hides none of the others" m upgrade system --automatic 2.bundle
ok "upgrade clear" m upgrade clear
is "empties the list" '[null, []]' "$(status '[j["refused"], j["refused_versions"]]')"
ok "2 comes in again" m upgrade system --automatic -q 2.bundle
# The record alone knows of one that the bootloader fell back from; the boot adds it
factory && m upgrade system -q 2.bundle || exit 2
mv esp/loader/entries/bootmgr-2-b+3-0.conf esp/loader/entries/bootmgr-2-b+0-3.conf
running="bootmgr.slot=a bootmgr.generation=1"
ok "the bootloader falls back" recover boot
is "without data, only the record knows it" "" "$(cat data/refused 2>/dev/null)"
ok "the boot" m boot-config
is "lists it" 2 "$(cut -d ' ' -f 2 data/refused)"
has "the failure names the bootloader" 'slot b, version 2: .*tries.*bootloader' "$(operation 'j["reason"]')"

# ---- slot activate: JSON, and whose configuration ----
upgraded && m rollback system -q && boots || exit 2
ok "slot activate b" m slot activate b
is "is a rollback with a mark, for programs" '["ROLLBACK", true]' "$(operation '[j["operation"], j["activate"]]')"
has "and ACTIVATE for people" '^ACTIVATE 1 -> 2' "$(m show upgrade status)"
is "a rollback has no mark" '["ROLLBACK", false]' "$(m show upgrade history --json | json '[j[1]["operation"], j[1]["activate"]]')"
boots || exit 2
is "2 has its configuration" two "$(cat data/root/cfg/app.conf)"
id=$(status 'j["slots"][0]["version"]') && is "1 is the other" 1 "$id"
seal=$(grep -l '"version": *"1"' data/snapshots/*.json) && seal=${seal%.json}
cp "$seal.tar.zst" seal.good
printf damage | dd of="$seal.tar.zst" bs=1 seek=20 conv=notrunc status=none
before=$(fingerprint)
fails 3 snapshot-altered "activate, the seal of 1 damaged" m slot activate a
has_not "its hint does not lead to the other's configuration" 'slot activate' "$(json 'j["message"]' <out)"
mv "$seal.tar.zst" seal.damaged
fails 3 snapshot-missing "activate, the seal of 1 gone" m slot activate a
mv seal.damaged "$seal.tar.zst"
is "nothing was changed" "$before" "$(fingerprint)"
cp seal.good "$seal.tar.zst"
m slot activate -q a || exit 2
printf damage | dd of="$seal.tar.zst" bs=1 seek=20 conv=notrunc status=none
running="bootmgr.slot=a bootmgr.generation=5"
fails 3 snapshot-altered "damaged behind the switch: the boot stops at it" m boot-config
is "and leaves what is there" two "$(cat data/root/cfg/app.conf)"
cp seal.good "$seal.tar.zst"
fails 1 degraded "and it is not confirmed like this" m confirm
ok "mended, it goes on" m boot-config
is "with the configuration of 1" one "$(cat data/root/cfg/app.conf)"

# ---- the record is lost ----
upgraded || exit 2
kept=$(status '[[s["digest"], s["security_version"]] for s in j["slots"]] + [j["previous"], j["snapshot"]]')
record lose
before=$(fingerprint)
fails 1 state-unreadable "an upgrade without the record" m upgrade system 3.bundle
is "writes nothing" "$before" "$(fingerprint)"
ok "what is refused can be cleared" m upgrade clear
is "but no empty record takes its place" true "$(status 'any("no valid copy" in n for n in j["notes"])')"
ok "the initramfs makes it again from the entries" recover boot
ok "the boot fills in what data knows" m boot-config
is "digests, snapshot and the way back are as before" "$kept" \
        "$(status '[[s["digest"], s["security_version"]] for s in j["slots"]] + [j["previous"], j["snapshot"]]')"
ok "so a rollback goes" m rollback system -q
ok "1 boots" boots
is "with its configuration" one "$(cat data/root/cfg/app.conf)"
record lose
ok "lost after the rollback" m boot-config
is "there is no way back" null "$(status 'j["previous"]')"
# On trial: it goes on, and so does its operation
factory && m upgrade system -q 2.bundle || exit 2
running="bootmgr.slot=b bootmgr.generation=2"
record lose
ok "lost on trial" recover boot
ok "the boot" m boot-config
is "the upgrade goes on" '["UPGRADE", "IN_PROGRESS"]' "$(operation '[j["operation"], j["state"]]')"
m confirm -q
is "it is done, with a way back" '["DONE", "a"]' "[$(operation 'json.dumps(j["state"])'), $(status 'json.dumps(j["previous"])')]"
# What was given up stays given up
upgraded && m finalize -q || exit 2
record lose
ok "lost after a finalize" m boot-config
fails 3 finalized "the way back stays given up" m rollback system
# What is kept is believed only where it is that of the entry
upgraded || exit 2
cp data/slots/b/manifest data/slots/a/manifest
record lose
ok "lost, and the manifest is another slot's" m boot-config
is "it is not believed" '[null, true]' "$(status '[j["slots"][0]["digest"], j["slots"][1]["digest"] is not None]')"
# An old version without any seal does not take over what the new one has
upgraded || exit 2
rm -rf data/snapshots data/operations
record lose
running="bootmgr.slot=a bootmgr.generation=1"
fails 3 snapshot-missing "the old version, its seal lost" m boot-config
is "leaves the new one's configuration alone" two "$(cat data/root/cfg/app.conf)"

# ---- an existing machine: what runs in slot a is not ours ----
rm -rf disk.img esp data trust conf && running='' && make_machine
mkdir -p data/root/cfg && echo theirs >data/root/cfg/app.conf
running=$(foreign)
ok "its boot" m boot-config
ok "its next boot" m boot-config
is "it is slot a, of which nothing is known" '["a", "empty"]' "$(status '[j["booted"], j["slots"][0]["state"]]')"
mv esp esp.away
ok "a boot without the ESP is no failure of it" m boot-config
has "but is told" "ESP.*cannot be opened" "$(cat err)"
running="$running bootmgr.slot=a"
fails 3 esp-unusable "of a version of ours it is one" m boot-config
mv esp.away esp && running=$(foreign)
ok "prepare the first upgrade" m upgrade system --no-reboot 2.bundle
has "it is said that there is no way back" "the way back is the bootloader's own entry" "$(cat err)"
ok "power is cut before the switch" m boot-config
is "nothing is switched to" '["empty", "installed"]' "$(states)"
m abort -q
ok "the first upgrade" m upgrade system 2.bundle
is "records no previous slot" '[null, "b", "SKIPPED"]' \
        "$(status '[j["previous"], j["next"], [s["state"] for s in j["operation"]["steps"] if s["name"] == "RECORD_PREVIOUS"][0]]')"
ok "2 boots" boots
is "it has the configuration as it was" theirs "$(cat data/root/cfg/app.conf)"
fails 3 no-previous-version "there is nothing of ours to go back to" m rollback system
is "the snapshots can be listed" '[]' "$(m snapshot list --json | json 'j')"
# It does not come up, and the bootloader starts its own entry
rm -rf disk.img esp data trust conf && running='' && make_machine
running=$(foreign)
m upgrade system -q 2.bundle 2>err || exit 2
mv esp/loader/entries/bootmgr-1-b+3-0.conf esp/loader/entries/bootmgr-1-b+0-3.conf
ok "the bootloader's own entry boots" m boot-config
is "the upgrade failed, 2 is bad" '["FAILED", ["empty", "bad"]]' "[$(operation 'json.dumps(j["state"])'), $(states)]"

# ---- one slot is left ----
upgraded || exit 2
printf '[Health]\nDeadlineSec=1\n' >>conf
m upgrade system -q 3.bundle || exit 2 # overwrites 1
running="bootmgr.slot=a bootmgr.generation=3"
m boot-config -q || exit 2
fails 1 unhealthy "the deadline" m wait-confirmed
is "3 is bad, 2 on trial" '["bad", "trial"]' "$(states)"
has "the reason says who found it out" 'deadline' "$(operation 'j["reason"]')"
has "so does that of what failed" 'deadline.*; superseded' "$(m show upgrade history --json | json 'j[1]["reason"]')"
running="bootmgr.slot=b bootmgr.generation=4"
for boot in first second third; do
        record new-boot
        ok "the $boot boot of 2 is interrupted" recover boot
done
record new-boot
ok "the fourth boots all the same" recover boot
is "2 is what is left" '["bad", "trial"]' "$(states)"
ok "up to its services" m boot-config
is "the operation failed" FAILED "$(operation 'j["state"]')"
has "and says where that was found out" 'initramfs' "$(operation 'j["reason"]')"
record new-boot
ok "so does the fifth" recover boot
ok "it comes up" m boot-config
cp -a esp/bootmgr boot-files
ok "and is confirmed" m confirm
is "as good as ever" '["bad", "confirmed"]' "$(states)"
is "its reason is gone" null "$(status 'j["slots"][1]["reason"]')"
fails 3 esp-unusable "the other one has no kernel any more" m slot mark-good a
is "and stays bad" '["bad", "confirmed"]' "$(states)"
cp -an boot-files/. esp/bootmgr
ok "marking the other good leaves a record that can be saved" m slot mark-good a
is "both can boot" '["confirmed", "confirmed"]' "$(states)"

# ---- the ESP ----
factory && m upgrade system -q 2.bundle || exit 2
sed "s/^linux .*/linux \/bootmgr\/$(printf '%032d' 0)/; s/generation=1/generation=9/" \
        esp/loader/entries/bootmgr-1-a.conf >esp/loader/entries/bootmgr-9-a.conf
running="bootmgr.slot=b bootmgr.generation=2"
m boot-config -q || exit 2
ok "2 is confirmed, the newest entry of 1 has no kernel" m confirm
is "the entry that boots 1 is kept" "bootmgr-1-a.conf bootmgr-2-b.conf" "$(entries)"
# Nothing is to be written there: so it need not be writable
read_only_boot() {
        set -- "$BOOTMGR" --disk disk.img --esp esp --data data --config conf --cmdline "$running" boot-config
        if [ "$(id -u)" -eq 0 ]; then
                # shellcheck disable=SC2016
                unshare -m sh -c 'mount --bind esp esp && mount -o remount,bind,ro esp && exec "$@"' sh "$@"
        else
                chmod a-w esp && "$@"
                result=$?
                chmod u+w esp
                return "$result"
        fi
}
if [ "$(id -u)" -ne 0 ] || unshare -m mount --bind esp esp 2>/dev/null; then
        ok "the boot of a confirmed version, the ESP read-only" read_only_boot
        record lose
        ok "the record is made again all the same" read_only_boot
        is "from what can be read" '["confirmed", "confirmed"]' "$(states)"
else
        echo "skipped: root that may not mount cannot make the ESP read-only"
fi
finish
