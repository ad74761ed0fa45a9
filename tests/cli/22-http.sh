#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Bundles over HTTP: with and without ranges, connections that break, servers that lie, files that change meanwhile.
. "$(dirname "$0")/lib.sh"

bundle 1 --chunking fixed && bundle 2 --chunking fixed || exit 2 # all of one length
make_machine
# The same length and another content: what a server may hold a moment later
content "root other" 1048576 >root-other
"$BOOTMGR" bundle create -q --version 1 --compatible test-box --root root-other --kernel kernel-1 --initrd initrd-1 --chunking fixed \
        --key release.key other.bundle || exit 2
cp other.bundle 1.bundle.new
{ cat 1.bundle && echo more; } >longer.bundle
head -c 300000 1.bundle >cut.bundle
size=$(stat -c %s 1.bundle)

python3 "$top/tests/cli/http_server.py" port log &
server=$!
trap 'kill $server; [ -n "${KEEP-}" ] && echo "kept: $W" || { chmod -R u+rwx "$W" 2>/dev/null; rm -rf "$W"; }' EXIT
for _ in $(seq 100); do [ -e port ] && break; sleep 0.05; done
url=http://127.0.0.1:$(cat port)
# shellcheck disable=SC2317 # called by ok and fails
verify() { "$BOOTMGR" bundle verify --trust trust "$@"; }
requests() { grep -c "^$1 " log; }
# Ranges that begin 400000 bytes behind the begin of another one
broken_at() {
        grep '^/resumes/1.bundle ' log | cut -d' ' -f2 |
                awk -F'[=-]' '{ seen[$2] = 1; range[NR] = $0; begin[NR] = $2 }
                        END { for (i = 1; i <= NR; i++) if ((begin[i] - 400000) in seen) print range[i] }'
}
# Bytes of files that the server has sent for it
sent() { grep "^sent $1 " log | awk '{ n += $3 } END { print n + 0 }'; }
# Of all ranges that were asked for, without what is behind the end of the file
asked() {
        grep "^$1 " log | cut -d' ' -f2 | sort -u |
                awk -F'[=-]' -v size="$size" '{ n += ($3 < size ? $3 : size - 1) - $2 + 1 } END { print n + 0 }'
}

ok "without ranges" verify "$url/plain/1.bundle"
ok "with ranges" verify "$url/ranges/1.bundle"
is "each byte asked for once" "$size" "$(asked /ranges/1.bundle)"
has "several at the same time" '^[2-4]$' "$(grep '^most ' log | tail -n 1 | cut -d' ' -f2)"
ok "without a length" verify "$url/chunked/1.bundle"
ok "inspect" "$BOOTMGR" bundle inspect --json "$url/plain/1.bundle"
is "says the version" 1 "$(json 'j["version"]' <out)"
ok "over redirections" verify "$url/redirect/3/1.bundle"

# Connections that break
before=$(sent /resumes/1.bundle)
ok "goes on where it broke" verify "$url/resumes/1.bundle"
has "from there" '^bytes=([0-9]+)-' "$(broken_at | head -n 1)"
is "only if it is the same file" '"one"' "$(grep '^/resumes/1.bundle bytes=[1-9]' log | cut -d' ' -f3 | sort -u)"
is "each byte arrives once" "$size" $(($(sent /resumes/1.bundle) - before))
ok "with a weak ETag" verify "$url/weak/1.bundle"
is "which is no condition" "-" "$(grep '^/weak/' log | cut -d' ' -f3 | sort -u)"
ok "with no ETag" verify "$url/bare/1.bundle"
ok "from the start where there are no ranges" verify "$url/breaks/1.bundle"
ok "a server that was busy" verify "$url/flaky/1.bundle"

ok "one answer is everything where a part was asked for" verify "$url/forgets/1/1.bundle"
printf '[Fetch]\nRetrySec=2\n' >impatient.conf
fails 1 fetch-failed "no answer is that part any more" verify --config impatient.conf "$url/forgets/999/1.bundle"
has "says so" 'does not send that part' "$(json 'j["message"]' <out)"
has "and is not asked without end" '^([5-9]|1[0-9])$' "$(requests /forgets/999/1.bundle)"

# A byte of each answer is no progress; much more of each is
start=$(date +%s)
ok "a server that breaks every 40000 bytes" verify "$url/sips/40000/1.bundle"
has "is not waited for" '^[0-9]$' $(($(date +%s) - start))
start=$(date +%s)
fails 1 fetch-failed "one that breaks at each byte" timeout 20 "$BOOTMGR" bundle verify -v --trust trust \
        --config impatient.conf "$url/sips/1/1.bundle"
