#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What an engine shows while no controller answers, and while they come and go.
#
# Functions that ok calls by their names:
# shellcheck disable=SC2317
. "$(dirname "$0")/lib.sh"
. "$top/tests/cli/controller.sh"
. "$top/tests/cli/bus.sh"

bundle 1 && bundle 2 || exit 2
daemon_machine
mkdir -p data/root/cfg && echo old >data/root/cfg/setting
{ m upgrade system -q 1.bundle && boots && m upgrade system -q 2.bundle && boots; } || exit 2
echo new >data/root/cfg/setting # what a rollback would give up
"$BOOTMGR" --config conf --data "$W/c1" cluster init -q acme --name c1 --address 127.0.0.1 2>/dev/null || exit 2
port=$(free_ports 1)
mkdir -p data/cluster && cp c1/cluster/ca.pem c1/cluster/node.pem c1/cluster/node.key data/cluster/ || exit 2
echo "https://127.0.0.1:$port" >data/cluster/controllers
m show upgrade status --json >own.json 2>/dev/null # of the machine alone, while nobody answers
controller='' watcher='' daemon=''
trap 'kill $controller $watcher 2>/dev/null; rm -rf "$W"' EXIT
# [WORDS]: with these, too
answers() {
        "$top/tests/cli/false_controller.py" "$port" c1/cluster/node.pem c1/cluster/node.key c1/cluster/ca.pem log shared.json "$@" >ready &
        controller=$!
        until [ -s ready ]; do kill -0 $controller || exit 2; sleep 0.05; done
}
is_away() {
        kill $controller
        wait $controller 2>/dev/null
        controller=
        rm -f ready
}
# STATE EPOCH: what the controller says of the cluster's operation
shares() {
        python3 - own.json "$1" "$2" >new.json <<'END'
import json, sys
j = json.load(open(sys.argv[1]))
j.pop("cluster_unreachable", None)
j.update(id="%032d" % 77, operation="ROLLBACK", state=sys.argv[2], epoch=int(sys.argv[3]), nodes=[], nodes_failed=[], end=None)
print(json.dumps(j))
END
        mv new.json shared.json
}
# In place of a shell in the background, which takes no SIGINT
watch() { exec "$BOOTMGR" --disk disk.img --esp esp --data data --config conf --cmdline "$running" show upgrade status --watch "$@"; }
# Until that file holds the pattern; for 20 s at most
until_says() { for _ in $(seq 200); do grep -q "$2" "$1" && return; sleep 0.1; done; }

# ---- nobody answers ----

is "what is shown is marked, for programs" "UPGRADE DONE True" \
        "$(json '"%s %s %s" % (j["operation"], j["state"], "127.0.0.1" in j["cluster_unreachable"])' <own.json)"
is "and is not said to be the cluster's" "False False" "$(json '"%s %s" % ("epoch" in j, "nodes" in j)' <own.json)"
has "for people, too" 'cluster cannot be asked .*127.0.0.1' "$(m show upgrade status 2>/dev/null)"
has "whose it is" 'what this machine did itself' "$(m show upgrade status 2>/dev/null)"
is "the history as well" "True" "$(m show upgrade history --json 2>/dev/null | json 'str(all("127.0.0.1" in x["cluster_unreachable"] for x in j))')"
mv data/operations away
fails 1 store-failed "where it did nothing itself, that is no answer" m show upgrade status
fails 1 store-failed "nor is an empty history" m show upgrade history
mv away data/operations

# ---- what a rollback would do here ----

ok "a dry run is of this engine" m rollback system --dry-run
has "with what it would give up" 'content +/cfg/setting' "$(cat out)"
has "and that the cluster decides" 'cluster +ok +.*asked on a controller' "$(cat out)"
has "also who would be refused" 'would be fenced: a controller tells' "$(cat out)"
is "the same for programs" 'true ["/cfg/setting"] cluster []' \
        "$(m rollback system --dry-run --json | json '"%s %s %s %s" % (*[json.dumps(x) for x in (j["allowed"], [c["path"] for c in j["changes"]])], j["checks"][-1]["name"], j["fenced"])')"
