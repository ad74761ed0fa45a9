#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What an install says of itself: its steps in numbers, what it leaves out when asked to.
. "$(dirname "$0")/lib.sh"

bundle 1 && bundle 2 || exit 2
make_machine

step() { m show upgrade status --json | json "[s for s in j['steps'] if s['name'] == '$1'][0]$2"; }

ok "install" m upgrade system 1.bundle
has "the summary names bytes and seconds of each stage" \
        'WRITE_IMAGE +done .* MiB written, .* zeros, .* kept, .* copied, .* fetched; seconds: fetch [0-9.]+, decode [0-9.]+, check [0-9.]+, write [0-9.]+ \([0-9]+ threads\), flush [0-9.]+' "$(cat out)"
has "what was read back" 'VERIFY_IMAGE +done .* read back from the device' "$(cat out)"
boots || exit 2
is "the numbers in JSON" '["done", "fetched", "left", "rate", "reused", "total"]' "$(step WRITE_IMAGE '["transfer"]' | json 'sorted(j)')"
is "all of it" 'true' "$(step WRITE_IMAGE '["transfer"]' | json 'j["done"] == j["total"] > 0 and j["fetched"] > 0')"
is "all of it was read back" 'true' "$(step VERIFY_IMAGE '["transfer"]' | json 'j["done"] == j["total"] > 0')"
is "a step that moves nothing has none" 'false' "$(step CHECK_BUNDLE '' | json '"transfer" in j')"

ok "without reading back" m upgrade system --no-read-back --full-speed 2.bundle
has "a word of warning" 'not be read back' "$(cat err)"
is "the step says so" '["SKIPPED", "not read back: what the device did not keep is not known"]' \
        "$(step VERIFY_IMAGE '' | json '[j["state"], j["message"]]')"
has "and the history" 'UPGRADE .* not read back' "$(m show upgrade history)"
boots || exit 2

finish
