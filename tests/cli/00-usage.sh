#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Help, usage errors, completion.
. "$(dirname "$0")/lib.sh"

# Everybody finds the way in
ok "--version" "$BOOTMGR" --version
has "the version is printed" '^bootmgr [0-9]' "$(cat out)"
ok "help" "$BOOTMGR" help
help=$(cat out)
for verb in 'status' 'upgrade system' 'rollback system' 'show upgrade status' 'finalize' 'slot activate' 'snapshot diff' \
        'bundle create' 'init' 'shell'; do
        has "help lists $verb" "^  $verb" "$help"
done
has_not "help leaves out what is for units" 'boot-config|wait-confirmed|--worker|--reason|\(null\)' "$help"
ok "--help is the same" "$BOOTMGR" --help
is "--help is the same" "$help" "$(cat out)"
ok "help for some words" "$BOOTMGR" help bundle
has "its verbs" '^  bundle keygen' "$(cat out)"
has_not "no others" '^  status' "$(cat out)"
ok "--help behind a verb" "$BOOTMGR" upgrade system --help
has "its options" '--no-reboot' "$(cat out)"

# Usage errors: exit status 2, a sentence, the way out
fails 2 usage "an unknown verb" "$BOOTMGR" stauts
fails 2 usage "an unknown option" "$BOOTMGR" status --fast
fails 2 usage "a missing argument" "$BOOTMGR" upgrade system
fails 2 usage "too many arguments" "$BOOTMGR" status now
"$BOOTMGR" status --disk >out 2>err
is "an option without its value: exit status" 2 $?
has "an option without its value: what it takes" '--disk DEVICE' "$(cat err)"
fails 2 usage "no such slot" "$BOOTMGR" slot activate z
fails 2 usage "help for nothing" "$BOOTMGR" help nonsense
"$BOOTMGR" >out 2>err
is "no verb at all: exit status" 2 $?
has "no verb at all: help" '^Usage' "$(cat err)"
"$BOOTMGR" stauts >out 2>err
is "errors as text: exit status" 2 $?
is "errors as text: nothing on stdout" "" "$(cat out)"
has "errors as text: the sentence" "^bootmgr: .*stauts" "$(head -n 1 err)"
has "errors as text: the way out" "^  .*status" "$(sed -n 2p err)"
"$BOOTMGR" stauts --json >out 2>err
is "errors as JSON: nothing on stderr" "" "$(cat err)"
is "errors as JSON: the members" '["kind", "message", "checks", "hint"]' "$(json 'list(j)' <out)"

# Completion comes from the verb table
words() { "$BOOTMGR" completion words -- "$1" | sort | tr '\n' ' '; }
is "verbs for a beginning" "show slot snapshot " "$(words 's' | tr ' ' '\n' | grep -E '^(show|slot|snapshot)$' | tr '\n' ' ')"
is "the second word" "clear system " "$(words 'upgrade ')"
is "the third word" "history status " "$(words 'show upgrade ')"
has "options of the verb" '--no-reboot' "$(words 'upgrade system --')"
has "global options" '--json' "$(words 'status --j')"
has_not "nothing for units" 'worker|reason|boot-config' "$(words 'rollback system --') $(words '')"
is "behind a global option" "status " "$(words '--disk disk.img stat')"
ok "the completion for bash" "$BOOTMGR" completion bash
cp out completion
cat >try.sh <<'END'
. ./completion
COMP_LINE="bootmgr upgrade sy" COMP_POINT=${#COMP_LINE}
COMP_POINT=${#COMP_LINE}
_bootmgr "$1"
echo "${COMPREPLY[*]}"
END
is "bash completes with it" "system" "$(bash ./try.sh "$BOOTMGR")"

ok "options before --help" "$BOOTMGR" --disk disk.img status --help
has "are no words" 'status' "$(cat out)"
ok "and before --version" "$BOOTMGR" --json --version
fails 2 usage "an option that is nothing like another" "$BOOTMGR" status --watch
has_not "is not likened to any" 'did you mean' "$(cat out)"
fails 2 usage "a level that zstd has, and nobody should want" "$BOOTMGR" bundle create --version 1 --compatible x --level 20 x.bundle
fails 2 usage "and one that is none" "$BOOTMGR" bundle create --version 1 --compatible x --level 0 x.bundle
fails 2 usage "a disk that is too small" "$BOOTMGR" init --image-size 100M small.img
needed=$(json 'j["message"]' <out | sed 's/.* at least \([0-9]*\) MiB.*/\1/')
ok "needs what it says" "$BOOTMGR" init --image-size "${needed}M" small.img

finish
