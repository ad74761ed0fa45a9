#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What is printed: JSON that others rely on, --quiet, the terminal, snapshots, the shell.
. "$(dirname "$0")/lib.sh"

bundle 1 && bundle 2 || exit 2
make_machine
ok "no operation yet" m show upgrade status
has "is said" 'no operation yet' "$(cat out)"
is "no operation as JSON" null "$(m show upgrade status --json | json j)"
is "no history as JSON" '[]' "$(m show upgrade history --json | json j)"
is "no snapshot as JSON" '[]' "$(m snapshot list --json | json j)"

ok "upgrade --json" m upgrade system --json 1.bundle
is "prints the operation, once" '["UPGRADE", "DONE"]' "$(json '[j["operation"], j["state"]]' <out)"
boots || exit 2
mkdir -p data/root/cfg
printf 'a\nb\n' >data/root/cfg/text
ok "upgrade --quiet" m upgrade system --quiet 2.bundle
is "prints nothing" "" "$(cat out)"
is "members of status" '["booted", "next", "previous", "generation", "slots", "snapshot", "operation"]' "$(status 'list(j)[:7]')"
is "members of a slot" '["name", "version", "state", "tries_left", "reason", "device", "digest"]' "$(status 'list(j["slots"][0])[:7]')"
is "members of a snapshot" '["id", "version", "digest", "files", "bytes", "valid"]' "$(status 'list(j["snapshot"])')"
is "members of an operation" '["operation", "id", "from_version", "to_version", "state", "reason", "progress", "start", "end", "steps"]' \
        "$(m show upgrade status --json | json 'list(j)[:10]')"
is "members of a step" '["name", "state", "progress", "start", "end", "message"]' "$(m show upgrade status --json | json 'list(j["steps"][0])')"
is "the steps of an upgrade" \
        '["CHECK_BUNDLE", "WRITE_IMAGE", "VERIFY_IMAGE", "INSTALL_BOOT_FILES", "STOP_SERVICES", "CARRY_CONFIG", "SNAPSHOT_CONFIG", "RECORD_PREVIOUS", "SWITCH_ENTRY", "REBOOT", "MIGRATE_CONFIG", "CHECK_HEALTH", "CONFIRM"]' \
        "$(m show upgrade status --json | json '[s["name"] for s in j["steps"]]')"
has "times are RFC 3339" '^20..-..-..T..:..:..[.0-9]*Z$' "$(m show upgrade status --json | json 'j["start"]')"
boots || exit 2
is "plain actions" '{"result": "done"}' "$(m upgrade clear --json | json j)"

# Snapshots
ok "snapshot list" m snapshot list
has "has the pinned one" '^[0-9a-f]{16} +a +1 .*pinned' "$(cat out)"
id=$(m snapshot list --json | json 'j[0]["id"]')
is "snapshot list --json" '["a", "1", 1, 4, true, ["/cfg"]]' "$(m snapshot list --json | json '[j[0][k] for k in ("slot", "version", "files", "bytes", "pinned", "paths")]')"
ok "no difference yet" m snapshot diff "$id"
has "is said" 'no difference' "$(cat out)"
printf 'a\nc\n' >data/root/cfg/text
ok "snapshot diff by the beginning of its id" m snapshot diff "$(echo "$id" | cut -c1-6)"
is "like diff -u" "-b
+c" "$(grep -E '^[-+][bc]' out)"
is "as JSON" '[["/cfg/text", "content", false]]' "$(m snapshot diff --json | json '[[d["path"], d["change"], d["carried"]] for d in j if d["change"] == "content"]')"
ok "snapshot verify" m snapshot verify
has "says so" '^1 snapshot, sealed and whole' "$(cat out)"
ok "snapshot export" m snapshot export "$id" copy.tar.zst
is "to a file of its own" 600 "$(stat -c %a copy.tar.zst)"
mkdir unpacked
ok "which tar unpacks" tar --zstd -C unpacked -xf copy.tar.zst
is "is the configuration" "a
b" "$(find unpacked -name text -exec cat {} +)"
ok "export to stdout" sh -c "\"$BOOTMGR\" --disk disk.img --esp esp --data data --config conf snapshot export $id - | cmp - copy.tar.zst"
fails 1 failed "export does not overwrite" m snapshot export "$id" copy.tar.zst

