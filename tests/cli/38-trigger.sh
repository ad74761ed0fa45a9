#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What bootmgr-rollback.service runs for rollback.target, with a systemctl that only notes what it is asked for.
#
# Functions that ok calls by their names:
# shellcheck disable=SC2317
. "$(dirname "$0")/lib.sh"

mkdir bin
cat >bin/systemctl <<'END'
#!/bin/sh
echo "$*" >>asked
case $1 in
show) echo app.service other.service ;;
is-failed) [ "$3" = app.service ] ;;
is-active) [ -e confirmed ] ;;
esac
END
# The program on the machine of this test, or one that ends with $status
cat >bin/bootmgr <<END
#!/bin/sh
[ -z "\${status-}" ] || exit "\$status"
exec "$BOOTMGR" --disk disk.img --esp esp --data data --config conf --cmdline "\$running" "\$@" \${staged+--no-reboot}
END
chmod +x bin/*
trigger() { rm -f asked && env PATH="$W/bin:$PATH" BOOTMGR="$W/bin/bootmgr" running="$running" ${staged+staged=} "$top/units/rollback-trigger" boot; }
# STATUS of the program: the exit status of the trigger, and whether it has asked for a reboot
ends() {
        status=$1 trigger >out 2>err
        echo "$? $(grep -c reboot asked)"
}

echo found=trial >boot
is "on trial, a bootmgr that fails: the machine starts again" "0 1" "$(ends 1)"
has "and says why" "status 1.*tries" "$(cat err)"
is "one that cannot be run" "0 1" "$(ends 127)"
is "one that is done, and has asked for the reboot itself" "0 0" "$(ends 0)"
is "a refusal is the degraded target's" "3 0" "$(ends 3)"
touch confirmed
is "confirmed meanwhile" "1 0" "$(ends 1)"
rm confirmed
printf 'found=record-unread\ntrial=1\n' >boot
is "on trial, without a record" "0 1" "$(ends 1)"
printf 'found=record-unread\ntrial=0\n' >boot
is "confirmed, without a record" "1 0" "$(ends 1)"
echo found=confirmed >boot
is "not on trial" "1 0" "$(ends 1)"
rm boot
is "nothing is known of the boot" "1 0" "$(ends 1)"
echo found=trial >boot

bundle 1 && bundle 2 || exit 2
make_machine
m upgrade system -q 1.bundle && boots || exit 2
status=
ok "nothing to go back to is no failure" trigger
has "and is told" "no other slot can be booted" "$(cat err)"
has "with what follows" "version and services run on" "$(cat err)"
is "1 runs on" '["a", "a", "confirmed"]' "$(status '[j["booted"], j["next"], j["slots"][0]["state"]]')"
m upgrade system -q 2.bundle && boots || exit 2
ok "a rollback" trigger
has "whose reason is what failed" "^unit app.service failed" "$(m show upgrade history --json | json 'j[0]["reason"]')"
boots && printf '[Rollback]\nMaxAutomaticPerDay=1\n' >>conf
m upgrade clear -q && m upgrade system -q 2.bundle && boots || exit 2
trigger >out 2>err
is "too many of them are a failure" 3 $?
has "which says why" "automatic rollbacks within a day" "$(cat err)"

# An ESP that says nothing of the other version: it cannot be opened, or another directory is in its place
mkdir nothing && : >file
for instead in file nothing; do
        rm -rf disk.img esp data conf && running='' && make_machine
        m upgrade system -q 1.bundle && boots && m upgrade system -q 2.bundle && choose_next && m boot-config -q || exit 2
        mv esp esp.real && ln -s $instead esp
        ok "on trial, a $instead instead of the ESP: going back is staged" eval 'staged='' trigger'
        has_not "not given up" "runs on" "$(cat err)"
        rm esp && mv esp.real esp
        is "nobody calls a whole version bad" '[true, ["confirmed", "trial"]]' \
                "[$(m show upgrade status --json | json 'j["staged"] and j["automatic"]'), $(status '[s["state"] for s in j["slots"]]')]"
        ok "and the shutdown goes there" m switch-at-shutdown
        boots && is "version 1 runs" '["a", "confirmed", "bad"]' "$(status '[j["booted"], *(s["state"] for s in j["slots"])]')"
done
finish
