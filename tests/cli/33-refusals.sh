#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Every refusal has its kind, a sentence and a way out, and changes nothing.
. "$(dirname "$0")/lib.sh"

bundle 1 --security-version 1 && bundle 2 --security-version 2 && bundle 3 --security-version 1 || exit 2
make_machine
root_a=$("$BOOTMGR" init --json --force --esp-size 34M --root-size 4M disk.img |
        json '[p["offset"] for p in j["partitions"] if p["label"] == "root-a"][0]')
m upgrade system -q 1.bundle && boots || exit 2
mkdir -p data/root/cfg
echo one >data/root/cfg/app.conf

refused() { # KIND WHAT COMMAND; STATUS= when it is not 3
        kind_wanted=$1 what_refused=$2
        shift 2
        before=$(fingerprint)
        fails "${STATUS:-3}" "$kind_wanted" "$what_refused" "$@"
        is "$what_refused: unchanged" "$before" "$(fingerprint)"
}

refused slot-not-bootable "slot verify of an empty slot" m slot verify b

# Bundles
"$BOOTMGR" bundle keygen -q stranger
create() { "$BOOTMGR" bundle create -q --version 9 --compatible test-box --root root-1 --kernel kernel-1 --initrd initrd-1 "$@"; }
create --key stranger.key stranger.bundle
refused bundle-untrusted "signed by a stranger" m upgrade system stranger.bundle
create --key release.key --compatible other-box other.bundle
refused bundle-incompatible "for another kind of machine" m upgrade system other.bundle
create --key release.key --min-bootmgr 99 newer.bundle
refused bundle-incompatible "for a newer bootmgr" m upgrade system newer.bundle
truncate -s 5M big
"$BOOTMGR" bundle create -q --version 9 --compatible test-box --root big --key release.key big.bundle
refused bundle-incompatible "too big for the slot" m upgrade system big.bundle
head -c 5000 2.bundle >cut.bundle
refused bundle-invalid "a part of a bundle" m upgrade system cut.bundle
STATUS=1 refused fetch-failed "no bundle" m upgrade system missing.bundle
STATUS=1 refused fetch-failed "no server" m upgrade system http://127.0.0.1:9/x.bundle

# Nothing to go back to
refused no-previous-version "rollback" m rollback system
refused no-previous-version "rollback, dry" m rollback system --dry-run
refused no-previous-version "snapshot diff" m snapshot diff
refused slot-in-use "activate the slot that runs" m slot activate a
refused slot-not-bootable "activate an empty slot" m slot activate b
refused slot-in-use "mark the running slot bad" m slot mark-bad a
refused slot-not-bootable "mark an empty slot bad" m slot mark-bad b
refused slot-not-bootable "mark an empty slot good" m slot mark-good b
STATUS=2 refused usage "abort nothing" m abort
STATUS=2 refused usage "no such slot" m slot activate h

# The ESP
STATUS=3 refused esp-unusable "no ESP" "$BOOTMGR" --disk disk.img --esp nowhere --data data --config conf upgrade system 2.bundle
mkdir -p esp/loader/entries
printf 'title other\nlinux /other\nsort-key aaa\n' >esp/loader/entries/other.conf
echo kernel >esp/other
refused loader-would-not-choose "a foreign entry is shown first" m upgrade system 2.bundle
rm esp/loader/entries/other.conf esp/other
printf 'default bootmgr-1-a*\n' >esp/loader/loader.conf
refused loader-would-not-choose "loader.conf pins another" m upgrade system 2.bundle
rm esp/loader/loader.conf

# The configuration
sed 's/^SharedPaths=.*/SharedPaths=\/cfg \/cfg\/d/' conf >nested
refused configuration-path "nested paths" "$BOOTMGR" --disk disk.img --esp esp --data data --config nested --cmdline "$running" upgrade system 2.bundle
sed 's/^\[Trust\]/[Boot]\nTries=100\n[Trust]/' conf >bad
STATUS=1 refused configuration-invalid "a value that is none" "$BOOTMGR" --disk disk.img --config bad status
STATUS=1 refused configuration-invalid "no such file" "$BOOTMGR" --disk disk.img --config missing status

# Everything about the previous version
m upgrade system -q 2.bundle || exit 2
refused operation-in-progress "upgrade while on trial" m upgrade system 3.bundle
boots || exit 2
is "2 runs" '["b", "a"]' "$(status '[j["booted"], j["previous"]]')"
ok "the rollback is possible" m rollback system --dry-run

