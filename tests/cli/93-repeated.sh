#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What operators ask of a cluster, at two of its controllers: an upgrade whose bundle another one must not remove; requests that are
# repeated elsewhere because the answer was lost; a store that is full. With a real etcd; the two are one machine with two data
# directories.
# asan: no, it waits for what 90-controller-api.sh and 91-join.sh run, too
#
# Functions that ok calls by their names:
# shellcheck disable=SC2317
. "$(dirname "$0")/lib.sh"
. "$top/tests/cli/bus.sh"
. "$top/tests/cli/controller.sh"

minor=$(etcd --version | sed -n 's/^etcd Version: \([0-9]*\.[0-9]*\)\..*/\1/p')
bundle 1 && bundle 2 --etcd "$minor" && bundle 3 && bundle 4 --etcd "${minor}1" || exit 2
make_machine
m upgrade system -q 1.bundle && boots || exit 2
daemon=
trap 'stop_all $etcds $daemon' EXIT
port=$(free_ports 1)
printf '[API]\nListen=127.0.0.1:%s\n' "$port" >>conf
m cluster init acme --name c1 --address 127.0.0.1 || exit 2
move_store data
start_etcd data
until m cluster found 2>/dev/null; do sleep 0.1; done
cp -a data data2
other() { "$BOOTMGR" --disk disk.img --esp esp --data data2 --config conf --cmdline "$running" "$@"; }
one=$(m status --json | json '[s["digest"] for s in j["slots"] if s["version"] == "1"][0]')
store_put data bootmgr/status/controller/c1 "{\"format\":1,\"minor\":0,\"epoch\":1,\"settled\":true,\"confirmed\":true,\"running\":{\"version\":\"1\",\"digest\":\"$one\"},\"generation\":1,\"message\":\"\"}"
opened() { store_get data bootmgr/operation | json 'j["id"]'; }
id() { printf '%032d' "$1"; }

# What a cluster does not do is not left out silently
fails 2 usage "an updater asks" m upgrade system --automatic 2.bundle
fails 2 usage "to wait for the reboot" m upgrade system --no-reboot 2.bundle
fails 2 usage "to leave out the reading back" m upgrade system --no-read-back 2.bundle
fails 2 usage "to hurry" m upgrade system --full-speed 2.bundle
fails 2 usage "an instant that is too far off" m upgrade system --lead 61s 2.bundle

# What another etcd has written, this one may not read
fails 3 bundle-incompatible "an etcd of another minor version" m upgrade system 4.bundle
has "both are named" "etcd ${minor}1.* etcd $minor\\.[0-9]" "$(cat out)"
is "nothing is open" "" "$(store_get data bootmgr/operation)"
is "nor kept" "" "$(ls -A data/cluster/bundles 2>/dev/null)"

# What is kept for all is whole
cp 2.bundle bad.bundle
printf x | dd of=bad.bundle bs=1 seek=$(($(stat -c %s bad.bundle) - 9)) conv=notrunc status=none
fails 1 content-mismatch "a bundle whose last chunk is damaged" m upgrade system bad.bundle
is "nothing is open" "" "$(store_get data bootmgr/operation)"
is "nor kept" "" "$(ls -A data/cluster/bundles)"
python3 "$top/tests/cli/http_server.py" port log &
server=$!
trap 'stop_all $etcds $daemon $server' EXIT
for _ in $(seq 100); do [ -e port ] && break; sleep 0.05; done
url=http://127.0.0.1:$(cat port)
fails 1 content-mismatch "from a server" m upgrade system "$url/ranges/bad.bundle"

