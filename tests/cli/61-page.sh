#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The recovery page on an image: what it offers, what a key does, and that a try is one boot.
# asan: no, it waits for keys, and decides as 60-recover.sh does
# shellcheck disable=SC2317 # recover and choose are called through ok
. "$(dirname "$0")/lib.sh"
RECOVER=${RECOVER:-$(dirname "$BOOTMGR")/bootmgr-recover}

# VERB: without anybody at the console.
recover() { "$RECOVER" --disk disk.img --esp esp --cmdline "$running" "$1" 2>recover.log; }
# KEYS VERB: they are typed on a terminal, what it shows is in page.
choose() { python3 "$top/tests/cli/console.py" "$1" page "$RECOVER" --disk disk.img --esp esp --cmdline "$running" --console TTY "$2" 2>recover.log; }
# Bytes that are no key of the page, one after the other.
noise() {
        start=$(date +%s)
        python3 "$top/tests/cli/console.py" "$(printf 'x%.0s' $(seq 2000))" page timeout 100 "$RECOVER" --disk disk.img --esp esp --cmdline "$running" --console TTY "$1" 2>recover.log
        status=$?
        echo $(($(date +%s) - start)) >took
        return "$status"
}
next_boot() { python3 "$top/tests/cli/record.py" new-boot disk.img; }
states() { status '[s["state"] for s in j["slots"]]'; }
reason() { status "j['slots'][$1]['reason']"; }

bundle 1 && bundle 2 && bundle 9 || exit 2
make_machine
m upgrade system -q 1.bundle && boots && m upgrade system -q 2.bundle && boots || exit 2
b=$running
a="bootmgr.slot=a bootmgr.generation=1"
cp esp/loader/entries/bootmgr-2-b.conf kept
running=$b m slot mark-bad -q a && running=$a m slot mark-bad -q b && cp kept esp/loader/entries/bootmgr-2-b.conf || exit 2
is "both slots are bad" '["bad", "bad"]' "$(states)"

# Nobody there
next_boot
ok "2 is started" recover boot
ok "a boot that hangs up its console" choose "" boot
has "the page names the slots" "slot a: version 1, bad: marked by an operator" "$(cat page)"
has "and what can be done" "2  try slot a: it gets one boot" "$(cat page)"
has "power off is last without a rescue entry" "4  power off" "$(cat page)"
has_not "nothing is offered that is not there" "rescue" "$(cat page)"
has "and how long it waits" "tries again in 300 seconds" "$(cat page)"
running="$b bootmgr.retry=1"
ok "a time that is too short" choose "" boot
has "is made longer" "tries again in 10 seconds" "$(cat page)"
running="$b bootmgr.retry=20s"
ok "power off" choose 44 boot
has "takes the key twice" 'Press it again to power off' "$(cat page)"
has_not "and then goes" "Press a number.*Press a number" "$(tr '\n' ' ' <page)"
ok "another key behind it" choose 41 boot
is "is a no, and shows the page again" 2 "$(grep -c 'Press a number' page)"
running="$b bootmgr.retry=10"
ok "a line that is noisy" noise boot
is "is not listened to for ever" yes "$([ "$(cat took)" -ge 35 ] && [ "$(cat took)" -le 60 ] && echo yes)"
running="$b bootmgr.retry=20s"
ok "other keys do nothing" choose "x91" boot
is "but show the page again" 3 "$(grep -c 'Press a number' page)"
is "the entries are what they were" "bootmgr-2-b.conf" "$(entries)"
is "the slots too" '["bad", "bad"]' "$(states)"

# A try that fails
ok "slot a is tried" choose 2 boot
is "its entry has one try" "bootmgr-2-b.conf bootmgr-3-a+1-0.conf" "$(entries)"
has "with what the boot was given" "bootmgr.retry=20s" "$(cat esp/loader/entries/bootmgr-3-a+1-0.conf)"
is "it is on trial" '["trial", "bad"]' "$(states)"
next_boot
mv esp/loader/entries/bootmgr-3-a+1-0.conf esp/loader/entries/bootmgr-3-a+0-1.conf
running="bootmgr.slot=a bootmgr.generation=3"
ok "it boots" recover boot
next_boot
running=$b
ok "2 is started again: a did not come up" recover boot
is "both are bad" '["bad", "bad"]' "$(states)"
is "and why" "it did not come up in any of its tries" "$(reason 0)"
running="bootmgr.slot=a bootmgr.generation=3"
next_boot
ok "the loader starts it once more" choose "" boot
has "it is not booted by itself" "no slot can be booted" "$(cat page)"
is "it stays bad" '["bad", "bad"]' "$(states)"

