#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# docs/formats.md against what the program writes: its tables decode it, its dumps are equal to it.
. "$(dirname "$0")/lib.sh"
doc() { python3 "$top/tests/cli/formats.py" "$top/docs/formats.md" "$@"; }
hex() { od -A n -t x1 -v -j "$2" -N "$3" "$1" | tr -d ' \n'; }

is "the bundle header: its size" 64 "$(doc table "Bundle header")"
is "an entry of the index" 44 "$(doc table "Chunk index")"
is "a signature, before it begins" 36 "$(doc table Signatures)"
is "the head of a delta" 128 "$(doc table Deltas)"
is "a record of its table" 28 "$(doc table "Delta table")"
is "the state header" 32 "$(doc table "State header")"
is "the state payload" 1792 "$(doc table "State payload")"
is "a slot record" 208 "$(doc table "Slot record")"

# The bundle of the example
"$BOOTMGR" bundle keygen -q release && truncate -s 1M root && echo kernel >kernel || exit 2
"$BOOTMGR" bundle create -q --version 2.0 --compatible test-box --root root --kernel kernel --key release.key example.bundle
is "the dump of a bundle header" "$(doc dump "bundle header")" "$(hex example.bundle 0 64)"
mkdir parts
ok "a bundle, read by the document alone" doc bundle example.bundle parts
cp out decoded
is "gives its content" '["2.0", "test-box", 1, ["kernel", "root"], [7, 1048576]]' \
        "$(json '[j["version"], j["compatible"], j["algorithm"], [i["name"] for i in j["images"]], [i["size"] for i in j["images"]]]' <decoded)"
is "its digest is the program's" "$("$BOOTMGR" bundle inspect --json example.bundle | json 'j["digest"]')" "$(json 'j["digest"]' <decoded)"
is "its key id is the key's" "$(openssl pkey -pubin -in release.pem -outform DER | sha256sum | cut -d' ' -f1)" "$(json 'j["key"]' <decoded)"
ok "openssl checks the signature" openssl pkeyutl -verify -pubin -inkey release.pem -rawin -in parts/manifest -sigfile parts/signature
content "a root" 3000000 >large && truncate -s 5M large && content "an end" 100001 >>large
"$BOOTMGR" bundle create -q --chunking content --version 2.0 --compatible test-box --root large --kernel kernel --key release.key content.bundle
ok "one in chunks by content, too" doc bundle content.bundle parts
cp out decoded
is "is of format 2" '[2, [7, 5342881]]' "$(json '[j["format"], [i["size"] for i in j["images"]]]' <decoded)"

# A delta, of the example and of something with content
"$BOOTMGR" bundle create -q --version 2.1 --compatible test-box --root root --kernel kernel --key release.key next.bundle
"$BOOTMGR" bundle delta -q --from example.bundle next.bundle next.delta
parts=$((64 + 0x244 + 0x68))
is "the dump of the head of a delta" "$(doc dump "delta head")" "$(hex next.delta $parts 128)"
{ head -c 900000 large && echo "put in between" && tail -c +900040 large; } >changed
"$BOOTMGR" bundle create -q --version 2.1 --compatible test-box --root changed --kernel kernel --key release.key changed.bundle
"$BOOTMGR" bundle delta -q --from content.bundle --url http://host/2.1.bundle changed.bundle changed.delta
ok "a delta, read by the document alone" doc delta changed.delta large decoded-root
cp out head.json
ok "gives its root" cmp decoded-root changed
is "and its base" "[\"2.0\", \"$("$BOOTMGR" bundle inspect --json content.bundle | json 'j["digest"]')\", \"http://host/2.1.bundle\"]" \
        "$(json '[j["base version"], j["base digest"], j["url"]]' <head.json)"
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec.key 2>/dev/null && openssl pkey -in ec.key -pubout -out ec.pem
"$BOOTMGR" bundle create -q --version 2.0 --compatible test-box --root root --kernel kernel --key ec.key ec.bundle
ok "an ECDSA one too" doc bundle ec.bundle parts
ok "with the digest named" openssl pkeyutl -verify -pubin -inkey ec.pem -rawin -digest sha256 -in parts/manifest -sigfile parts/signature

