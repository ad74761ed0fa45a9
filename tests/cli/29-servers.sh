#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Several servers, of which one is silent, away for a while, or holds something else; what is told to which of them.
# asan: no, it waits for servers, and fetches as 22-http.sh does
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

# A byte now and then is no reason to wait for all the others. It takes its time, until the end of this test
printf '[Fetch]\nRetrySec=5\n' >five.conf
{
        begin=$(date +%s)
        timeout 180 "$BOOTMGR" bundle verify --json --trust trust --config five.conf "$url/creeps/1.bundle" >creeps.out 2>creeps.err
        echo $? $(($(date +%s) - begin)) >creeps.status
} &
creeps=$!
within '^([0-9]|[1-4][0-9])$' "the first one gives a byte now and then" verify "$url/creeps/1.bundle $two/ranges/1.bundle"

# Four connections would take half a minute: as long as more of them bring more, there are more
content "a large root" 12000000 >large
"$BOOTMGR" bundle create -q --version 1 --compatible test-box --root large --kernel kernel --key release.key large.bundle || exit 2
within '^([5-9]|1[0-9])$' "each connection brings little" verify "$url/strolls/large.bundle"
printf '[Fetch]\nConnections=4\n' >four.conf
within '^(2[5-9]|3[0-9])$' "and there may be no more than four" verify --config four.conf "$url/strolls/large.bundle"

# What is wrong where the file begins is wrong with that server, too
head -c 100000 1.bundle >short.bundle
ok "the first one's header is another" verify "$url/altered/20/1.bundle $two/ranges/1.bundle"
has "which is said" "$url/altered/20/1.bundle: .*; another server is asked" "$(cat err)"
ok "the first one's manifest is another" verify "$url/altered/100/1.bundle $two/ranges/1.bundle"
ok "which is seen when the second one has sent a part of what comes later" verify "$url/stammers/100/1.bundle $two/ranges/1.bundle"
ok "the first one has only a part" verify "$url/ranges/short.bundle $two/ranges/1.bundle"
ok "the first two" verify "$url/ranges/short.bundle $url/altered/100/1.bundle $two/ranges/1.bundle"
fails 3 bundle-invalid "all of them" verify "$url/ranges/short.bundle $two/altered/20/1.bundle"
has "it is the first one that is told" 'the bundle has 100000 bytes' "$(json 'j["message"]' <out)"

# Of another one it is known that it is faster
within '^([0-9]|1[0-9])$' "the second is silent" verify "$url/ranges/1.bundle $url/silent/1.bundle"
within '^([0-9]|1[0-9])$' "the fastest becomes silent" verify "$url/hushes/1.bundle $url/late/1.bundle"

# One that is away for a while: those who were asking for several parts at the same time have seen that once, not each for himself
for i in 1 2 3; do cp 1.bundle away-$i.bundle; done
printf '[Fetch]\nConnections=16\nRetrySec=20\n' >many.conf
within '^([3-9]|1[0-4])$' "away for three seconds, and 16 have noticed" verify --config many.conf "$url/outage/away-1.bundle"
# What is left of the time is shorter than the wait before the next try would be: it is tried once more at its end
within '^([4-9]|10)$' "back before the time is over" verify --config five.conf "$url/outage/4/away-2.bundle"

# One that was never there is waited for as long as a server takes to start
free=$(python3 -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])')
{ sleep 4; PORT=$free exec python3 "$top/tests/cli/http_server.py" port.late log.late; } &
servers="$servers $!"
within '^([4-9]|1[0-4])$' "nobody listens yet" verify "http://127.0.0.1:$free/ranges/1.bundle"
within '^([5-9]|1[0-4])$' "it starts" verify "$url/starts/5/1.bundle"
within '^(1[2-9]|2[0-2])$' "it says when it will be there" verify "$url/later/12/1.bundle"
printf '[Fetch]\nRetrySec=3\n' >three.conf
begin=$(date +%s)
fails 1 fetch-failed "that is too late" verify --config three.conf "$url/later/12/away-3.bundle"
has "which is known in time" '^[2-9]$' $(($(date +%s) - begin))
begin=$(date +%s)
fails 1 fetch-failed "nobody will ever listen" verify "http://127.0.0.1:1/1.bundle"
has "and it is waited for so long" '^(9|1[0-8])$' $(($(date +%s) - begin))
begin=$(date +%s)
fails 1 fetch-failed "a name that nobody has" verify "http://nowhere.invalid/1.bundle"
has "is not waited for" '^[0-8]$' $(($(date +%s) - begin))

