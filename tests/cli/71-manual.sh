#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The manual pages render without a warning, and say neither less nor more than there is. (That org.bootmgr1(5)
# agrees with the bus is checked where there is one: 70-daemon.sh.)
#
# Functions that ok calls by their names:
# shellcheck disable=SC2317
. "$(dirname "$0")/lib.sh"
export MANWIDTH=80

silently() { # COMMAND: must succeed and say nothing on stderr
        "$@" >page 2>err && [ ! -s err ]
}
for page in "$top"/docs/*.[1-8]; do
        name=${page##*/}
        ok "$name renders without a warning" silently man --warnings -l "$page"
        has "$name: its header" "^$(printf '%s' "${name%.*}" | tr '[:lower:]' '[:upper:]')\(${name##*.}\)" "$(sed -n 1p page)"
        ok "$name: whatis can read its name" lexgrog "$page"
        has "$name: whatis" "\"${name%.*} - [a-z]" "$(cat out)"
        is "$name: no line is too long to be read" "" "$(awk 'length > 100 && !/^\.It / { print FILENAME ": " FNR }' "$page")"
done
printf '.Dd November 24, 2026\n.Dt X 1\n.Os\n.Sh NAME\n.Nm x\n.Nd x\n.Nonsense\n' >broken.1
loudly() { ! silently "$@"; }
ok "a fault in a page is noticed" loudly man --warnings -l ./broken.1

cp -r "$top/docs" docs
manual() { (cd "$top" && python3 tests/cli/manual.py "$W/docs" "$BOOTMGR"); }
manual >out 2>err
is "verbs, options, keys, kinds, actions, references: nothing is missing or unknown" "" "$(grep -v ' compared$' out; cat err)"
has "they were compared" '^[1-9][0-9][0-9] compared$' "$(cat out)"

# The comparison itself: whatever is taken out of a page is missed
taken() { # PAGE SED-COMMAND WHAT IT SAYS
        cp "$top/docs/$1" docs/
        sed -i "$2" "docs/$1"
        cmp -s "$top/docs/$1" "docs/$1" && { flunk "nothing was taken out by $2"; return; }
        has "noticed: $3" "$3" "$(manual 2>&1)"
        cp "$top/docs/$1" docs/
}
taken bootmgr.1 's/^\.It Cm abort /.It Cm abandon /' '^missing: verb abort'
taken bootmgr.1 's/^\.It Cm abort /.It Cm abandon /' '^unknown: verb abandon'
taken bootmgr.1 's/Fl Fl no-text/Fl Fl no-words/' '^missing: option of snapshot diff: no-text'
taken bootmgr.1 's/^\.It Fl Fl esp /.It Fl Fl efi /' '^missing: option esp'
taken bootmgr.1 's/no-space, //' '^missing: kind and its exit status no-space 3'
taken bootmgr.conf.5 's/^\.It Va Tries=/.It Va Retries=/' '^missing: key \[Boot\] Tries='
taken org.bootmgr1.5 '/^org.bootmgr1.Error.unhealthy$/d' '^missing: error org.bootmgr1.Error.unhealthy'
taken org.bootmgr1.5 's/^\.It Li org.bootmgr1.force/.It Li org.bootmgr1.compel/' '^missing: polkit action org.bootmgr1.force'

finish
