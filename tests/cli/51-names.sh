#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Names that are not UTF-8: JSON shows them escaped, and is never broken by them.
. "$(dirname "$0")/lib.sh"

bundle 1 && bundle 2 || exit 2
make_machine
odd=$(printf 'odd\377name')

# Messages
fails 1 fetch-failed "a bundle that is not there" m upgrade system "$odd.bundle"
has "its name is shown" 'odd\\\\xffname\.bundle' "$(cat out)"
fails 2 usage "a verb that is not there" "$BOOTMGR" "$odd"
"$BOOTMGR" "$odd" 2>usage
ok "on a terminal it is as it was given" env LC_ALL=C grep -q "$odd" usage

# A shared path must be text
cp conf good
LC_ALL=C sed "s|^SharedPaths=.*|SharedPaths=/cfg /$odd|" good >conf
before=$(fingerprint)
fails 3 configuration-path "such a shared path" m upgrade system 1.bundle
has "it is named, with the reason" 'odd\\\\xffname.*not UTF-8' "$(cat out)"
is "nothing was changed" "$before" "$(fingerprint)"
mv good conf

# The source of an upgrade
cp 1.bundle "$odd.bundle"
ok "a bundle of such a name" m upgrade system "$odd.bundle"
boots || exit 2
is "is in the history" 'odd\xffname.bundle' "$(m show upgrade history --json | json 'j[0]["source"]')"

# What lies in shared paths may have any name
mkdir -p data/root/cfg
echo one >"data/root/cfg/$odd"
echo one >'data/root/cfg/odd\xffname'
m upgrade system -q 2.bundle && boots || exit 2
echo two >"data/root/cfg/$odd"
echo two >'data/root/cfg/odd\xffname'
is "snapshot diff tells both names" '["/cfg/odd\\x5cxffname", "/cfg/odd\\xffname"]' \
        "$(m snapshot diff --json | json '[c["path"] for c in j if c["change"] == "content"]')"
ok "rollback --dry-run" m rollback system --dry-run --json
is "tells the same" '["/cfg/odd\\x5cxffname", "/cfg/odd\\xffname"]' \
        "$(json '[c["path"] for c in j["changes"] if c["change"] == "content"]' <out)"
ok "rollback" m rollback system
ok "version 1 boots" boots
is "its files are back" "one one " "$(cat data/root/cfg/* | tr '\n' ' ')"

finish