# The record of the example, then one of a machine with a life
bundle 1 && bundle 2 && make_machine || exit 2
"$BOOTMGR" init --dry-run --json --image-size 64M --esp-size 34M --root-size 4M other.img >layout
state=$(json '[p["offset"] for p in j["partitions"] if p["label"] == "bootmgr-state"][0]' <layout)
is "the dump of a state record" "$(doc dump "state record")" "$(hex disk.img $((state + 524288)) 48)"
newest() { # EXPRESSION over the newer copy, as the document reads it
        { doc state disk.img "$state" && doc state disk.img $((state + 524288)); } |
                python3 -c 'import json, sys
j = max((json.loads(line) for line in sys.stdin), key=lambda c: c["sequence"])
print(json.dumps(eval(sys.argv[1])))' "$1"
}
mkdir -p data/root/cfg && echo here >data/root/cfg/file
m upgrade system -q 1.bundle && boots && m upgrade system -q 2.bundle || exit 2
is "states and versions" '[["1", 4], ["2", 3]]' "$(newest '[[s["version"], s["state"]] for s in j["each"]]')"
is "the switch" '[2, 1, 0, 1, 2]' "$(newest '[j["phase"], j["target"], j["previous"], j["operation"], j["target generation"]]')"
is "tries, attempts, generations" '[[1, 0], [2, 3]]' "$(newest '[[s["slot generation"], s["tries"]] for s in j["each"]]')"
is "digests" "$(status '[s["digest"] for s in j["slots"]]')" "$(newest '[s["manifest digest"] for s in j["each"]]')"
is "the operation" "$(m show upgrade status --json | json 'j["id"]')" "$(newest 'j["operation id"]' | tr -d '"')"
is "the snapshot" "$(status 'j["snapshot"]["digest"]')" "$(newest 'j["each"][0]["snapshot digest"]' | tr -d '"')"
kernel=$(newest 'j["each"][1]["kernel"]' | tr -d '"')
is "the kernel's name" "$(sha256sum <kernel-2 | cut -c1-30)0b" "$kernel"
is "it lies there" "$(sha256sum <kernel-2)" "$(sha256sum <"esp/bootmgr/$kernel")"

# Entries and the data directory
entry=esp/loader/entries/bootmgr-2-b+3-0.conf
is "an entry" "title 2 (slot b)
version 2
sort-key bootmgr
linux /bootmgr/$kernel
initrd /bootmgr/$(sha256sum <initrd-2 | cut -c1-30)0b
options root=PARTUUID=UUID ro gpt panic=10 systemd.crash_reboot=1 bootmgr.slot=b bootmgr.generation=2" "$(sed 's/PARTUUID=[0-9a-f-]*/PARTUUID=UUID/' $entry)"
is "the owner marker" "phase=owned slot=a version=1 generation=1" "$(tr '\n' ' ' <data/owner | sed 's/ $//')"
archive=$(find data/snapshots -name '*.tar.zst')
is "an archive is named by its digest" "$(sha256sum <"$archive" | cut -c1-16)" "$(basename "$archive" .tar.zst)"
is "and is unpacked by tar" here "$(mkdir out.d && tar --zstd -C out.d -xf "$archive" && cat out.d/cfg/file)"
is "its trailer" '{"format":1,"paths":["/cfg"],"absent":[]}' "$(tail -c 41 "$archive")"
is "behind its frame's header" 5b2a4d1829000000 "$(hex "$archive" $(($(stat -c %s "$archive") - 49)) 8)"
documented() { grep -c "\`$1\`" "$top/docs/formats.md"; }
for name in $(json '" ".join(j)' <"${archive%.tar.zst}.json") $(json '" ".join(list(j) + list(j["steps"][0]))' <"$(find data/operations -name '00000002-*.json')"); do
        [ "$(documented "$name")" -gt 0 ] || flunk "$name is in a file and not in the document"
done
pass "every member of the JSON is in the document"
is "what lies in the data directory" "etc operations owner root slots snapshots" \
        "$(find data -mindepth 1 -maxdepth 1 -printf '%f\n' | sort | tr '\n' ' ' | sed 's/ $//')"
is "slots: the manifest, as it was signed" "$(status 'j["slots"][1]["digest"]')" "$(sha256sum <data/slots/b/manifest | cut -d' ' -f1)"

finish
