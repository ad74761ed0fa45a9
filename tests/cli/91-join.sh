#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# How a machine becomes a node of a cluster and stops being one: a controller with a real etcd and a real bootmgrd.
#
# Functions that ok calls by their names:
# shellcheck disable=SC2317
. "$(dirname "$0")/lib.sh"
. "$top/tests/cli/bus.sh"
. "$top/tests/cli/controller.sh"
c() { "$BOOTMGR" --config conf --data "$W/c1" "$@"; }
daemon='' liar=''
trap 'stop_all $etcds $daemon $liar' EXIT
port=$(free_ports 1)
printf '[API]\nListen=127.0.0.1:%s\n' "$port" >conf
mkdir c1

# ---- the first controller, and what it knows of its nodes ----

ok "the first controller" c cluster init acme --name c1 --address 127.0.0.1
is "it knows where it is asked" "https://127.0.0.1:$port" "$(cat c1/cluster/address)"
move_store c1
start_etcd c1
until cluster_record c1 3 2>/dev/null; do sleep 0.1; done
cluster_member c1 c1 controller 0
cluster_member c1 e1 engine 0
cluster_member c1 e2 engine 1
cluster_member c1 e3 engine 3
said() { # NAME ROLE EPOCH SETTLED VERSION
        store_put c1 "bootmgr/status/$2/$1" "{\"format\":1,\"minor\":0,\"epoch\":$3,\"settled\":$4,\"confirmed\":true,\"running\":{\"version\":\"$5\",\"digest\":\"$(printf %064d "$5")\"},\"generation\":7,\"message\":\"\"}"
}
said c1 controller 3 true 1
said e1 engine 3 true 2
said e2 engine 3 false 2
c show nodes --json >nodes.json
states() { json '" ".join(n["name"] + "=" + n["state"] for n in j["nodes"])'; }
is "how the nodes stand" "c1=up e1=behind e2=switching e3=silent" "$(states <nodes.json)"
is "and which it is itself" "3 c1" "$(json '"%d %s" % (j["epoch"], " ".join(n["name"] for n in j["nodes"] if n["self"]))' <nodes.json)"
is "what a node has said" "1 7 True 3 0" "$(json '" ".join(str(j["nodes"][0][k]) for k in ("version", "generation", "confirmed", "epoch", "joined"))' <nodes.json)"
is "nothing is known of one that was silent" "[null, null, null, null]" "$(json '[j["nodes"][3][k] for k in ("version", "generation", "confirmed", "epoch")]' <nodes.json)"
has "as a table" 'e1 +engine +behind +2 +7' "$(c show nodes)"
cluster_record c1 3 '{"from":3,"to":3}'
is "one that joined after the snapshot" "True fenced" "$(c show nodes --json | json '"%s %s" % (j["nodes"][3]["fenced"], j["nodes"][3]["state"])')"
has "and why" 'e3 .*fenced .*joined in epoch 3, after the snapshot' "$(c show nodes)"

# ---- deleting ----

