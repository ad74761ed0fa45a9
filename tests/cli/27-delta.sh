#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Delta bundles: made, installed, smaller than reuse alone, refused where the base is another one, and what they fall back to.
#
# Functions that ok and fails call by their names:
# shellcheck disable=SC2317
. "$(dirname "$0")/lib.sh"

"$BOOTMGR" bundle keygen release -q || exit 2
make_machine
"$BOOTMGR" init --dry-run --json --image-size 64M --esp-size 34M --root-size 4M other.img >layout
offset() { json "[p['offset'] for p in j['partitions'] if p['label'] == '$1'][0]" <layout; }
slot_is() { cmp -n "$(stat -c %s "$2")" -i "$(offset root-"$1"):0" disk.img "$2"; } # SLOT FILE
step() { m show upgrade status --json | json "[s for s in j['steps'] if s['name'] == '$1'][0]$2"; }

# A root in which small things change in many places, something is put in between, and something is new
content "a root" 2500000 >root-1
python3 - <<'END' || exit 2
import random
r, b = random.Random("changes"), bytearray(open("root-1", "rb").read())
for at in range(50000, 2400000, 90000):
        b[at:at + 100] = r.randbytes(100)
b[700000:700000] = b"put in between"
b[1500000:1520000] = bytes(300000)
b += r.randbytes(70000)
open("root-2", "wb").write(b)
b[1000000:1000010] = b"once again"
open("root-3", "wb").write(b)
END
content "a kernel" 20000 >kernel-1
content "another kernel" 21000 >kernel-2
content "an initrd" 30000 >initrd-1
create() { # VERSION KERNEL [OPTION...]
        v=$1 k=$2
        shift 2
        "$BOOTMGR" bundle create -q --version "$v" --compatible test-box --root "root-$v" --kernel "kernel-$k" --initrd initrd-1 \
                --image firmware=kernel-1 --key release.key "$@" "$v.bundle"
}
create 1 1 && create 2 2 && create 3 2 || exit 2
cp 1.bundle first.bundle
delta() { "$BOOTMGR" bundle delta "$@"; }

# ---- making one ----
ok "a delta" delta --from 1.bundle 2.bundle 2.delta
has "says what it made" '2.delta: 2.bundle as a delta to 1.bundle, ' "$(cat out)"
ok "again" delta --from 1.bundle 2.bundle again.delta
ok "gives the same bytes" cmp 2.delta again.delta
ok "on one processor" taskset -c 0 "$BOOTMGR" bundle delta --from 1.bundle 2.bundle one.delta
ok "gives the same bytes, too" cmp 2.delta one.delta
fails 2 usage "a file is not overwritten" delta --from 1.bundle 2.bundle 2.delta
fails 2 usage "nothing to begin with" delta 2.bundle x.delta
fails 2 usage "a URL that is none" delta --from 1.bundle --url ftp://host/2.bundle 2.bundle x.delta
fails 2 usage "a delta of a delta" delta --from 1.bundle 2.delta x.delta
fails 2 usage "a delta to a delta" delta --from 2.delta 3.bundle x.delta
fails 3 bundle-invalid "what is no bundle" delta --from root-1 2.bundle x.delta
"$BOOTMGR" bundle create -q --version 2 --compatible other-box --root root-2 --key release.key other-box.bundle
fails 2 usage "for another kind of machine" delta --from 1.bundle other-box.bundle x.delta
is "which leave nothing" "" "$(find . -name 'x.delta*')"

inspect() { "$BOOTMGR" bundle inspect --json "$1" | json "$2"; }
is "it is the same version" "$(inspect 2.bundle 'j["digest"]')" "$(inspect 2.delta 'j["digest"]')"
is "with the same signatures" "$(inspect 2.bundle 'j["signatures"]')" "$(inspect 2.delta 'j["signatures"]')"
is "to that version" "[\"1\", \"$(inspect 1.bundle 'j["digest"]')\", 2500000, null]" \
        "$(inspect 2.delta '[j["delta"][k] for k in ("version", "digest", "root_size", "url")]')"
