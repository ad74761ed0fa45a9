#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Empty files on the ESP that are named like entries of ours, with the highest generation that there is: switches go on beside
# them, and a record that is made again does not take it over.
# shellcheck disable=SC2317 # recover is called through ok
. "$(dirname "$0")/lib.sh"
RECOVER=${RECOVER:-$(dirname "$BOOTMGR")/bootmgr-recover}

# systemd-boot shows none that has no kernel
next_entry() { find esp/loader/entries -name 'bootmgr-*.conf' ! -name '*+0-*' -size +0 -printf '%f\n' | sort -t- -k2,2n | tail -n 1; }
recover() { "$RECOVER" --disk disk.img --esp esp --cmdline "$running" "$1" 2>recover.log; }
plant() {
        touch esp/loader/entries/bootmgr-4611686018427387904-a.conf esp/loader/entries/bootmgr-4611686018427387904-b.conf
}
generation() { status 'j["generation"]'; }

bundle 1 && bundle 2 && bundle 3 && bundle 4 && make_machine || exit 2
m upgrade system -q 1.bundle && boots || exit 2

plant
ok "an upgrade beside them" m upgrade system -q 2.bundle
is "has the next generation" 2 "$(generation)"
plant
ok "it boots" boots
plant
ok "a rollback" m rollback system -q
is "has the next one" 3 "$(generation)"
plant
ok "and boots" boots
is "version 1 runs, confirmed" '"confirmed"' "$(status '[s["state"] for s in j["slots"]][:1]' | tr -d '[]')"

m upgrade system -q 3.bundle && choose_next || exit 2
plant
python3 "$top/tests/cli/record.py" lose disk.img
ok "both copies of the record are lost" recover boot
is "it does not count in what is made of the entries" 4 "$(generation)"
ok "version 3 is confirmed" boot_up
plant
ok "and a way forward is there" m upgrade system -q --yes 4.bundle
is "with the next generation" 5 "$(generation)"
finish
