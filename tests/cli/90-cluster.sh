#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# cluster init: certificates, and what etcd starts with; cluster token: with that etcd, as it is started by the unit.
#
# Functions that ok calls by their names:
# shellcheck disable=SC2317
. "$(dirname "$0")/lib.sh"
. "$top/tests/cli/controller.sh"
c() { "$BOOTMGR" --config conf --data "$W/data" "$@"; }
home=data/cluster
printf '[System]\n' >conf
mkdir data

fails 2 usage "a token without a cluster" c cluster token
fails 2 usage "where others reach it must be said" c cluster init acme
fails 2 usage "an address that is none" c cluster init acme --name c1 --address 'a b'
fails 2 usage "a name that is none" c cluster init acme --name C_1 --address 127.0.0.1
ok "init" c cluster init acme --name c1 --address 127.0.0.1 --address c1.example.com --address 2001:db8::1
fails 2 usage "a second time" c cluster init acme --name c1 --address 127.0.0.1
is "nobody else looks in" "700" "$(stat -c %a $home)"
is "or reads a file" "" "$(find $home -type f ! -perm 600)"
ok "the node is of the cluster's CA" openssl verify -x509_strict -purpose sslserver -CAfile $home/ca.pem $home/node.pem
ok "the store of its own" openssl verify -x509_strict -purpose sslserver -CAfile $home/store-ca.pem $home/store.pem
not() { ! "$@"; }
ok "the one's is not the other's" not openssl verify -CAfile $home/store-ca.pem $home/node.pem
has "who it is" 'OU = controller, CN = c1' "$(openssl x509 -in $home/node.pem -noout -subject)"
has "where it is" 'IP Address:127.0.0.1.*DNS:c1.example.com.*2001:DB8' "$(openssl x509 -in $home/node.pem -noout -ext subjectAltName | tr -d '\n')"
unit=$(sed -n 's/^EnvironmentFile=//p' "$top/units/system/bootmgr-etcd.service")
is "the unit asks for the file that is written last" "${home#data}/etcd.env" "${unit#/data/bootmgr}"
is "and for nothing else" "$unit" "$(sed -n 's/^ConditionPathExists=//p' "$top/units/system/bootmgr-etcd.service")"

# A store without a majority is never started: nothing that a boot waits for may wait for it. As systemd itself puts the units
# together, which it shows to nobody who is root.
mkdir units
DESTDIR=$W/units BUILD=$(dirname "$BOOTMGR") sh "$top/units/install" >/dev/null
installed=$W/units/usr/lib/systemd/system
ln -s /usr/lib/systemd/system/multi-user.target "$installed/default.target"
set --
[ "$(id -u)" != 0 ] || set -- unshare --user
SYSTEMD_UNIT_PATH=$installed:/usr/lib/systemd/system timeout 60 "$@" /usr/lib/systemd/systemd --test --system --unit=multi-user.target >planned 2>/dev/null
is "multi-user.target waits for what looks whether there is a cluster" "bootmgr-member.path" \
        "$(awk '/-> Unit /{of = $3} of == "multi-user.target:" && $1 == "After:"{print $2}' planned | grep -xE 'bootmgr-(etcd|member|promote|renew).*')"

# An interrupted one is begun anew
mv $home/etcd.env env
mkdir $home/etcd && touch $home/learner
ok "init once more" c cluster init acme --name c1 --address 127.0.0.1
is "nothing is left of the one before" "" "$(find $home -name etcd -o -name learner)"
ok "certificates fit" openssl verify -CAfile $home/ca.pem $home/node.pem

