#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The whole way on one image: install, upgrade, roll back with the configuration, activate, upgrade, finalize.
. "$(dirname "$0")/lib.sh"

bundle 1 && bundle 2 && bundle 3 || exit 2
make_machine

# The first version: slot a, confirmed at once, nothing to go back to
ok "the first install" m upgrade system 1.bundle
has "says what boots" 'version 1 in slot a boots next' "$(cat out)"
is "says nothing of a loss" "" "$(cat err)"
is "slot a is confirmed, b is empty" '["confirmed", "empty"]' "$(status '[s["state"] for s in j["slots"]]')"
is "a boots next, nothing runs" '[null, "a", null, 1]' "$(status '[j["booted"], j["next"], j["previous"], j["generation"]]')"
is "one entry, not counted" "bootmgr-1-a.conf" "$(entries)"
is "the operation is done" '["UPGRADE", "DONE", 100, null, "1"]' "$(m show upgrade status --json | json '[j["operation"], j["state"], j["progress"], j["from_version"], j["to_version"]]')"
ok "it boots" boots
is "a runs" '["a", "a"]' "$(status '[j["booted"], j["next"]]')"

# A life with version 1: shared configuration, and its own /etc
mkdir -p data/root/cfg/d data/etc/a/upper
echo 'colour = green' >data/root/cfg/app.conf
echo 'first' >data/root/cfg/d/kept
ln data/root/cfg/app.conf data/root/cfg/hard
ln -s app.conf data/root/cfg/soft
chmod 640 data/root/cfg/app.conf
printf '\000\001\002' >"data/root/cfg/odd name"
echo box1 >data/etc/a/upper/hostname
listing() { (cd data/root/cfg && find . -printf '%P %y %m %l\n' | sort && find . -type f -exec sha256sum {} + | sort -k2); }
listing >cfg-of-1

# The upgrade
ok "upgrade to 2" m upgrade system 2.bundle
has "says that it is on trial" 'version 2 in slot b boots next, on trial' "$(cat out)"
is "a new entry, the fallback untouched" "bootmgr-1-a.conf bootmgr-2-b+3-0.conf" "$(entries)"
is "b boots next, a is what to go back to" '["a", "b", "a", 2]' "$(status '[j["booted"], j["next"], j["previous"], j["generation"]]')"
is "b is on trial with three tries" '["trial", 3]' "$(status '[j["slots"][1]["state"], j["slots"][1]["tries_left"]]')"
is "the configuration of 1 is sealed" '["1", true, 4]' "$(status '[j["snapshot"]["version"], j["snapshot"]["valid"], j["snapshot"]["files"]]')"
is "/etc was carried" box1 "$(cat data/etc/b/upper/hostname)"
is "the operation waits for the boot" '["IN_PROGRESS", "SWITCH_ENTRY", "REBOOT"]' \
        "$(m show upgrade status --json | json '[j["state"], [s["name"] for s in j["steps"] if s["state"] == "DONE"][-1], [s["name"] for s in j["steps"] if s["state"] in ("RUNNING", "WAITING")][0]]')"
ok "it boots, is healthy, is confirmed" boots
is "b runs and is confirmed" '["b", "b", "a", "confirmed", null]' "$(status '[j["booted"], j["next"], j["previous"], j["slots"][1]["state"], j["slots"][1]["tries_left"]]')"
is "its entry lost the counter" "bootmgr-1-a.conf bootmgr-2-b.conf" "$(entries)"
is "the upgrade is done" '["DONE", 100]' "$(m show upgrade status --json | json '[j["state"], j["progress"]]')"
is "every step has an end" '[]' "$(m show upgrade status --json | json '[s["name"] for s in j["steps"] if s["state"] == "DONE" and not s["end"]]')"

# A life with version 2
echo 'colour = blue' >data/root/cfg/app.conf
echo 'new in 2' >data/root/cfg/added
rm "data/root/cfg/odd name"
echo box2 >data/etc/b/upper/hostname
listing >cfg-of-2