fails 2 not-found "nobody of that name" c node delete e9
fails 2 not-found "what is no name" c node delete ../e1
fails 2 usage "itself" c node delete c1
id=$(printf %032d 5)
store_put c1 bootmgr/operation "{\"format\":1,\"minor\":0,\"id\":\"$id\",\"kind\":\"ROLLBACK\",\"phase\":\"PREPARE\",\"result\":\"IN_PROGRESS\",\"from\":$version_1,\"to\":$version_1,\"epoch\":0,\"strict\":false,\"one_instant\":false,\"engines\":\"together\",\"max_unavailable\":0,\"deadline_usec\":4102444800000000,\"before\":$(store_get c1 bootmgr/record)}"
fails 3 operation-in-progress "while an operation is open" c node delete e3
store_delete c1 bootmgr/operation
ok "one that was fenced" c node delete e3
is "it is gone" "c1 e1 e2" "$(c show nodes --json | json '" ".join(n["name"] for n in j["nodes"])')"
ok "and one that had said something" c node delete e1
is "what it said is gone, too" "" "$(store_get c1 bootmgr/status/engine/e1)"
has "those who counted it see that" '"name":"e1"' "$(store_get c1 bootmgr/nodes/.deleted)"
fails 2 not-found "a second time" c node delete e1
store_put c1 bootmgr/nodes/e7 '{"format":1,"minor":0,"name":"e7","role":"engine","joined":1}'
once=$(printf %032d 7)
ok "one by an id" c node delete e7 --id "$once"
store_put c1 bootmgr/nodes/e7 '{"format":1,"minor":0,"name":"e7","role":"engine","joined":1}' # it has joined anew
ok "the answer was lost: the same again" c node delete e7 --id "$once"
has "deletes nobody who has joined since" '"e7"' "$(store_get c1 bootmgr/nodes/e7)"
fails 3 id-reused "another node with that id" c node delete e2 --id "$once"
ok "by another id it is another request" c node delete e7 --id "$(printf %032d 8)"
is "and done" "" "$(store_get c1 bootmgr/nodes/e7)"

# ---- a machine that is no controller ----

mkdir alone
a() { "$BOOTMGR" --config conf --data "$W/alone" "$@"; }
fails 2 not-found "a machine that stands alone has no other" a node delete e1
fails 2 usage "and stays" a node delete "$(hostname)"
fails 2 usage "nor lets anybody in" a cluster admit

# ---- a daemon for the controller ----

url=https://127.0.0.1:$port
serve c1 conf "$url"
cluster_record c1 3
new_token() { c cluster token "$@"; }
# NAME WORDS...: that machine's bootmgr
on() {
        node=$1
        shift
        mkdir -p "$node"
        "$BOOTMGR" --config conf --data "$W/$node" "$@"
}
joins() { node=$1; shift; on "$node" node join "$@" --name "$node"; }
members() { c show nodes --json | json '" ".join(n["name"] for n in j["nodes"])'; }
curl -sk "$url/api/cluster/ca" >ca
ok "anybody may have the CA" cmp ca c1/cluster/ca.pem

# ---- joining ----

token=$(new_token)
mkdir -p e1/cluster/etcd # what a controller leaves whose leaving a cut came into; and what it had promised its cluster
touch e1/cluster/ca.key e1/cluster/store-ca.key e1/cluster/learner e1/cluster/journal
ok "an engine joins" joins e1 "$url" "$token" --json
is "it is told as what" "done e1 engine 3 $url" "$(json '" ".join(str(x) for x in (j["result"], j["name"], j["role"], j["epoch"], *j["controllers"]))' <out)"
is "what lies there then" "ca.pem controllers name node.key node.pem" "$(find e1/cluster -mindepth 1 -printf '%f\n' | sort | tr '\n' ' ' | sed 's/ $//')"
is "for nobody else to read" "" "$(find e1/cluster -type f ! -perm 600)"
ok "its certificate is of the cluster, for a client" openssl verify -x509_strict -purpose sslclient -CAfile c1/cluster/ca.pem e1/cluster/node.pem
has "and says who it is" 'OU = engine, CN = e1' "$(openssl x509 -in e1/cluster/node.pem -noout -subject)"
is "it knows the controllers" "$url" "$(cat e1/cluster/controllers)"
is "it is a member since this epoch" "engine 3" "$(store_get c1 bootmgr/nodes/e1 | json '"%s %d" % (j["role"], j["joined"])')"
key() { openssl pkey -in "$1/cluster/node.key" -pubout -outform der | sha256sum | cut -d' ' -f1; }
is "known by its key" "$(key e1)" "$(store_get c1 bootmgr/nodes/e1 | json 'j["key"]')"
is "the token says who used it" e1 "$(store_get c1 "bootmgr/tokens/$(echo "$token" | cut -d- -f3)" | json 'j["used_by"]')"
is "it asks a controller who is there, with its certificate" "e1 True" "$(on e1 show nodes --json | json '" ".join("%s %s" % (n["name"], n["self"]) for n in j["nodes"] if n["self"])')"
store_put c1 bootmgr/nodes/c1 "{\"format\":1,\"minor\":0,\"name\":\"c1\",\"role\":\"controller\",\"joined\":0,\"address\":\"$url\"}"
said e1 engine 3 true 1
is "no controller hears of it" "c1=up e1=off e2=switching" "$(c show nodes --json | states)"
has "which is said" 'e1 .*off .*no controller hears of it' "$(c show nodes)"
curl -sN --cacert ca --cert e1/cluster/node.pem --key e1/cluster/node.key "$url/api/cluster/node/view" >view &
listener=$!
until [ -s view ]; do sleep 0.05; done
is "when it listens it is up, also to who asks from elsewhere" "c1=up e1=up e2=switching" "$(on e1 show nodes --json | states)"
has "and is counted" '^bootmgr_connected_nodes 1$' "$(curl -s --cacert ca --cert c1/cluster/node.pem --key c1/cluster/node.key "$url/metrics")"
has "in the cluster's epoch" '^bootmgr_epoch 3$' "$(curl -s --cacert ca --cert c1/cluster/node.pem --key c1/cluster/node.key "$url/metrics")"
kill $listener
wait $listener
for _ in $(seq 60); do # two comments, 15 s apart: the first is answered with a reset, the second finds it
        c show nodes --json | states | grep -q e1=off && break
        sleep 1
