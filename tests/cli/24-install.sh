#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What an install says of itself: its steps in numbers, what it leaves out when asked to.
. "$(dirname "$0")/lib.sh"

bundle 1 && bundle 2 || exit 2
make_machine

step() { m show upgrade status --json | json "[s for s in j['steps'] if s['name'] == '$1'][0]$2"; }

ok "install" m upgrade system 1.bundle
has "the summary names bytes and seconds of each stage" \
        'WRITE_IMAGE +done .* MiB written, .* zeros, .* kept, .* copied, .* fetched; seconds: reuse [0-9.]+, fetch [0-9.]+, decode [0-9.]+, check [0-9.]+, write [0-9.]+ \([0-9]+ threads(, io_uring)?\), flush [0-9.]+' "$(cat out)"
has "what was read back" 'VERIFY_IMAGE +done .* read back from the device' "$(cat out)"
boots || exit 2
is "the numbers in JSON" '["done", "fetched", "left", "rate", "reused", "total"]' "$(step WRITE_IMAGE '["transfer"]' | json 'sorted(j)')"
is "all of it" 'true' "$(step WRITE_IMAGE '["transfer"]' | json 'j["done"] == j["total"] > 0 and j["fetched"] > 0')"
is "all of it was read back" 'true' "$(step VERIFY_IMAGE '["transfer"]' | json 'j["done"] == j["total"] > 0')"
is "a step that moves nothing has none" 'false' "$(step CHECK_BUNDLE '' | json '"transfer" in j')"

ok "without reading back" m upgrade system --no-read-back --full-speed 2.bundle
has "a word of warning" 'not be read back' "$(cat err)"
is "the step says so" '["SKIPPED", "not read back: what the device did not keep is not known"]' \
        "$(step VERIFY_IMAGE '' | json '[j["state"], j["message"]]')"
has "and the history" 'UPGRADE .* not read back' "$(m show upgrade history)"
boots || exit 2

# ---- writes that are on their way while the next ones are prepared, and where the kernel allows none ----
"$BOOTMGR" init --dry-run --json --image-size 64M --esp-size 34M --root-size 4M other.img >layout
offset() { json "[p['offset'] for p in j['partitions'] if p['label'] == '$1'][0]" <layout; }
# shellcheck disable=SC2317 # ok calls it
slot_is() { # SLOT FILE
        cmp -n "$(stat -c %s "$2")" -i "$(offset root-"$1"):0" disk.img "$2"
}
for v in 3 4 5; do
        content "a large root, $v" 3899392 >root-$v
        ok "a bundle of many chunks" "$BOOTMGR" bundle create -q --version $v --compatible test-box --root root-$v --kernel kernel-1 \
                --initrd initrd-1 --chunking fixed --chunk-size 16K --key release.key $v.bundle
done
threads=$(python3 -c 'import os; print(min(2 * len(os.sched_getaffinity(0)), 8))')
queued=', io_uring'
if "$top/tests/cli/no_io_uring.py" true && ! python3 -c '
import ctypes
ctypes.CDLL(None).syscall.restype = ctypes.c_long
raise SystemExit(ctypes.CDLL(None).syscall(425, 4, ctypes.create_string_buffer(256)) < 0)'; then
        echo "# io_uring is not allowed here"
        queued=
fi
ok "with io_uring" m upgrade system --json 3.bundle
has "says so" "\($threads threads$queued\)" "$(step WRITE_IMAGE '["message"]')"
ok "a holds it" slot_is a root-3
boots || exit 2
ok "without" "$top/tests/cli/no_io_uring.py" "$BOOTMGR" --disk disk.img --esp esp --data data --config conf --cmdline "$running" upgrade system 4.bundle
has "says so, too" "\($threads threads\)" "$(step WRITE_IMAGE '["message"]')"
ok "b holds that" slot_is b root-4
boots || exit 2

# From somewhere in the slot on nothing can be written, in its last part alone too: a device that fails.
for how in "$top/tests/cli/no_io_uring.py" env; do
        for room in 2000000 3894272; do
                dd if=/dev/zero of=disk.img bs=4096 seek=$(($(offset root-a) / 4096)) count=952 conv=notrunc status=none
                (trap '' XFSZ && ulimit -f $((($(offset root-a) + room) / 512)) && "$how" "$BOOTMGR" --disk disk.img --esp esp --data data \
                        --config conf --cmdline "$running" upgrade system --no-read-back --json 5.bundle >failed 2>err)
                is "writes fail from $room on (${how##*/})" 1 $?
                has "which is told" 'cannot write the root.*File too large' "$(json 'j["message"]' <failed)"
                is "the slot is incomplete" '["b", "incomplete"]' "$(status '[j["next"], j["slots"][0]["state"]]')"
        done
done
ok "once it works again" m upgrade system 5.bundle
ok "a holds it again" slot_is a root-5

finish
