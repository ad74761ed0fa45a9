#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# bootmgrd on a private bus, for an image: what it offers, whom it refuses, and that killing it, its worker or
# those who wait for it leaves things right. As root, the unprivileged caller is another user; else the one
# who runs this, since only root needs no permission.
#
# Functions that ok, refused, until_is and trap call by their names:
# shellcheck disable=SC2317
. "$(dirname "$0")/lib.sh"

. "$top/tests/cli/bus.sh"

bundle 1 && bundle 2 --chunk-size 64K && bundle 3 --chunk-size 64K && bundle 4 || exit 2
daemon_machine
m upgrade system -q 1.bundle && boots && m upgrade system -q 2.bundle && boots || exit 2

# --- a bus, a polkit, and a daemon that the bus starts ---

me=
if [ "$(id -u)" -eq 0 ]; then
        me="setpriv --reuid=65534 --regid=65534 --clear-groups"
        chmod 755 "$W"
        chmod 600 run/disk.img
fi
cat >activate <<END
#!/bin/sh
unset BOOTMGR_HAND_OVER
echo started >>"$W/starts"
exec env BOOTMGR_PROGRAM="$W/bootmgr-image" RUNTIME_DIRECTORY="$W/run" "$bootmgrd" 2>>"$W/bootmgrd.err"
END
chmod +x activate
mkdir services
printf '[D-BUS Service]\nName=org.bootmgr1\nExec=%s/activate\n' "$W" >services/org.bootmgr1.service
# shellcheck disable=SC2046
${CC:-cc} -o fake-polkit "$top/tests/cli/fake-polkit.c" $(pkg-config --cflags --libs libsystemd) || exit 2
polkit=
trap 'stop_all $polkit "$(daemon_pid)" 2>/dev/null' EXIT
start_bus "<servicedir>$W/services</servicedir>$([ -z "$me" ] || echo "<include>$top/units/org.bootmgr1.conf</include>")"
./fake-polkit 2>polkit.err &
polkit=$!