has "is left in time" '^[2-7]$' $(($(date +%s) - start))
has "and was asked now and then" '^[3-9]$' "$(requests /sips/1/1.bundle)"
has "as is said" 'trying again$' "$(cat err)"

# Files that change while they are fetched
fails 1 fetch-failed "another file with another ETag" verify "$url/changes/1.bundle"
has "says so" 'changed on the server' "$(cat out)"
fails 1 content-mismatch "another file, and nobody says so" verify "$url/swaps/1.bundle"
fails 1 content-mismatch "the same without ranges" verify "$url/swaps-plain/1.bundle"

# Servers that fail or lie
for code in 400 401 403 404 410; do
        fails 1 fetch-failed "status $code" verify "$url/status/$code/1.bundle"
        is "$code: is named" true "$(json "'$code' in j['message']" <out)"
        is "$code: not asked again" 1 "$(requests "/status/$code/1.bundle")"
done
fails 1 fetch-failed "status 500" verify "$url/status/500/1.bundle"
is "500: asked again, twice" 3 "$(requests /status/500/1.bundle)"
fails 1 fetch-failed "redirections without end" verify "$url/loop"
fails 1 fetch-failed "a redirection to a file of this machine" verify "$url/away"
fails 1 fetch-failed "nobody listens" verify "http://127.0.0.1:1/1.bundle"
fails 3 bundle-invalid "cut, with its length" verify "$url/plain/cut.bundle"
fails 3 bundle-invalid "cut, without a length" verify "$url/chunked/cut.bundle"
fails 3 bundle-invalid "more than it says" verify "$url/plain/longer.bundle"
fails 3 bundle-invalid "more, without a length" verify "$url/long/1.bundle"
fails 3 bundle-invalid "no bundle" verify "$url/plain/root-1"
fails 3 bundle-untrusted "signed by nobody we know" sh -c "mkdir -p nobody && \"$BOOTMGR\" bundle verify --trust nobody $url/plain/1.bundle \"\$@\"" sh
"$BOOTMGR" bundle verify --trust trust --json "http://name:secret@127.0.0.1:$(cat port)/status/404/1.bundle?token=secret" >out 2>err
has_not "no password in a message" secret "$(cat out err)"

# A server that stops in the middle: a signal ends the waiting at once
for signal in INT TERM; do
        "$BOOTMGR" bundle verify --trust trust --json "$url/slow/1.bundle" >slow.out 2>err &
        waiting=$!
        before=$(requests /slow/1.bundle)
        for _ in $(seq 100); do [ "$(requests /slow/1.bundle)" -gt "$before" ] && break; sleep 0.05; done
        sleep 0.5
        kill -$signal $waiting
        start=$(date +%s)
        wait $waiting
        is "$signal: exit status" 1 $?
        is "$signal: kind" interrupted "$(json 'j["kind"]' <slow.out)"
        has "$signal: at once" '^[0-5]$' $(($(date +%s) - start))
done
mkfifo silent
"$BOOTMGR" bundle verify --trust trust --json silent >slow.out 2>err &
waiting=$!
exec 9>silent
sleep 0.3
kill -INT $waiting
wait $waiting
is "a silent pipe: exit status" 1 $?
is "a silent pipe: kind" interrupted "$(json 'j["kind"]' <slow.out)"
exec 9>&-

# Several servers
ok "the first has nothing" verify "$url/status/404/1.bundle $url/ranges/1.bundle"
ok "nobody listens at the first" verify "http://127.0.0.1:1/1.bundle $url/plain/1.bundle"
ok "the first stops in the middle" verify "$url/dies/1.bundle $url/resumes/1.bundle"
ok "the second has another file" verify "$url/ranges/1.bundle $url/longer/1.bundle"
is "and is not asked again" 1 "$(requests /longer/1.bundle)"
ok "the second is slow" verify "$url/ranges/1.bundle $url/crawls/1.bundle"
printf '[Fetch]\nMirrors=%s/nothing %s/ranges/\n' "$url" "$url" >mirrors.conf
ok "named in the configuration" verify --config mirrors.conf "$url/status/404/1.bundle"
fails 1 fetch-failed "none of them has it" verify --config mirrors.conf "$url/status/404/9.bundle"
fails 2 usage "one is no URL" verify "$url/plain/1.bundle 1.bundle"

