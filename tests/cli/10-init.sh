#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Making the reference layout in an image.
. "$(dirname "$0")/lib.sh"

ok "what would be made" "$BOOTMGR" init --dry-run --image-size 64M --esp-size 34M --root-size 4M new.img
has "is said" 'root-b' "$(cat out)"
is "and nothing was made" no "$([ -e new.img ] && echo yes || echo no)"

for sector in 512 4096; do
        # FAT32 needs 65525 clusters: with sectors of 4096 bytes that is 256 MiB
        [ $sector = 512 ] && esp=34M size=64M || esp=260M size=300M
        ok "$sector: init" "$BOOTMGR" init --json --image-size "$size" --esp-size "$esp" --root-size 4M --sector-size $sector $sector.img
        is "$sector: the parts" '["", "bootmgr-state", "root-a", "root-b", "data"]' \
                "$(json '[p["label"] if p["what"] != "ESP" else "" for p in j["partitions"]]' <out)"
        is "$sector: the size of a root" $((4 << 20)) "$(json '[p["size"] for p in j["partitions"] if p["label"] == "root-a"][0]' <out)"
        ok "$sector: status reads it" "$BOOTMGR" status --json --disk $sector.img --esp .
        is "$sector: two empty slots" '["empty", "empty"]' "$(json '[s["state"] for s in j["slots"]]' <out)"
        is "$sector: nothing boots" '[null, null, null, 0]' "$(json '[j["booted"], j["next"], j["previous"], j["generation"]]' <out)"
        fails 3 disk-not-empty "$sector: a second time" "$BOOTMGR" init --esp-size "$esp" --root-size 4M $sector.img
        before=$(sha256sum <$sector.img)
        fails 3 disk-not-empty "$sector: what a second time would do" "$BOOTMGR" init --dry-run --esp-size "$esp" --root-size 4M $sector.img
        has "$sector: what is there, where, and --force, it says" 'partition table of type gpt .*at byte [0-9]+.*--force' "$(tr '\n' ' ' <out)"
        ok "$sector: what --force would do" "$BOOTMGR" init --dry-run --force --esp-size "$esp" --root-size 4M --sector-size $sector $sector.img
        has "$sector: what would be lost, it says" 'it holds a partition table of type gpt .*lost' "$(cat out)"
        is "$sector: refused means unchanged" "$before" "$(sha256sum <$sector.img)"
        ok "$sector: forced" "$BOOTMGR" init -q --force --esp-size "$esp" --root-size 4M --sector-size $sector $sector.img
done

ok "three slots" "$BOOTMGR" init --json --slots 3 --image-size 64M --esp-size 34M --root-size 4M three.img
ok "are found" "$BOOTMGR" slot list --json --disk three.img --esp .
is "by name" '["a", "b", "c"]' "$(json '[s["name"] for s in j]' <out)"

fails 2 usage "one slot" "$BOOTMGR" init --slots 1 x.img
fails 2 usage "odd sectors" "$BOOTMGR" init --sector-size 520 x.img
fails 2 usage "a size that is none" "$BOOTMGR" init --esp-size many x.img
truncate -s 40M small.img
ok_status=$("$BOOTMGR" init --esp-size 34M --root-size 4M small.img >out 2>err; echo $?)
has "too small for its parts: exit status" '^[123]$' "$ok_status"
has "too small for its parts: a reason" '^bootmgr: .' "$(cat err)"
# Whatever it is and wherever it lies: it is somebody's
truncate -s 64M far.img
printf x | dd of=far.img bs=1 seek=44444444 conv=notrunc status=none
before=$(sha256sum <far.img)
fails 3 disk-not-empty "one byte in the middle" "$BOOTMGR" init --esp-size 34M --root-size 4M far.img
has "where it is, and the way out" 'at byte 44444444.*--force' "$(tr '\n' ' ' <out)"
fails 3 disk-not-empty "also with --dry-run" "$BOOTMGR" init --dry-run --esp-size 34M --root-size 4M far.img
is "which is unchanged" "$before" "$(sha256sum <far.img)"
dd if=/dev/zero of=zeros.img bs=1M count=64 status=none
ok "written zeros are nothing" "$BOOTMGR" init -q --esp-size 34M --root-size 4M zeros.img

# Sizes: refused before anything is made, and nothing is left of what was made
for arguments in '--image-size 40M --esp-size 34M --root-size 4M' '--image-size 1K' '--image-size 8388608T' '--image-size 16777216T' '--image-size 64M' \
        '--image-size 64M --esp-size 16777215T --root-size 4M' '--image-size 64M --esp-size 34M --root-size 16777215T' \
        '--image-size 64M --slots 9' '--image-size 64M --slots -1' '--image-size 0' '--image-size 64M --esp-size 34M --slots 8 --root-size 4M'; do
        # shellcheck disable=SC2086
        fails 2 usage "$arguments" "$BOOTMGR" init $arguments left.img
        is "leaves nothing behind" no "$([ -e left.img ] && echo yes || echo no)"