done
is "and off when it does no longer" "c1=up e1=off e2=switching" "$(c show nodes --json | states)"
kill -STOP $daemon
start=$(date +%s)
is "with a bootmgrd that hangs nobody is said to be off" "c1=up e1=up e2=switching" "$(c show nodes --json | states)"
has "which is found out soon" '^[0-9]$' $(($(date +%s) - start))
kill -CONT $daemon
store_delete c1 bootmgr/status/engine/e1
fails 2 usage "an engine makes no tokens" on e1 cluster token
fails 2 usage "nor deletes" on e1 node delete e2
fails 2 usage "nor becomes a controller" on e1 cluster init acme --address 127.0.0.1

# What a step that was at work wrote while it joined
good=$(new_token)
mkdir -p late/cluster && touch late/cluster/learner
kill -STOP $daemon
joins late "$url" "$good" >out 2>&1 &
joining=$!
while [ -e late/cluster/learner ]; do kill -0 $joining || exit 2; sleep 0.05; done
echo '{"format":1,"minor":0,"reached":9}' >late/cluster/journal
kill -CONT $daemon
wait $joining
is "an engine joins while one of its steps is at work" 0 $?
is "what that wrote is not there any more" "ca.pem controllers name node.key node.pem" "$(find late/cluster -mindepth 1 -printf '%f\n' | sort | tr '\n' ' ' | sed 's/ $//')"
ok "it leaves" c node delete late

# An answer that was lost, or a power cut before the last file
for lost in "controllers" "controllers node.pem" "controllers node.pem ca.pem"; do
        before=$(key e1)
        for f in $lost; do rm "e1/cluster/$f"; done
        ok "again, without $lost" joins e1 "$url" "$token"
        is "with the same key" "$before" "$(key e1)"
done
is "it is there once" "c1 e1 e2" "$(members)"
ok "its certificate is good" on e1 show nodes
rm e1/cluster/controllers e1/cluster/node.key
fails 3 token-refused "with another key it is another machine" joins e1 "$url" "$token"
has "which is told who used it" "used by e1" "$(cat out)"
fails 3 token-refused "another name" joins e8 "$url" "$token"

# ---- refusals ----

