#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The kernel or initrd of the version that runs is damaged on the ESP: the shutdown finds it out, and the machine does not
# start into it again.
# shellcheck disable=SC2317 # shutdown is called through ok
. "$(dirname "$0")/lib.sh"

states() { status '[s["state"] for s in j["slots"]]'; }
operation() { m show upgrade status --json | json "$1"; }
config() { cat data/root/cfg/app.conf; }
shutdown() { m switch-at-shutdown; }
# WORD (linux, initrd) ENTRY: the file that it names
file_of() { sed -n "s,^$1 *,esp,p" "esp/loader/entries/$2"; }
damage() { printf damage | dd of="$1" bs=1 seek=9000 conv=notrunc status=none; }
# shellcheck disable=SC2034 # it is lib.sh's
installed() {
        rm -rf disk.img esp data trust conf && running='' && make_machine
        m upgrade system -q 1.bundle && boots
}
upgraded() {
        installed && mkdir -p data/root/cfg && echo one >data/root/cfg/app.conf
        m upgrade system -q 2.bundle && boots && echo two >data/root/cfg/app.conf
}

bundle 1 && bundle 2 || exit 2

upgraded || exit 2
before=$(fingerprint)
ok "a shutdown with whole files" shutdown
is "changes nothing" "$before" "$(fingerprint)"

for word in linux initrd; do
        upgraded || exit 2
        damage "$(file_of $word bootmgr-2-b.conf)"
        ok "$word: the shutdown of a version whose file is damaged" shutdown
        is "$word: version 1 boots next, and nothing else" "bootmgr-1-a.conf bootmgr-3-a+3-0.conf" "$(entries)"
        is "$word: slot b is bad, and why" '["bad", "its kernel or initrd on the ESP is missing or damaged"]' \
                "$(status '[j["slots"][1]["state"], j["slots"][1]["reason"]]')"
        is "$word: it is an automatic rollback" '["ROLLBACK", "2", "1", true]' \
                "$(operation '[j["operation"], j["from_version"], j["to_version"], j["automatic"]]')"
        has "$word: with the reason, and where it was found out" \
                '^slot b, version 2 FAILED: .*its content is not what its name says.* \(found out at the shutdown\)$' "$(operation 'j["reason"]')"
        ok "$word: the machine comes up" boots
        is "$word: with version 1, confirmed" '["confirmed", "bad"]' "$(states)"
        is "$word: and its configuration" one "$(config)"
        is "$word: what 2 had is kept" 2 "$(m snapshot list --json | json 'j[0]["version"]')"
        is "$word: the rollback is done" DONE "$(operation 'j["state"]')"
done

upgraded || exit 2
rm "$(file_of linux bootmgr-2-b.conf)"
ok "a kernel that is gone: the shutdown" shutdown
is "version 1 boots next" a "$(status 'j["next"]')"

# Nothing better to go to: it stays as it is, and says so
upgraded || exit 2
damage "$(file_of linux bootmgr-2-b.conf)"
damage "$(file_of linux bootmgr-1-a.conf)"
before=$(fingerprint)
ok "both versions are damaged: the shutdown" shutdown
is "changes nothing" "$before" "$(fingerprint)"
has "and is told" 'the machine starts as it is' "$(cat err)"
installed || exit 2
damage "$(file_of linux bootmgr-1-a.conf)"
before=$(fingerprint)
ok "there is no other version: the shutdown" shutdown
is "changes nothing, too" "$before" "$(fingerprint)"
has "and is told, too" 'there is no other version to go to' "$(cat err)"
finish