is "a full bundle is none" null "$(inspect 2.bundle 'j["delta"]')"
has "as text" 'Delta to version +1 \(' "$("$BOOTMGR" bundle inspect 2.delta)"
verify() { "$BOOTMGR" bundle verify --trust trust "$@"; }
ok "verify" verify 2.delta
has "says what it did not see" 'what is stored are right; the rest is checked where the base is' "$(cat out)"
# shellcheck disable=SC2002 # a pipe is what is meant
ok "verify a pipe" sh -c "cat 2.delta | \"$BOOTMGR\" bundle verify --trust trust -"
mkdir nobody
fails 3 bundle-untrusted "signed by nobody we know" "$BOOTMGR" bundle verify --trust nobody 2.delta

# ---- one byte changed, or the end missing ----
python3 - >places <<'END'
import struct
b = open("2.delta", "rb").read()
manifest, signatures, index = struct.unpack_from("<IIxxxxQ", b, 12)
head = 64 + manifest + signatures
table, url = struct.unpack_from("<I", b, head + 104)[0], struct.unpack_from("<H", b, head + 112)[0]
start = head + 128 + url
every = list(range(64)) + list(range(head, start)) + list(range(start + index, start + index + table))
print(*every, *range(64, head, 37), *range(start, start + index, 53), *range(start + index + table, len(b), 4999), len(b) - 1)
END
python3 - "$BOOTMGR" >flips <<'END'
import json, subprocess, sys
b, kinds, wrong = open("2.delta", "rb").read(), {}, []
for at in map(int, open("places").read().split()):
        changed = bytearray(b)
        changed[at] ^= 1 << at % 8
        p = subprocess.run([sys.argv[1], "bundle", "verify", "--trust", "trust", "--json", "-"], input=changed, stdout=subprocess.PIPE)
        kind = json.loads(p.stdout).get("kind") if p.returncode else None
        kinds[kind] = kinds.get(kind, 0) + 1
        if kind not in ("bundle-invalid", "bundle-untrusted", "bundle-incompatible", "content-mismatch"):
                wrong.append((at, kind))
print(len(wrong), wrong[:9], kinds)
END
has "each changed byte is found" '^0 ' "$(cat flips)"
cat flips
size=$(stat -c %s 2.delta)
for cut in 0 63 70 $((size / 4)) $((size / 2)) $((size - 1)); do
        head -c "$cut" 2.delta >cut.delta
        fails 3 bundle-invalid "cut at $cut" verify cut.delta
done
{ cat 2.delta && echo more; } >cut.delta
fails 3 bundle-invalid "something behind the end" verify cut.delta

# ---- refused where the base is another one ----
m upgrade system --json 2.delta >/dev/null # what an attempt leaves on data, it leaves once
before=$(fingerprint)
fails 3 bundle-incompatible "on a machine that runs nothing" m upgrade system 2.delta
has "says which it is for" 'a delta for machines that run version 1 ' "$(json 'j["message"]' <out)"
has "and the way out" 'install the full bundle of version 2' "$(json 'j["hint"]' <out)"
is "which changes nothing" "$before" "$(fingerprint)"

