#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Chunks by content: what moved within the root is not fetched again. Old bundles go on to be installed, and are gone back to.
. "$(dirname "$0")/lib.sh"

bundle 1 --chunking fixed && make_machine || exit 2
"$BOOTMGR" init --dry-run --json --image-size 64M --esp-size 34M --root-size 4M other.img >layout
offset() { json "[p['offset'] for p in j['partitions'] if p['label'] == '$1'][0]" <layout; }
# shellcheck disable=SC2317 # ok calls it
slot_is() { # SLOT FILE
        cmp -n "$(stat -c %s "$2")" -i "$(offset root-"$1"):0" disk.img "$2"
}
moved() { m show upgrade status --json | json "[s for s in j['steps'] if s['name'] == 'WRITE_IMAGE'][0]['transfer']['$1']"; }

create() { # VERSION ROOT [OPTION...]
        v=$1 root=$2
        shift 2
        "$BOOTMGR" bundle create -q --version "$v" --compatible test-box --root "$root" --kernel kernel-1 --initrd initrd-1 \
                --key release.key "$@" "$v.bundle"
}
content "a large root" 2000000 >root-2
{ head -c 700001 root-2 && echo "put in between" && tail -c +700002 root-2; } >root-3
{ head -c 1500000 root-3 && content "something new" 1000 && tail -c +1500001 root-3; } >root-4
create 2 root-2 && create 3 root-3 && create 4 root-4 --chunking fixed && create 5 root-3 || exit 2

ok "install an old bundle" m upgrade system 1.bundle
boots || exit 2
ok "over it one in chunks by content" m upgrade system 2.bundle
boots || exit 2
ok "b holds it" slot_is b root-2
ok "the next version" m upgrade system 3.bundle
ok "a holds it" slot_is a root-3
boots || exit 2
has "it fetched little" '^[0-9]{5}$' "$(moved fetched)" # kernel and initrd, and less than 50000 of the root
has "most was there" '^19[0-9]{5}$' "$(moved reused)"
ok "back" m rollback system
boots || exit 2
ok "b still holds it" slot_is b root-2
ok "an old bundle again" m upgrade system 4.bundle
ok "a holds it" slot_is a root-4
boots || exit 2
ok "and back to the one in b" m rollback system
boots || exit 2
ok "a new one over it" m upgrade system 5.bundle
ok "a holds that" slot_is a root-3
boots || exit 2
printf X | dd of=disk.img bs=1 seek=$(($(offset root-b) + 1000000)) conv=notrunc status=none
fails 3 previous-altered "a byte changed in b" m rollback system
has "it is named by its chunk" 'first at offset 9[0-9]{5}$' "$(json 'j["message"]' <out)"

# From a server little more comes than what is missing: a large image, of which pieces all over are new
python3 "$top/tests/cli/http_server.py" port log &
server=$!
trap 'kill $server; [ -n "${KEEP-}" ] && echo "kept: $W" || { chmod -R u+rwx "$W" 2>/dev/null; rm -rf "$W"; }' EXIT
for _ in $(seq 100); do [ -e port ] && break; sleep 0.05; done
sent() { grep "^sent $1 " log | awk '{ n += $3 } END { print n + 0 }'; }
content "a larger root" 4000000 >root-6
cp root-6 root-7
for at in 1000000 1800000 2600000 3400000; do
        content "new at $at" 500 | dd of=root-7 bs=1 seek=$at conv=notrunc status=none
done
create 6 root-6 && create 7 root-7 || exit 2
ok "install the large one" m upgrade system 6.bundle
boots || exit 2
ok "the next one from a server" m upgrade system "http://127.0.0.1:$(cat port)/ranges/7.bundle"
ok "the other slot holds it" slot_is a root-7
fetched=$(sent /ranges/7.bundle)
echo "# sent: $fetched bytes"
is "which is what is said" "$fetched" "$(moved fetched)"
has "it sent the head and what is new" '^([1-4][0-9]{5}|[0-9]{5})$' "$fetched"

# The power goes in the middle of that: what the other slot was to hold is known, and none of it came to the disk. The running
# slot has it still. A third image that nobody signed for a place is not asked for.
boots || exit 2
{ head -c 2000001 root-7 && echo "put in between" && tail -c +2000002 root-7; } >root-8
python3 -c 'import random, sys; sys.stdout.buffer.write(random.Random("firmware").randbytes(600000))' >firmware
create 8 root-8 --image firmware=firmware || exit 2
head -c 100000 8.bundle | m upgrade system - >/dev/null 2>&1
dd if=/dev/zero of=disk.img bs=4096 seek=$(($(offset root-b) / 4096)) count=1024 conv=notrunc status=none
ok "the next one after a cut" m upgrade system "http://127.0.0.1:$(cat port)/ranges/8.bundle"
ok "b holds it" slot_is b root-8
fetched=$(sent /ranges/8.bundle)
echo "# sent: $fetched bytes"
has "it sent the head and what is new" '^([1-3][0-9]{5}|[0-9]{5})$' "$fetched"

# Many small parts from a server that is far away: their requests are on their way side by side
boots || exit 2
cp root-8 root-9
for at in $(seq 30000 60000 3900000); do
        content "far $at" 300 | dd of=root-9 bs=1 seek="$at" conv=notrunc status=none
done
create 9 root-9 || exit 2
most() { grep '^most ' log | awk '{ n = $2 > n ? $2 : n } END { print n + 0 }'; }
ok "another one, from far away" m upgrade system "http://127.0.0.1:$(cat port)/late/9.bundle"
ok "a holds it" slot_is a root-9
has "up to 16 requests at the same time" '^(9|1[0-6])$' "$(most)"

# Rate and time left are of what comes, not of what was there
boots || exit 2
{ head -c 1000000 root-9 && content "much that is new" 300000 && tail -c +1300001 root-9; } >root-10
create 10 root-10 || exit 2
printf '[Fetch]\nRateLimit=200K\n' >>conf
ok "a slow link" m upgrade system "http://127.0.0.1:$(cat port)/ranges/10.bundle"
is "a rate of that order" true "$(python3 -c "print(str(0 < $(moved rate) < 600000).lower())")"

finish