mv e1 lost
ok "the lost one is deleted" c node delete e1
fails 3 token-refused "its token is used up" joins e1 "$url" "$token"
ok "with a new one it joins anew" joins e1 "$url" "$(new_token)"
fails 2 usage "a member" joins e1 "$url" "$(new_token)"
has "is told so" 'already, as e1' "$(cat out)"
fails 2 usage "under another name, too" on e1 node join "$url" "$(new_token)" --name e7
ok "deleted" c node delete e1
before=$(key e1)
cp -r e1 former
ok "it joins anew" joins e1 "$url" "$(new_token)"
is "with a new key" 1 "$([ "$before" = "$(key e1)" ]; echo $?)"
fails 2 usage "a name that is taken" joins e2 "$url" "$(new_token)"
has "is said to be" "name e2 is taken" "$(cat out)"
fails 2 usage "that of the controller" on e3 node join "$url" "$(new_token)" --name c1
fails 2 usage "no name at all" on e3 node join "$url" "$(new_token)" --name E_3
good=$(new_token)
fails 3 token-refused "no token" joins e3 "$url" "bootmgr-engine-x"
fails 2 usage "none at all" on e3 node join
fails 2 usage "no controller" joins e3 "$good"
fails 2 usage "an address that is none" joins e3 "http://127.0.0.1:$port" "$good"
secret=$(echo "$good" | cut -d- -f4)
fails 3 token-refused "another secret" joins e3 "$url" "$(echo "$good" | sed "s/$secret/$(echo "$secret" | tr 0-9a-f 1-9a-f0)/")"
fails 3 token-refused "another role" joins e3 "$url" "$(echo "$good" | sed s/engine/controller/)" --address 127.0.0.1
fails 2 usage "a controller must say where it is" joins e3 "$url" "$(new_token --role controller)"
short=$(new_token --ttl 1s)
sleep 1.1
fails 3 token-refused "one that has expired" joins e3 "$url" "$short"
has "is said to have" "has expired" "$(cat out)"
new_token >/dev/null
is "and is gone with the next" "" "$(store_get c1 "bootmgr/tokens/$(echo "$short" | cut -d- -f3)")"
fails 1 fetch-failed "nobody there" joins e3 "https://127.0.0.1:1" "$good"
store_put c1 bootmgr/operation "{\"format\":1,\"minor\":0,\"id\":\"$id\",\"kind\":\"ROLLBACK\",\"phase\":\"PREPARE\",\"result\":\"IN_PROGRESS\",\"from\":$version_1,\"to\":$version_1,\"epoch\":0,\"strict\":false,\"one_instant\":false,\"engines\":\"together\",\"max_unavailable\":0,\"deadline_usec\":4102444800000000,\"before\":$(store_get c1 bootmgr/record)}"
fails 3 operation-in-progress "while an operation is open nobody joins" joins e3 "$url" "$good"
is "nor is deleted over the interface" 409 "$(curl -s -o out -w '%{http_code}' --cacert ca --cert c1/cluster/node.pem --key c1/cluster/node.key -X DELETE "$url/api/cluster/nodes/e2")"
store_delete c1 bootmgr/operation
cluster_record c1 4 '{"from":3,"to":3}'
fails 3 joined-after-snapshot "a name that is fenced" on e9 node join "$url" "$(new_token)" --name e1
fails 3 joined-after-snapshot "the fenced node itself" joins e1 "$url" "$(new_token)"
is "it is shown as that" "true" "$(on e1 show nodes --json | json '[n["fenced"] for n in j["nodes"] if n["self"]][0]')"
is "deleted over the interface" '200 {"result": "done"}' "$(curl -s -o out -w '%{http_code} ' --cacert ca --cert c1/cluster/node.pem --key c1/cluster/node.key -X DELETE "$url/api/cluster/nodes/e1"; json j <out)"
ok "it joins anew" joins e1 "$url" "$(new_token)"
is "and is not fenced" "False 4" "$(c show nodes --json | json '["%s %d" % (n["fenced"], n["joined"]) for n in j["nodes"] if n["name"] == "e1"][0]')"
is "a key that is none" 400 "$(curl -s -o out -w '%{http_code}' --cacert ca --cert c1/cluster/node.pem --key c1/cluster/node.key -H 'Idempotency-Key: x' -X DELETE "$url/api/cluster/nodes/e1")"
store_put c1 bootmgr/nodes/e7 '{"format":1,"minor":0,"name":"e7","role":"engine","joined":1}'
for again in 1 2; do
        is "deleted by a key, $again" '200 {"result": "done"}' "$(curl -s -o out -w '%{http_code} ' --cacert ca --cert c1/cluster/node.pem --key c1/cluster/node.key -H "Idempotency-Key: $(printf %032d 9)" -X DELETE "$url/api/cluster/nodes/e7"; json j <out)"