# ---- the whole way, from a file ----
ok "the base" m upgrade system 1.bundle
boots || exit 2
cp -a disk.img disk.base && cp -a esp esp.base && cp -a data data.base
base=$running
restore() { rm -rf esp data && cp -a disk.base disk.img && cp -a esp.base esp && cp -a data.base data && running=$base; }
ok "reuse alone, to compare with" m upgrade system 2.bundle
alone=$(step WRITE_IMAGE '["transfer"]["fetched"]')
digest=$(status 'j["slots"][1]["digest"]')
restore
ok "the delta" m upgrade system 2.delta
fetched=$(step WRITE_IMAGE '["transfer"]["fetched"]')
echo "# fetched: $fetched bytes, by reuse alone $alone"
is "fetches a third of that at most" true "$(python3 -c "print(str($fetched * 3 < $alone).lower())")"
ok "b holds it" slot_is b root-2
is "the version is the same" "$digest" "$(status 'j["slots"][1]["digest"]')"
is "nothing was fallen back to" null "$(m show upgrade status --json | json 'j["fallback"]')"
boots || exit 2
is "it runs" '["b", "2"]' "$(status '[j["booted"], j["slots"][1]["version"]]')"
ok "what it holds is known" m slot verify b
before=$(fingerprint)
fails 3 bundle-incompatible "another base" m upgrade system 2.delta
is "changes nothing" "$before" "$(fingerprint)"
ok "the next one, to this" delta --from 2.bundle 3.bundle 3.delta
ok "from a pipe" sh -c "\"$BOOTMGR\" --disk disk.img --esp esp --data data --config conf --cmdline '$running' upgrade system - <3.delta"
ok "a holds it" slot_is a root-3
is "the ESP had the kernel" true "$(python3 -c "print(str($(stat -c %s 3.delta) - 20000 < 21000).lower())")" # there is the firmware

# ---- its base is read with the time that the disk has left: here it waits for the index first ----
restore
mkfifo slow
python3 -c 'import struct, sys, time
head = open(sys.argv[1], "rb").read(65536)
manifest, signatures = struct.unpack_from("<II", head, 12)
with open("slow", "wb", 0) as out:
    out.write(head[:64 + manifest + signatures + 128 + 4])  # the head of the delta, without a URL
    time.sleep(60)' 2.delta &
feeder=$!
"$BOOTMGR" --disk disk.img --esp esp --data data --config conf --cmdline "$running" upgrade system - --json <slow >interrupted 2>err &
upgrade=$!
for _ in $(seq 200); do
        [ "$(ionice -p $upgrade)" != idle ] || break
        sleep 0.05
done
is "it is looked at with the disk's idle time" idle "$(ionice -p $upgrade)"
kill $feeder
wait $upgrade
is "and an index that ends early is one" '[3, "bundle-invalid"]' "[$?, \"$(json 'j["kind"]' <interrupted)\"]"

# ---- over HTTP ----
python3 "$top/tests/cli/http_server.py" port log &
server=$!
trap 'kill $server; [ -n "${KEEP-}" ] && echo "kept: $W" || { chmod -R u+rwx "$W" 2>/dev/null; rm -rf "$W"; }' EXIT
for _ in $(seq 100); do [ -e port ] && break; sleep 0.05; done
url=http://127.0.0.1:$(cat port)
sent() { grep "^sent $1 " log | awk '{ n += $3 } END { print n + 0 }'; }
restore
ok "over HTTP" m upgrade system "$url/ranges/2.delta"
ok "b holds that" slot_is b root-2
is "the file was sent once at most" true "$(python3 -c "print(str($(sent /ranges/2.delta) <= $size).lower())")"
restore
ok "without ranges" m upgrade system "$url/plain/2.delta"
ok "b holds that, too" slot_is b root-2

# ---- the full bundle by its URL ----
for how in ranges plain; do
        ok "a delta with a URL" delta --from 2.bundle --url "$url/$how/3.bundle" 3.bundle "$how.delta"
done
is "which is shown" "$url/ranges/3.bundle" "$(inspect ranges.delta 'j["delta"]["url"]')"
restore
ok "another base, and a URL" m upgrade system ranges.delta
ok "b holds the full one" slot_is b root-3
is "is said" "the delta is not for what runs here, the full bundle is fetched: $url/ranges/3.bundle" \
        "$(step CHECK_BUNDLE '["message"]' | sed 's/.*; //')"