# What going back would give up
before=$(fingerprint)
ok "rollback --dry-run" m rollback system --dry-run
has "every check is shown" '^version-gate +ok' "$(cat out)"
has "what was added" '^added +/cfg/added' "$(cat out)"
has "what was removed" '^removed +/cfg/odd name' "$(cat out)"
has "what differs" '^\+colour = blue' "$(cat out)"
has "what belongs to the slot" '/etc/hostname' "$(cat out)"
has "no node is fenced" 'none: standalone machine' "$(cat out)"
ok "the same as JSON" m rollback system --dry-run --json
is "is allowed" 'true' "$(json 'j["allowed"]' <out)"
is "lists the same files" '["/cfg/added", "/cfg/app.conf", "/cfg/odd name", "/etc/hostname"]' \
        "$(json 'sorted(c["path"] for c in j["changes"] if c["change"] != "metadata")' <out)"
ok "snapshot diff says it too" m snapshot diff --no-text
has "without the text" '^added +/cfg/added' "$(cat out)"
has_not "really" 'colour' "$(cat out)"
is "nothing was changed by looking" "$before" "$(fingerprint)"

# Back
ok "rollback" m rollback system
is "a boots next, on trial" '["b", "a", "trial", 3]' "$(status '[j["booted"], j["next"], j["slots"][0]["state"], j["generation"]]')"
ok "it boots" boots
listing >cfg-now
ok "version 1 has its configuration, to the byte" cmp cfg-of-1 cfg-now
is "and its own /etc" box1 "$(cat data/etc/a/upper/hostname)"
is "a runs, is confirmed, nothing to go back to" '["a", null, "confirmed"]' "$(status '[j["booted"], j["previous"], j["slots"][0]["state"]]')"
is "what was given up is kept" 1 "$(find data/discarded -name '*.tar.zst' | wc -l)"
is "the rollback is done" '["ROLLBACK", "DONE", "2", "1"]' "$(m show upgrade status --json | json '[j["operation"], j["state"], j["from_version"], j["to_version"]]')"
is "history tells it all, newest first" '["ROLLBACK", "UPGRADE", "UPGRADE"]' "$(m show upgrade history --json | json '[o["operation"] for o in j]')"

# Nothing to go back to, and the same version does not come in again by itself
fails 3 no-previous-version "a second rollback" m rollback system
fails 3 version-refused "the version that was rolled back from" m upgrade system --automatic 2.bundle

# Forward again by name, with the configuration of that version
ok "slot activate b" m slot activate b
ok "it boots" boots
is "b runs" '["b", null]' "$(status '[j["booted"], j["previous"]]')"
listing >cfg-now
ok "version 2 has its configuration again" cmp cfg-of-2 cfg-now
is "and its own /etc again" box2 "$(cat data/etc/b/upper/hostname)"
fails 3 no-previous-version "rollback after slot activate" m rollback system

# On to 3, and finalize
ok "upgrade to 3" m upgrade system 3.bundle
has "what will be lost is said" 'slot a will be overwritten: .*version 1 ' "$(cat err)"
ok "it boots" boots
is "a runs 3" '["a", "3", "b"]' "$(status '[j["booted"], j["slots"][0]["version"], j["previous"]]')"
ok "finalize" m finalize
fails 3 finalized "rollback after finalize" m rollback system
ok "finalize again is no failure" m finalize
is "what a slot that was left needs stays" true "$(status 'j["snapshot"]["valid"]')"

# As a person sees it
ok "status as text" m status
has "names what runs" '^Running +slot a, version 3 \(confirmed\)' "$(cat out)"
ok "the steps as a table" m show upgrade status
has "with a header line" '^UPGRADE 2 -> 3 +DONE' "$(cat out)"
has "and times" '^SWITCH_ENTRY +DONE .* 20[0-9-]*T.*Z' "$(cat out)"
ok "the history as a table" m show upgrade history
is "has a line each" 6 "$(wc -l <out)"

finish