done
is "an engine may not delete" 403 "$(curl -s -o out -w '%{http_code}' --cacert ca --cert e1/cluster/node.pem --key e1/cluster/node.key -X DELETE "$url/api/cluster/nodes/e2")"
ok "the token that was refused so often" joins e3 "https://127.0.0.1:1" "$url" "$good"
is "is good still; and a controller that is away does not matter" "c1 e1 e2 e3" "$(members)"

# ---- those who say that they are a controller ----

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout liar.key -out liar.pem -subj /CN=liar -addext subjectAltName=IP:127.0.0.1 -days 9 2>/dev/null
good=$(new_token)
lies() { # CA CERTIFICATE KEY
        false_port=$(free_ports 1)
        rm -f liar.out lies.log
        "$top/tests/cli/false_controller.py" "$false_port" "$2" "$3" "$1" lies.log >liar.out &
        liar=$!
        until [ -s liar.out ]; do kill -0 $liar || return 1; sleep 0.05; done
}
lies liar.pem liar.pem liar.key
fails 3 certificate-refused "a controller with another CA" joins e4 "https://127.0.0.1:$false_port" "$good"
has "both are named" "$(echo "$good" | cut -d- -f5)" "$(cat out)"
has "the other one, too" "$(openssl x509 -in liar.pem -outform der | sha256sum | cut -d' ' -f1)" "$(cat out)"
is "it was asked for nothing else" "GET /api/cluster/ca " "$(cat lies.log)"
kill $liar
lies ca liar.pem liar.key
fails 3 certificate-refused "one that shows ours, and has no certificate of it" joins e4 "https://127.0.0.1:$false_port" "$good"
has_not "no secret was told" "$(echo "$good" | cut -d- -f4)|POST" "$(cat lies.log)"
kill $liar
lies ca e3/cluster/node.pem e3/cluster/node.key
fails 3 certificate-refused "an engine of ours that says it is one" joins e4 "https://127.0.0.1:$false_port" "$good"
has_not "is told no secret either" "$(echo "$good" | cut -d- -f4)|POST" "$(cat lies.log)"
kill $liar
is "nobody of them is a member" "c1 e1 e2 e3" "$(members)"

# ---- requests that no bootmgr makes ----

ask_to_join() { curl -s -o answer -w '%{http_code}' --cacert ca --data-binary @- "$url/api/cluster/join"; }
refused() { # WHAT STATUS KIND, body on stdin
        found="$(ask_to_join) $(json 'j["kind"]' <answer 2>/dev/null)"
        is "$1" "$2 $3" "$found"
        [ "$2 $3" = "$found" ] || echo "$1" >>piped
}
csr() { openssl req -new -newkey ec -pkeyopt "ec_paramgen_curve:${2:-P-256}" -nodes -keyout csr.key -subj "/CN=$1" 2>/dev/null; }
request() { # TOKEN NAME CSR
        python3 -c 'import json, sys
print(json.dumps({"token": sys.argv[1], "name": sys.argv[2], "csr": sys.argv[3]}))' "$@"
}
for body in '' '[]' '{' 'null' '{"token":1}' '{"token":"x","token":"x"}' "{\"token\":\"$good\",\"name\":\"e4\"}" "$(printf '[%.0s' $(seq 9000))"; do
        printf %s "$body" | refused "a body that is none: $(printf %.20s "$body")" 400 usage