# Two upgrades at once
mkdir -p data/cluster/bundles
exec 9<data/cluster/bundles && flock -n 9 || exit 2
fails 3 operation-in-progress "while another one is prepared" m upgrade system --id "$(id 1)" 2.bundle
is "nothing is open" "" "$(store_get data bootmgr/operation)"
exec 9<&-
two=$("$BOOTMGR" bundle inspect --json 2.bundle | json 'j["digest"]')
cp bad.bundle "data/cluster/bundles/$two"
ok "afterwards, where the kept one has decayed, from two servers of which one is wrong" m upgrade system --id "$(id 1)" "$url/ranges/bad.bundle $url/ranges/2.bundle"
ok "what is kept is what the other one has" cmp 2.bundle "data/cluster/bundles/$two"
is "it is open" "$(id 1)" "$(opened)"
fails 3 operation-in-progress "a second one" m upgrade system --id "$(id 2)" 3.bundle
ok "leaves its bundle alone" test -s "data/cluster/bundles/$two"

# Another controller keeps what it installs: this one may be gone when somebody lacks it
serve data conf "https://127.0.0.1:$port"
rm -rf data2/cluster/bundles
printf '{"format":1,"minor":0,"revision":%d,"now_usec":1,"cluster":%s,"operation":%s,"you":{"member":true,"role":"controller","fenced":false,"voted":false,"order_usec":0}}' \
        9 "$(store_get data bootmgr/record)" "$(store_get data bootmgr/operation)" >told
other --json cluster step <told >answer 2>err # it has reached its epoch
cp -a data2 data3
other --json cluster step <told >answer 2>err
is "it has it from the first one, and votes for it" "prepare true" "$(json 'j["action"] + " " + str(j["vote"]["yes"]).lower()' <answer)"
ok "and keeps it" cmp 2.bundle "data2/cluster/bundles/$two"
is "nothing else" "$two" "$(ls -A data2/cluster/bundles)"
four=$("$BOOTMGR" bundle inspect --json 4.bundle | json 'j["digest"]')
cp 4.bundle "data/cluster/bundles/$four"
sed "s/$two/$four/g" told >told-4
"$BOOTMGR" --disk disk.img --esp esp --data data3 --config conf --cmdline "$running" --json cluster step <told-4 >answer 2>err
is "one whose etcd is not that of the bundle votes against it" "prepare false" \
        "$(json 'j["action"] + " " + str(j["vote"]["yes"]).lower()' <answer)"
has "and says why" "etcd $minor" "$(json 'j["vote"]' <answer)"
rm -r data3 "data/cluster/bundles/$four"
kill $daemon
wait $daemon
daemon=

# The answer was lost: asked again, here and at another controller
ok "the same again" m upgrade system --id "$(id 1)" 2.bundle
ok "elsewhere" other upgrade system --id "$(id 1)" 2.bundle
fails 3 id-reused "with another bundle it is another request" m upgrade system --id "$(id 1)" 3.bundle
fails 3 id-reused "elsewhere, too" other upgrade system --id "$(id 1)" 3.bundle
fails 3 id-reused "with other options as well" m upgrade system --id "$(id 1)" --strict 2.bundle
fails 3 id-reused "elsewhere, too" other upgrade system --id "$(id 1)" --engines rolling 2.bundle
ok "when the bundle is gone it is what it was" other upgrade system --id "$(id 1)" gone.bundle
fails 3 id-reused "a rollback with that id" other rollback system --id "$(id 1)"
fails 3 id-reused "an abort with that id" other abort --id "$(id 1)"

ok "aborted" m abort --id "$(id 11)"
is "nothing is open" "" "$(store_get data bootmgr/operation)"
ok "again, when nothing is" other abort --id "$(id 11)"
ok "another one" m upgrade system --id "$(id 3)" 3.bundle
ok "again, here" m abort --id "$(id 11)"
ok "again, elsewhere" other abort --id "$(id 11)"
is "it is not that one that is aborted" "$(id 3)" "$(opened)"
fails 3 id-reused "a finalize with that id" other finalize --id "$(id 11)"
ok "that one is by an id of its own" other abort --id "$(id 12)"
is "it is" "" "$(store_get data bootmgr/operation)"
fails 3 id-reused "an upgrade with the id of an abort" m upgrade system --id "$(id 12)" 2.bundle

