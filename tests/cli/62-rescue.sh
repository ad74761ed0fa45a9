#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The rescue entry, and an upgrade from the rescue system: both slots bad, the record lost, the entries gone.
. "$(dirname "$0")/lib.sh"
lose_record() { python3 "$top/tests/cli/record.py" lose disk.img; }
states() { status '[s["state"] for s in j["slots"]]'; }
rescue="bootmgr.rescue gpt"

bundle 1 && bundle 2 && bundle 3 || exit 2
make_machine
mkdir -p data/root/cfg && echo mine >data/root/cfg/file
m upgrade system -q 1.bundle && boots && m upgrade system -q 2.bundle && boots || exit 2
content "rescue kernel" 20000 >rk && content "rescue initrd" 30000 >ri && content "other initrd" 30000 >ri2

# Its page, where a check of the data partition has ended so
page_mounts() { # STATUS of e2fsck
        sed -n '/^is_mounted()/,/^}/p; /^mount_data()/,/^}/p' "$top/initramfs-hooks/rescue/rescue-page" |
                sed "s,/sbin/e2fsck,/bin/sh,; s,/usr/lib/bootmgr/,,; s,/proc/mounts,$W/page-mounts," >page
        cat >page-run <<END
DATA=$W/page-data
is_ours() { :; }
bootmgr-recover() { :; }
blkid() { echo /dev/data; }
e2fsck() { return $1; }
mount() { echo "mounted \$*"; }
. ./page
mount_data
END
        bash page-run 2>&1
}
echo "proc /proc proc rw 0 0" >page-mounts
for status in 0 1; do
        is "e2fsck ends with $status: data is mounted" "mounted -t ext4 -o nosuid,nodev /dev/data $W/page-data" "$(page_mounts $status)"
done
for status in 2 4 8 12; do
        has_not "e2fsck ends with $status: data is not mounted" "^mounted" "$(page_mounts $status)"
        has "that is said, with the way out" "ended with status $status.*'e2fsck /dev/data' in a shell" "$(page_mounts $status)"
        has "and what follows" "begins without configuration" "$(page_mounts $status)"
done
mkdir -p page-data/bootmgr || exit 2
has "an upgrade was tried without it: repaired, it is mounted all the same" "^mounted -t ext4" "$(page_mounts 0)"
echo "/dev/data $W/page-data/below ext4 rw 0 0" >>page-mounts
has "what lies below is something else" "^mounted -t ext4" "$(page_mounts 0)"
echo "/dev/data $W/page-data ext4 rw 0 0" >>page-mounts
is "what is mounted is not mounted again" "" "$(page_mounts 0)"

# Its entry
is "there is none" null "$(status 'j["rescue"]')"
fails 2 usage "without files" m rescue install
ok "install" m rescue install --kernel rk --initrd ri --append "console=ttyS0"
is "status tells" "$(sha256sum <rk | cut -c1-30)ff" "$(status 'j["rescue"]["kernel"]')"
is "it sorts behind everything: its counter is used up" "bootmgr-1-a.conf bootmgr-2-b.conf bootmgr-rescue+0-0.conf" "$(entries)"
has "its command line" "options bootmgr.rescue gpt console=ttyS0" "$(cat esp/loader/entries/bootmgr-rescue+0-0.conf)"
is "what boots next is what did" b "$(status 'j["next"]')"
before=$(fingerprint)
ok "the same again" m rescue install --kernel rk --initrd ri --append "console=ttyS0"
is "changes nothing" "$before" "$(fingerprint)"
ok "another one" m rescue install --kernel rk --initrd ri2
is "takes its place under a new name" "bootmgr-1-a.conf bootmgr-2-b.conf bootmgr-rescue+0-1.conf" "$(entries)"
is "the old initrd is gone" 0 "$(find esp/bootmgr -name "$(sha256sum <ri | cut -c1-30)ff" | wc -l)"
ok "an upgrade" m upgrade system -q 3.bundle
boots
is "and its confirmation leave it alone" true "$(status 'j["rescue"]["usable"]')"
mv "esp/bootmgr/$(sha256sum <ri2 | cut -c1-30)ff" kept
is "a missing file is told" false "$(status 'j["rescue"]["usable"]')"
mv kept "esp/bootmgr/$(sha256sum <ri2 | cut -c1-30)ff"
# 3 in a, 2 in b. Exhausted entries of ours still come before it; the menu's way back has no counter and comes before those.
mv esp/loader/entries/bootmgr-3-a.conf esp/loader/entries/bootmgr-3-a+0-3.conf
mv esp/loader/entries/bootmgr-2-b.conf esp/loader/entries/bootmgr-2-b+0-3.conf
is "what has a try left is the menu's way back" b "$(status 'j["next"]')"
has "status says what that is" "bootmgr-previous-b-2, which is the menu's previous version" "$(status 'j["notes"]')"
rm esp/loader/entries/bootmgr-previous-*
is "exhausted ones of ours too" a "$(status 'j["next"]')"
rm esp/loader/entries/bootmgr-[23]-*