done
request "$good" e4 nonsense | refused "no certificate request" 409 certificate-refused
request "$good" e4 "$(csr e4 P-384)" | refused "a key of another kind" 409 certificate-refused
request "$good" e4 "$(csr e2)" | refused "for another name" 400 usage
request "$good" e4 "$(csr e4 | sed 's/^MI/MJ/')" | refused "one that is damaged" 409 certificate-refused
request "$good" ../e4 "$(csr ../e4)" | refused "a name that is none" 409 certificate-refused
request "$good" e4 "$(csr e4)" | python3 -c 'import json, sys
print(json.dumps({**json.load(sys.stdin), "role": "controller"}))' | refused "what nobody knows" 400 usage
for _ in 1 2 3 4 5; do # it is read, as far as that is no burden: else the answer is lost now and then
        head -c 1000000 /dev/zero | tr '\0' ' ' | refused "more than there is room for" 413 too-large
done
is "nobody was let in by these" "c1 e1 e2 e3" "$(members)"
request "$good" e4 "$(csr e4)" >first
is "by hand, with a token" 200 "$(ask_to_join <first)"
is "the same request again" 200 "$(ask_to_join <first)"
request "$good" e4 "$(csr e4)" | refused "the same token for another key" 409 token-refused
is "and no key, and no secret, is in any answer" "ca certificate controllers epoch name role" "$(ask_to_join <first >/dev/null; json '" ".join(sorted(j))' <answer)"

# ---- renewing ----

is "nothing is due" "False" "$(on e1 node renew --json | json 'str(j["renewed"])')"
before=$(key e1) old=$(openssl x509 -in e1/cluster/node.pem -noout -serial)
is "but it can be had" "True" "$(on e1 node renew --force --json | json 'str(j["renewed"])')"
is "a new certificate" 1 "$([ "$old" = "$(openssl x509 -in e1/cluster/node.pem -noout -serial)" ]; echo $?)"
is "for the old key" "$before" "$(openssl x509 -in e1/cluster/node.pem -noout -pubkey | openssl pkey -pubin -outform der | sha256sum | cut -d' ' -f1)"
ok "that is one of the cluster" openssl verify -x509_strict -purpose sslclient -CAfile ca e1/cluster/node.pem
has "for the same engine" 'OU = engine, CN = e1' "$(openssl x509 -in e1/cluster/node.pem -noout -subject)"
ok "with which it goes on" on e1 show nodes
fails 3 not-authorized "who had the name before is told nothing new" on former node renew --force
renew() { # WHAT STATUS KIND WHO, body on stdin
        found="$(curl -s -o answer -w '%{http_code}' --cacert ca --cert "$4/cluster/node.pem" --key "$4/cluster/node.key" --data-binary @- "$url/api/cluster/renew") $(json 'j["kind"]' <answer)"
        is "$1" "$2 $3" "$found"
        [ "$2 $3" = "$found" ] || echo "$1" >>piped
}
asked() { python3 -c 'import json, sys; print(json.dumps({"csr": sys.argv[1]}))' "$1"; }
asked "$(csr e2)" | renew "an engine that says it is another" 403 not-authorized e3
asked "$(csr e3)" | renew "another key" 400 usage e3
asked nonsense | renew "no request" 409 certificate-refused e3
printf '\377' | renew "no text" 400 usage e3
printf '{"csr":"","name":"e2"}' | renew "what nobody knows" 400 usage e3
asked "$(openssl req -new -key c1/cluster/node.key -subj /CN=c1)" | renew "a controller does that itself" 400 usage c1
is "nobody asks without a certificate" 401 "$(asked "$(csr e3)" | curl -s -o answer -w '%{http_code}' --cacert ca --data-binary @- "$url/api/cluster/renew")"
store_get c1 bootmgr/nodes/e3 | sed 's/"joined":4/"joined":3/' >fenced
store_put c1 bootmgr/nodes/e3 "$(cat fenced)"
fails 3 joined-after-snapshot "one that is fenced" on e3 node renew --force
ok "deleted" c node delete e3
fails 3 not-authorized "has no certificate any more that can be renewed" on e3 node renew --force
is "a controller renews its own" "True" "$(c node renew --force --json | json 'str(j["renewed"])')"
wait $daemon
is "its daemon ends, for another one to serve it" 75 $?
# Who was there before may still have the port
python3 -c 'import socket, sys, time
s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
open("held", "w").close()
time.sleep(2)' "$port" &
until [ -e held ]; do sleep 0.05; done
start_daemon
served() { openssl s_client -connect "${url#https://}" -CAfile ca </dev/null 2>/dev/null | openssl x509 -noout -serial; }
is "which it does" "$(openssl x509 -noout -serial -in c1/cluster/node.pem)" "$(served)"
ok "the node's" openssl verify -x509_strict -purpose sslserver -CAfile ca c1/cluster/node.pem
ok "and the store's" c show nodes
has "at the same addresses" 'IP Address:127.0.0.1' "$(openssl x509 -in c1/cluster/node.pem -noout -ext subjectAltName)"
fails 2 usage "a machine that is no node has none" a node renew