is "nothing has changed" "UPGRADE 2" "$(m show upgrade history --json 2>/dev/null | json '"%s %d" % (j[0]["operation"], len(j))')"
fails 2 usage "the rollback itself is asked for elsewhere" m rollback system
has_not "and nothing is offered that would go back here" local "$(cat out)"

# ---- watching ----

watch >out 2>err &
watcher=$!
until_says err 'no controller'
sleep 2
is "watching goes on" yes "$(kill -0 $watcher && echo yes)"
kill -INT $watcher
wait $watcher
is "until somebody ends it" 0 $?
watcher=
is "it has said so once" 1 "$(grep -c 'no controller' err)"
has_not "and took nothing else for the end" DONE "$(cat out)"

shares IN_PROGRESS 4
answers
watch --json >out 2>err &
watcher=$!
until_says out IN_PROGRESS
is_away # as controllers do that switch
until_says err 'no controller'
sleep 2
is "in the middle of an operation it goes on" yes "$(kill -0 $watcher && echo yes)"
shares DONE 5
answers
wait $watcher
is "to the end of what it watched" "0 IN_PROGRESS DONE" "$? $(python3 -c 'import json
print(*[json.loads(x)["state"] for x in open("out")])')"
watcher=
is "which was said once" 1 "$(grep -c 'no controller' err)"
is "what a controller tells is not marked" "False 5" "$(m show upgrade status --json | json '"%s %d" % ("cluster_unreachable" in j, j["epoch"])')"

# ---- one refuses, and another does not ----

"$BOOTMGR" --config conf --data "$W/c2" cluster init -q other --name c2 --address 127.0.0.1 2>/dev/null || exit 2
other_port=$(free_ports 1)
refuser=''
trap 'kill $controller $watcher $refuser 2>/dev/null; rm -rf "$W"' EXIT
# HOME [STATUS]: the first in the list, with a certificate of that cluster
refuses() {
        [ -z "$refuser" ] || { kill $refuser; wait $refuser 2>/dev/null; rm ready; }
        "$top/tests/cli/false_controller.py" "$other_port" "$1/cluster/node.pem" "$1/cluster/node.key" "$1/cluster/ca.pem" refused.log shared.json ${2:+"$2"} >ready &
        refuser=$!
        until [ -s ready ]; do kill -0 $refuser || exit 2; sleep 0.05; done
}
rm ready
printf 'https://127.0.0.1:%d\n' "$other_port" "$port" >data/cluster/controllers
refuses c1 401
is "who does not know this node is not the last to be asked" 5 "$(m show upgrade status --json | json 'j["epoch"]')"
refuses c1 403
: >log
fails 1 fetch-failed "what it may not do it may not do elsewhere" m show upgrade status
is "nobody else was asked" "" "$(cat log)"

# An engine's stream: each of the two in turn, whoever was refused
start_bus ""
trap 'stop_all $controller $watcher $refuser $daemon' EXIT
printf '[Storage]\nDataDirectory=%s/data\n' "$W" >daemon.conf
echo e1 >data/cluster/name
start_daemon() {
        : >log && : >refused.log
        env BOOTMGR_PROGRAM="$W/bootmgr-image" RUNTIME_DIRECTORY="$W/run" BOOTMGR_CONFIG="$W/daemon.conf" "$bootmgrd" 2>bootmgrd.err &
        daemon=$!
}
follows() {
        start_daemon
        for _ in $(seq 250); do ! grep -q 'GET /api/cluster/node/view' log || break; sleep 0.1; done
        kill "$daemon" && wait "$daemon"
        daemon=
        grep -q 'GET /api/cluster/node/view' log
}
refuses c2
ok "where the certificate of the first does not fit, the second is asked" follows
refuses c1 401
ok "where the first does not know it, too" follows
is "it was asked before" yes "$([ -s refused.log ] && echo yes)"
is_away