# A try whose root fails, then one that is cut before its entry is there
ok "another try" choose 2 boot
running="bootmgr.slot=a bootmgr.generation=4"
next_boot
ok "boots" recover boot
ok "and its root fails" recover failed
is "bad again, with that reason" "its root could not be mounted" "$(reason 0)"
ok "a third" choose 2 boot
rm esp/loader/entries/bootmgr-5-a+1-0.conf
running=$b
next_boot
ok "whose entry was lost: 2 is started" recover boot
is "a is bad" '["bad", "bad"]' "$(states)"

# A try that cannot be made: nothing is to follow from it
kernel=esp/bootmgr/$(sha256sum <kernel-1 | cut -c1-30)0a
generation=$(status 'j["generation"]')
before=$(entries)
running=$b
mv "$kernel" gone
ok "one without its kernel" choose 2 boot
has "cannot be done" "It cannot be done: " "$(cat page)"
is "no entry is made" "$before" "$(entries)"
is "a is as bad as it was" '["bad", "bad"]' "$(states)"
is "a generation that was given out is not given out again" $((generation + 1)) "$(status 'j["generation"]')"
mv gone "$kernel"

# A try that comes up
running=$b
cp kept esp/loader/entries/bootmgr-50-b+0-3.conf
ok "a fourth" choose 2 boot
has "above every entry, also one that the record knows nothing of" "bootmgr-51-a\+1-0.conf" "$(entries)"
boots
is "comes up and is confirmed" '["confirmed", "bad"]' "$(states)"
has "as version 1" '"1"' "$(status '[s["version"] for s in j["slots"]]')"

# Never a slot whose write did not finish
m upgrade clear -q
cp 9.bundle damaged.bundle && content damage 4096 | dd of=damaged.bundle bs=1 seek=$(($(stat -c %s damaged.bundle) - 5000)) conv=notrunc status=none
m upgrade system -q damaged.bundle >out 2>&1
is "b is incomplete" incomplete "$(status 'j["slots"][1]["state"]')"
next_boot
ok "the root of a fails" choose "" failed
has "the page says so" "slot b: incomplete" "$(cat page)"
has_not "and does not offer it" "try slot b" "$(cat page)"
has "nothing else is left" "no slot can be booted" "$(cat page)"

# The rescue system, and one whose files are gone
content "rescue initrd" 30000 >ri && m rescue install -q --kernel kernel-1 --initrd ri || exit 2
ok "it is chosen" choose 22 failed
has "where it is offered" "2  start the rescue system" "$(cat page)"
has "but the firmware cannot be told here, and there is another way" "It cannot be done: .*The way out: choose 'Rescue' in the boot menu" "$(cat page)"
rm "esp/bootmgr/$(sha256sum <ri | cut -c1-30)ff"
ok "once more" choose "" failed
has_not "it is not offered without its files" "rescue" "$(cat page)"
# The root cannot be mounted, and the slot cannot be left: no loop of restarts, but the page
rm -rf disk.img esp data trust conf && running='' && make_machine
m upgrade system -q 1.bundle && boots && m upgrade system -q 2.bundle && boots || exit 2
rm esp/bootmgr/* esp/loader/entries/bootmgr-1-a.conf
next_boot
fails_to_leave() { choose "" failed; [ $? -eq 1 ]; }
ok "the other slot has lost its kernel" fails_to_leave
has "the page says so" "no other can be switched to: the boot file /bootmgr/[0-9a-f]* on esp cannot be opened" "$(cat page)"
has "and when it tries again" "tries again in 300 seconds" "$(cat page)"

finish