# A rack that is switched on
for i in $(seq 12); do new_token >"rack$i.token"; done
rack=
for i in $(seq 12); do
        on "rack$i" node join "$url" --token-file "rack$i.token" --name "rack$i" -q 2>"rack$i.err" &
        rack="$rack $!"
done
for p in $rack; do wait "$p" || echo "$p" >>rack.failed; done
is "twelve at once" "" "$(cat rack.failed rack*.err 2>/dev/null)"
is "all are there" 12 "$(members | grep -o rack | wc -l)"
is "behind a pipe, where nobody counts, nothing failed" "" "$(cat piped 2>/dev/null)"

# ---- a controller that joined after the snapshot ----

seen_by_e1() { curl -sN --max-time 1 -o view -w '%{http_code}' --cacert ca --cert e1/cluster/node.pem --key e1/cluster/node.key "$url/api/cluster/node/view"; }
store_put c1 bootmgr/nodes/c1 "$(store_get c1 bootmgr/nodes/c1 | sed 's/"joined":0/"joined":6/')"
cluster_member c1 c9 controller 0
cluster_record c1 7 '{"from":6,"to":6}'
is "beside one that was not heard of yet nothing is refused" 200 "$(seen_by_e1)"
cluster_record c1 7
said c9 controller 7 true 1
is "as long as nothing was gone back to, it serves" 200 "$(seen_by_e1)"
curl -sN --cacert ca --cert e1/cluster/node.pem --key e1/cluster/node.key "$url/api/cluster/node/view" >view &
listener=$!
until [ -s view ]; do sleep 0.05; done
cluster_record c1 8 '{"from":6,"to":6}'
ok "who listens to it is sent elsewhere" wait $listener
is "and is told so when it asks again" "500 store-failed" "$(seen_by_e1) $(json 'j["kind"]' <view)"
fails 3 joined-after-snapshot "it makes no token" c cluster token
fails 3 joined-after-snapshot "deletes nobody" c node delete e2
is "by no other way either" 500 "$(curl -s -o out -w '%{http_code}' --cacert ca --cert c1/cluster/node.pem --key c1/cluster/node.key -X DELETE "$url/api/cluster/nodes/e2")"
fails 3 joined-after-snapshot "and lets nobody in" joins e8 "$url" "$good"
has "it is shown as that" 'c1 .*fenced' "$(c show nodes)"
store_delete c1 bootmgr/nodes/c9
ok "where no other is left, it may put things right" c cluster token
is "and serves" 200 "$(seen_by_e1)"
kill $daemon
wait $daemon
daemon=
has_not "nothing was wrong with the daemon's memory" 'Sanitizer|runtime error' "$(cat bootmgrd.err)"

finish
