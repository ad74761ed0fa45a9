#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Going back without being asked: rollback.target, the deadline, exhausted tries, and the limit per day.
. "$(dirname "$0")/lib.sh"

bundle 1 && bundle 2 && bundle 3 || exit 2
make_machine
m upgrade system -q 1.bundle && boots || exit 2

# The deadline, while on trial
m upgrade system -q 2.bundle || exit 2
running="bootmgr.slot=b bootmgr.generation=2"
m boot-config -q || exit 2
ok "not on trial: nothing to wait for" env running= "$BOOTMGR" --disk disk.img --esp esp --data data --config conf \
        --cmdline 'bootmgr.slot=a bootmgr.generation=1' wait-confirmed
printf '[Health]\nDeadlineSec=1\n' >>conf
fails 1 unhealthy "the deadline" m wait-confirmed
is "1 boots next, 2 is bad and says why" '["a", "bad", "it was not healthy in time"]' "$(status '[j["next"], j["slots"][1]["state"], j["slots"][1]["reason"]]')"
is "an automatic rollback was made" '["ROLLBACK", true]' "$(m show upgrade history --json | json '[j[0]["operation"], j[0]["automatic"]]')"
is "the upgrade failed" '["UPGRADE", "FAILED"]' "$(m show upgrade history --json | json '[j[1]["operation"], j[1]["state"]]')"
ok "it boots" boots
is "and is done" '["ROLLBACK", "DONE"]' "$(m show upgrade history --json | json '[j[0]["operation"], j[0]["state"]]')"
is "what is shown is the upgrade that failed, and who took its place" '["UPGRADE", "FAILED", true]' \
        "$(m show upgrade status --json | json '[j["operation"], j["state"], "deadline" in j["reason"]]')"
is "which is the rollback" true "$([ "$(m show upgrade status --json | json 'j["superseded_by"]')" = "$(m show upgrade history --json | json 'j[0]["id"]')" ] && echo true)"
fails 3 version-refused "the bad version does not come again" m upgrade system --automatic 2.bundle

# All tries used up: systemd-boot has renamed the entry each time, and starts the fallback
m upgrade clear -q && m upgrade system -q 2.bundle || exit 2
mv esp/loader/entries/bootmgr-4-b+3-0.conf esp/loader/entries/bootmgr-4-b+0-3.conf
running="bootmgr.slot=a bootmgr.generation=3"
ok "the fallback boots" m boot-config
is "2 is bad and says why" '["a", "a", "bad", "it did not come up in any of its tries"]' "$(status '[j["booted"], j["next"], j["slots"][1]["state"], j["slots"][1]["reason"]]')"
is "the upgrade failed, and why is recorded" '["UPGRADE", "FAILED", true]' "$(m show upgrade status --json | json '[j["operation"], j["state"], "tries" in j["reason"]]')"
is "1 is confirmed" confirmed "$(status 'j["slots"][0]["state"]')"
is "the entries of 2 are gone" "bootmgr-3-a.conf" "$(entries)"

# rollback.target on a confirmed version
m upgrade system -q 3.bundle && boots || exit 2
ok "rollback.target" m rollback system --automatic --reason 'unit app.service failed'
is "goes to the previous version" '["a", "trial"]' "$(status '[j["next"], j["slots"][0]["state"]]')"
is "with its reason" '["ROLLBACK", true, "unit app.service failed (found out by rollback.target)"]' "$(m show upgrade status --json | json '[j["operation"], j["automatic"], j["reason"]]')"
has "and what failed" '^version 3 FAILED: unit app.service failed' "$(m show upgrade status)"
ok "it boots" boots
ok "upgrade clear" m upgrade clear
ok "then it comes in again" m upgrade system --automatic -q 3.bundle
ok "it boots" boots

# The deadline, the tries and the trigger were three
fails 3 too-many-rollbacks "the fourth of a day" m rollback system --automatic --reason again
ok "an operator's is not counted" m rollback system

# A bootloader that is pinned to the version that runs cannot be told to start another: no machine restarts for that for ever
rm -rf disk.img esp data trust conf && running='' && make_machine
m upgrade system -q 1.bundle && boots && m upgrade system -q 2.bundle && boots || exit 2
echo 'default bootmgr-2-b.conf' >>esp/loader/loader.conf
for n in 1 2 3; do
        fails 3 loader-would-not-choose "pinned, automatic rollback $n" m rollback system --automatic --reason 'unit app.service failed'
        is "2 boots on" '["b", "b", "confirmed"]' "$(status '[j["booted"], j["next"], j["slots"][1]["state"]]')"
