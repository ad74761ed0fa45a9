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
        ok "$sector: what a second time would do" "$BOOTMGR" init --dry-run --esp-size "$esp" --root-size 4M $sector.img
        has "$sector: --force is needed, it says" 'it holds .*--force' "$(cat out)"
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
printf 'somebody lives here' | dd of=foreign.img bs=1 seek=0 conv=notrunc status=none
truncate -s 64M foreign.img
mkfs.ext4 -q -F foreign.img 2>/dev/null
before=$(sha256sum <foreign.img)
fails 3 disk-not-empty "a filesystem" "$BOOTMGR" init --esp-size 34M --root-size 4M foreign.img
is "which is unchanged" "$before" "$(sha256sum <foreign.img)"
fails 1 no-bootmgr-machine "what is no machine" "$BOOTMGR" status --disk foreign.img --esp .

finish