is "in a member of its own" "$url/ranges/3.bundle" "$(m show upgrade status --json | json 'j["fallback"]')"
ok "the same version by the URL of another one" delta --from 2.bundle --url "$url/ranges/2.bundle" 3.bundle false.delta
restore
before=$(fingerprint)
fails 3 bundle-invalid "a URL with another version" m upgrade system false.delta
is "leaves all as it was" "$before" "$(fingerprint)"
ok "one that nobody serves" delta --from 2.bundle --url "$url/status/404/3.bundle" 3.bundle nowhere.delta
fails 1 fetch-failed "a URL without a bundle" m upgrade system nowhere.delta
is "leaves all as it was, too" "$before" "$(fingerprint)"
printf '# from the vendor\nX-Token: secret\n' >headers
{ cat conf && printf '[Fetch]\nHeaderFile=%s/headers\n' "$W"; } >conf.headers && cp conf conf.plain && cp conf.headers conf
ok "a URL that wants a header" delta --from 2.bundle --url "$url/token/3.bundle" 3.bundle token.delta
fails 1 fetch-failed "nobody signed it: the header stays here" m upgrade system token.delta
ok "the delta is from the same server" m upgrade system "$url/ranges/token.delta"
ok "b holds it again" slot_is b root-3
cp conf.plain conf

# ---- a base that was written to ----
damage() { printf 'something else' | dd of=disk.img bs=1 seek=$(($(offset root-a) + 900000)) conv=notrunc status=none; }
restore && damage
before=$(fingerprint)
fails 1 content-mismatch "a base that was written to, and no URL" m upgrade system 2.delta
has "names the place" 'not what version 1 was' "$(json 'j["message"]' <out)"
is "changes nothing there" "$before" "$(fingerprint)"
ok "with a URL" delta --from 1.bundle --url "$url/ranges/2.bundle" 2.bundle url.delta
ok "a base that was written to" m upgrade system url.delta
ok "b holds all of it" slot_is b root-2
has "says how much it was" 'slot a is not what version 1 was: [1-9] chunks \([0-9]+ KiB\) of the full bundle were fetched: http' \
        "$(step WRITE_IMAGE '["message"]')"
