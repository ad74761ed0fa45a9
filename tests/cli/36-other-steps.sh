#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# An operation that another version began, which has other steps, a newer minor and members that are not known here, is carried to its end.
#
# Functions that ok calls by their names:
# shellcheck disable=SC2317
. "$(dirname "$0")/lib.sh"

bundle 1 && bundle 2 || exit 2
make_machine
ok "the first version" m upgrade system 1.bundle
ok "it boots" boots

# What the other version has written: `steps` is what is made of the list of names
rewrite() {
        python3 - "$1" <<'EOF'
import json, pathlib, sys
path = max(pathlib.Path('data/operations').glob('*.json'))
j = json.loads(path.read_text())
known = {s['name']: s for s in j['steps']}
new = {'state': 'WAITING', 'progress': 0, 'start': None, 'end': None, 'message': None, 'weight': 3}
j['steps'] = [known.get(name, dict(new, name=name)) for name in eval(sys.argv[1], {'names': list(known)})]
path.write_text(json.dumps(dict(j, minor=1, weather={'is': 'fine'})))
EOF
}
steps() { m show upgrade status --json | json '[j["state"], [(s["name"], s["state"]) for s in j["steps"]]]' | tr -d ' '; }

ok "an upgrade" m upgrade system 2.bundle
ok "whose steps have other names behind the reboot" rewrite '["SETTLE" if n == "CONFIRM" else "PROBE_HEALTH" if n == "CHECK_HEALTH" else n for n in names]'
ok "it boots" boots
has "the upgrade is done" '^\["DONE",' "$(steps)"
has "what was done is listed where it came" '\["MIGRATE_CONFIG","DONE"\],\["CHECK_HEALTH","SKIPPED"\],\["CONFIRM","DONE"\],\["PROBE_HEALTH","SKIPPED"\],\["SETTLE","SKIPPED"\]' "$(steps)"
is "version 2 is confirmed" '["b", "confirmed"]' "$(status '[j["booted"], j["slots"][1]["state"]]')"

ok "a rollback" m rollback system
ok "with so many steps that none can be added" rewrite '[n for n in names if n not in ("RESTORE_CONFIG", "CHECK_HEALTH", "CONFIRM")] + ["STEP_%d" % i for i in range(16 - len(names) + 3)]'
ok "it boots" boots
has "the rollback is done" '^\["DONE",' "$(steps)"
is "version 1 is confirmed" '["a", "confirmed"]' "$(status '[j["booted"], j["slots"][0]["state"]]')"
finish
