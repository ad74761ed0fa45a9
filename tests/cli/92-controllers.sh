#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Two more controllers join: three real etcds, each at a loopback address of its own with the usual ports.
# asan: no, it waits for three stores, and joins as 91-join.sh does
#
# Functions that ok calls by their names:
# shellcheck disable=SC2317
. "$(dirname "$0")/lib.sh"
. "$top/tests/cli/bus.sh"
. "$top/tests/cli/controller.sh"
net=127.$(($$ / 250 % 250 + 1)).$(($$ % 250 + 1))
printf '[API]\n' >conf
daemon=''
trap 'stop_all $etcds $daemon' EXIT
# N WORDS...: the bootmgr of controller N
on() {
        n=$1
        shift
        mkdir -p "c$n"
        printf '[API]\nListen=%s.%s:8443\n' "$net" "$n" >"conf$n"
        "$BOOTMGR" --config "conf$n" --data "$W/c$n" "$@"
}
# Each listens at its address only, as all are on this machine.
at_home() { sed -i "s/0\.0\.0\.0/$net.$1/; s/127\.0\.0\.1/$net.$1/" "c$1/cluster/etcd.env" "c$1/cluster/store.endpoints"; }
etcd_members() {
        ask_store "$1" /v3/cluster/member/list '{}' |
                python3 -c 'import json, sys
print(" ".join(sorted((m.get("name") or "?") + ("=learner" if m.get("isLearner") else "") for m in json.load(sys.stdin)["members"])))'
}
members() { on "$1" show nodes --json | json '" ".join(n["name"] for n in j["nodes"])'; }

ok "the first" on 1 cluster init acme --name c1 --address "$net.1"
at_home 1
start_etcd c1
first=$etcd
until cluster_record c1 3 2>/dev/null; do sleep 0.1; done
store_put c1 bootmgr/nodes/c1 "{\"format\":1,\"minor\":0,\"name\":\"c1\",\"role\":\"controller\",\"joined\":0,\"address\":\"https://$net.1:8443\"}"

serve c1 conf1 "https://$net.1:8443"

# ---- a second one ----

token=$(on 1 cluster token --role controller)
fails 2 usage "an engine's configuration" sh -c "printf '[Cluster]\nRole=engine\n' >confe; '$BOOTMGR' --config confe --data '$W/c2' node join 'https://$net.1' '$token' --name c2 --address $net.2 --json"
ok "the second joins; the usual port needs no name" on 2 node join "https://$net.1" "$token" --name c2 --address "$net.2"
is "its files are its own" "" "$(find c2/cluster -type f ! -perm 600)"
ok "its certificate is one for servers" openssl verify -x509_strict -purpose sslserver -CAfile c1/cluster/ca.pem c2/cluster/node.pem
has "at its address" "IP Address:$net.2" "$(openssl x509 -in c2/cluster/node.pem -noout -ext subjectAltName)"
ok "and it has one of the store" openssl verify -x509_strict -purpose sslserver -CAfile c1/cluster/store-ca.pem c2/cluster/store.pem
is "for a key of its own" 1 "$(cmp -s c1/cluster/store.key c2/cluster/store.key; echo $?)"
is "etcd knows it as a learner" "?=learner c1" "$(etcd_members c1)"
ok "the store goes on without it" on 1 show nodes
ok "an answer that was lost" sh -c "rm c2/cluster/etcd.env; '$BOOTMGR' --config conf2 --data '$W/c2' node join 'https://$net.1' '$token' --name c2 --address $net.2"
is "makes it no second one" "?=learner c1" "$(etcd_members c1)"
has "etcd joins what there is" "INITIAL_CLUSTER=.*c2=https://$net.2:2380" "$(cat c2/cluster/etcd.env)"
has "and makes nothing new" "INITIAL_CLUSTER_STATE=existing" "$(cat c2/cluster/etcd.env)"
third_token=$(on 1 cluster token --role controller)
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout asking.key -subj /CN=c3 -out asking.csr 2>/dev/null
python3 -c 'import json, sys
csr = open("asking.csr").read()
print(json.dumps({"token": sys.argv[1], "name": "c3", "csr": csr, "addresses": [sys.argv[2]], "url": f"https://{sys.argv[2]}:8443", "store_csr": csr}))' \
        "$third_token" "$net.3" >asking.json
