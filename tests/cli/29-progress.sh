#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What is seen of an upgrade over a slow link while it is at work.
. "$(dirname "$0")/lib.sh"

"$BOOTMGR" bundle keygen release -q || exit 2
make_machine
content "kernel" 20000 >kernel
content "root" 3145728 >root-1
{ head -c 1572864 root-1 && content "other" 1572864; } >root-2
for v in 1 2; do
        "$BOOTMGR" bundle create -q --version $v --compatible test-box --root root-$v --kernel kernel --key release.key $v.bundle || exit 2
done
python3 "$top/tests/cli/http_server.py" port log &
server=$!
trap 'kill $server; [ -n "${KEEP-}" ] && echo "kept: $W" || { chmod -R u+rwx "$W" 2>/dev/null; rm -rf "$W"; }' EXIT
for _ in $(seq 100); do [ -e port ] && break; sleep 0.05; done
url=http://127.0.0.1:$(cat port)

m upgrade system -q 1.bundle && boots || exit 2
printf '[Fetch]\nRateLimit=150K\n' >>conf
python3 "$top/tests/cli/terminal.py" "$BOOTMGR" --disk disk.img --esp esp --data data --config conf --cmdline "$running" \
        upgrade system "$url/ranges/2.bundle" >terminal &
upgrade=$!
for _ in $(seq 100); do
        m show upgrade status --json | json 'j["to_version"] == "2" and j["steps"][1]["progress"] > 51' 2>/dev/null | grep -q true && break
        sleep 0.1
done
m show upgrade status >table
m show upgrade status --json >status.json
wait $upgrade
what='[0-9]+ of 3 MiB, [1-9][0-9]* KiB/s, [0-9]+ s left; [0-9.]+ [KM]iB fetched, 1[.][45] MiB reused'
has "on the terminal: done, rate, time left, fetched, reused" "$what" "$(tr '\r' '\n' <terminal)"
has_not "no rate of nothing" ' 0 [KM]iB/s, [1-9]' "$(tr '\r' '\n' <terminal)"
has "the end of it" 'exit status 0' "$(cat terminal)"
has "in the table" "WRITE_IMAGE .*$what" "$(cat table)"
is "as JSON" '[true, true, true, true]' "$(json '[(lambda t: [0 < t["rate"] < 3e6, t["left"] < 60, 0 < t["fetched"] < 2e6, 1.4e6 < t["reused"] < 1.7e6])(s["transfer"])
        for s in j["steps"] if s["name"] == "WRITE_IMAGE"][0]' <status.json)"
finish