# etcd, on other ports
fails 1 store-failed "no etcd, no token" c cluster token --ttl 1h
ports=$(python3 -c 'import socket
s = [socket.socket() for _ in range(2)]
for x in s: x.bind(("127.0.0.1", 0))
print(*[x.getsockname()[1] for x in s])')
sed -i "s/:2379/:${ports% *}/g; s/:2380/:${ports#* }/g; s/0\.0\.0\.0/127.0.0.1/" $home/etcd.env $home/store.endpoints
# shellcheck disable=SC2046
env $(grep -v '^#' $home/etcd.env) etcd >etcd.log 2>&1 &
etcd=$!
trap 'kill $etcd 2>/dev/null; wait $etcd 2>/dev/null; rm -rf "$W"' EXIT
for _ in 1 2 3 4; do c cluster token 2>err >token-text && break; done
token=$(cat token-text)
fingerprint=$(openssl x509 -in $home/ca.pem -noout -fingerprint -sha256 | sed 's/.*=//; s/://g' | tr '[:upper:]' '[:lower:]')
has "a token pins the cluster's CA" "^bootmgr-engine-[0-9a-f]{16}-[0-9a-f]{32}-$fingerprint\$" "$token"
ok "one for a controller" c cluster token --role controller --ttl 90 --json
has "says what it is" '^bootmgr-controller-.* controller 20[0-9-]*T' "$(json '" ".join((j["token"], j["role"], j["expires"]))' <out)"
second=$(json 'j["token"]' <out)
from=$(printf bootmgr/tokens/ | base64) to=$(printf bootmgr/tokens0 | base64)
ask() {
        curl -sS --max-time 20 --cacert "$home/store-ca.pem" --cert "$1.pem" --key "$1.key" -d "{\"key\":\"$from\",\"range_end\":\"$to\"}" \
                "$(cat "$home/store.endpoints")/v3/kv/range" >range
}
ok "the store holds them" ask $home/store
python3 - range "$token" "$second" >found <<'END'
import base64, json, sys
kvs = json.load(open(sys.argv[1]))["kvs"]
texts = [base64.b64decode(x["value"]).decode() for x in kvs]
tokens = [t.split("-") for t in sys.argv[2:]]
print(len(texts), sorted(json.loads(t)["role"] for t in texts))
print("ids", sorted(json.loads(t)["id"] for t in texts) == sorted(t[2] for t in tokens))
print("secrets", any(t[3] in "".join(texts) for t in tokens))
END
is "both, by their numbers, without their secrets" "2 ['controller', 'engine'] ids True secrets False" "$(tr '\n' ' ' <found | sed 's/ $//')"
ok "a certificate of the cluster is none of the store" not ask $home/node
fails 2 usage "another role" c cluster token --role operator
fails 2 usage "too long" c cluster token --ttl 1000h

# A cluster knows its version by the bundle that it was installed from
rm conf
bundle 1 || exit 2
make_machine
founds() { m cluster init acme --name c1 --address 127.0.0.1 "$@"; }
joins() { m node join https://127.0.0.1:1 "$token" --name e1 "$@"; }
rm -r data && mkdir data
fails 1 no-bootmgr-machine "no cluster of what is in no slot" founds
has "and why" 'upgrade system BUNDLE' "$(json 'j["hint"]' <out)"
{ m upgrade system -q 1.bundle && boots; } || exit 2
cp disk.img good.img && python3 "$top/tests/cli/record.py" no-bundle disk.img || exit 2
fails 1 no-bootmgr-machine "nor of what was installed by other means" founds
has "which is said, with the way out" 'not installed from a bundle.*upgrade system BUNDLE' "$(json 'j["message"] + j["hint"]' <out)"
is "nothing was made" "" "$(find data/cluster -name '*.pem' 2>/dev/null)"
fails 1 fetch-failed "it may join: the cluster's version comes to it" joins
cp good.img disk.img
ok "what came from a bundle can" founds
printf '[Storage]\nDataDirectory=%s/none\n' "$W" >conf-none
fails 1 no-bootmgr-machine "where there are no slots" "$BOOTMGR" --config conf-none cluster init --address 127.0.0.1
fails 1 no-bootmgr-machine "none can join either" "$BOOTMGR" --config conf-none node join https://127.0.0.1:1 "$token"

# Its first record; a store that has lost what it had is not founded again by itself
kill $etcd
wait $etcd 2>/dev/null
move_store data
start_etcd data
until store_get data bootmgr/record >/dev/null 2>&1; do sleep 0.1; done
ok "the first record" m cluster found
is "is that of epoch 1" 1 "$(store_get data bootmgr/record | json 'j["epoch"]')"
ok "and no second one" m cluster found
store_get data bootmgr/record >first
m cluster found -q && is "it stays" "$(cat first)" "$(store_get data bootmgr/record)"
echo '{"format":1,"minor":0,"prepared":null,"prepared_revision":0,"over":null,"over_revision":0,"attempted":4,"attempted_generation":1,"reached":3,"staged":null}' >data/cluster/journal
ok "where it is there, nothing is wrong" m cluster found
store_delete data bootmgr/record && store_delete data bootmgr/log/00000000000000000001 && store_delete data bootmgr/nodes/c1
fails 1 store-failed "one that is empty" m cluster found
has "is not what this node was in" 'was in epoch 4 .*from a copy that was made in epoch 4 .*remove .*journal' "$(json 'j["message"] + j["hint"]' <out)"
is "nothing is written" "" "$(store_get data bootmgr/record)"
rm data/cluster/journal
ok "a person may" m cluster found


finish
