#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Slots that were written by something else than bootmgr, or whose data partition is new: nothing says what they hold.
. "$(dirname "$0")/lib.sh"

"$BOOTMGR" bundle keygen release -q || exit 2
content "kernel" 20000 >kernel
content "root" 12582912 >start
{ cat start && head -c 2097152 /dev/zero; } >root-1
cp root-1 root-2
for at in 3000000 9000000; do content "new at $at" 100000 | dd of=root-2 bs=1000 seek=$((at / 1000)) conv=notrunc status=none; done
content "nothing of it" 12582912 >root-3
for v in 1 2 3; do
        "$BOOTMGR" bundle create -q --version $v --compatible test-box --root root-$v --kernel kernel --key release.key $v.bundle || exit 2
done
"$BOOTMGR" bundle create -q --version 2 --compatible test-box --root root-2 --kernel kernel --chunking fixed --key release.key 2-fixed.bundle || exit 2
python3 "$top/tests/cli/http_server.py" port log &
server=$!
trap 'kill $server; [ -n "${KEEP-}" ] && echo "kept: $W" || { chmod -R u+rwx "$W" 2>/dev/null; rm -rf "$W"; }' EXIT
for _ in $(seq 100); do [ -e port ] && break; sleep 0.05; done
url=http://127.0.0.1:$(cat port)

partition() { sfdisk -J disk.img | json "[p for p in j['partitiontable']['partitions'] if p['name'] == '$1'][0]['$2']"; }
# FILE SLOT: as dd in a factory writes it
flash() { dd if="$1" of=disk.img bs=512 seek="$(partition "root-$2" start)" conv=notrunc status=none; }
# A machine that runs version 1 in slot a, and a data partition that knows nothing of it
machine() {
        rm -rf disk.img esp data trust conf
        running=''
        make_machine
        "$BOOTMGR" init -q --image-size 128M --esp-size 34M --root-size 16M disk.new && mv disk.new disk.img || exit 2
        m upgrade system -q 1.bundle && boots || exit 2
        rm -r data/slots
}
# shellcheck disable=SC2317 # called by ok
holds() {
        dd if=disk.img bs=512 skip="$(partition "root-$1" start)" count=$(($(stat -c %s "$2") / 512)) status=none | cmp - "$2"
}
# Of the last upgrade: its summary, as JSON
summary() { m show upgrade status --json | json "[s for s in j['steps'] if s['name'] == 'WRITE_IMAGE'][0]$1"; }

machine
flash root-1 b
ok "both slots are alike, and nothing is known" m upgrade system "$url/ranges/2.bundle"
ok "b holds it" holds b root-2
has "little was fetched" '^[1-6][0-9]{5}$' "$(summary '["transfer"]["fetched"]')"
has "most was there" '^14[0-9]{6}$' "$(summary '["transfer"]["reused"]')"
has "and was not written" '^0 MiB written, [0-9]+ MiB zeros, 13 MiB kept, 0 MiB copied, 0 MiB fetched' "$(summary '["message"]')"
boots || exit 2
has "the next one knows of b" '^2 ' "$(status '[s["version"] for s in j["slots"] if s["name"] == "b"][0]') "

machine
flash root-1 b
ok "the same with chunks of one length" m upgrade system "$url/ranges/2-fixed.bundle"
ok "b holds it" holds b root-2
has "what is written is what differs" '^0 MiB written, [0-9]+ MiB zeros, 1[0-9] MiB kept, 0 MiB copied, [01] MiB fetched' "$(summary '["message"]')"
machine
flash root-1 b
ok "the same from a pipe" sh -c "cat 2.bundle | \"$BOOTMGR\" --disk disk.img --esp esp --data data --config conf --cmdline '$running' upgrade system -"
ok "b holds it" holds b root-2
has "it is not written" '^0 MiB written, [0-9]+ MiB zeros, 13 MiB kept' "$(summary '["message"]')"

machine
ok "b is empty, and what runs is not known" m upgrade system "$url/ranges/2.bundle"
ok "b holds it" holds b root-2
has "it was copied" '^1[12] MiB written, [0-9]+ MiB zeros, 0 MiB kept, 11 MiB copied, 0 MiB fetched' "$(summary '["message"]')"

machine
content "garbage" 16777216 >garbage
flash garbage b
ok "nothing of it is anywhere" m upgrade system "$url/ranges/3.bundle"
ok "b holds it" holds b root-3
has "it is looked for in vain, not for long" '^1[12] MiB written, 0 MiB zeros, 0 MiB kept, 0 MiB copied, 12 MiB fetched; seconds: reuse 0.00' "$(summary '["message"]')"
finish
