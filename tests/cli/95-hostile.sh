#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What nodes ask of a controller, asked by those who mean no good: hostile.py, against a real bootmgrd with a real etcd. Whatever is
# asked, nothing of what the store holds may change but what a node says of itself, and every answer is a clear error.
#
# Functions that ok calls by their names:
# shellcheck disable=SC2317
. "$(dirname "$0")/lib.sh"
. "$top/tests/cli/bus.sh"
. "$top/tests/cli/controller.sh"
c() { "$BOOTMGR" --config conf --data "$W/c1" "$@"; }
daemon=''
trap 'stop_all $etcds $daemon' EXIT
port=$(free_ports 1)
printf '[API]\nListen=127.0.0.1:%s\n' "$port" >conf
mkdir c1
c cluster init acme --name c1 --address 127.0.0.1 || exit 2
move_store c1
start_etcd c1
until cluster_record c1 3 2>/dev/null; do sleep 0.1; done
cluster_member c1 c1 controller 0

# ---- who asks ----

printf 'extendedKeyUsage=clientAuth\n' >client.ext
# FILE NAME ROLE [CA [openssl x509 options]]: a certificate with a key of its own
certificate() {
        file=$1 subject="/CN=$2/OU=$3" ca=${4:-c1/cluster/ca}
        shift 3
        [ $# -eq 0 ] || shift
        openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$file.key" -subj "$subject" -out "$file.csr" 2>/dev/null &&
                openssl x509 -req -in "$file.csr" -CA "$ca.pem" -CAkey "$ca.key" -CAcreateserial -extfile client.ext -out "$file.pem" "$@" 2>/dev/null
}
key_of() { openssl x509 -in "$1.pem" -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum | cut -d' ' -f1; }
# FILE NAME JOINED: a member, known by its key
member() {
        certificate "$1" "$2" engine && store_put c1 "bootmgr/nodes/$2" \
                "{\"format\":1,\"minor\":0,\"name\":\"$2\",\"role\":\"engine\",\"joined\":$3,\"key\":\"$(key_of "$1")\"}"
}
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout foreign.key -out foreign.pem -subj /CN=foreign -days 30 2>/dev/null &&
        member e1 e1 0 && member e2 e2 0 && member late late 3 &&
        certificate nobody e9 engine && certificate gone c9 controller && certificate same-name e1 engine && certificate person ann operator &&
        certificate stranger e1 engine foreign -days 30 || exit 2
mkdir old && touch old/index && echo 01 >old/serial
printf '[ca]\ndefault_ca=d\n[d]\ndatabase=old/index\nserial=old/serial\nnew_certs_dir=old\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\norganizationalUnitName=supplied\n' >old.cnf
cp e1.key expired.key
openssl ca -batch -config old.cnf -cert c1/cluster/ca.pem -keyfile c1/cluster/ca.key -in e1.csr -out expired.pem -extfile client.ext \
        -startdate "$(date -u -d '-9 days' +%Y%m%d%H%M%SZ)" -enddate "$(date -u -d '-2 days' +%Y%m%d%H%M%SZ)" -notext 2>ca.err || { cat ca.err; exit 2; }

# ---- an operation that waits for votes, and a way back that one node is no part of ----

cluster_record c1 3 '{"from":3,"to":3}'
id=$(printf %032d 5)
store_put c1 bootmgr/operation "{\"format\":1,\"minor\":0,\"id\":\"$id\",\"kind\":\"ROLLBACK\",\"phase\":\"PREPARE\",\"result\":\"IN_PROGRESS\",\"from\":$version_1,\"to\":$version_1,\"epoch\":0,\"strict\":false,\"one_instant\":false,\"engines\":\"together\",\"max_unavailable\":0,\"deadline_usec\":4102444800000000,\"before\":$(store_get c1 bootmgr/record)}"
serve c1 conf "https://127.0.0.1:$port"
"$top/tests/cli/hostile.py" "$W" "$port" "$(head -n 1 c1/cluster/store.endpoints)" >out 2>err || { echo "exit status $?: hostile.py" && tail -n 40 err; } >why
passed=$((passed + $(grep -c '^ok' out)))
failed=$((failed + $(grep -c '^NOT OK' out)))
cat out
if [ -s why ]; then flunk "hostile.py" why; else pass "hostile.py came to its end"; fi
# ---- who listens, and is a member no more ----

curl -sN --cacert c1/cluster/ca.pem --cert e2.pem --key e2.key -m 60 "https://127.0.0.1:$port/api/events" >events 2>curl.err &
listener=$!
for _ in $(seq 100); do
        [ -s events ] && break
        sleep 0.1
done
is "it listens" "yes" "$([ -s events ] && kill -0 $listener && echo yes)"
store_put c1 bootmgr/nodes/e2 "$(store_get c1 bootmgr/nodes/e2 | sed "s/$(key_of e2)/$(key_of e1)/")"
wait $listener
is "its stream ends" 0 $?
is "and is refused" 403 "$(curl -s -o answer -w '%{http_code}' --cacert c1/cluster/ca.pem --cert e2.pem --key e2.key "https://127.0.0.1:$port/api/events")"

# ---- a controller without its store ----

view() { curl -sN --cacert c1/cluster/ca.pem --cert e1.pem --key e1.key -m "$1" "https://127.0.0.1:$port/api/cluster/node/view"; }
view 60 >lines &
listener=$!
for _ in $(seq 100); do
        [ -s lines ] && break
        sleep 0.1
done
kill -STOP "$etcd" # as a machine that hangs
wait $listener
is "who listens to it is sent away" "0 yes" "$? $([ -s lines ] && echo yes)"
has "who asks it, too" '"store-failed"' "$(view 5)"
kill -CONT "$etcd"
# a refusal comes at once: without the pause, a quick machine asks sixty times before the store has answered once
for _ in $(seq 60); do
        view 1 >lines
        grep -q '^data: ' lines && break
        sleep 0.5
done
has "when it is there again, it tells again" '^data: ' "$(head -n 1 lines)"

ends_cleanly
finish
