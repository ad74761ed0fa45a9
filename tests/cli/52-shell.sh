#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The prompt on a terminal: completion, history, Ctrl-C; and watching there.
# asan: no, it waits for a terminal
. "$(dirname "$0")/lib.sh"

bundle 1 && bundle 2 || exit 2
make_machine
home=$W
tty() { HOME=$home python3 "$top/tests/cli/terminal.py" "$@" | tr -d '\r'; }
# What is typed, at a prompt whose words are for the machine.
typed() { tty -i "$1" "$BOOTMGR" --disk disk.img --esp esp --data data --config conf shell >out; }

typed 'show upgrade status\nshow upgrade status --watch\nexit\n'
is "nothing to show yet, nothing to watch" 2 "$(grep -c 'there was no operation yet' out)"
has "exit ends it well" 'exit status 0' "$(cat out)"
m upgrade system -q 1.bundle && boots || exit 2

typed 's\t\nexit\n'
has "several words: they are shown" '^shell  +show|^show  +|status  ' "$(cat out)"
for word in show slot snapshot status shell; do
        has "several words: $word" "(^| )$word( |\$)" "$(cat out)"
done
typed 'stat\t --js\t\nexit\n'
has "one word: it is put in, with a blank" '"booted"' "$(cat out)"
typed 'sho\tup\tst\t\nexit\n'
has "words of words" '^UPGRADE' "$(cat out)"
typed 'upgrade system no\t\nexit\n'
has "the value of a verb is nobody's word" 'cannot open no' "$(cat out)"
typed "slot li$(printf '\003')status --quiet --json\\nexit\\n"
has "Ctrl-C drops the line, not the prompt" '"booted"' "$(cat out)"
typed "slot list\\nslot list\\nnonsense\\nstatus -q\\n$(printf '\004')"
has "Ctrl-D ends it, with the status of the last line" 'exit status 0' "$(cat out)"
has "an error leaves the prompt" 'nonsense' "$(cat out)"

is "the history is kept, a repeated line once" 1 "$(grep -c '^slot.040list' .bootmgr_history)"
mv .bootmgr_history history
home=.
typed 'slot list\nexit\n'
has "a home that is no absolute path" 'exit status 0' "$(cat out)"
is "is none: nothing is written there" "" "$(find . -name .bootmgr_history)"

# Watching draws over itself
tty "$BOOTMGR" --disk disk.img --esp esp --data data --config conf --cmdline "$running" upgrade system -q 2.bundle >out
tty timeout --foreground --preserve-status -s INT 3 "$BOOTMGR" --disk disk.img --esp esp --data data --config conf show upgrade status --watch >out
has "--watch: the steps" '^SWITCH_ENTRY +DONE' "$(cat out)"
has "--watch: again, in the same place" "$(printf '\033')\\[[0-9]+A" "$(cat out)"
has "--watch: Ctrl-C ends it well" 'exit status 0' "$(cat out)"

finish