done
fails 3 too-many-rollbacks "the fourth" m rollback system --automatic --reason 'unit app.service failed'

# The deadline strikes while the version is being confirmed: what waits for the lock finds it confirmed
rm -rf disk.img esp data trust conf && running='' && make_machine
m upgrade system -q 1.bundle && boots && m upgrade system -q 2.bundle || exit 2
printf '[Health]\nDeadlineSec=1\n' >>conf
running="bootmgr.slot=b bootmgr.generation=2"
m boot-config -q && mkdir other && cp -a disk.img esp data conf other || exit 2
"$BOOTMGR" --disk other/disk.img --esp other/esp --data other/data --config other/conf --cmdline "$running" confirm -q || exit 2
exec 9<disk.img
flock 9
"$BOOTMGR" --disk disk.img --esp esp --data data --config conf --cmdline "$running" wait-confirmed >waited 2>&1 9>&- &
sleep 3
is "it waits for the lock" "" "$(cat waited)"
cp other/disk.img confirmed && dd if=confirmed of=disk.img bs=1M conv=notrunc status=none
exec 9<&-
wait $!
is "and goes back from nothing" 0 $?
is "2 is confirmed" '["b", "confirmed"]' "$(status '[j["next"], j["slots"][1]["state"]]')"
is "nothing was begun" '["UPGRADE", "UPGRADE"]' "$(m show upgrade history --json | json '[o["operation"] for o in j]')"

# Power is cut while a rollback waits for the shutdown, and the other version boots by itself: it is the same rollback
for by in bootloader initramfs; do
        rm -rf disk.img esp data trust conf && running='' && make_machine
        m upgrade system -q 1.bundle && boots && m upgrade system -q 2.bundle && choose_next && m boot-config -q || exit 2
        ok "$by: on trial, a rollback that waits" m rollback system --automatic --no-reboot --reason 'unit app.service failed'
        case $by in
        bootloader) mv esp/loader/entries/bootmgr-2-b+3-0.conf esp/loader/entries/bootmgr-2-b+0-3.conf ;;
        initramfs) ok "its root fails" "$BUILD/bootmgr-recover" --disk disk.img --esp esp --cmdline "$running" failed ;;
        esac
        ok "$by: the other version boots" boots
        is "$by: 1 runs" '["a", "a", "confirmed", "bad"]' "$(status '[j["booted"], j["next"], *(s["state"] for s in j["slots"])]')"
        is "$by: the rollback is done, for its own reason" \
                '["ROLLBACK", "DONE", "2", "1", "unit app.service failed (found out by rollback.target)"]' \
                "$(m show upgrade history --json | json '[j[0][k] for k in ("operation", "state", "from_version", "to_version", "reason")]')"
done

# A confirmed version whose entry a power cut took is put on trial again, and does not come up: that is told, too
rm -rf disk.img esp data trust conf && running='' && make_machine
m upgrade system -q 1.bundle && boots && mkdir -p data/root/cfg && echo one >data/root/cfg/app.conf
m upgrade system -q 2.bundle && boots && echo two >data/root/cfg/app.conf && rm esp/loader/entries/bootmgr-2-b.conf || exit 2
choose_next
ok "version 1 boots" "$BUILD/bootmgr-recover" --disk disk.img --esp esp --cmdline "$running" boot
mv esp/loader/entries/bootmgr-3-b+3-0.conf esp/loader/entries/bootmgr-3-b+0-3.conf || exit 2
ok "and once more, after the tries of 2" boots
is "1 runs, with its configuration" '["a", "a", "confirmed", "bad"] one' \
        "$(status '[j["booted"], j["next"], *(s["state"] for s in j["slots"])]') $(cat data/root/cfg/app.conf)"
is "by an automatic rollback" '["ROLLBACK", "DONE", "2", "1", true]' \
        "$(m show upgrade status --json | json '[j[k] for k in ("operation", "state", "from_version", "to_version", "automatic")]')"
has "which says why" '^slot b, version 2 FAILED: it did not come up in any of its tries \(found out by the bootloader' \
        "$(m show upgrade status --json | json 'j["reason"]')"
is "what 2 had is kept as discarded" 1 "$(find data/discarded -name '*.tar.zst' | wc -l)"

finish