# What the configuration says
ok "the network is away for a while" verify "$url/outage/1.bundle"
start=$(date +%s)
fails 1 fetch-failed "it does not come back" verify --config impatient.conf "$url/dies/2.bundle"
has "and is not waited for" '^[0-9]$' $(($(date +%s) - start))
printf '[Fetch]\nRateLimit=%sK\n' $((size / 4096)) >slow.conf
start=$(date +%s)
ok "a rate limit" verify --config slow.conf "$url/ranges/1.bundle"
has "is kept, over all connections" '^([4-9]|[1-9][0-9]+)$' $(($(date +%s) - start))
fails 1 fetch-failed "without a header that the server wants" verify "$url/token/1.bundle"
printf '# from the vendor\n\nX-Token: secret\n' >headers
printf '[Fetch]\nHeaderFile=%s/headers\n' "$W" >headers.conf
ok "with it" verify --config headers.conf "$url/token/1.bundle"
printf 'X-Token: secret\r\n' >headers
python3 -c 'import socket
with socket.create_server(("127.0.0.1", 0)) as s, open("port.raw", "w") as file:
    print(s.getsockname()[1], file=file, flush=True)
    peer, _ = s.accept()
    with open("raw", "wb") as raw:
        raw.write(peer.recv(65536))
    peer.sendall(b"HTTP/1.1 404 Not here\r\nContent-Length: 0\r\n\r\n")' &
for _ in $(seq 100); do [ -s port.raw ] && break; sleep 0.05; done
verify --config headers.conf "http://127.0.0.1:$(cat port.raw)/1.bundle" >/dev/null 2>&1
is "lines that an editor ends otherwise are headers, too" "1 0" "$(grep -c '^X-Token: secret.$' raw) $(grep -c "$(printf '\r\r')" raw)"
echo nonsense >headers
fails 1 configuration-invalid "what is no header" verify --config headers.conf "$url/token/1.bundle"
printf '[Fetch]\nProxy=%s\n' "$url" >proxy.conf
ok "through a proxy" verify --config proxy.conf "http://nowhere.invalid/ranges/1.bundle"
has "which was asked" '^proxy http://nowhere.invalid/ranges/1.bundle' "$(grep '^proxy ' log)"
python3 "$top/tests/cli/socks_server.py" port.socks 2 &
socks=$!
trap 'kill $server $socks; [ -n "${KEEP-}" ] && echo "kept: $W" || { chmod -R u+rwx "$W" 2>/dev/null; rm -rf "$W"; }' EXIT
for _ in $(seq 100); do [ -e port.socks ] && break; sleep 0.05; done
printf '[Fetch]\nProxy=socks5://127.0.0.1:%s\n' "$(cat port.socks)" >socks.conf
ok "through a proxy that has no way there for a while" verify --config socks.conf "$url/ranges/1.bundle"

# HTTPS, with certificates on both sides
certificate() {
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=$1" -addext "subjectAltName=IP:127.0.0.1" -keyout "$1.key" -out "$1.pem" 2>/dev/null
}
certificate server && certificate machine || exit 2
python3 "$top/tests/cli/http_server.py" port.tls log server.pem server.key machine.pem &
tls=$!
trap 'kill $server $socks $tls; [ -n "${KEEP-}" ] && echo "kept: $W" || { chmod -R u+rwx "$W" 2>/dev/null; rm -rf "$W"; }' EXIT
for _ in $(seq 100); do [ -e port.tls ] && break; sleep 0.05; done
secure=https://127.0.0.1:$(cat port.tls)
fails 1 fetch-failed "a server that nobody vouches for" verify "$secure/ranges/1.bundle"
printf '[Fetch]\nCaCertificate=%s/server.pem\n' "$W" >tls.conf
fails 1 fetch-failed "a machine without a certificate" verify --config tls.conf "$secure/ranges/1.bundle"
printf 'ClientCertificate=%s/machine.pem\nClientKey=%s/machine.key\n' "$W" "$W" >>tls.conf
ok "certificates on both sides" verify --config tls.conf "$secure/ranges/1.bundle"
cp 1.bundle drops.bundle && echo 2 >drop
ok "connections that break before a word of TLS" verify --config tls.conf "$secure/resumes/drops.bundle"
is "they did" 0 "$(cat drop)"

# The whole way
ok "upgrade" m upgrade system "$url/resumes/1.bundle"
ok "it boots" boots
is "1 runs" '["a", "1"]' "$(status '[j["booted"], j["slots"][0]["version"]]')"
before=$(fingerprint)
fails 1 fetch-failed "upgrade from nowhere" m upgrade system "$url/status/404/2.bundle"
fails 3 bundle-invalid "upgrade to what is none" m upgrade system "$url/plain/root-2"
is "which change nothing" "$before" "$(fingerprint)"
cp 1.bundle.new 2.bundle.new
fails 1 content-mismatch "upgrade to a file that changes" m upgrade system "$url/swaps/2.bundle"
is "leaves the slot incomplete, 1 is what boots" '["a", "incomplete", null]' "$(status '[j["next"], j["slots"][1]["state"], j["previous"]]')"
is "the entry of 1 only" "bootmgr-1-a.conf" "$(entries)"
ok "a second try" m upgrade system "$url/breaks/2.bundle"
ok "it boots" boots
is "2 runs" '["b", "2", "a"]' "$(status '[j["booted"], j["slots"][1]["version"], j["previous"]]')"

