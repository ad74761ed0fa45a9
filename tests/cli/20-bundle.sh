#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Making, reading, signing bundles; tampering with them.
. "$(dirname "$0")/lib.sh"

ok "keygen" "$BOOTMGR" bundle keygen release
is "the private key is private" 600 "$(stat -c %a release.key)"
fails 2 usage "keys are not overwritten" "$BOOTMGR" bundle keygen release
"$BOOTMGR" bundle keygen -q second
"$BOOTMGR" bundle keygen -q stranger
mkdir trust two && cp release.pem trust/ && cp release.pem second.pem two/

content "root image" 3000000 >root
content "kernel image" 20000 >kernel
content "initrd image" 30000 >initrd
content "firmware image" 1000 >firmware
create() {
        "$BOOTMGR" bundle create --version 2.0 --compatible test-box --root root --kernel kernel --initrd initrd \
                --key release.key "$@"
}
ok "create" create --image firmware=firmware --security-version 4 --min-bootmgr 0.1 --build-id 77 one.bundle
has "says what it made" 'one.bundle: version 2.0 for test-box' "$(cat out)"
has "and what of it takes how much" '^root +2.9 MiB +' "$(cat out)"
ok "create again" create --image firmware=firmware --security-version 4 --min-bootmgr 0.1 --build-id 77 again.bundle
ok "gives the same bytes" cmp one.bundle again.bundle
ok "for programs" create --image firmware=firmware --security-version 4 --min-bootmgr 0.1 --build-id 77 --json said.bundle
is "its length, and of each image what it takes" "$(stat -c %s said.bundle) [\"kernel\", \"initrd\", \"firmware\", \"root\"] [20000, 30000, 1000, 3000000] true" \
        "$(json '"%d %s %s %s" % (j["size"], json.dumps([i["name"] for i in j["images"]]), json.dumps([i["size"] for i in j["images"]]), json.dumps(all(0 < i["stored"] <= i["size"] - i["zeros"] + 64 * i["chunks"] for i in j["images"]) and sum(i["stored"] for i in j["images"]) < j["size"]))' <out)"
ok "other sizes of chunks" create --chunk-size 64K --level 1 small-chunks.bundle
ok "chunks by content" create --chunking content --level 1 content.bundle
ok "again" create --chunking content --level 1 content-again.bundle
ok "gives the same bytes too" cmp content.bundle content-again.bundle
is "is format 2" 2 "$("$BOOTMGR" bundle inspect --json content.bundle | json 'j["format"]')"
ok "verify it" "$BOOTMGR" bundle verify --trust trust content.bundle
fails 2 usage "chunks by what" create --chunking whim whim.bundle
fails 2 usage "into a pipe" create --level 1 -
is "nothing is left of it" "" "$(ls ./-* 2>/dev/null)"
status=$(create one.bundle >out 2>err; echo $?)
is "a bundle is not overwritten" 2 "$status"

ok "inspect" "$BOOTMGR" bundle inspect --json one.bundle
is "says what is in it" '["2.0", "test-box", 4, "0.1", "77", ["kernel", "initrd", "firmware", "root"], [20000, 30000, 1000, 3000000]]' \
        "$(json '[j["version"], j["compatible"], j["security_version"], j["min_bootmgr"], j["build_id"], [i["name"] for i in j["images"]], [i["size"] for i in j["images"]]]' <out)"
is "with the digests" "$(sha256sum <kernel | cut -d' ' -f1)" "$(json 'j["images"][0]["digest"]' <out)"
is "unjudged" '[null]' "$(json '[s["valid"] for s in j["signatures"]]' <out)"
ok "inspect as text" "$BOOTMGR" bundle inspect one.bundle
has "says so" 'not checked' "$(cat out)"

ok "verify" "$BOOTMGR" bundle verify --trust trust one.bundle
has "names the key" 'release.pem, valid' "$(cat out)"
ok "verify a pipe" sh -c "\"$BOOTMGR\" bundle verify --trust trust - <one.bundle"
fails 3 bundle-untrusted "two signatures are asked for" "$BOOTMGR" bundle verify --trust two --threshold 2 one.bundle
ok "sign" "$BOOTMGR" bundle sign --key second.key one.bundle
ok "then there are two" "$BOOTMGR" bundle verify --trust two --threshold 2 --json one.bundle
is "both are valid" '[true, true]' "$(json '[s["valid"] for s in j["signatures"]]' <out)"
ok "signing again is no third" "$BOOTMGR" bundle sign --key second.key one.bundle
is "still two" 2 "$("$BOOTMGR" bundle inspect --json one.bundle | json 'len(j["signatures"])')"
mkdir nobody && cp stranger.pem nobody/
fails 3 bundle-untrusted "signed by strangers" "$BOOTMGR" bundle verify --trust nobody one.bundle
mkdir empty
fails 3 bundle-untrusted "nobody is trusted" "$BOOTMGR" bundle verify --trust empty one.bundle

# One byte changed, anywhere: never accepted, and named
size=$(stat -c %s again.bundle)
tamper() { # OFFSET
        cp again.bundle bad.bundle
        python3 -c 'import sys
f = open("bad.bundle", "r+b"); o = int(sys.argv[1])
f.seek(o); b = f.read(1); f.seek(o); f.write(bytes([b[0] ^ 0x20]))' "$1"
}
wrong=0 tried=0
for offset in 0 4 8 12 16 20 24 32 48 63 $(seq 70 97 3000) $(seq 3100 $((size / 23)) "$size") $((size - 1)); do
        [ "$offset" -lt "$size" ] || continue
        tamper "$offset"
        tried=$((tried + 1))
        "$BOOTMGR" bundle verify --trust trust --json bad.bundle >out 2>err
        case $? in
        1 | 3) grep -q '"message": "..' out || { wrong=$((wrong + 1)); echo "no reason at $offset"; } ;;
        *) wrong=$((wrong + 1)) && echo "accepted with byte $offset changed" ;;
        esac
done
is "each of $tried single changed bytes is found" 0 "$wrong"
tamper $((size - 5))
fails 1 content-mismatch "the last chunk" "$BOOTMGR" bundle verify --trust trust bad.bundle
for cut in 10 200 1000 $((size / 2)) $((size - 1)); do
        head -c "$cut" again.bundle >bad.bundle
        fails 3 bundle-invalid "cut at $cut" "$BOOTMGR" bundle verify --trust trust bad.bundle
done
{ cat again.bundle && echo more; } >bad.bundle
fails 3 bundle-invalid "something behind the end" "$BOOTMGR" bundle verify --trust trust bad.bundle
fails 3 bundle-invalid "no bundle at all" "$BOOTMGR" bundle verify --trust trust root
fails 1 fetch-failed "no file at all" "$BOOTMGR" bundle verify --trust trust missing.bundle

# What cannot be meant
fails 2 usage "no key" "$BOOTMGR" bundle create --version 1 --compatible c --root root x.bundle
fails 2 usage "no root" "$BOOTMGR" bundle create --version 1 --compatible c --key release.key x.bundle
fails 2 usage "no version" "$BOOTMGR" bundle create --compatible c --root root --key release.key x.bundle
fails 2 usage "an image without a name" "$BOOTMGR" bundle create --version 1 --compatible c --root root --image file --key release.key x.bundle
fails 2 usage "threshold 0" "$BOOTMGR" bundle verify --threshold 0 again.bundle
fails 2 usage "a version that is none" "$BOOTMGR" bundle create --version 'a b' --compatible c --root root --key release.key x.bundle

finish
