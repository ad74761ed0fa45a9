#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The HTTPS interface of bootmgrd on a private bus, for an image: docs/openapi.json is held against it by api.py, in both
# directions; who may do what; what a request that is repeated does; and what those meet who mean no good.
#
# Functions that ok calls by their names:
# shellcheck disable=SC2317
. "$(dirname "$0")/lib.sh"

. "$top/tests/cli/bus.sh"

bundle 1 && bundle 2 --chunk-size 64K && bundle 3 --chunk-size 64K && bundle 4 || exit 2
content "root 2" 1000 >2.altered
mkdir strange && "$BOOTMGR" bundle keygen strange/release -q &&
        "$BOOTMGR" bundle create -q --version 5 --compatible test-box --root root-4 --kernel kernel-4 --key strange/release.key untrusted.bundle &&
        "$BOOTMGR" bundle create -q --version 5 --compatible other-box --root root-4 --kernel kernel-4 --key release.key other.bundle || exit 2
daemon_machine
m upgrade system -q 1.bundle && boots || exit 2
content "rescue" 20000 >rescue && m rescue install -q --kernel rescue --initrd rescue || exit 2

# --- certificates ---

days_ago() { date -u -d "-$1 days" +%Y%m%d%H%M%SZ; }
# certificate NAME ROLE EXTENSIONS [CA [openssl x509 options]]
certificate() {
        name=$1 role=$2 extensions=$3 ca=${4:-ca}
        shift 3
        [ $# -eq 0 ] || shift
        openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$name.key" -subj "/CN=$name/OU=$role" -out "$name.csr" 2>/dev/null &&
                openssl x509 -req -in "$name.csr" -CA "$ca.pem" -CAkey "$ca.key" -CAcreateserial -extfile "$extensions" -out "$name.pem" "$@" 2>/dev/null
}
authority() {
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.pem" -subj "/CN=$1" -days 30 2>/dev/null
}
echo 'extendedKeyUsage=clientAuth' >client.ext
printf 'extendedKeyUsage=serverAuth\nsubjectAltName=IP:127.0.0.1,DNS:localhost\n' >server.ext
authority ca && authority foreign-ca &&
        certificate node controller server.ext ca -days 30 &&
        certificate operator operator client.ext ca -days 30 &&
        certificate engine engine client.ext ca -days 30 &&
        certificate stranger operator client.ext foreign-ca -days 30 &&
        certificate nobody visitor client.ext ca -days 30 &&
        certificate server-only operator server.ext ca -days 30 || exit 2
# Its end is before its beginning only for `openssl x509`: `openssl ca` can date back.
mkdir old-ca && touch old-ca/index && echo 01 >old-ca/serial
printf '[ca]\ndefault_ca=d\n[d]\ndatabase=old-ca/index\nserial=old-ca/serial\nnew_certs_dir=old-ca\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\norganizationalUnitName=supplied\n' >old.cnf
certificate expired operator client.ext ca -days 30
openssl ca -batch -config old.cnf -cert ca.pem -keyfile ca.key -in expired.csr -out expired.pem -extfile client.ext \
        -startdate "$(days_ago 9)" -enddate "$(days_ago 2)" -notext 2>ca.err || { cat ca.err; exit 2; }
hash() { printf %s "$1" | sha256sum | cut -d' ' -f1; }
umask 077
cat >tokens <<END
# name right hash
watcher read $(hash reading-token)
updater operate $(hash operating-token)
END
umask 022

# --- a bus, and a daemon ---

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat conf - >daemon.conf <<END
[API]
Listen=127.0.0.1:$port
Certificate=$W/node.pem
Key=$W/node.key
ClientCA=$W/ca.pem
Tokens=$W/tokens
MaxConnections=128
[Storage]
DataDirectory=$W/data
END
mkdir -p data/cluster && cp ca.pem data/cluster/ || exit 2
daemon=
trap 'stop_all $daemon' EXIT
start_bus ""
start() {
        env BOOTMGR_PROGRAM="$W/bootmgr-image" RUNTIME_DIRECTORY="$W/run" BOOTMGR_CONFIG="${1:-$W/daemon.conf}" "$bootmgrd" 2>>bootmgrd.err &
        daemon=$!
        until busctl status org.bootmgr1 >/dev/null 2>&1; do
                kill -0 $daemon || return 1
                sleep 0.05
        done
}
stop() {
        kill $daemon
        wait $daemon
}
# The parser of /metrics is a package of the system's Python.
api() { /usr/bin/python3 "$top/tests/cli/api.py" "$W" "$port" "$top/docs/openapi.json" "$@"; }

# --- what cannot be had ---

chmod 640 node.key
start || exit 2
has "a key that others can read" "no HTTPS interface: .*node.key can be read by others" "$(cat bootmgrd.err)"
ok "the bus is served all the same" busctl get-property org.bootmgr1 /org/bootmgr1 org.bootmgr1.Manager Booted
stop
chmod 600 node.key
sed 's/^Key=.*/&.none/' daemon.conf >no-key.conf
: >bootmgrd.err
start "$W/no-key.conf" || exit 2
has "a key that is not there" "cannot read .*node.key.none" "$(cat bootmgrd.err)"
stop
: >bootmgrd.err
start "$W/conf" || exit 2
if ! ldd "$bootmgrd" | grep -Eq 'lib[au]san'; then
        is "without Listen= its libraries are not loaded" "" "$(grep -o 'lib[a-z]*\(microhttpd\|gnutls\)[^ ]*' /proc/$daemon/maps)"
fi
stop

# --- the interface ---

start || exit 2
ok "who sees it on the bus finds that it listens, too" curl -sko /dev/null "https://127.0.0.1:$port/healthz"
for part in documented rights requests hostile kinds all-kinds; do
        if [ "$part" = kinds ]; then
                { m upgrade system -q 2.bundle && boots; } || flunk "version 2 boots"
        fi
        api "$part" >out 2>err || { echo "exit status $?: api.py $part" && tail -n 40 err; } >why
        grep -E '^(ok|NOT OK)' out | sort -u >results
        passed=$((passed + $(grep -c '^ok' results)))
        failed=$((failed + $(grep -c '^NOT OK' results)))
        cat out
        if [ -s why ]; then flunk "api.py $part" why; else pass "api.py $part came to its end"; fi
        : >why
done
ends_cleanly
finish
