#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What is left by failures in the middle: a second try succeeds, and nothing that was told otherwise is carried out.
. "$(dirname "$0")/lib.sh"

bundle 1 && bundle 2 && bundle 3 || exit 2
make_machine
m upgrade system -q 1.bundle && boots || exit 2
mkdir -p data/root/cfg data/etc/a/upper
echo one >data/root/cfg/app.conf
echo box1 >data/etc/a/upper/hostname
runs() { status '[s["version"] for s in j["slots"] if s["name"] == j["booted"]][0]'; }

# What cannot become an entry is refused while nothing is lost
cp conf conf.good
printf '[Boot]\nKernelCommandLine=%0500d\n' 1 >>conf
before=$(fingerprint)
fails 1 configuration-invalid "a command line too long for an entry" m upgrade system 2.bundle
is "is refused before the first write" "$before" "$(fingerprint)"
cp conf.good conf
truncate -s 4M bare
printf '[Storage]\nSlots=b:%s\n' "$W/bare" >>conf
fails 3 slot-not-bootable "a slot without a PARTUUID" m upgrade system 2.bundle
is "is refused before the first write, too" "" "$(tr -d '\000' <bare)"
cp conf.good conf

# An automatic return never goes forward, to what is staged: its /etc was not carried
ok "prepare 2" m upgrade system -q --no-reboot 2.bundle
fails 3 previous-not-bootable "an automatic return meanwhile" m rollback system --automatic --reason test
is "1 boots next, 2 is still staged" '["a", "STAGED"]' \
        "$(status '[j["next"], "STAGED" if j["operation"]["staged"] else "no"]')"

# Asked for twice is asked for once
fails 3 operation-in-progress "another bundle" m upgrade system 3.bundle
ok "the same bundle again: it goes on" m upgrade system 2.bundle
is "2 boots next" b "$(status 'j["next"]')"
boots || exit 2
echo two >data/root/cfg/app.conf
echo box2 >data/etc/b/upper/hostname
ok "prepare a rollback" m rollback system -q --no-reboot
ok "the same rollback again: it goes on" m rollback system
is "1 boots next" a "$(status 'j["next"]')"
boots || exit 2
is "with its configuration" one "$(cat data/root/cfg/app.conf)"
m upgrade clear -q && m upgrade system -q 2.bundle && boots || exit 2
echo two >data/root/cfg/app.conf
echo box2 >data/etc/b/upper/hostname

# An ESP that fails in the very moment of the switch
m rollback system -q --no-reboot || exit 2
mv esp/loader/entries entries.good && touch esp/loader/entries
fails 3 esp-unusable "the ESP fails at the switch" m switch-at-shutdown
rm esp/loader/entries && mv entries.good esp/loader/entries
ok "2 boots again" boots
is "2 runs, 1 can still be gone back to, 2 is not refused" '["b", "a", null]' \
        "$(status '[j["booted"], j["previous"], j["refused"]]')"
is "2 has its configuration" two "$(cat data/root/cfg/app.conf)"
is "it failed, and not nearly succeeded" '["FAILED", true]' \
        "$(m show upgrade status --json | json '[j["state"], j["progress"] < 60]')"

# The steps of a staged operation are lost: the record says what is staged, an older operation is not done again
ok "prepare a rollback" m rollback system -q --no-reboot
newest=$(find data/operations -name '*.json' | sort | tail -n 1)
echo '{' >"$newest"
ok "the shutdown, with its steps damaged" m switch-at-shutdown -q
is "1 boots next" a "$(status 'j["next"]')"
is "2 keeps its own /etc" box2 "$(cat data/etc/b/upper/hostname)"
boots || exit 2
is "1 runs, with its configuration" '1 one' "$(runs) $(cat data/root/cfg/app.conf)"

# The local procedure: for a previous version that restores nothing itself
m upgrade clear -q && m upgrade system -q 2.bundle && boots || exit 2
echo two >data/root/cfg/app.conf
ok "the local procedure" m rollback system --local --no-reboot
is "restores nothing before services have stopped" two "$(cat data/root/cfg/app.conf)"
ok "the shutdown" m switch-at-shutdown -q
is "restores before the reboot" one "$(cat data/root/cfg/app.conf)"
is "and says whose it is" 'slot=a' "$(grep '^slot=' data/owner)"
ok "1 boots" boots
is "1 runs, with its configuration" '1 one' "$(runs) $(cat data/root/cfg/app.conf)"

# Upgraded, not rebooted yet, and regretted: what is left and refused is 2, not the 1 that runs
m upgrade clear -q && m upgrade system -q 2.bundle || exit 2
ok "a rollback before the reboot" m rollback system -q
is "1 boots next, 2 is refused" '["a", true]' "$(status '[j["next"], j["refused"] == j["slots"][1]["digest"]]')"

# A data directory that is gone is not made anew at boot: nobody could tell whose the configuration is
boots || exit 2
mv data data.away
fails 1 degraded "the boot without its data directory" m boot-config
is "makes none" no "$([ -e data ] && echo yes || echo no)"
mv data.away data
ok "with it again" m boot-config

finish