# Of an update only what the running version does not hold is fetched
content "large root" 3145728 >root-large
content "a change" 100000 | dd of=root-large bs=1 seek=1500000 conv=notrunc status=none
cp root-large root-small-change
content "another" 100000 | dd of=root-small-change bs=1000 seek=1500 conv=notrunc status=none
for v in large small-change; do
        "$BOOTMGR" bundle create -q --version "$([ $v = large ] && echo 10 || echo 11)" --compatible test-box --root root-$v \
                --kernel kernel-1 --initrd initrd-1 --key release.key $v.bundle || exit 2
done
rm -rf disk.img esp data trust conf && running='' && make_machine
m upgrade system -q large.bundle && boots || exit 2
ok "an update over HTTP" m upgrade system "$url/ranges/small-change.bundle"
fetched=$(sent /ranges/small-change.bundle)
is "a fraction of it is fetched ($fetched of $(stat -c %s small-change.bundle) bytes)" yes "$([ "$fetched" -lt 1000000 ] && echo yes)"
is "and the version is whole" 0 "$(m slot verify b >/dev/null; echo $?)"
# After an upgrade that was cut: all that had come, though on one processor reading is ahead of writing
boots || exit 2
content "a third root" 3145728 >root-third
"$BOOTMGR" bundle create -q --version 12 --compatible test-box --root root-third --kernel kernel-1 --initrd initrd-1 \
        --key release.key third.bundle || exit 2
size=$(stat -c %s third.bundle)
all=$(taskset -cp $$ | sed 's/.*: //')
taskset -cp "${all%%[-,]*}" $$ >/dev/null || exit 2
head -c $((size * 3 / 4)) third.bundle | cat | m upgrade system - --json >out 2>err
taskset -cp "$all" $$ >/dev/null
is "three quarters come" bundle-invalid "$(json 'j["kind"]' <out)"
ok "the rest over HTTP" m upgrade system "$url/ranges/third.bundle"
fetched=$(sent /ranges/third.bundle)
is "is what is fetched ($fetched of $size bytes)" yes "$([ "$fetched" -lt $((size * 2 / 5)) ] && echo yes)"
ok "it boots" boots
is "12 runs" 12 "$(status '[s["version"] for s in j["slots"] if s["name"] == j["booted"]][0]')"
# Kernel and initrd, as far as they had come; and when they were on the ESP already
content "a fourth root" 200000 >root-fourth
content "a kernel" 700000 >kernel-fourth
dd if=/dev/zero of=kernel-fourth bs=1000 seek=200 count=200 conv=notrunc status=none
content "an initrd" 1500000 >initrd-fourth
"$BOOTMGR" bundle create -q --version 13 --compatible test-box --root root-fourth --kernel kernel-fourth --initrd initrd-fourth \
        --key release.key fourth.bundle || exit 2
head -c 1600000 fourth.bundle | cat | m upgrade system - --json >out 2>err
is "a part comes" bundle-invalid "$(json 'j["kind"]' <out)"
is "of the initrd, too" 2 "$(find data/slots/*.part -name kernel -o -path '*.part/initrd' | wc -l)"
# Where zeros belong lies something else by now
content "something else" 100000 | dd of="$(echo data/slots/*.part/kernel)" bs=1000 seek=250 conv=notrunc status=none
ok "the rest" m upgrade system "$url/ranges/fourth.bundle"
size=$(stat -c %s fourth.bundle)
fetched=$(sent /ranges/fourth.bundle)
is "is what is fetched ($fetched of $size bytes)" yes "$([ "$fetched" -lt $((size - 1000000)) ] && echo yes)"
is "nothing of them stays on data" "" "$(find data/slots -name kernel -o -name initrd)"
boots && m rollback system -q && boots && m upgrade clear -q || exit 2
head -c 20000 fourth.bundle | cat | m upgrade system - --json >out 2>err
is "the slot is begun anew" bundle-invalid "$(json 'j["kind"]' <out)"
: >log
ok "and once more" m upgrade system "$url/ranges/fourth.bundle"
fetched=$(sent /ranges/fourth.bundle)
is "of what is on the ESP nothing is fetched ($fetched of $size bytes)" yes "$([ "$fetched" -lt 500000 ] && echo yes)"
ok "it boots, too" boots
is "13 runs" 13 "$(status '[s["version"] for s in j["slots"] if s["name"] == j["booted"]][0]')"
finish