unfinalize() { store_put data bootmgr/record "$(store_get data bootmgr/record | sed 's/"finalized":true/"finalized":false/')"; }
finalized() { store_get data bootmgr/record | json 'j["finalized"]'; }
ok "finalized" m finalize --id "$(id 21)"
is "it is" true "$(finalized)"
unfinalize # as a newer upgrade does
ok "again, elsewhere" other finalize --id "$(id 21)"
is "it is not the newer one that is" false "$(finalized)"
ok "without an id each is one of its own" other finalize
is "so it is" true "$(finalized)"
ok "one that has nothing to do" m finalize --id "$(id 22)"
unfinalize
ok "is remembered as well" other finalize --id "$(id 22)"
is "and does nothing later" false "$(finalized)"

# What is over is kept in number: the newest operations, and the newest ids of what was done at once
numbers() {
        ask_store data /v3/kv/range "{\"key\":\"$(printf %s "$1" | base64 -w0)\",\"range_end\":\"$(printf %s "${1%/}0" | base64 -w0)\",\"keys_only\":true}" |
                python3 -c 'import base64, json, sys
print(*[base64.b64decode(x["key"]).decode().rsplit("/", 1)[1].lstrip("0") for x in json.load(sys.stdin)["kvs"]])'
}
over=$(store_get data "bootmgr/history/$(id 1)")
is "two operations are over" "1 3" "$(numbers bootmgr/history/)"
# One transaction makes all of them, which no revision tells apart: newer than those two
fill() {
        python3 - "$1" "$2" "$3" >filling <<'END'
import base64, json, sys
b = lambda s: base64.b64encode(s.encode()).decode()
first, n = int(sys.argv[2]), int(sys.argv[3])
puts = [{"requestPut": {"key": b(f"{sys.argv[1]}{i:032}"), "value": b(open("value").read())}}
        for i in range(first, first + n)]
json.dump({"success": puts}, sys.stdout)
END
        ask_store data /v3/kv/txn @filling >answer
}
printf %s "$over" >value
fill bootmgr/history/ 1001 98
ok "the hundred and first is opened" m upgrade system --id "$(id 5)" 2.bundle
has "the oldest is gone" '^3 1001 .* 1098$' "$(numbers bootmgr/history/)"
ok "it is over" other abort --id "$(id 13)"
has "it is the hundredth" '^3 5 1001 .* 1098$' "$(numbers bootmgr/history/)"
ok "and can be asked for again" m upgrade system --id "$(id 5)" 2.bundle --json
is "with its answer" "ABORTED" "$(json 'j["state"]' <out)"
printf '{"format":1,"minor":0,"verb":"abort"}' >value
for first in $(seq 2001 100 2901); do fill bootmgr/requests/ "$first" 100; done
ok "one more request" m finalize --id "$(id 23)"
unfinalize
ok "the newest ids are known" other abort --id "$(id 2950)"
is "there are a thousand" 1000 "$(numbers bootmgr/requests/ | wc -w)"
is "and the oldest are gone" "" "$(numbers bootmgr/requests/ | tr ' ' '\n' | grep -xE '1[1-3]|2[12]')"

# A store that is full takes nothing; once etcd has been started again it does
kill $etcd
wait $etcd 2>/dev/null
sed -i 's/^ETCD_QUOTA_BACKEND_BYTES=.*/ETCD_QUOTA_BACKEND_BYTES=8388608/' data/cluster/etcd.env
start_etcd data
until ask_store data /v3/maintenance/status '{}' 2>/dev/null | grep -q leader; do sleep 0.1; done
ok "one that has room is left alone" m cluster promote
head -c 700000 /dev/urandom | base64 -w0 | sed 's/.*/{"key":"eA==","value":"&"}/' >large
for _ in $(seq 30); do ask_store data /v3/kv/put @large >answer; done
has "the store is full" 'space exceeded' "$(cat answer)"
fails 1 store-failed "nothing is written" m finalize
has "and what ends that is said" 'systemctl restart bootmgr-etcd' "$(cat out)"
ok "what is run when etcd has started" m cluster promote
ok "makes room" m finalize
is "it is written" true "$(finalized)"
finish
