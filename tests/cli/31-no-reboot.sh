#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Preparing only: --no-reboot, the next shutdown, abort, and what the units call.
. "$(dirname "$0")/lib.sh"

bundle 1 && bundle 2 && bundle 3 || exit 2
make_machine
m upgrade system -q 1.bundle && boots || exit 2
mkdir -p data/etc/a/upper data/etc/b/upper && echo mine >data/etc/a/upper/hostname && echo former >data/etc/b/upper/hostname

ok "prepare an upgrade" m upgrade system --no-reboot 2.bundle
has "says when it goes on" 'goes on at the next shutdown' "$(cat out)"
is "it is staged, nothing is switched" '["IN_PROGRESS", true, "a"]' "$(status '[j["operation"]["state"], j["operation"]["staged"], j["next"]]')"
is "the slot is installed" installed "$(status 'j["slots"][1]["state"]')"
is "with the /etc of the version that runs: it may be all that can be booted" mine "$(cat data/etc/b/upper/hostname)"
fails 3 operation-in-progress "a second one meanwhile" m upgrade system 3.bundle
fails 3 operation-in-progress "finalize meanwhile" m finalize
python3 "$top/tests/cli/record.py" from-is-previous disk.img || exit 2
ok "abort" m abort
is "what a shutdown that was cut has said is taken back" null "$(status 'j["previous"]')"
python3 "$top/tests/cli/record.py" from-is-previous disk.img || exit 2
fails 3 no-previous-version "where that could not be, nothing goes back to itself" m rollback system
is "it is aborted" ABORTED "$(m show upgrade status --json | json 'j["state"]')"
fails 2 usage "abort again" m abort
ok "the shutdown changes nothing then" m switch-at-shutdown
is "still a" '["a", 1]' "$(status '[j["next"], j["generation"]]')"

ok "prepare again" m upgrade system --no-reboot 2.bundle
ok "the shutdown goes on with it" m switch-at-shutdown
is "b boots next" '["b", 2]' "$(status '[j["next"], j["generation"]]')"
ok "a second call changes nothing" m switch-at-shutdown
is "still generation 2" '["b", 2]' "$(status '[j["next"], j["generation"]]')"
ok "it boots" boots
ok "prepare a rollback" m rollback system --no-reboot
is "staged" '["ROLLBACK", true, "b"]' "$(status '[j["operation"]["operation"], j["operation"]["staged"], j["next"]]')"
ok "abort it" m abort
is "2 stays" '["b", "b", "a"]' "$(status '[j["booted"], j["next"], j["previous"]]')"
ok "prepare slot activate" m slot activate --no-reboot a
ok "the shutdown goes on with it" m switch-at-shutdown
is "a boots next" a "$(status 'j["next"]')"

# install.sh is the local procedure
ok "it boots" boots
m upgrade system -q 3.bundle && boots || exit 2
printf '#!/bin/sh\nexec "%s" --disk disk.img --esp esp --data data --config conf --cmdline "%s" "$@"\n' "$BOOTMGR" "$running" >wrapped
chmod +x wrapped
sed -i 's/^\[System\]/[System]\nRollbackMinVersion=9/' conf
fails 3 previous-version-too-old "the gate" m rollback system
has "names the local procedure" 'install.sh --rollback' "$(json 'j["hint"]' <out)"
ok "install.sh --rollback" env BOOTMGR=./wrapped "$top/units/install.sh" --rollback
has "says that a reboot is needed" 'A reboot is needed' "$(cat out)"
is "it is prepared" '["ROLLBACK", true]' "$(status '[j["operation"]["operation"], j["operation"]["staged"]]')"
ok "the shutdown goes on with it" m switch-at-shutdown
ok "it boots" boots
is "1 runs" 1 "$(status '[s["version"] for s in j["slots"] if s["name"] == j["booted"]][0]')"
env BOOTMGR=./wrapped "$top/units/install.sh" >out 2>err
is "install.sh without a word: exit status" 2 $?
has "and its usage" '^usage: install.sh --rollback' "$(cat err)"
env BOOTMGR=./wrapped "$top/units/install.sh" --rollback >out 2>err
is "install.sh with nothing to go back to: exit status" 3 $?
has_not "and no word of a reboot" 'A reboot is needed' "$(cat out)"

finish