is "and in its member" "$url/ranges/2.bundle" "$(m show upgrade status --json | json 'j["fallback"]')"
# Its beginning, twice, is asked for 128 KiB at a time; of what lies behind that, chunks
beyond=$(sed -n 's|^/ranges/2.bundle bytes=\([0-9]*\)-\([0-9]*\) .*|\1 \2|p' log | awk '$1 >= 262144 { n += $2 - $1 + 1 } END { print n + 0 }')
is "little was fetched of it" true "$(python3 -c "print(str(0 < $beyond and $(sent /ranges/2.bundle) - 3 * 128 * 1024 < 400000).lower())")"
# ---- a frame that is not what it was, and nobody has another ----
flip() { python3 -c 'import sys
with open(sys.argv[1], "r+b") as f:
        f.seek(-40000, 2)
        byte = f.read(1)[0]
        f.seek(-1, 1)
        f.write(bytes([byte ^ 1]))' "$1"; }
cp url.delta damaged.delta && flip damaged.delta && cp 2.delta alone.delta && flip alone.delta
restore
ok "a frame that is damaged, and a URL" m upgrade system damaged.delta
ok "b holds what it should" slot_is b root-2
has "it says so" '; the delta is damaged: 1 chunks \([0-9]+ KiB\) of the full bundle were fetched: http' "$(step WRITE_IMAGE '["message"]')"
restore
fails 1 content-mismatch "and no URL" m upgrade system alone.delta

ok "the URL's server knows no ranges" delta --from 1.bundle --url "$url/plain/2.bundle" 2.bundle bare.delta
ok "it has no such bundle" delta --from 1.bundle --url "$url/status/404/2.bundle" 2.bundle gone.delta
restore && damage
before=$(fingerprint)
fails 1 fetch-failed "neither the base nor gone.delta's URL will do" m upgrade system gone.delta
has "says what the base lacks" '^the running slot is not what version 1 was: .*; and ' "$(json 'j["message"]' <out)"
is "while nothing is changed" "$before" "$(fingerprint)"
ok "of what bare.delta's URL names no part can be fetched" m upgrade system bare.delta
ok "b is whole" slot_is b root-2
is "all of it was, in place of the delta" "$url/plain/2.bundle" "$(m show upgrade status --json | json 'j["fallback"]')"
for name in bare gone; do
        restore
        ok "the base alone will do" m upgrade system $name.delta
        ok "b is whole" slot_is b root-2
done
restore && damage
ok "the URL's server holds something else" delta --from 1.bundle --url "$url/altered/200000/2.bundle" 2.bundle altered.delta
fails 1 content-mismatch "which shows in the chunk that is missing" m upgrade system "$url/ranges/altered.delta $url/late/altered.delta"
has "it is named, not the delta" " in $url/altered/200000/2.bundle" "$(json 'j["message"]' <out)"

# ---- the URL's server sends a byte now and then ----
restore && damage
ok "a server that creeps" delta --from 1.bundle --url "$url/creeps/2.bundle" 2.bundle creeps.delta
timeout -s KILL 60 "$BOOTMGR" --disk disk.img --esp esp --data data --config conf --cmdline "$running" upgrade system creeps.delta --json >interrupted 2>err &
upgrade=$!
for _ in $(seq 200); do
        [ "$(step WRITE_IMAGE '["state"]')" = RUNNING ] && break
        sleep 0.05
done
ok "it is asked" grep -q '^/creeps/2.bundle' log
is "while the slot is written with the disk's idle time" idle "$(ionice -p "$(pgrep -P $upgrade)")"
start=$(date +%s)
kill -INT $upgrade
wait $upgrade
is "an interrupt ends it" 1 $?
is "soon" true "$(python3 -c "print(str($(date +%s) - $start < 10).lower())")"
is "and is what did" interrupted "$(json 'j["kind"]' <interrupted)"

# ---- a kernel that is the base's ----
restore
ok "a delta whose kernel is the base's" "$BOOTMGR" bundle create -q --version 4 --compatible test-box --root root-2 --kernel kernel-1 \
        --initrd initrd-1 --key release.key 4.bundle
ok "is made" delta --from 1.bundle --url "$url/ranges/4.bundle" 4.bundle 4.delta
ok "and installed" m upgrade system 4.delta
boots || exit 2
is "it runs with that" '["b", "4"]' "$(status '[j["booted"], j["slots"][1]["version"]]')"

restore
for f in esp/bootmgr/*; do
        [ "$(stat -c %s "$f")" != 20000 ] || printf damage | dd of="$f" bs=1 seek=9000 conv=notrunc status=none
done
ok "that is damaged on the ESP" m upgrade system 4.delta
has "it is not the slot that is blamed" '; a boot file of version 1 is not on the ESP, or damaged there: [12] chunks' "$(step WRITE_IMAGE '["message"]')"
has_not "nor named" 'slot a is not' "$(step WRITE_IMAGE '["message"]')"

# ---- signed by one more, another length of chunks ----
"$BOOTMGR" bundle keygen -q second && cp second.pem trust/
ok "signing a delta" "$BOOTMGR" bundle sign --key second.key 2.delta
ok "it is whole then" verify --threshold 2 2.delta
create 2 2 --chunking fixed --chunk-size 64K >/dev/null 2>&1 || { rm 2.bundle && create 2 2 --chunking fixed --chunk-size 64K; }
ok "of chunks of one length" delta --from first.bundle 2.bundle fixed.delta
restore
ok "over a base by content" m upgrade system fixed.delta
ok "b holds root-2" slot_is b root-2

finish