poke() { python3 -c 'import sys
f = open(sys.argv[1], "r+b"); o = int(sys.argv[2])
f.seek(o); b = f.read(1); f.seek(o); f.write(bytes([b[0] ^ 1]))' "$1" "$2"; }
ok "slot verify" m slot verify
has "slot verify says of what" '^slot a: kernel and initrd are what was installed, the root is what was installed$' "$(cat out)"
ok "slot verify, in an image nothing counts as read" m slot verify
has_not "slot verify reads again" 'not written to since' "$(cat out)"
poke disk.img $((root_a + 500000))
refused previous-altered "slot verify: a changed byte in its root" m slot verify
has "slot verify names the place" 'slot a .* first at offset' "$(json 'j["message"]' <out)"
fails 3 previous-altered "slot verify --background finds it too" m slot verify --background
ok "the slot that runs is another one" m slot verify b
refused previous-altered "a changed byte in its root" m rollback system
poke disk.img $((root_a + 500000))
kernel=$(sed -n 's/^linux *//p' esp/loader/entries/bootmgr-1-a.conf)
poke "esp/$kernel" 100
refused previous-altered "a changed byte in its kernel" m rollback system
fails 3 previous-altered "slot verify finds it too" m slot verify a
ok "slot verify --background leaves the ESP alone" m slot verify --background
poke "esp/$kernel" 100
snapshot=$(m snapshot list --json | json 'j[0]["id"]')
poke "data/snapshots/$snapshot.tar.zst" 30
refused snapshot-altered "a changed byte in its snapshot" m rollback system
fails 3 snapshot-altered "snapshot verify finds it too" m snapshot verify
poke "data/snapshots/$snapshot.tar.zst" 30
ok "snapshot verify" m snapshot verify "$snapshot"
mkdir aside && mv data/snapshots/* aside/
refused snapshot-missing "no snapshot" m rollback system
mv aside/* data/snapshots/
sed 's/^\[System\]/[System]\nRollbackMinVersion=1.5/' conf >gate
refused previous-version-too-old "the version gate" "$BOOTMGR" --disk disk.img --esp esp --data data --config gate --cmdline "$running" rollback system
has "names the local procedure" 'install.sh --rollback' "$(json 'j["hint"]' <out)"
is "every check is in the error" '[["version-gate"], true]' "$(json '[[c["name"] for c in j["checks"] if not c["ok"]], len(j["checks"]) > 6]' <out)"
mv data/owner aside-owner
printf 'default bootmgr-2-b*\n' >esp/loader/loader.conf
refused loader-would-not-choose "a pin" m rollback system
rm esp/loader/loader.conf
mv aside-owner data/owner
fails 2 usage "slot verify of no slot" m slot verify h
fails 2 usage "slot verify of no name" m slot verify 1
fails 3 snapshot-missing "no such snapshot" m snapshot export ffff out.tar.zst
m slot mark-bad -q a || exit 2
refused previous-not-bootable "a bad slot" m rollback system
m rollback system >out 2>err
is "as text: status" 3 $?
has "as text: the reason" '^bootmgr: slot a is bad' "$(cat err)"
has "as text: the way out" '^  .*mark-good a' "$(cat err)"
ok "mark-good takes it back" m slot mark-good a
ok "finalize" m finalize
refused finalized "after finalize" m rollback system
refused below-floor "activate below the floor" m slot activate a
refused below-floor "an upgrade below the floor" m upgrade system 3.bundle

# At work already
exec 9<disk.img
flock 9
fails 3 operation-in-progress "slot verify beside another operation" m slot verify a 9>&-
ok "slot verify --background leaves it to that" m slot verify --background 9>&-
has "it says so" 'an operation is at work' "$(cat out)"
refused operation-in-progress "another process" m upgrade system 2.bundle
refused operation-in-progress "another process, finalize" m finalize
ok "status needs no lock" m status
exec 9<&-

# Nothing is final that the boot menu still offers
rm -rf disk.img esp data trust conf && running='' && make_machine
m upgrade system -q 1.bundle && boots && m upgrade system -q 2.bundle && boots || exit 2
mv esp away
STATUS=3 refused esp-unusable "finalize without the ESP" m finalize
mv away esp
is "the way back is still there" '[false, "a"]' "$(status '[j["finalized"], j["previous"]]')"

# What boots if the version on trial does not come up
rm -rf disk.img esp data trust conf && running='' && make_machine
m upgrade system -q 1.bundle && boots && m upgrade system -q 2.bundle || exit 2
refused operation-in-progress "mark-good of what does not run yet" m slot mark-good b
choose_next
m boot-config -q || exit 2
refused slot-in-use "mark the only fallback bad" m slot mark-bad a
m confirm -q && m rollback system -q && choose_next && m boot-config -q || exit 2
refused operation-in-progress "an upgrade while a rollback is on trial" m upgrade system 2.bundle
has "the way out is one" 'wait until it is confirmed: a version that does not come up' "$(json 'j["hint"]' <out)"

finish
