#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# A clock that was wrong: the limit of automatic rollbacks per day holds, and does not hold for years.
. "$(dirname "$0")/lib.sh"
${CC:-cc} -shared -fPIC -o clock.so "$top/tests/cli/clock.c" || exit 2
export LD_PRELOAD="$W/clock.so" ASAN_OPTIONS="verify_asan_link_order=0:${ASAN_OPTIONS-}"

# DAYS that the clock is ahead, "synchronised" or ""
clock() {
        CLOCK_AHEAD=$(($1 * 86400))
        export CLOCK_AHEAD
        unset CLOCK_SYNCHRONISED
        [ -z "${2-}" ] || export CLOCK_SYNCHRONISED=1
}
automatic() { m rollback system --automatic --reason 'unit app.service failed' "$@"; }
# Version 2 runs on a machine that has made three automatic rollbacks, with the clock as it is.
spent() {
        rm -rf disk.img esp data trust conf && running='' && make_machine
        m upgrade system -q 1.bundle && boots || exit 2
        for _ in 1 2 3; do
                m upgrade system -q 2.bundle && boots && automatic -q && boots && m upgrade clear -q || exit 2
        done
        m upgrade system -q 2.bundle && boots || exit 2
}

bundle 1 && bundle 2 || exit 2

# Far ahead, then right
clock 20000
spent
clock 0
fails 3 too-many-rollbacks "the clock is right, and nobody knows it" automatic
has "a way out is told" "'bootmgr upgrade clear' forgets" "$(json 'j["hint"]' <out)"
clock 30
fails 3 too-many-rollbacks "a month later" automatic
clock 0 synchronised
fails 3 too-many-rollbacks "the clock is synchronised: they count as of now" automatic
clock 2
ok "and are over two days later" automatic

# The same, and a person is there
clock 20000
spent
clock 0
ok "upgrade clear" m upgrade clear
ok "forgets what is still to come" automatic

# It starts in the past each time, and is set right later
clock 0 synchronised
spent
clock -10000
fails 3 too-many-rollbacks "a clock that starts in the past" automatic
ok "a boot with it" boots
clock 0 synchronised
fails 3 too-many-rollbacks "forgets nothing" automatic
ok "nor does upgrade clear" m upgrade clear
fails 3 too-many-rollbacks "what was today" automatic
finish