# One that holds something else of the same length: it is left, and what it gave comes from another one
ok "the second holds something else" verify "$url/ranges/1.bundle $two/altered/200000/1.bundle"
has "it is named" "^bootmgr: $two/altered/200000/1.bundle: .*not asked any more" "$(cat err)"
is "once" 1 "$(grep -c altered err)"
ok "the first one does" verify "$two/altered/200000/1.bundle $url/late/1.bundle"
has "it is named" "^bootmgr: $two/altered/200000/1.bundle: .*not asked any more" "$(cat err)"
ok "it is one of three" verify "$url/ranges/1.bundle $two/altered/200000/1.bundle $two/ranges/1.bundle"
ok "each of the two, somewhere else" verify "$url/spotted/0/1.bundle $two/spotted/1/1.bundle"
fails 1 content-mismatch "all of them do" verify "$url/altered/200000/1.bundle $two/altered/200000/1.bundle"
has "the message names one" "$url/altered/200000/1.bundle" "$(json 'j["message"]' <out)"
fails 1 content-mismatch "there is no other one" verify "$url/altered/200000/1.bundle"
has "the message names it" "$url/altered/200000/1.bundle" "$(json 'j["message"]' <out)"
content "larger" 16777216 >larger
"$BOOTMGR" bundle create -q --version 2 --compatible test-box --root larger --kernel kernel --chunk-size 4K --key release.key 2.bundle || exit 2
ok "it holds another index" verify "$url/ranges/2.bundle $two/altered/131072/2.bundle"
has "it is named" "^bootmgr: $two/altered/131072/2.bundle: .*not asked any more" "$(cat err)"
content "other" 3145728 >other
"$BOOTMGR" bundle create -q --version 3 --compatible test-box --root other --kernel kernel --key release.key 3.bundle || exit 2
for v in 2 3; do
        "$BOOTMGR" bundle delta -q --from 1.bundle $v.bundle $v.delta || exit 2
        ok "it holds another delta to version $v" verify "$url/ranges/$v.delta $two/altered/152000/$v.delta"
        has "it is named" "^bootmgr: $two/altered/152000/$v.delta: .*not asked any more" "$(cat err)"
done
printf '[Fetch]\nMirrors=%s/altered/200000 %s/ranges\n' "$two" "$url" >mirrors.conf
cat conf mirrors.conf >machine.conf && cp machine.conf conf
ok "an upgrade" m upgrade system "$url/late/1.bundle"
ok "is whole" m slot verify a

# One that does not say how long the file is
ok "another one has said it" verify "$url/late/1.bundle $two/unsaid/1.bundle"
has "it is asked again" '^([2-9]|[1-9][0-9]+)$' "$(grep -c '^/unsaid/' log.two)"
fails 1 fetch-failed "nobody says it" verify "$two/unsaid/1.bundle"
has "which is what the message says" 'does not say how long' "$(json 'j["message"]' <out)"

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

wait $creeps
has "a byte now and then is waited for as long as RetrySec= says, and thrice" '^1 (6[0-9]|[7-9][0-9]|1[01][0-9])$' "$(cat creeps.status)"
is "it fails" fetch-failed "$(json 'j["kind"]' <creeps.out)"
has "as a server that stalls" 'stopped sending' "$(json 'j["message"]' <creeps.out)"
finish
