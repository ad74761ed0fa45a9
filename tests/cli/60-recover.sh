#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What the initramfs decides, on an image: tries, fallback, roots that fail, and a record that is lost.
# shellcheck disable=SC2317 # recover is called through ok
. "$(dirname "$0")/lib.sh"
RECOVER=${RECOVER:-$(dirname "$BOOTMGR")/bootmgr-recover}

# VERB [words more on the command line]: as the initramfs of what $running says would run it. Its log goes to the
# kernel's, or to stderr where there is none.
recover() { "$RECOVER" --disk disk.img --esp esp --cmdline "$running ${2-}" "$1" 2>recover.log; }
# The machine starts again.
next_boot() { python3 "$top/tests/cli/record.py" new-boot disk.img; }
# Both copies of the record are unreadable.
lose_record() { python3 "$top/tests/cli/record.py" lose disk.img; }
states() { status '[s["state"] for s in j["slots"]]'; }
reason() { status "j['slots'][$1]['reason']"; }

bundle 1 && bundle 2 && bundle 9 || exit 2
make_machine
m upgrade system -q 1.bundle && boots || exit 2
a="bootmgr.slot=a bootmgr.generation=1"
b="bootmgr.slot=b bootmgr.generation=2"

# Usage, and what is not ours
for words in "" dance "mount" "try" "boot dance" "--disk disk.img" "--what disk.img boot"; do
        # shellcheck disable=SC2086
        "$RECOVER" $words >out 2>err
        is "usage: '$words'" 2 $?
done
before=$(fingerprint)
running="root=/dev/sda1"
ok "a boot that is not ours" recover boot
running="bootmgr.slot=x"
ok "a slot that is none" recover boot
running="$a rw"
ok "a root of its own needs no mounts" "$RECOVER" --disk disk.img --esp esp --cmdline "$a rw" mount /nowhere
running=$a
ok "a confirmed slot" recover boot
is "none of them changed anything" "$before" "$(fingerprint)"
"$RECOVER" --disk gone.img --esp esp --cmdline "$a" boot 2>err
is "no such disk" 1 $?
truncate -s 1M nothing.img
"$RECOVER" --disk nothing.img --esp esp --cmdline "$a" boot 2>err
is "a disk that is none of ours" 1 $?

# Tries: once per boot
m upgrade system -q 2.bundle || exit 2
running=$b
ok "2 boots" recover boot
is "one try is taken" 2 "$(status 'j["slots"][1]["tries_left"]')"
before=$(fingerprint)
ok "the same boot again" "$RECOVER" --disk disk.img --esp esp --cmdline "$b root=PARTUUID=x" boot try
is "counts no more" "$before" "$(fingerprint)"
next_boot
ok "the second boot" recover boot
next_boot
ok "the third" recover boot
is "no try is left" 0 "$(status 'j["slots"][1]["tries_left"]')"
next_boot
ok "the fourth is one too many" recover boot
is "2 is bad, 1 is switched to" '["trial", "bad"]' "$(states)"
is "and says why" "it did not come up in any of its tries" "$(reason 1)"
is "its entry went, one for 1 came" "bootmgr-1-a.conf bootmgr-3-a+3-0.conf" "$(entries)"
is "the upgrade failed" FAILED "$(running="bootmgr.slot=a bootmgr.generation=3" && m boot-config -q; m show upgrade status --json | json 'j["state"]')"
has "and says where it was found out" 'found out in the initramfs of slot b' "$(m show upgrade status --json | json 'j["reason"]')"
running="bootmgr.slot=a bootmgr.generation=3"
ok "1 boots" recover boot
ok "and is confirmed" m confirm

# The loader's count alone: systemd-boot falls back, the kernel of 2 never came as far as here
m upgrade clear -q && m upgrade system -q 2.bundle || exit 2
mv esp/loader/entries/bootmgr-4-b+3-0.conf esp/loader/entries/bootmgr-4-b+0-3.conf
ok "the fallback boots" recover boot
is "2 is bad" '["confirmed", "bad"]' "$(states)"
is "the entries are those of 1" bootmgr-3-a.conf "$(entries)"
m boot-config -q

# An entry that a power cut took while the loader counted
m upgrade clear -q && m upgrade system -q 2.bundle || exit 2
rm esp/loader/entries/bootmgr-5-b+3-0.conf
ok "1 boots instead" recover boot
is "the entry is made again, with one try less" "bootmgr-3-a.conf bootmgr-6-b+2-0.conf" "$(entries)"
is "nothing failed" '["confirmed", "trial"]' "$(states)"

