#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# An upgrade that is interrupted leaves the running system as it was; a second try succeeds.
. "$(dirname "$0")/lib.sh"

bundle 1 && bundle 2 --chunk-size 64K && bundle 3 --chunk-size 64K || exit 2
make_machine
m upgrade system -q 1.bundle && boots && m upgrade system -q 2.bundle && boots || exit 2
is "2 runs, 1 can be gone back to" '["b", "a"]' "$(status '[j["booted"], j["previous"]]')"
entries_before=$(entries)

# Starts the upgrade with a bundle whose second half does not come before the file `go` is there; returns
# once the slot is being written.
mkfifo pipe
start() {
        rm -f go
        python3 -c 'import os, sys, time
data = open(sys.argv[1], "rb").read()
out = open("pipe", "wb", 0)
try:
    out.write(data[:len(data) // 2])
    while not os.path.exists("go"): time.sleep(0.02)
    out.write(data[len(data) // 2:])
except BrokenPipeError: pass' "$1" &
        feeder=$!
        # not m: the signal is for the program, not for a shell around it
        "$BOOTMGR" --disk disk.img --esp esp --data data --config conf --cmdline "$running" upgrade system - --json \
                <pipe >upgrade.out 2>upgrade.err &
        upgrade=$!
        for _ in $(seq 200); do
                [ "$(m show upgrade status --json | json '[j["state"], j["steps"][1]["state"]]')" = '["IN_PROGRESS", "RUNNING"]' ] && return
                sleep 0.05
        done
        flunk "the slot is being written"
}
as_before() { # WHAT
        is "$1: 2 runs and boots next" '["b", "b", "confirmed"]' "$(status '[j["booted"], j["next"], j["slots"][1]["state"]]')"
        is "$1: the other slot is incomplete, nothing to go back to" '["incomplete", null]' "$(status '[j["slots"][0]["state"], j["previous"]]')"
        is "$1: its entry is gone, ours is there" "bootmgr-2-b.conf" "$(entries)"
        fails 3 no-previous-version "$1: rollback" m rollback system
        ok "$1: it boots" boots
        is "$1: 2 runs" b "$(status 'j["booted"]')"
}

for signal in INT TERM; do
        start 3.bundle
        kill -$signal $upgrade
        touch go
        wait $upgrade
        is "$signal: exit status" 1 $?
        is "$signal: kind" interrupted "$(json 'j["kind"]' <upgrade.out)"
        wait $feeder
        is "$signal: the operation" ABORTED "$(m show upgrade status --json | json 'j["state"]')"
        as_before $signal
done

start 3.bundle
is "while it runs: another one sees it" '["IN_PROGRESS", "RUNNING"]' \
        "$(m show upgrade status --json | json '[j["state"], j["steps"][1]["state"]]')"
fails 3 operation-in-progress "while it runs: a second one" m upgrade system 3.bundle
kill -9 $upgrade
wait $upgrade 2>/dev/null
touch go
wait $feeder
is "kill -9: the operation" '["FAILED", true]' "$(m show upgrade status --json | json '[j["state"], "interrupted" in j["reason"]]')"
as_before "kill -9"

# A bundle that breaks off
is "entries then" "bootmgr-2-b.conf" "$(entries)"
has "entries before" 'bootmgr-1-a.conf' "$entries_before"
half=$(($(stat -c %s 3.bundle) / 2))
head -c $half 3.bundle >broken.bundle
m upgrade system broken.bundle --json >out 2>err
is "broken off: exit status" 3 $?
is "broken off: kind" bundle-invalid "$(json 'j["kind"]' <out)"
as_before "broken off"

ok "the second try succeeds" m upgrade system 3.bundle
ok "it boots" boots
is "3 runs" '["a", "3", "b"]' "$(status '[j["booted"], j["slots"][0]["version"], j["previous"]]')"
ok "and back" m rollback system
ok "it boots" boots
is "2 runs" b "$(status 'j["booted"]')"

# Watching, from another terminal
m upgrade clear -q || exit 2
start 3.bundle
m show upgrade status --watch >watch.out 2>watch.err &
watcher=$!
m show upgrade status --watch --json >watch.json 2>watch.err &
watcher2=$!
sleep 0.7
touch go
wait $upgrade
is "while others watch: exit status" 0 $?
boots
wait $watcher
is "--watch ends with the operation" 0 $?
wait $watcher2
is "--watch --json too" 0 $?
has "--watch shows the steps" '^WRITE_IMAGE +done' "$(cat watch.out)"
has "--watch shows the end" '^DONE' "$(tail -n 1 watch.out)"
is "--watch --json: one object a line" true "$(python3 -c 'import json
l = [json.loads(x) for x in open("watch.json")]
print("true" if len(l) > 1 and l[0]["state"] == "IN_PROGRESS" and l[-1]["state"] == "DONE" else l)')"

# What takes long on a builder's machine, too
content "long" 24000000 >long
"$BOOTMGR" bundle create --json --level 19 --version 9 --compatible test-box --root long --kernel kernel-1 --key release.key long.bundle >made 2>err &
maker=$!
for _ in $(seq 400); do [ "$(find /proc/$maker/task -mindepth 1 -maxdepth 1 | wc -l)" -le 1 ] || break; sleep 0.01; done # it packs
kill -INT $maker
wait $maker
is "a bundle that is being made: interrupted" '[1, "interrupted"]' "[$?, \"$(json 'j["kind"]' <made)\"]"
is "and nothing is left of it" "" "$(ls long.bundle* 2>/dev/null)"

finish