daemon_pid() {
        busctl call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus GetConnectionUnixProcessID s org.bootmgr1 2>/dev/null |
                sed 's/^u //'
}
# The process of `bootmgr --worker`.
worker_pid() {
        for f in /proc/[0-9]*/cmdline; do
                if { tr '\0' ' ' <"$f"; } 2>/dev/null | grep -q -- "--disk disk.img .* --worker"; then
                        p=${f#/proc/}
                        [ "$(readlink "/proc/${p%/*}/cwd")" = "$W" ] && echo "${p%/*}"
                fi
        done
}
manager() { busctl call org.bootmgr1 /org/bootmgr1 org.bootmgr1.Manager "$@"; }
get() { busctl --json=short get-property org.bootmgr1 /org/bootmgr1 org.bootmgr1.Manager "$1" | json "${2-j[\"data\"]}"; }
operation() { busctl --json=short get-property org.bootmgr1 /org/bootmgr1/operation org.bootmgr1.Operation "$1" | json 'j["data"]'; }
# until_is SECONDS EXPECTED COMMAND: tries again until COMMAND prints it.
until_is() {
        limit=$(($(date +%s) + $1)) expected=$2
        shift 2
        while [ "$("$@" 2>/dev/null)" != "$expected" ]; do
                [ "$(date +%s)" -lt "$limit" ] || return 1
                sleep 0.05
        done
}
# Writes what passes on the bus to `signals`, from now on: until it listens, nothing comes of asking the bus.
monitor_bus() {
        : >signals
        busctl --json=short monitor >signals 2>/dev/null &
        monitor=$!
        until [ -s signals ]; do
                busctl list >/dev/null
                sleep 0.05
        done
}
# Calls a method as somebody without rights of his own.
as_user() {
        # shellcheck disable=SC2086
        $me busctl call org.bootmgr1 /org/bootmgr1 org.bootmgr1.Manager "$@"
}
# The call must end with this D-Bus error; only the debug log of busctl tells its name.
refused() { # WHAT ERROR FUNCTION ARGUMENTS
        what=$1 name=$2
        shift 2
        if (export SYSTEMD_LOG_LEVEL=debug && "$@") >out 2>err; then
                echo "it was not refused: $*" >why
                flunk "$what" why
        else
                has "$what: $name" "error-name=$name " "$(cat err)"
        fi
}
# What the program says to somebody who may not read the disk; bootmgrd may.
unprivileged() {
        # shellcheck disable=SC2086
        BOOTMGR_HAND_OVER=1 $me "$BOOTMGR" --disk "$unreadable" "$@"
}
if [ -n "$me" ]; then
        unreadable=disk.img
else
        unreadable=unreadable.img
        touch unreadable.img && chmod 0 unreadable.img
fi

# --- what it offers, and to whom ---

is "not started yet" "" "$(cat starts 2>/dev/null)"
is "a property, by activation" b "$(get Booted)"
is "it was started once" started "$(cat starts)"
is "the properties of the manager" '["a", "b", 2, false, null]' \
        "$(printf '["%s", "%s", %s, %s, %s]' "$(get Previous)" "$(get Next)" "$(get Generation)" "$(get Working)" "$(get FailureJSON)")"
is "StatusJSON is what status says" "$(status 'j["slots"]')" "$(get StatusJSON 'json.loads(j["data"])["slots"]')"
is "OperationJSON too" "$(m show upgrade status --json | json 'j["id"]')" "$(get OperationJSON 'json.loads(j["data"])["id"]')"
is "the operation object" "UPGRADE 1 2 DONE 100" \
        "$(for p in Kind FromVersion ToVersion State Progress; do operation $p; done | tr '\n' ' ' | sed 's/ $//')"
is "its steps" "$(m show upgrade status --json | json '[[s["name"], s["state"], s["start"]] for s in j["steps"]]')" \
        "$(busctl --json=short get-property org.bootmgr1 /org/bootmgr1/operation org.bootmgr1.Operation Steps |
                json '[[s[0], s[1], s[3]] for s in j["data"]]')"

# That is what its page says
for path in /org/bootmgr1 /org/bootmgr1/operation; do
        busctl --json=short call org.bootmgr1 $path org.freedesktop.DBus.Introspectable Introspect | json 'j["data"][0]' |
                python3 "$top/tests/cli/interface.py" $path >interface
        is "org.bootmgr1(5) and $path" "$(cat interface)" \
                "$(sed -n "\\:^node $path {:,/^};/p" "$top/docs/org.bootmgr1.5")"
        names=$(sed -n 's/^      \(readonly [a-z()]* \)*\([A-Za-z]*\).*/\2/p' interface)
        for name in $names; do
                has "org.bootmgr1(5) says what $name is" "^\.It (Va|Fn) (.* )?$name( |\$)" "$(cat "$top/docs/org.bootmgr1.5")"
        done
done

before=$(fingerprint)
: >answers
ok "anyone: GetStatus" as_user GetStatus
ok "anyone: GetOperation" as_user GetOperation
ok "anyone: GetHistory" as_user GetHistory
[ -e questions ] && flunk "nobody is asked about reading" questions
denied=org.freedesktop.DBus.Error.AccessDenied
refused "no rights: Upgrade" $denied as_user Upgrade 'sa{sv}' "$W/3.bundle" 0
refused "no rights: Rollback" $denied as_user Rollback 'a{sv}' 0
refused "no rights: SlotActivate" $denied as_user SlotActivate 'sa{sv}' a 0
refused "no rights: CheckRollback" $denied as_user CheckRollback
for method in Abort Finalize ClearRefused; do
        refused "no rights: $method" $denied as_user $method
done
for method in MarkGood MarkBad; do
        refused "no rights: $method" $denied as_user $method s a
done
allow_all() { printf 'org.bootmgr1.%s yes\n' upgrade rollback reboot force >answers; }
asked() { sed 's/org.bootmgr1.\([a-z]*\) .*/\1/' questions | sort | uniq -c | awk '{ printf "%s%s %d", sep, $2, $1; sep = " " }'; }
is "each was asked about once, under its own action" "force 5 rollback 3 upgrade 1" "$(asked)"
echo org.bootmgr1.upgrade challenge >answers
refused "a password would help" org.freedesktop.DBus.Error.InteractiveAuthorizationRequired as_user Upgrade 'sa{sv}' "$W/3.bundle" 0
printf 'org.bootmgr1.%s yes\n' upgrade rollback >answers
refused "who may not reboot may not upgrade at once" $denied as_user Upgrade 'sa{sv}' "$W/3.bundle" 0
refused "nor roll back at once" $denied as_user Rollback 'a{sv}' 0
refused "who may roll back may not pass the version gate" $denied as_user Rollback 'a{sv}' 2 no-reboot b true local b true
ok "who may roll back may try it dry" as_user CheckRollback
has "the dry run" 'allowed.*true' "$(cat out)"
allow_all
invalid=org.freedesktop.DBus.Error.InvalidArgs
refused "an option that is none" $invalid manager Upgrade 'sa{sv}' "$W/3.bundle" 1 quickly b true
refused "an option of another type" $invalid manager Upgrade 'sa{sv}' "$W/3.bundle" 1 no-reboot s yes
refused "a relative path" $invalid manager Upgrade 'sa{sv}' 3.bundle 0
refused "a slot that is none" org.bootmgr1.Error.usage manager MarkGood s h
refused "a refusal of bootmgr" org.bootmgr1.Error.slot_in_use manager MarkBad s b
has "its message and the way out" 'error-message=slot b .*' "$(cat err)"
refused "no bundle" org.bootmgr1.Error.fetch_failed manager Upgrade 'sa{sv}' "$W/missing.bundle" 0
head -c 5000 3.bundle >cut.bundle
refused "a part of a bundle" org.bootmgr1.Error.bundle_invalid manager Upgrade 'sa{sv}' "$W/cut.bundle" 0
"$BOOTMGR" bundle delta -q --from 1.bundle 3.bundle 3.delta
refused "a delta for another version" org.bootmgr1.Error.bundle_incompatible manager Upgrade 'sa{sv}' "$W/3.delta" 0
is "nothing was changed" "$before" "$(fingerprint)"

# --- the program, for somebody without rights ---

ok "unprivileged: status" unprivileged status
has "unprivileged: status says" '^Running +slot b, version 2' "$(cat out)"
is "unprivileged: status --json" "$(status 'j["slots"]')" "$(unprivileged status --json | json 'j["slots"]')"
ok "unprivileged: show upgrade status" unprivileged show upgrade status
has "unprivileged: the operation" '^UPGRADE 1 -> 2  DONE' "$(cat out)"
is "unprivileged: history" "$(m show upgrade history --json | json '[o["id"] for o in j]')" \
        "$(unprivileged show upgrade history --json | json '[o["id"] for o in j]')"
: >answers
cp 3.bundle readable.bundle && chmod 644 readable.bundle
fails 3 not-authorized "unprivileged: upgrade" unprivileged upgrade system readable.bundle
fails 3 not-authorized "unprivileged: rollback" unprivileged rollback system
for words in finalize abort "slot mark-good a" "slot mark-bad a" "slot activate a" "rollback system --local" "upgrade clear"; do
        # shellcheck disable=SC2086
        unprivileged $words >out 2>err && flunk "unprivileged: $words"
done
is "nothing was changed by any of them" "$before" "$(fingerprint)"

# --- handing over ---

export BOOTMGR_HAND_OVER=1
allow_all
mkfifo pipe
# A bundle whose second half does not come before the file `go` is there.
feed() {
        rm -f go
        python3 -c 'import os, sys, time
data = open(sys.argv[1], "rb").read()
out = open("pipe", "wb", 0)
try:
    out.write(data[:len(data) // 2])
    while not os.path.exists("go"): time.sleep(0.02)
    out.write(data[len(data) // 2:])
except BrokenPipeError: pass' "$1" &
        feeder=$!
}
hand_over() { # FILE: through the daemon, with the program waiting as $cli
        feed "$1"
        "$BOOTMGR" --disk disk.img --esp esp --data data --config conf --cmdline "$running" upgrade system pipe --json >cli.out 2>cli.err &
        cli=$!
        until_is 20 RUNNING step_state 1 || flunk "the slot is being written" cli.err
}
step_state() { m show upgrade status --json | json "j['steps'][$1]['state']"; }

monitor_bus
hand_over 3.bundle
is "the daemon works" true "$(get Working)"
is "in a process of its own" "$(daemon_pid)" "$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$(worker_pid)/status")"
until_is 5 IN_PROGRESS operation State
is "the operation is known at once" '["IN_PROGRESS", "3"]' "$(printf '["%s", "%s"]' "$(operation State)" "$(operation ToVersion)")"
refused "a second one" org.bootmgr1.Error.operation_in_progress manager Upgrade 'sa{sv}' "$W/4.bundle" 0
fails 3 operation-in-progress "a second one by the program" m upgrade system 4.bundle
refused "nor anything else that changes" org.bootmgr1.Error.operation_in_progress manager Finalize
m show upgrade status --watch >watch.out 2>watch.err &
watcher=$!
unprivileged show upgrade status --watch --json >watch.json 2>>watch.err &
watcher2=$!
kill -INT $cli
wait $cli
is "Ctrl-C of the program: exit status" 0 $?
has "Ctrl-C: it says that the work goes on" 'bootmgrd goes on' "$(cat cli.err)"
is "Ctrl-C: the work goes on" true "$(get Working)"
touch go
ok "it ends" until_is 30 false get Working
is "it is switched" '["a", "trial"]' "$(status '[j["next"], j["slots"][0]["state"]]')"
boots || flunk "3 boots"
ok "the daemon learns what was done without it" until_is 10 a get Booted
wait $watcher
is "a second terminal: exit status" 0 $?
has "a second terminal saw it" '^WRITE_IMAGE +done' "$(cat watch.out)"
wait $watcher2
is "a second terminal without rights saw it, too" '["IN_PROGRESS", "DONE"]' \
        "$(python3 -c 'import json; l = [json.loads(x) for x in open("watch.json")]; print(json.dumps([l[0]["state"], l[-1]["state"]]))')"
cat >seen.py <<'END'
import json
steps, states = [], []
for line in open("signals"):
    m = json.loads(line)
    if m.get("member") == "ProgressChanged":
        steps.append(m["payload"]["data"][1])
    if m.get("member") == "PropertiesChanged" and m["payload"]["data"][0] == "org.bootmgr1.Operation":
        states.append(m["payload"]["data"][1]["State"]["data"])
print("steps", "WRITE_IMAGE" in steps, "states", "IN_PROGRESS" in states, states[-1])
END
until_is 5 "steps True states True DONE" python3 seen.py
is "the signals" "steps True states True DONE" "$(python3 seen.py)"
kill $monitor
wait $monitor 2>/dev/null

# --- killing ---

as_before() { # WHAT
        is "$1: 3 runs and boots next" '["a", "a", "confirmed"]' "$(status '[j["booted"], j["next"], j["slots"][0]["state"]]')"
        is "$1: the other slot is incomplete" incomplete "$(status 'j["slots"][1]["state"]')"
}

hand_over 4.bundle
kill -9 "$(worker_pid)"
wait $cli
is "kill -9 of the worker: the program's exit status" 1 $?
has "kill -9 of the worker: it says so" 'interrupted' "$(cat cli.out)"
touch go
wait $feeder
is "kill -9 of the worker: the daemon lives" "$(cat starts)" started
is "kill -9 of the worker: it knows" FAILED "$(operation State)"
as_before "kill -9 of the worker"

hand_over 4.bundle
first=$(daemon_pid)
kill -9 "$first"
ok "kill -9 of the daemon: another one is started" until_is 10 true get Working 'json.dumps(j["data"] is False)'
is "kill -9 of the daemon: it is another one" 2 "$(wc -l <starts)"
is "kill -9 of the daemon: the work goes on" 1 "$(worker_pid | wc -l)"
is "kill -9 of the daemon: the new one knows" IN_PROGRESS "$(operation State)"
refused "kill -9 of the daemon: no second work beside it" org.bootmgr1.Error.operation_in_progress manager Upgrade 'sa{sv}' "$W/4.bundle" 0
touch go
wait $cli
is "kill -9 of the daemon: the program sees the end" '[0, "4"]' "[$?, \"$(json 'j["to_version"]' <cli.out)\"]"
boots || flunk "4 boots"
is "kill -9 of the daemon: 4 runs" b "$(status 'j["booted"]')"
ok "kill -9 of the daemon: the new one knows the end" until_is 10 DONE operation State

hand_over 3.bundle
kill -9 "$(daemon_pid)" "$(worker_pid)"
wait $cli
is "kill -9 of both: the program's exit status" 1 $?
touch go
wait $feeder
is "kill -9 of both: the new daemon knows" FAILED "$(operation State)"
is "kill -9 of both: the old version runs" '["b", "b"]' "$(status '[j["booted"], j["next"]]')"
"$BOOTMGR" bundle delta -q --from "$(status '[s["version"] for s in j["slots"] if s["name"] == "b"][0]').bundle" 3.bundle readable.delta
chmod 644 readable.delta
ok "a second try succeeds, by somebody whom polkit allows it, with a delta" unprivileged upgrade system readable.delta
has "he is told of the loss beforehand" 'gone as a way back' "$(cat err)"
boots
is "3 runs" '["a", "b"]' "$(status '[j["booted"], j["previous"]]')"
mv data/operations kept-operations && : >data/operations # no step can be written down
before=$(m status --json)
m rollback system --json >out 2>err
is "a rollback that cannot be written down" '[1, "failed"]' "[$?, \"$(json 'j["kind"]' <out)\"]"
has "says so" 'cannot write .*operations' "$(cat out)"
is "and changes nothing" "$before" "$(m status --json)"
rm data/operations && mv kept-operations data/operations
ok "and back, through the daemon" m rollback system
boots
is "4 runs again" b "$(status 'j["booted"]')"

hand_over 2.bundle
printf garbage >pipe
m show upgrade status >/dev/null
kill $feeder
wait $feeder 2>/dev/null
wait $cli
is "an upgrade that breaks off has its kind here, too" '[3, "bundle-invalid"]' "[$?, \"$(json 'j["kind"]' <cli.out)\"]"

fails 3 no-previous-version "a refusal by the daemon" m rollback system
unset BOOTMGR_HAND_OVER

# --- the service ---

if ! ldd "$bootmgrd" | grep -Eq 'lib[au]san'; then
        rss=$(sed -n 's/^VmRSS:[[:space:]]*\([0-9]*\) kB/\1/p' "/proc/$(daemon_pid)/status")
        echo "idle: $rss KiB resident"
        ok "idle under 8 MiB" [ "$rss" -lt 8192 ]
fi
daemon=$(daemon_pid)
kill "$daemon"
ok "SIGTERM ends it" until_is 5 "" daemon_pid

# Started for work, while nobody can say yet how the machine stands
touch blind
monitor_bus
ok "work that it is started for waits for nothing" \
        busctl --timeout=5 call org.bootmgr1 /org/bootmgr1 org.bootmgr1.Manager Upgrade 'sa{sv}' "$W/2.bundle" 1 no-reboot b true
is "how the work stands is known from the work" 2 "$(busctl --timeout=5 --json=short get-property org.bootmgr1 \
        /org/bootmgr1 org.bootmgr1.Manager OperationJSON | json 'json.loads(j["data"])["to_version"]')"
ok "and that it ends" until_is 20 false get Working
get Booted >booted &
reader=$!
manager GetHistory >/dev/null # behind it
is "what is not known is not made up" "" "$(cat booted)"
rm blind
wait $reader
is "it is answered once it is known" b "$(cat booted)"
cat >seen.py <<'END'
import json
values = {m["payload"]["data"][1]["Booted"]["data"] for m in map(json.loads, open("signals"))
          if m.get("member") == "PropertiesChanged" and "Booted" in m["payload"]["data"][1]}
print(*sorted(map(str, values)))
END
until_is 5 b python3 seen.py
is "no signal made it up either" b "$(python3 seen.py)"
kill $monitor
wait $monitor 2>/dev/null
ok "the upgrade is given up" m abort
kill "$(daemon_pid)"
ok "it ends again" until_is 5 "" daemon_pid
cat >notify.py <<'END'
import os, socket, subprocess, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("notify.socket")
s.settimeout(20)
p = subprocess.Popen(["./activate"], env={**os.environ, "NOTIFY_SOCKET": os.path.abspath("notify.socket"), "WATCHDOG_USEC": "400000"})
seen, first = [], time.monotonic()
while seen.count("WATCHDOG=1") < 3:
    seen += s.recv(4096).decode().split()
    if "READY=1" in seen and first:
        owner = subprocess.run(["busctl", "get-property", "org.bootmgr1", "/org/bootmgr1", "org.bootmgr1.Manager", "Booted"],
                               stdout=subprocess.PIPE, text=True).stdout.strip()
        first = 0
p.terminate()
print(owner, p.wait())
END
ok "it is ready, feeds the watchdog and ends cleanly" python3 notify.py
is "what it said when it was ready" 's "b" 0' "$(cat out)"
is "nothing is left of it" "" "$(worker_pid)"
is "no word of alarm" "" "$(grep '^bootmgrd:' bootmgrd.err)"
exposure=$(systemd-analyze security --offline=true --no-pager "$top/units/system/bootmgrd.service" | sed -n 's/.*exposure level for .*: \([0-9.]*\) .*/\1/p')
echo "systemd-analyze security: $exposure"
is "the sandbox: exposure at most 2.5" yes "$(awk -v e="$exposure" 'BEGIN { print e != "" && e <= 2.5 ? "yes" : "no: " e }')"

finish