# The shell takes the same words
shell() { m shell; }
printf 'status --json\nexit\nnonsense\n' | shell >out 2>err
is "shell: status" 0 $?
is "shell: the options before it hold" '"b"' "$(json 'json.dumps(j["booted"])' <out)"
is "shell: exit ends it" "" "$(cat err)"
printf 'stauts\n' | shell >out 2>err
is "shell: the status is that of the last line" 2 $?
has "shell: errors are told" 'stauts' "$(cat err)"
printf '\n   # nothing\nslot  list "--json"\n' | shell >out 2>err
is "shell: blanks, comments, quotes" 2 "$(json 'len(j)' <out)"
printf 'slot list "--json\nslot list\n' | shell >out 2>err
has "shell: an open quote" 'not closed' "$(cat err)"
has "shell: goes on behind it" '^SLOT' "$(cat out)"
printf 'rollback system --dry-run\nshell' | shell >out 2>err
has "shell: two words" '^version-gate' "$(cat out)"
has "shell: no shell in the shell" 'already' "$(cat err)"

# On a terminal
tty() { python3 "$top/tests/cli/terminal.py" "$@"; }
m rollback system -q && boots || exit 2
tty "$BOOTMGR" --disk disk.img --esp esp --data data --config conf --cmdline "$running" upgrade system 2.bundle >out
has "a terminal: a refusal" 'exit status 3' "$(cat out)"
m upgrade clear -q
tty "$BOOTMGR" --disk disk.img --esp esp --data data --config conf --cmdline "$running" upgrade system 2.bundle >out
has "a terminal: it ends well" 'exit status 0' "$(cat out)"
has "a terminal: a bar" '\[[█░]+\] +[0-9]+ %' "$(cat out)"
boots || exit 2
tty -i n "$BOOTMGR" --disk disk.img --esp esp --data data --config conf --cmdline "$running" upgrade system 1.bundle >out
has "a terminal: the loss of the way back is asked for" 'Go on\? \[y/N\]' "$(cat out)"
has "a terminal: no is no" 'exit status 1' "$(cat out)"
is "a terminal: no changes nothing" '["b", "a", "confirmed"]' "$(status '[j["booted"], j["previous"], j["slots"][0]["state"]]')"
tty "$BOOTMGR" --disk disk.img --esp esp --data data --config conf --cmdline "$running" upgrade system --yes --no-reboot 1.bundle >out
has_not "a terminal: --yes asks nothing" 'Go on' "$(cat out)"
has "a terminal: --yes goes on" 'exit status 0' "$(cat out)"
HOME=$W tty -i 'slot l\t\nstatus --j\t\nexit\n' "$BOOTMGR" --disk disk.img --esp esp --data data --config conf shell >out
has "the prompt: runs them" 'SLOT +VERSION' "$(cat out)"
has "the prompt: completes options" '"booted"' "$(cat out)"
has "the prompt: completes words, keeps a history" 'slot.040list' "$(cat .bootmgr_history)"

tty sh -c "stty cols 80 rows 24; exec \"$BOOTMGR\" --disk disk.img --esp esp --data data --config conf --cmdline '$running' show upgrade status" |
        tr -d '\r' >out
is "a terminal of 80 columns: no line is longer" "" "$(python3 -c 'print("".join(l for l in open("out", encoding="utf-8") if len(l) > 81), end="")')"
has "a terminal of 80 columns: steps and what they say" '^WRITE_IMAGE .* MiB written' "$(cat out)"
"$BOOTMGR" --disk disk.img --esp esp --data data --config conf --cmdline "$running" show upgrade status 2>err >/dev/full
is "output that cannot be written is an error" 1 $?
has "which is told" 'cannot write the output' "$(cat err)"

finish