# A root that cannot be mounted
running="bootmgr.slot=b bootmgr.generation=6"
ok "2 boots" recover boot
ok "its root fails" recover failed
is "1 is switched to" '["trial", "bad"]' "$(states)"
is "2 says why" "its root could not be mounted" "$(reason 1)"
running="bootmgr.slot=a bootmgr.generation=7"
ok "1 boots" recover boot
m boot-config -q && m confirm -q
ok "the root of the last slot fails" recover failed
is "it is not marked bad: there is no other" '["confirmed", "bad"]' "$(states)"
is "but says what is wrong" "its root could not be mounted" "$(reason 0)"
ok "the next try finds it" recover boot
is "and nothing is wrong any more" true "$(status 'not j["slots"][0]["reason"]')"

# An incomplete slot never goes on
m upgrade clear -q && m upgrade system -q 2.bundle && running="bootmgr.slot=b bootmgr.generation=8" && m boot-config -q && m confirm -q || exit 2
cp 9.bundle damaged.bundle && content "damage" 4096 | dd of=damaged.bundle bs=1 seek=$(($(stat -c %s damaged.bundle) - 5000)) conv=notrunc status=none
m upgrade system -q damaged.bundle >out 2>&1
is "the write of 9 was stopped" '["incomplete", "confirmed"]' "$(states)"
running="bootmgr.slot=a bootmgr.generation=7"
ok "somebody starts it by hand" recover boot
is "it is left, for 2" '["bad", "trial"]' "$(states)"
running="bootmgr.slot=b bootmgr.generation=9"
ok "2 boots" recover boot
m boot-config -q && m confirm -q

# Both copies of the record are lost
kept=$(status '[[s["name"], s["state"], s["version"]] for s in j["slots"] if s["state"] == "confirmed"]')
lose_record
ok "a boot without the record" recover boot
is "it comes back from the entries" "$kept" "$(status '[[s["name"], s["state"], s["version"]] for s in j["slots"] if s["state"] == "confirmed"]')"
is "with its generation" 9 "$(status 'j["generation"]')"
bundle 3 || exit 2
ok "an upgrade goes on from there" m upgrade system -q 3.bundle
running="bootmgr.slot=a bootmgr.generation=10"
lose_record
ok "lost on trial" recover boot
is "the trial comes back, this boot counted" '["trial", "confirmed"]' "$(states)"
is "two tries are left" 2 "$(status 'j["slots"][0]["tries_left"]')"
ok "its root fails" recover failed
is "the other slot is known well enough to go to" '["bad", "trial"]' "$(states)"
has "with its kernel" 'linux /bootmgr/[0-9a-f]*[1-9a-f][0-9a-f]*$' "$(grep linux esp/loader/entries/bootmgr-11-b+3-0.conf)"

# An ESP that cannot be read or written: the record counts all the same
mv esp esp.away
running="bootmgr.slot=b bootmgr.generation=11"
ok "no ESP" recover boot
mv esp.away esp
is "the try is counted" 2 "$(status 'j["slots"][1]["tries_left"]')"

# A root that is mounted and holds no system
rm -rf disk.img* esp data
make_machine && m upgrade system -q 1.bundle && boots && m upgrade system -q 2.bundle || exit 2
running="$b rw"
mounted() { "$RECOVER" --disk disk.img --esp esp --cmdline "$running ${1-}" mount tree 2>recover.log; }
mkdir -p tree/usr tree/sbin tree/bin && cp /bin/true tree/bin/sh
ok "/usr may lie elsewhere" mounted
touch tree/usr/file
cp /bin/true tree/bin/another
ok "an init that is named" mounted init=/bin/another
ln -s /bin/another tree/sbin/init
ok "a link is followed in the root" mounted
is "nothing was left" '["confirmed", "trial"]' "$(states)"
chmod -x tree/bin/another
ok "an init that cannot be run" mounted
is "1 is switched to" '["trial", "bad"]' "$(states)"
is "2 says why" "its init is missing or died" "$(reason 1)"

# The same, of a version that is confirmed: nobody asked for the way back, and it is an operation of its own
rm -rf disk.img* esp data
make_machine && m upgrade system -q 1.bundle && boots && m upgrade system -q 2.bundle && boots || exit 2
running=$b
ok "the root of 2 cannot be mounted any more" recover failed
is "1 is switched to" '["trial", "bad"]' "$(states)"
next_boot
running="bootmgr.slot=a bootmgr.generation=3"
ok "the initramfs of 1" recover boot
ok "1 comes up" m boot-config
ok "is healthy" m check-health
ok "is confirmed" m confirm
is "a rollback that nobody asked for" '["ROLLBACK", true, "2", "1", "DONE"]' \
        "$(m show upgrade status --json | json '[j["operation"], j["automatic"], j["from_version"], j["to_version"], j["state"]]')"
has "why, and where" 'version 2 FAILED: its root could not be mounted \(found out in the initramfs\)' "$(m show upgrade status)"
finish
