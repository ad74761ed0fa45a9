#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What is asked for with an id is done once (--id, for bootmgrd's callers): asked for again, the same operation is told and
# nothing is changed, also after a restart.
. "$(dirname "$0")/lib.sh"

bundle 1 && bundle 2 && bundle 3 || exit 2
make_machine
m upgrade system -q 1.bundle && boots || exit 2
first=00112233445566778899aabbccddeeff
second=00112233-4455-6677-8899-AABBCCDDEE00
third=00112233445566778899aabbccddee01
unchanged() { # WHAT BEFORE
        is "$1: nothing was changed" "$2" "$(fingerprint)"
}

is "the operation has the id" "\"$first\"" "$(m upgrade system --json --id $first --no-reboot 2.bundle 2>err | json 'json.dumps(j["id"])')"
before=$(fingerprint)
is "again: the same operation" "$first UPGRADE" "$(m upgrade system --json --id $first --no-reboot 2.bundle | json 'j["id"] + " " + j["operation"]')"
fails 3 id-reused "the id, for another bundle" m upgrade system --id $first 3.bundle
fails 3 id-reused "the id, for a rollback" m rollback system --id $first
fails 2 usage "an id that is none" m rollback system --id "$first"0
fails 2 usage "an id of zeros" m abort --id 00000000000000000000000000000000
unchanged "whatever is asked with a used id" "$before"
# As when its worker was ended between preparing and rebooting; an image is switched at once where a machine reboots.
mv 2.bundle away
is "again, to be gone on with: it is" "[\"$first\", false]" "$(m upgrade system --json --id $first 2.bundle | json '[j["id"], j["staged"]]')"
mv away 2.bundle
is "it is switched to" '["b", "trial"]' "$(status '[j["next"], j["slots"][1]["state"]]')"
before=$(fingerprint)
is "once more: how it stands" "$first IN_PROGRESS" "$(m upgrade system --json --id $first 2.bundle | json 'j["id"] + " " + j["state"]')"
unchanged "once more" "$before"
boots
is "version 2 runs" b "$(status 'j["booted"]')"
before=$(fingerprint)
is "again after the restart: how it ended" "$first DONE" "$(m upgrade system --json --id $first 2.bundle | json 'j["id"] + " " + j["state"]')"
unchanged "a repeated upgrade after the restart" "$before"

m rollback system -q --no-reboot || exit 2
is "an abort" "done" "$(m abort --json --id $second | json 'j["result"]')"
m rollback system -q --no-reboot || exit 2
before=$(fingerprint)
is "the abort again: it does not touch what was prepared since" "done" "$(m abort --json --id 00112233445566778899aabbccddee00 | json 'j["result"]')"
fails 3 id-reused "the id of the abort, for a finalize" m finalize --id $second
fails 3 id-reused "or for a rollback" m rollback system --id $second
is "the local store remembers it, as a cluster's does" '[["bootmgr/requests/00112233445566778899aabbccddee00", "abort"]]' \
        "$(json '[[k["key"], json.loads(k["text"])["verb"]] for k in j["keys"]]' <data/cluster/store.json)"
unchanged "a repeated abort" "$before"
# A power cut between what was remembered and what is done, or between that and the word that it is
cut_after() { # ID VERB OF
        python3 - "$@" <<'END'
import json, sys
store, key = json.load(open("data/cluster/store.json")), "bootmgr/requests/" + sys.argv[1]
store["keys"] = [k for k in store["keys"] if k["key"] != key]
store["revision"] += 1
store["keys"].append({"key": key, "created": store["revision"], "modified": store["revision"],
                      "text": json.dumps({"format": 1, "minor": 0, "verb": sys.argv[2], "of": sys.argv[3]})})
store["keys"].sort(key=lambda k: k["key"])
json.dump(store, open("data/cluster/store.json", "w"))
END
}
of() { json '[json.loads(k["text"]).get("of") for k in j["keys"] if k["key"].endswith("'"$1"'")][0]' <data/cluster/store.json; }
cut=00112233445566778899aabbccddee05
cut_after $cut abort "$(printf %032d 1)"
before=$(fingerprint)
is "an abort of what is gone, after a cut" "done" "$(m abort --json --id $cut | json 'j["result"]')"
is "leaves what was prepared since" "ROLLBACK true" "$(m show upgrade status --json | json 'j["operation"] + " " + str(j["staged"]).lower()')"
is "and is done" null "$(of $cut)"
cut=00112233445566778899aabbccddee06
cut_after $cut abort "$(m show upgrade status --json | json 'j["id"]')"
fails 3 id-reused "it is another's id, though it is not known to be done" m finalize --id $cut
mv data/cluster/store.json kept && mkdir data/cluster/store.json
fails 1 store-failed "what cannot be remembered" m abort --id 00112233445566778899aabbccddee07
is "is not done" true "$(m show upgrade status --json | json 'j["staged"]')"
rmdir data/cluster/store.json && mv kept data/cluster/store.json
is "an abort of what is there, after a cut" "done" "$(m abort --json --id $cut | json 'j["result"]')"
is "is done" "ABORTED null" "$(m show upgrade status --json | json 'j["state"]') $(of $cut)"
cut=00112233445566778899aabbccddee08
cut_after $cut finalize "generation 1"
is "the finalize of an older version, after a cut" "done" "$(m finalize --json --id $cut | json 'j["result"]')"
is "leaves the newer one its way back" "false null" "$(status 'j["finalized"]') $(of $cut)"
cut=00112233445566778899aabbccddee09
cut_after $cut finalize "generation $(status 'j["generation"]')"
cp data/cluster/store.json begun
is "the finalize of what runs, after a cut" "done" "$(m finalize --json --id $cut | json 'j["result"]')"
is "takes it" "true null" "$(status 'j["finalized"]') $(of $cut)"
cp begun data/cluster/store.json # and after the next one
is "once more" "done true null" "$(m finalize --json --id $cut | json 'j["result"]') $(status 'j["finalized"]') $(of $cut)"
is "a finalize" "done" "$(m finalize --json --id $third | json 'j["result"]')"
m upgrade system -q 3.bundle && boots || exit 2
is "the finalize again" "done" "$(m finalize --json --id $third | json 'j["result"]')"
is "it did not take the newer way back" false "$(status 'j["finalized"]')"
fourth=00112233445566778899aabbccddee02
is "a rollback with an id of its own" "[\"$fourth\", true]" "$(m rollback system --json --no-reboot --id $fourth | json '[j["id"], j["staged"]]')"
is "again, to be gone on with: it is, too" "[\"$fourth\", false]" "$(m rollback system --json --id $fourth | json '[j["id"], j["staged"]]')"
boots
before=$(fingerprint)
is "again, back on the previous version" "[\"$fourth\", \"DONE\"]" \
        "$(m rollback system --json --id $fourth | json '[j["id"], j["state"]]')"
unchanged "a repeated rollback" "$before"

# A store that a check of the filesystem has emptied refuses nothing, and the next request makes a new one
: >data/cluster/store.json
is "a rollback is known by its operation all the same" "$fourth" "$(m rollback system --json --id $fourth | json 'j["id"]')"
fails 2 usage "an abort is none of those before" m abort --id 00112233445566778899aabbccddee03
is "a finalize is done" "done" "$(m finalize --json --id 00112233445566778899aabbccddee04 | json 'j["result"]')"
is "and known again" "done" "$(m finalize --json --id 00112233445566778899aabbccddee04 | json 'j["result"]')"
is "what was damaged is kept" "store.json store.json.damaged" "$(cd data/cluster && echo store.json*)"

finish