is "a third one has to wait until the second has started" 429 "$(curl -sk -o answer -w '%{http_code}' -d @asking.json "https://$net.1:8443/api/cluster/join")"
has "is told why" 'the controller c2, .* one at a time' "$(json 'j["message"]' <answer)"
has "and the ways out" 'bootmgr-etcd.* on c2.*node delete c2.*repeat' "$(json 'j["hint"]' <answer)"
is "it is no member: nothing waits for it" "c1 c2" "$(members 1)"
at_home 2
start_etcd c2
second=$etcd
{ sleep 2; on 2 cluster promote; } >promoted 2>&1 &
promoter=$!
ok "back to back: it waits until the second counts" on 3 node join "https://$net.1" "$third_token" --name c3 --address "$net.3"
wait $promoter
is "which it does once it runs" "0 ?=learner c1 c2" "$? $(etcd_members c1)"
ok "here it is taken out once more" on 2 node delete c3
rm -r c3
is "all count" "c1 c2" "$(etcd_members c1)"
is "it is no learner any more" "" "$(find c2/cluster -name learner)"
is "a member with its URL" "https://$net.2:8443" "$(on 2 show nodes --json | json '[n["address"] for n in j["nodes"] if n["name"] == "c2"][0]')"
is "and it sees that it is the one that answers" "c2" "$(on 2 show nodes --json | json '[n["name"] for n in j["nodes"] if n["self"]][0]')"

# ---- a third one, and one that is away ----

ok "the third joins" on 3 node join "https://$net.1" "$(on 2 cluster token --role controller)" --name c3 --address "$net.3"
at_home 3
start_etcd c3
third=$etcd
ok "it counts" on 3 cluster promote
ok "the others hear of it" on 1 cluster promote
ok "both" on 2 cluster promote
is "everyone knows every store" "3 3 3" "$(for i in 1 2 3; do sort -u "c$i/cluster/store.endpoints" | wc -l; done | tr '\n' ' ' | sed 's/ $//')"
token=$(on 3 cluster token)
ok "an engine" "$BOOTMGR" --config conf --data "$W/e1" node join "https://$net.1" "$token" --name e1
is "is told of all controllers" "https://$net.1:8443 https://$net.2:8443 https://$net.3:8443" "$(sort e1/cluster/controllers | tr '\n' ' ' | sed 's/ $//')"
kill "$second"
wait "$second"
ok "a store that is away is not missed, not even by its own controller" on 2 show nodes
start_etcd c2
second=$etcd

# ---- taking one out ----

ok "the third is taken out" on 2 node delete c3
is "of the store, too" "c1 c2" "$(etcd_members c1)"
is "it is no member" "c1 c2 e1" "$(members 1)"
wait "$third"
ok "what is left goes on" on 1 show nodes
fails 2 usage "a member is one" sh -c "'$BOOTMGR' --config conf2 --data '$W/c2' node join 'https://$net.1' '$(on 1 cluster token --role controller)' --name c2 --address $net.2 --json"
rm c3/cluster/etcd.env # a power cut when it had begun to forget: its store was that of a former member
ok "the third joins anew" on 3 node join "https://$net.1" "$(on 1 cluster token --role controller)" --name c3 --address "$net.3"
at_home 3
start_etcd c3
ok "and counts" on 3 cluster promote
is "as before" "c1 c2 c3" "$(etcd_members c1)"
kill "$first"
wait "$first"
ok "the first one is not missed either" on 3 show nodes
kill $daemon
wait $daemon
daemon=
has_not "nothing was wrong with the daemon's memory" 'Sanitizer|runtime error' "$(cat bootmgrd.err)"

finish
