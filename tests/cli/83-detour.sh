#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# A person picks the other version's own entry in the boot menu, and later the first one again: that is no rollback, nothing is
# recorded as one, and each version has the configuration that it had last.
# shellcheck disable=SC2317 # picks is called through ok
. "$(dirname "$0")/lib.sh"
RECOVER=${RECOVER:-$(dirname "$BOOTMGR")/bootmgr-recover}

config() { cat data/root/cfg/app.conf; }
# What systemd-boot would do with the entry that the person has under the cursor.
picks() {
        running=$(sed -n 's/^options *//p' "esp/loader/entries/$1")
        python3 "$top/tests/cli/record.py" new-boot disk.img &&
                "$RECOVER" --disk disk.img --esp esp --cmdline "$running" boot 2>recover.log &&
                m boot-config -q && m check-health -q && m confirm -q
}
versions() { status '[s["version"] for s in j["slots"]], [s["state"] for s in j["slots"]]'; }

bundle 1 && bundle 2 && make_machine || exit 2
m upgrade system -q 1.bundle && boots && mkdir -p data/root/cfg && echo one >data/root/cfg/app.conf
m upgrade system -q 2.bundle && boots && echo two >data/root/cfg/app.conf
before=$(versions)

ok "a detour to 1" picks bootmgr-1-a.conf
is "1 has its own configuration" one "$(config)"
is "the slots are what they were" "$before" "$(versions)"
echo "one, changed on the detour" >data/root/cfg/app.conf
ok "and back to 2" picks bootmgr-2-b.conf
is "2 has its own again" two "$(config)"
is "the way back is still there" a "$(status 'j["previous"]')"
is "nothing was recorded as a rollback" '["UPGRADE", "UPGRADE"]' \
        "$(m show upgrade history --json | json '[o["operation"] for o in (j if isinstance(j, list) else j["operations"])]')"
echo "two, later" >data/root/cfg/app.conf
ok "once more to 1" picks bootmgr-1-a.conf
is "1 has what it had last" "one, changed on the detour" "$(config)"
ok "and to 2" picks bootmgr-2-b.conf
is "2 has what it had last" "two, later" "$(config)"
ok "a rollback is as it was" m rollback system -q
boots
is "and 1 has its configuration" "one, changed on the detour" "$(config)"

# While the other one is on trial: the seal that the shutdown took is not what it had last
rm -rf disk.img esp data trust conf && running='' && make_machine
m upgrade system -q 1.bundle && boots && mkdir -p data/root/cfg && echo one >data/root/cfg/app.conf
m upgrade system -q 2.bundle || exit 2
ok "before 2 has run, 1 is picked" picks bootmgr-1-a.conf
echo "one, changed before the trial" >data/root/cfg/app.conf
ok "then 2 runs" picks bootmgr-2-b+3-0.conf
is "which took over what was there" "one, changed before the trial" "$(config)"
echo two >data/root/cfg/app.conf
ok "a rollback" m rollback system -q
boots
is "1 has what it had last" "one, changed before the trial" "$(config)"
finish
