# shellcheck shell=sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Controllers of a cluster on this machine, each with a real etcd: sourced after lib.sh and bus.sh, with $BOOTMGR. DATA is a
# directory in $W that `cluster init` or `node join` has made a controller's.
#
#   free_ports N            so many ports that nobody listens on
#   move_store DATA         the store of a controller goes to ports of its own, and to loopback
#   start_etcd DATA         as the unit starts it; its process in $etcd, and in $etcds for the trap
#   serve DATA CONF URL     its bootmgrd, at a bus of its own, once it answers; its process in $daemon
#   start_daemon            another one like it
#   store_put DATA KEY VALUE · store_get DATA KEY · store_delete DATA KEY
#   cluster_record DATA EPOCH [FENCE] · cluster_member DATA NAME ROLE JOINED
#                           what the drivers write, by hand

etcds=

free_ports() {
        python3 -c 'import socket, sys
s = [socket.socket() for _ in range(int(sys.argv[1]))]
for x in s: x.bind(("127.0.0.1", 0))
print(*[x.getsockname()[1] for x in s])' "$1"
}

move_store() {
        moved=$(free_ports 2)
        sed -i "s/:2379/:${moved% *}/g; s/:2380/:${moved#* }/g; s/0\.0\.0\.0/127.0.0.1/" "$1/cluster/etcd.env" "$1/cluster/store.endpoints"
}

start_etcd() {
        # shellcheck disable=SC2046
        env $(grep -v '^#' "$1/cluster/etcd.env") etcd >>"etcd-${1##*/}.log" 2>&1 &
        etcd=$!
        etcds="$etcds $etcd"
}

# shellcheck disable=SC2154
serve() {
        program=$W/bootmgr-${1##*/}
        printf '#!/bin/sh\nexec "%s" --config "%s" --data "%s" "$@"\n' "$BOOTMGR" "$W/$2" "$W/$1" >"$program"
        chmod +x "$program"
        cat "$2" - >daemon.conf <<END
Tokens=$W/none
[Storage]
DataDirectory=$W/$1
END
        served_at=$3
        start_bus ""
        mkdir run
        start_daemon
}

start_daemon() {
        env BOOTMGR_PROGRAM="$program" RUNTIME_DIRECTORY="$W/run" BOOTMGR_CONFIG="$W/daemon.conf" "$bootmgrd" 2>bootmgrd.err &
        daemon=$!
        until curl -sko /dev/null "$served_at/healthz"; do kill -0 $daemon || { cat bootmgrd.err; exit 2; }; sleep 0.05; done
}

# DATA PATH BODY
ask_store() {
        curl -sS --max-time 20 --cacert "$1/cluster/store-ca.pem" --cert "$1/cluster/store.pem" --key "$1/cluster/store.key" \
                -d "$3" "$(head -n 1 "$1/cluster/store.endpoints")$2"
}
store_put() { ask_store "$1" /v3/kv/put "{\"key\":\"$(printf %s "$2" | base64 -w0)\",\"value\":\"$(printf %s "$3" | base64 -w0)\"}" >/dev/null; }
store_get() {
        ask_store "$1" /v3/kv/range "{\"key\":\"$(printf %s "$2" | base64 -w0)\"}" |
                python3 -c 'import base64, json, sys
print("".join(base64.b64decode(x["value"]).decode() for x in json.load(sys.stdin).get("kvs", [])))'
}
store_delete() { ask_store "$1" /v3/kv/deleterange "{\"key\":\"$(printf %s "$2" | base64 -w0)\"}" >/dev/null; }

version_1="{\"version\":\"1\",\"digest\":\"$(printf %064d 1)\"}"
cluster_record() {
        store_put "$1" bootmgr/record "{\"format\":1,\"minor\":0,\"epoch\":$2,\"running\":$version_1,\"previous_epoch\":0,\"finalized\":false,\"origin\":\"init\",\"fences\":[${3-}]}"
}
cluster_member() {
        store_put "$1" "bootmgr/nodes/$2" "{\"format\":1,\"minor\":0,\"name\":\"$2\",\"role\":\"$3\",\"joined\":$4}"
}
