#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The kernel or initrd of the version that runs is damaged on the ESP: the shutdown finds it out, and the machine does not
# start into it again.
# shellcheck disable=SC2317 # shutdown is called through ok
[ -n "${IN_NAMESPACE-}" ] || IN_NAMESPACE=1 exec unshare --map-root-user --mount sh "$0"
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

each_is_found_out() {
        for word in linux initrd; do found_out; done
}
found_out() {
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
}
each_is_found_out

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

# A version that fails on trial runs all the same: better than a kernel that does not start
for word in linux initrd; do
        installed && m upgrade system -q 2.bundle || exit 2
        running="bootmgr.slot=b bootmgr.generation=2"
        m boot-config -q || exit 2
        damage "$(file_of $word bootmgr-1-a.conf)"
        fails 3 previous-not-bootable "$word: on trial, something fails, and the other version is damaged" \
                m rollback system --automatic --reason 'unit app.service failed'
        has "$word: which file is said" 'no other slot can be booted: the boot file /bootmgr/[0-9a-f]+ on .* is damaged' "$(cat out)"
        is "$word: it stays where it is" '["b", "bad", "trial"]' "$(status '[j["next"], *(s["state"] for s in j["slots"])]')"
        is "$word: and nothing starts the damaged one" "bootmgr-2-b+3-0.conf" "$(entries)"
        printf '[Health]\nDeadlineSec=1\n' >>conf
        fails 3 previous-not-bootable "$word: nor does the deadline go there" m wait-confirmed
        is "$word: it stays" '["b", "bad", "trial"]' "$(status '[j["next"], *(s["state"] for s in j["slots"])]')"
        ok "$word: what comes up after all" m confirm
        is "$word: is confirmed" '["b", "bad", "confirmed"]' "$(status '[j["next"], *(s["state"] for s in j["slots"])]')"
done
upgraded && m rollback system -q --no-reboot || exit 2
damage "$(file_of linux bootmgr-1-a.conf)"
ok "a rollback that waits for the shutdown, and its kernel is damaged meanwhile" eval '! shutdown'
is "version 2 stays" '["b", "bad", "confirmed"]' "$(status '[j["next"], *(s["state"] for s in j["slots"])]')"
is "the rollback has failed, and says why" '["ROLLBACK", "FAILED", true]' \
        "$(operation '[j["operation"], j["state"], "found out at the shutdown, before the switch" in j["reason"]]')"
is "nothing starts version 1" bootmgr-2-b.conf "$(entries)"

# Two versions with one kernel and one initrd: each has its own files, and what the ESP has is not fetched once more
of_two() {
        rm 2.bundle
        "$BOOTMGR" bundle create -q --version 2 --compatible test-box --root root-2 --kernel "kernel-$1" --initrd "initrd-$1" --key release.key 2.bundle
}
of_two 1 || exit 2
is "the other slot's content is what its files are copied from" "4" "$(upgraded >&2 && find esp/bootmgr -type f | wc -l)"
is "whole" "2 $(sha256sum <kernel-1)" "$(sha256sum esp/bootmgr/* | grep -c "$(sha256sum <kernel-1 | cut -c1-64)") $(sha256sum <"$(file_of linux bootmgr-2-b.conf)")"
each_is_found_out

# The ESP holds the files of two versions, with a little room: those of the slot that is written go first
of_two 2 && bundle 3 || exit 2
rm -rf disk.img esp data trust conf && running='' && make_machine && mount -t tmpfs -o size=408k tmpfs esp || exit 2
ok "one version" m upgrade system -q 1.bundle
boots
ok "a second" m upgrade system -q 2.bundle
boots
ok "a third, in place of the first" m upgrade system -q 3.bundle
boots
is "runs" '["a", "3"]' "$(status '[j["booted"], j["slots"][0]["version"]]')"
# A try that ends when its files are there already leaves them, and no record of them
bundle 5 || exit 2
cp 5.bundle damaged.bundle
content damage 4096 | dd of=damaged.bundle bs=1 seek=$(($(stat -c %s 5.bundle) - 5000)) conv=notrunc status=none
fails 1 content-mismatch "a damaged root" m upgrade system -q damaged.bundle
cp kernel-5 "esp/bootmgr/$(sha256sum <kernel-5 | cut -c1-30)0b"
cp initrd-5 "esp/bootmgr/$(sha256sum <initrd-5 | cut -c1-30)0b"
ok "and the next one has room all the same" m upgrade system -q 5.bundle
boots
m upgrade system -q 2.bundle && boots || exit 2
content "initrd 4" 30000 >initrd-4
content "root 4" 1048576 >root-4
content "a large kernel" 90000 >large
"$BOOTMGR" bundle create -q --version 4 --compatible test-box --root root-4 --kernel large --initrd initrd-4 --key release.key 4.bundle || exit 2
before=$(fingerprint)
fails 3 esp-unusable "what does not fit even so" m upgrade system -q 4.bundle
has "is refused with both sizes" 'the ESP has [0-9]+ KiB free, kernel and initrd need 118 KiB' "$(cat out)"
is "and nothing is changed" "$before" "$(fingerprint)"
umount esp
finish
