#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Several servers, of which one is silent, away for a while, or holds something else; what is told to which of them.
. "$(dirname "$0")/lib.sh"

"$BOOTMGR" bundle keygen release -q || exit 2
make_machine
content "root" 3145728 >root
content "kernel" 20000 >kernel
"$BOOTMGR" bundle create -q --version 1 --compatible test-box --root root --kernel kernel --key release.key 1.bundle || exit 2

trap 'kill $servers 2>/dev/null; [ -n "${KEEP-}" ] && echo "kept: $W" || { chmod -R u+rwx "$W" 2>/dev/null; rm -rf "$W"; }' EXIT
servers=
# NAME: a server; its URL is in $url
start() {
        python3 "$top/tests/cli/http_server.py" "port.$1" "log.$1" &
        servers="$servers $!"
        for _ in $(seq 100); do [ -e "port.$1" ] && break; sleep 0.05; done
        url=http://127.0.0.1:$(cat "port.$1")
}
# shellcheck disable=SC2317 # called by ok and fails
verify() { timeout 100 "$BOOTMGR" bundle verify --trust trust "$@"; }
# PATTERN WHAT COMMAND: what it took is so many seconds
within() {
        seconds=$1
        shift
        begin=$(date +%s)
        ok "$@"
        has "$1: in time" "$seconds" $(($(date +%s) - begin))
}
start two
two=$url
start one

# Of another one it is known that it is faster
within '^([0-9]|1[0-5])$' "the second is silent" verify "$url/ranges/1.bundle $url/silent/1.bundle"
within '^([0-9]|1[0-5])$' "the fastest becomes silent" verify "$url/hushes/1.bundle $url/late/1.bundle"

# What the operator says in HeaderFile= is for the servers that he names
printf 'X-Token: secret\nAuthorization: Bearer secret\n' >headers
printf '[Fetch]\nHeaderFile=%s/headers\n' "$W" >headers.conf
ok "a redirection on the same server" verify --config headers.conf "$url/elsewhere/${url##*:}/token/1.bundle"
ok "one to another server, which wants nothing" verify --config headers.conf "$url/elsewhere/${two##*:}/ranges/1.bundle"
fails 1 fetch-failed "one to another server, which wants to know" verify --config headers.conf "$url/elsewhere/${two##*:}/token/1.bundle"
is "is not told" "token /token/1.bundle -" "$(grep '^token' log.two | sort -u)"
has "the message names it, and the way out" "redirects to $two, which answers 403; .*HeaderFile=.*the URL or Mirrors=" "$(json 'j["message"]' <out)"
ok "back to the first one" verify --config headers.conf "$url/elsewhere/${two##*:}/elsewhere/${url##*:}/token/1.bundle"
ok "it is named" verify --config headers.conf "$two/token/1.bundle"
is "and told" "token /token/1.bundle secret" "$(grep '^token' log.two | tail -n 1)"

finish