done
mkdir bin
printf '#!/bin/sh\necho no ext4 today >&2\nexit 1\n' >bin/mkfs.ext4
chmod +x bin/mkfs.ext4
fails 1 failed "a tool that fails" env PATH="$W/bin:$PATH" "$BOOTMGR" init --image-size 64M --esp-size 34M --root-size 4M left.img
is "leaves nothing behind" no "$([ -e left.img ] && echo yes || echo no)"
# shellcheck disable=SC2016
printf '#!/bin/sh\nkill -INT "$PPID"\n' >bin/mkfs.ext4
fails 1 interrupted "Ctrl-C" env PATH="$W/bin:$PATH" "$BOOTMGR" init --image-size 64M --esp-size 34M --root-size 4M left.img
is "leaves nothing behind" no "$([ -e left.img ] && echo yes || echo no)"
truncate -s 64M there.img
fails 1 interrupted "Ctrl-C with an image that was there" env PATH="$W/bin:$PATH" "$BOOTMGR" init --esp-size 34M --root-size 4M there.img
has "how to begin again" 'init --force there.img' "$(cat out)"
truncate -s 80M other-size.img
fails 2 usage "a file of another size" "$BOOTMGR" init --image-size 64M --esp-size 34M --root-size 4M other-size.img
has "which sizes, and the way out" '83886080.*67108864.*without --image-size' "$(tr '\n' ' ' <out)"
is "which is unchanged" 83886080 "$(stat -c %s other-size.img)"
ok "used as it is" "$BOOTMGR" init -q --esp-size 34M --root-size 4M other-size.img
: >empty.img
ok "an empty file becomes an image" "$BOOTMGR" init -q --image-size 64M --esp-size 34M --root-size 4M empty.img
ok "a size is rounded down to MiB" "$BOOTMGR" init -q --image-size 68000000 --esp-size 34M --root-size 4M odd.img
is "which is its size" 67108864 "$(stat -c %s odd.img)"
truncate -s 67109000 odd-file.img
ok "a file of no whole sectors" "$BOOTMGR" init -q --esp-size 34M --root-size 4M odd-file.img
ok "is found" "$BOOTMGR" status -q --disk odd-file.img --esp .

# 4096-byte sectors, from the factory to the first boots
make_machine
rm disk.img
ok "4096: a machine" "$BOOTMGR" init -q --image-size 300M --esp-size 260M --root-size 4M --sector-size 4096 disk.img
bundle 1 && bundle 2 || exit 2
ok "4096: the first version" m upgrade system -q 1.bundle
ok "4096: boots" boots
ok "4096: an upgrade" m upgrade system -q 2.bundle
ok "4096: boots" boots
is "4096: is confirmed" '["b", "b", "a", ["confirmed", "confirmed"]]' \
        "$(status '[j["booted"], j["next"], j["previous"], [s["state"] for s in j["slots"]]]')"
ok "4096: back" m rollback system -q
ok "4096: boots" boots
is "4096: version 1 runs" '["a", "1"]' "$(status '[j["booted"], j["slots"][0]["version"]]')"

# Where something else boots the machine a bundle needs no kernel
"$BOOTMGR" init -q --force --image-size 300M --esp-size 34M --root-size 4M disk.img || exit 2
rm -rf data esp && mkdir data esp
"$BOOTMGR" bundle create -q --version 3 --compatible test-box --root root-1 --key release.key 3.bundle || exit 2
running=
fails 3 bundle-incompatible "no kernel for systemd-boot" m upgrade system 3.bundle
printf '[Boot]\nLoader=none\n' >>conf
ok "none needed with Loader=none" m upgrade system 3.bundle
is "it is installed" '["3", "confirmed"]' "$(status '[j["slots"][0]["version"], j["slots"][0]["state"]]')"
is "the ESP was left alone" "" "$(ls esp)"

# Names
fails 1 failed "a disk that is not there" "$BOOTMGR" status --disk nope.img --esp .
has "the way out" 'hint.*lsblk.*init --image-size SIZE nope.img' "$(cat out)"
fails 2 usage "an option in the place of a value" "$BOOTMGR" status --disk
has "is named" 'needs a value, not the option --json' "$(cat out)"
is "and is no file" no "$([ -e ./--json ] && echo yes || echo no)"
printf '[Storage]\nState=/nowhere/0 /nowhere/1\n' >>conf
fails 1 no-bootmgr-machine "files of the record that are not there" m status
has "how they are made" 'fallocate -l 4096 /nowhere/0' "$(cat out)"

printf 'somebody lives here' | dd of=foreign.img bs=1 seek=0 conv=notrunc status=none
truncate -s 64M foreign.img
mkfs.ext4 -q -F foreign.img 2>/dev/null
before=$(sha256sum <foreign.img)
fails 3 disk-not-empty "a filesystem" "$BOOTMGR" init --esp-size 34M --root-size 4M foreign.img
is "which is unchanged" "$before" "$(sha256sum <foreign.img)"
fails 1 no-bootmgr-machine "what is no machine" "$BOOTMGR" status --disk foreign.img --esp .

finish