# From it: both slots bad, no entry of ours left
one=$running
running="bootmgr.slot=b" m slot mark-bad -q a && running=$one m slot mark-bad -q b || exit 2
is "nothing of ours boots" null "$(status 'j["next"]')"
has "but the rescue system" "bootmgr-rescue, which is the rescue system" "$(status 'j["notes"]')"
running=$rescue
ok "an upgrade from the rescue system" m upgrade system -q 2.bundle
is "writes the slot that does not own the configuration, on trial" '["bad", "trial"]' "$(states)"
is "with a generation above all" "bootmgr-4-b+3-0.conf bootmgr-rescue+0-1.conf" "$(entries)"
boots
is "it boots and is confirmed" '["bad", "confirmed"]' "$(states)"
is "the configuration is there" mine "$(cat data/root/cfg/file)"
is "taken over by it" "slot=b version=2" "$(grep -E '^(slot|version)=' data/owner | tr '\n' ' ' | sed 's/ $//')"

# The record lost, the entries there
lose_record
running=$rescue
ok "without a record" m upgrade system -q 3.bundle
is "it goes into the other slot" '["trial", "confirmed"]' "$(states)"
boots
is "and boots" '["confirmed", "confirmed"]' "$(states)"

# Neither record nor entries, and only one place that tells which generations there were
for known in owner operations; do
        mkdir saved && cp -a --sparse=always disk.img esp data saved || exit 2
        lose_record
        rm esp/loader/entries/bootmgr-[0-9]*
        if [ $known = owner ]; then rm -r data/operations; else rm data/owner; fi
        running=$rescue
        ok "with nothing but data/$known" m upgrade system -q 1.bundle
        has "generations go on" "^bootmgr-6-" "$(entries)"
        rm -r disk.img esp data && mv saved/* . && rmdir saved || exit 2
done

# Neither record nor entries
lose_record
rm esp/loader/entries/bootmgr-[0-9]*
running=$rescue
ok "without record and entries" m upgrade system -q 1.bundle
is "generations go on" "bootmgr-6-b+3-0.conf bootmgr-rescue+0-1.conf" "$(entries)"
boots
is "it boots, and is confirmed" "confirmed" "$(status 'j["slots"][1]["state"]')"
is "the configuration is there" mine "$(cat data/root/cfg/file)"

# An upgrade that never came to its end
m upgrade system -q 3.bundle
running=$rescue
ok "an operation on trial is given up" m upgrade system -q 2.bundle
is "and says so" '["IN_PROGRESS", "FAILED"]' "$(m show upgrade history --json | json '[o["state"] for o in (j if isinstance(j, list) else j["operations"])[:2]]')"
boots
m upgrade clear -q && m upgrade system -q --no-reboot 3.bundle || exit 2
running=$rescue
ok "one that waits for a shutdown too" m upgrade system -q 1.bundle
ok "remove" m rescue remove
is "there is none again" null "$(status 'j["rescue"]')"
ok "remove again" m rescue remove
finish