# ---- it joins anew, and nobody has told it anything since ----

wait_for() { for _ in $(seq 200); do "$@" && return; sleep 0.1; done; return 1; }
echo "https://127.0.0.1:$port" >data/cluster/controllers
slot() { status "[s['$1'] for s in j['slots'] if s['name'] == j['booted']][0]"; }
printf 'data: {"format":1,"minor":0,"revision":9,"now_usec":1,"cluster":{"format":1,"minor":0,"epoch":7,"running":{"version":"%s","digest":"%s"},"previous_epoch":0,"finalized":false,"origin":"init"},"operation":null,"you":{"member":true,"role":"engine","fenced":false,"voted":false,"order_usec":0}}\n\n' \
        "$(slot version)" "$(slot digest)" >view
rm -f data/cluster/journal
answers 200 view
start_daemon
ok "what it is told it does" wait_for [ -s data/cluster/journal ]
is "in that epoch" 7 "$(json 'j["reached"]' <data/cluster/journal)"
is_away
rm data/cluster/journal
m slot mark-bad -q a
ok "and what is new here is looked at with it, while nobody answers" wait_for [ -s data/cluster/journal ]
mv data/cluster/node.key other # as a node that joins does
sleep 2 # a step may be at work
rm data/cluster/journal
m slot mark-good -q a
knows() { [ "$(busctl --json=short get-property org.bootmgr1 /org/bootmgr1 org.bootmgr1.Manager StatusJSON | json 'json.loads(j["data"])["slots"][0]["state"]')" = "$(status 'j["slots"][0]["state"]')" ]; }
ok "what is new is known" wait_for knows
sleep 2
is "who is on its way in does nothing that was told before" no "$([ -e data/cluster/journal ] && echo yes || echo no)"
cp other data/cluster/node.key # it makes a key, too
m slot mark-bad -q a
ok "as is what is new then" wait_for knows
sleep 2
is "who has joined anew does nothing that was told before" no "$([ -e data/cluster/journal ] && echo yes || echo no)"
answers 200 view
ok "but what it is told then" wait_for [ -s data/cluster/journal ]
is_away

# The key is put back from a copy: a stream that is open was asked for with the file of before
reached() { [ "$(json 'j["reached"]' <data/cluster/journal 2>/dev/null)" = "$1" ]; }
touch view.open
: >log
answers 200 view
ok "it listens" wait_for grep -q 'GET /api/cluster/node/view' log
rm -f data/cluster/journal
m slot mark-good -q a
ok "and does what it was told" wait_for reached 7
: >log
cp data/cluster/node.key other && mv other data/cluster/node.key
sed 's/"revision":9/"revision":10/; s/"epoch":7/"epoch":8/' view >view.new && mv view.new view
ok "a node whose key is the same in another file hears what comes" wait_for reached 8
is "it has asked anew" 1 "$(grep -c 'GET /api/cluster/node/view' log)"

# The store was put back from an old copy
at() { sed "s/\"revision\":[0-9]*/\"revision\":$1/; s/\"epoch\":[0-9]*/\"epoch\":$2/" view >view.new && mv view.new view; }
at 11 3
ok "of an epoch that is past it warns" wait_for grep -q 'in epoch 3, and this node was in epoch 8' bootmgrd.err
at 12 4
sleep 3
is "once" 1 "$(grep -c 'and this node was in epoch 8' bootmgrd.err)"
is "and does nothing" 8 "$(json 'j["reached"]' <data/cluster/journal)"
at 13 8
sleep 3
rm view.open
is_away

# What it says is refused, each time
: >log
answers 403
m slot mark-bad -q a
ok "it says how it stands to one that refuses it" wait_for grep -q 'POST /api/cluster/node/status' log
sleep 10
said=$(grep -c 'POST /api/cluster/node/status' log)
is "and does so more and more rarely ($said times)" yes "$([ "$said" -le 7 ] && echo yes)"
kill "$daemon" && wait "$daemon"
is "its end" 0 $?
daemon=
finish
