#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The HTTPS interface of a controller, with a real etcd and engines that controller_api.py plays: docs/openapi.json is held against
# it. Each path, each status, each member that is described, and each kind of error that only a cluster has, is met.
#
# Functions that ok calls by their names:
# shellcheck disable=SC2317
. "$(dirname "$0")/lib.sh"
. "$top/tests/cli/bus.sh"
. "$top/tests/cli/controller.sh"

bundle 1 && bundle 2 && bundle 3 && bundle 4 || exit 2
mkdir strange && "$BOOTMGR" bundle keygen strange/release -q &&
        "$BOOTMGR" bundle create -q --version 5 --compatible test-box --root root-4 --kernel kernel-4 --key strange/release.key untrusted.bundle || exit 2
daemon_machine
mkdir -p data/root/cfg
{ m upgrade system -q 1.bundle && boots && m upgrade system -q 4.bundle && boots && m rollback system -q && boots; } || exit 2 # 4 is refused now
echo old >data/root/cfg/setting
printf '\000\001' >data/root/cfg/odd
{ m upgrade system -q 2.bundle && boots; } || exit 2
echo new >data/root/cfg/setting # what a rollback would give up
printf '\000\002' >data/root/cfg/odd
daemon=
trap 'stop_all $etcds $daemon' EXIT
port=$(free_ports 1)
cat conf - >daemon.conf <<END
[API]
Listen=127.0.0.1:$port
Tokens=$W/tokens
[Storage]
DataDirectory=$W/data
END
cp daemon.conf conf
m cluster init acme --name c1 --address 127.0.0.1 --address localhost || exit 2
cp data/cluster/ca.pem data/cluster/ca.key . && cp data/cluster/node.pem c1.pem && cp data/cluster/node.key c1.key || exit 2
move_store data

# ---- who asks, and the members there are ----

printf 'extendedKeyUsage=clientAuth\n' >client.ext
certificate() { # NAME ROLE
        openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -subj "/CN=$1/OU=$2" -out "$1.csr" 2>/dev/null &&
                openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -extfile client.ext -days 30 -out "$1.pem" 2>/dev/null
}
key_of() { openssl x509 -in "$1.pem" -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum | cut -d' ' -f1; }
member() { # NAME ROLE JOINED [ADDRESS]
        store_put data "bootmgr/nodes/$1" \
                "{\"format\":1,\"minor\":0,\"name\":\"$1\",\"role\":\"$2\",\"joined\":$3,\"key\":\"$(key_of "$1")\",\"address\":\"${4-}\"}"
}
certificate operator operator && certificate former engine || exit 2
for name in e1 e2 e3 e4 e5 late; do certificate $name engine || exit 2; done
umask 077
printf 'watcher read %s\nupdater operate %s\n' "$(printf reading-token | sha256sum | cut -d' ' -f1)" "$(printf operating-token | sha256sum | cut -d' ' -f1)" >tokens
umask 022

start_etcd data
echo "$etcd" >etcd.pid
identity() { printf '{"version":"%s","digest":"%s"}' "$1" "$(m status --json | json '[s["digest"] for s in j["slots"] if s["version"] == "'"$1"'"][0]')"; }
one=$(identity 1) two=$(identity 2)
record="{\"format\":1,\"minor\":0,\"epoch\":4,\"running\":$two,\"previous\":$one,\"previous_epoch\":1,\"finalized\":false,\"origin\":\"commit\",\"operation\":\"$(printf %032d 9)\",\"written_usec\":1700000000000000,\"fences\":[{\"from\":3,\"to\":3}]}"
until store_put data bootmgr/record "$record" 2>/dev/null; do sleep 0.1; done
member c1 controller 0 "https://127.0.0.1:$port"
for name in e1 e2 e3 e4; do member $name engine 1; done
member e5 engine 4    # it joined after the snapshot
member late engine 3  # it joined after that which the cluster went back to before
# What is over: one of each result
over() { # N RESULT EPOCH KIND MORE
        store_put data "bootmgr/history/$(printf %032d "$1")" "{\"format\":1,\"minor\":0,\"id\":\"$(printf %032d "$1")\",\"kind\":\"$4\",\"phase\":\"IDLE\",\"result\":\"$2\",\"from\":$one,\"to\":$two,\"epoch\":$3,\"strict\":false,\"one_instant\":false,\"engines\":\"together\",\"max_unavailable\":1,\"opened_usec\":1700000000000000,\"ended_usec\":1700000060000000,\"controllers_at_usec\":1700000020000000,\"engines_at_usec\":1700000040000000,\"lead_usec\":15000000,\"before\":$record$5}"
}
over 6 FAILED 2 UPGRADE ',"reason":"c1 did not come up with version 2"'
over 7 DONE 3 ROLLBACK ''
over 9 PARTIAL 4 UPGRADE ',"stragglers":[{"name":"e3","reason":"it did not answer"}]'

start_bus ""
env BOOTMGR_PROGRAM="$W/bootmgr-image" RUNTIME_DIRECTORY="$W/run" BOOTMGR_CONFIG="$W/daemon.conf" "$bootmgrd" 2>bootmgrd.err &
daemon=$!
until curl -sko /dev/null "https://127.0.0.1:$port/healthz"; do kill -0 $daemon || { cat bootmgrd.err; exit 2; }; sleep 0.05; done
/usr/bin/python3 "$top/tests/cli/controller_api.py" "$W" "$port" "$top/docs/openapi.json" >out 2>err || { echo "exit status $?: controller_api.py" && tail -n 40 err; } >why
passed=$((passed + $(grep -c '^ok' out)))
failed=$((failed + $(grep -c '^NOT OK' out)))
cat out
if [ -s why ]; then flunk "controller_api.py" why; else pass "controller_api.py came to its end"; fi
ends_cleanly
finish
