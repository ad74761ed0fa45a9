#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# A bundle whose root has a hash tree: what veritysetup says of it, what an update brings of it, what an entry says.
# shellcheck disable=SC2317 # called through ok
. "$(dirname "$0")/lib.sh"
RECOVER=${RECOVER:-$(dirname "$BOOTMGR")/bootmgr-recover}

# SLOT FILE: what lies in that slot of disk.img, as long as the image of the newest bundle is.
slot_content() {
        python3 - "$1" "$2" "$size" <<'END'
import json, subprocess, sys
table = json.loads(subprocess.run(["sfdisk", "--json", "disk.img"], capture_output=True, check=True).stdout)["partitiontable"]
part = next(p for p in table["partitions"] if p.get("name") == "root-" + sys.argv[1])
with open("disk.img", "rb") as disk, open(sys.argv[2], "wb") as out:
    disk.seek(part["start"] * table.get("sectorsize", 512))
    out.write(disk.read(int(sys.argv[3])))
END
}
# Of a bundle: EXPRESSION of its root image `r`.
root_of() { "$BOOTMGR" bundle inspect --json "$1" | json "[r for r in j['images'] if r['name'] == 'root'][0]$2"; }
judged_right() { veritysetup verify "$1" "$1" "$hash" --hash-offset="$offset"; }
fails_at() { ! judged_right "$1" >out 2>&1; }
flip() { python3 -c 'import sys
f = open(sys.argv[1], "r+b"); f.seek(int(sys.argv[2])); b = f.read(1); f.seek(-1, 1); f.write(bytes([b[0] ^ 1]))' "$1" "$2"; }

bundle 1 --verity && bundle 2 --verity && bundle plain || exit 2
hash=$(root_of 1.bundle "['verity']['root_hash']")
offset=$(($(root_of 1.bundle "['verity']['blocks']") * 4096))
size=$(root_of 1.bundle "['size']")
is "the tree lies behind the filesystem" 1048576 "$offset"
is "filesystem, superblock, three blocks of the tree" $((1048576 + 4096 + 3 * 4096)) "$size"
has "inspect shows the root hash" "Root hash +$hash" "$("$BOOTMGR" bundle inspect 1.bundle)"
is "a bundle without one has none" null "$(root_of plain.bundle "['verity']")"
is "the format is one that a bootmgr before refuses" 3 "$("$BOOTMGR" bundle inspect --json 1.bundle | json 'j["format"]')"
fails 2 usage "not with chunks of one length" "$BOOTMGR" bundle create --version 1 --compatible x --root root-1 --key release.key \
        --verity --chunking fixed x.bundle

mv 1.bundle first.bundle
bundle 1 --verity
ok "the same image gives the same bytes" cmp first.bundle 1.bundle
is "the image was not touched" 1048576 "$(stat -c %s root-1)"
head -c 1048000 root-1 >root-short
"$BOOTMGR" bundle create -q --version 3 --compatible test-box --root root-short --kernel kernel-1 --initrd initrd-1 --key release.key \
        --verity short.bundle
is "an image of no whole blocks is filled up" 256 "$(root_of short.bundle "['verity']['blocks']")"

# On the disk
make_machine
ok "install" m upgrade system -q 1.bundle
slot_content a installed
ok "what is installed is what veritysetup finds right" judged_right installed
ok "and the filesystem is the image" cmp -n 1048576 root-1 installed
for at in 0 524288 1048575 $((offset + 4096)) $((size - 1)); do
        flip installed "$at"
        ok "a bit at $at is found out" fails_at installed
        flip installed "$at"
done
ok "and right again" judged_right installed
boots || exit 2
has "the entry names it" "bootmgr.verity=256:$hash" "$running"
ok "slot verify knows the tree, too" m slot verify a
is "status tells the root hash" "$hash None" "$(m status --json | json '" ".join(str(s["root_hash"]) for s in j["slots"])')"
has "and that the root is checked" '^Running .*slot a, version 1 \([a-z]+, root checked by dm-verity\)' "$(m status)"

# An update: no salt, so that hashes of what has not changed are as they were.
cp root-1 root-2
flip root-2 500000
rm 2.bundle
"$BOOTMGR" bundle create -q --version 2 --compatible test-box --root root-2 --kernel kernel-2 --initrd initrd-2 --key release.key --verity 2.bundle
ok "install 2" m upgrade system -q 2.bundle
hash=$(root_of 2.bundle "['verity']['root_hash']")
slot_content b installed
ok "its tree is right, too" judged_right installed
slot_content a before
is "of the tree (4 blocks with its superblock) the way to one leaf has changed" 2 "$(python3 -c 'import sys
a, b = (open(n, "rb").read() for n in ("before", "installed"))
print(sum(a[i:i+4096] != b[i:i+4096] for i in range(1048576, len(a), 4096)))')"

# The way back, in the initramfs: the other slot gets an entry with its own word.
choose_next
has "the new one names its own" "bootmgr.verity=256:$hash" "$running"
hash=$(root_of 1.bundle "['verity']['root_hash']")
ok "its root fails" "$RECOVER" --disk disk.img --esp esp --cmdline "$running" failed
choose_next
has "the machine goes back, to a root that is verified" "bootmgr.slot=a .*bootmgr.verity=256:$hash" "$running"
ok "it comes up" boot_up

# A lost record gets it from entries and manifests.
python3 "$top/tests/cli/record.py" lose disk.img
ok "the record is made again" m boot-config -q
m slot mark-good a -q
rm esp/loader/entries/bootmgr-*-a.conf
ok "and the entry, from the record" m confirm -q
has "it still names the tree" "bootmgr.verity=256:$hash" "$(cat esp/loader/entries/bootmgr-*-a.conf)"

# What cannot be
bundle 4 --verity
printf '[Storage]\nEtcOverlay=no\n' >>conf
before=$(fingerprint)
fails 3 bundle-incompatible "a writable root has no hash tree" m upgrade system --yes 4.bundle
is "and nothing was changed" "$before" "$(fingerprint)"
mke2fs -q -F -t ext4 -b 1024 small.ext4 2M >mkfs 2>&1 || flunk "mke2fs" mkfs
mke2fs -q -F -t ext4 -b 4096 large.ext4 2M >mkfs 2>&1 || flunk "mke2fs" mkfs
ext4() { "$BOOTMGR" bundle create --version 5 --compatible test-box --root "$1.ext4" --kernel kernel-1 --key release.key --verity "$1.bundle" "${2--q}"; }
fails 2 usage "an ext4 filesystem that would not be mounted" ext4 small
ok "one that would" ext4 large
finish
