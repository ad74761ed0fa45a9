#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# cluster step: what one node does with what it is told, and what it answers; the journal it writes before.
. "$(dirname "$0")/lib.sh"

bundle 1 && bundle 2 && bundle 3 --compatible other-box || exit 2
make_machine
m upgrade system -q 1.bundle && boots || exit 2
digest() { m status --json | json '[s["digest"] for s in j["slots"] if s["version"] == "'"$1"'"][0]'; }
one="{\"version\":\"1\",\"digest\":\"$(digest 1)\"}"
other="{\"version\":\"9\",\"digest\":\"$(printf %064d 9)\"}"
id=$(printf %032d 7)

# EPOCH VERSION [MORE]: the cluster's record.
record() { printf '{"format":1,"minor":0,"epoch":%d,"running":%s,"previous_epoch":0,"finalized":false,"origin":"init"%s}' "$1" "$2" "${3-}"; }
# KIND PHASE TO EPOCH
operation() {
        printf '{"format":1,"minor":0,"id":"%s","kind":"%s","phase":"%s","result":"IN_PROGRESS","from":%s,"to":%s,"epoch":%d,"strict":false,"one_instant":false,"engines":"together","max_unavailable":0,"before":%s}' \
                "$id" "$1" "$2" "$one" "$3" "$4" "$(record 1 "$one")"
}
# REVISION RECORD OPERATION [MEMBER FENCED VOTED]
told() {
        printf '{"format":1,"minor":0,"revision":%d,"now_usec":1,"cluster":%s,"operation":%s,"you":{"member":%s,"role":"engine","fenced":%s,"voted":%s,"order_usec":0}}' \
                "$1" "$2" "$3" "${4:-true}" "${5:-false}" "${6:-false}"
}
step() { m --json cluster step >answer 2>err; }
says() { json '" ".join((j["stand"], j["hears"], j["action"]))' <answer; }
journal() { json '"%s %d %d" % (j["prepared"], j["attempted"], j["reached"])' <data/cluster/journal; }

mkdir -p data/cluster && echo https://127.0.0.1:1 >data/cluster/controllers
for file in ca.pem node.pem node.key; do echo x >data/cluster/$file; done

# What is no line of a controller changes nothing
for bad in '' '{}' 'null' "$(told 1 "$(record 1 "$one")" null | sed 's/"format":1,"minor":0,"revision"/"format":2,"minor":0,"revision"/')" "$(told 1 '{}' null)" "$(told 1 "$(record 1 "$one")" '{}')"; do
        printf %s "$bad" | step
        is "refused: $(printf %.40s "$bad")" "1 no journal" "$? $([ -e data/cluster/journal ] && echo a || echo no) journal"
done
told 1 "$(record 1 "$one")" null >peace
fails 2 usage "an offset that is none" m cluster step --offset far
fails 2 usage "one that is too large" m cluster step --offset 99999999999999999999
fails 2 usage "a clock error that is none" m cluster step --clock-error -1
fails 2 usage "one that is too large" m cluster step --clock-error 9223372036854775808

# Peace
told 1 "$(record 1 "$one")" null false | step
is "no member" "nowhere peace nothing" "$(says)"
is "has nothing to say" "None None" "$(json '"%s %s" % (j["vote"], j["status"])' <answer)"
step <peace
is "it runs the version; what it is asked for in this view comes next" "arrived peace reach True" "$(says) $(json 'str(j["again"])' <answer)"
is "and says so" "1 True True 1" "$(json '"%d %s %s %s" % (j["status"]["epoch"], j["status"]["settled"], j["status"]["confirmed"], j["status"]["running"]["version"])' <answer)"
is "the journal was first" "None 0 1" "$(journal)"
step <peace
is "once" "in-place peace nothing False" "$(says) $(json 'str(j["again"])' <answer)"
told 2 "$(record 1 "$one")" null true true | step
is "refused" "fenced peace refused" "$(says)"
has "and told why" 'joined after the snapshot' "$(json 'j["status"]["message"]' <answer)"

# Votes
told 3 "$(record 1 "$one")" "$(operation ROLLBACK PREPARE "$one" 0)" | step
is "a rollback without a way back" "in-place open prepare False no-previous-version" "$(says) $(json '"%s %s" % (j["vote"]["yes"], j["vote"]["kind"])' <answer)"
is "promises nothing" "None 0 1" "$(journal)"
is "nor does it say how far its clock is off, which nobody has measured" 9223372036854775807 "$(json 'j["vote"]["clock_error_usec"]' <answer)"
told 3 "$(record 1 "$one")" "$(operation ROLLBACK PREPARE "$one" 0)" | sed 's/"voted"/"asked":false,"voted"/' | step
is "one that it is not asked for: it is no part of that snapshot" "in-place other nothing None" "$(says) $(json 'str(j["vote"])' <answer)"
told 3 "$(record 1 "$one")" "$(operation UPGRADE PREPARE "$other" 0)" | step
is "an upgrade that no controller has: it is tried again" "in-place open prepare None True" "$(says) $(json '"%s %s" % (j["vote"], j["again"])' <answer)"
two=$("$BOOTMGR" bundle inspect --json 2.bundle | json 'j["digest"]')
mkdir -p data/cluster/bundles && cp 2.bundle "data/cluster/bundles/$two"
open=$(operation UPGRADE PREPARE "{\"version\":\"2\",\"digest\":\"$two\"}" 0)
printf x | dd of="data/cluster/bundles/$two" bs=1 seek=$(($(stat -c %s 2.bundle) - 9)) conv=notrunc status=none
told 4 "$(record 1 "$one")" "$open" | step
is "one whose copy has decayed here: it is asked of the controllers, again" "in-place open prepare None True" "$(says) $(json '"%s %s" % (j["vote"], j["again"])' <answer)"
is "the copy is none any more" no "$([ -e "data/cluster/bundles/$two" ] && echo yes || echo no)"
cp 2.bundle "data/cluster/bundles/$two"
told 4 "$(record 1 "$one")" "$open" | step
is "one that it can have" "in-place open prepare True" "$(says) $(json 'str(j["vote"]["yes"])' <answer)"
is "is installed" "2 installed" "$(m status --json | json '" ".join((j["slots"][1]["version"], j["slots"][1]["state"]))')"
is "no shutdown goes on with it" "UPGRADE DONE False" "$(m show upgrade history --json | json '"%s %s %s" % (j[0]["operation"], j[0]["state"], j[0]["staged"])')"
is "it has promised" "$id 0 1" "$(journal)"
m switch-at-shutdown -q
is "and a shutdown changes nothing" "1" "$(boots && status '[s["version"] for s in j["slots"] if s["name"] == j["booted"]][0]')"
told 4 "$(record 1 "$one")" "$open" | m --json cluster step --offset 7 --clock-error 1234 >answer
is "a vote names by how much its clock may be off" 1234 "$(json 'j["vote"]["clock_error_usec"]' <answer)"
told 4 "$(record 1 "$one")" "$open" | step
is "asked again it says the same" "in-place prepared vote True" "$(says) $(json 'str(j["vote"]["yes"])' <answer)"
cp data/cluster/journal kept
next=$(printf %032d 6)
told 6 "$(record 1 "$one")" "$(printf %s "$open" | sed "s/$id/$next/")" | step
is "that one is over and another is open: it answers at once" "in-place open prepare True $next" "$(says) $(json 'str(j["vote"]["yes"]) + " " + j["operation"]' <answer)"
is "and has promised" "$next 0 1" "$(journal)"
cp kept data/cluster/journal
two_runs=$(record 2 "{\"version\":\"2\",\"digest\":\"$two\"}" ",\"previous\":$one")
told 6 "$two_runs" "$(operation UPGRADE CONTROLLERS "{\"version\":\"2\",\"digest\":\"$two\"}" 2)" | step
is "committed, and others go first: its promise stands" "behind not-yet nothing $id 0 1" "$(says) $(journal)"
fails 3 operation-in-progress "the slot that it is to go to is not made bad" m slot mark-bad b
mv kept data/cluster/journal
record_before=$(sha256sum <disk.img)
fails 3 operation-in-progress "it decides nothing alone: another slot" m slot activate b --no-reboot
has "is told of what" "take part in operation $id" "$(cat out)"
has "and the ways out" 'abort. on a controller; .bootmgr abort --local. here' "$(cat out)"
fails 3 operation-in-progress "what it has promised is not made bad" m slot mark-bad b
fails 3 operation-in-progress "a rollback by hand" m rollback system --local --no-reboot
has "a dry run of it says so" 'cluster +refused .*promised its cluster' "$(m rollback system --local --dry-run 2>&1)"
is "nothing has changed" "$record_before" "$(sha256sum <disk.img)"
mv data/cluster/controllers kept-controllers
fails 3 no-previous-version "where it stands alone again, it has promised nobody anything" m rollback system --local --no-reboot
mv kept-controllers data/cluster/controllers
ok "cut off for ever" m abort --local
is "it is free" "None 0 1" "$(journal)"
has "also to go back by hand" 'cluster +ok +.*promised it nothing' "$(m rollback system --local --dry-run 2>&1)"
told 5 "$(record 1 "$one")" "$open" | step
is "and never answers to that one again" "in-place other nothing" "$(says)"
fails 2 usage "free already" m abort --local

# A journal that cannot be read
cp data/cluster/journal kept && echo '{' >data/cluster/journal
step <peace
is "no step without a journal" "1" "$?"
mv kept data/cluster/journal

# What its shutdown cannot make is not tried at each boot again
reason() { json 'j["status"]["message"]' <answer; }
told 9 "$(record 2 "{\"version\":\"2\",\"digest\":\"$two\"}" ",\"previous\":$one")" null >decided
[ ! -e data/snapshots ] || mv data/snapshots kept-snapshots
echo "no directory" >data/snapshots
step <decided
is "there is no place for the seal" "behind peace switch FAILED" "$(says) $(m show upgrade history --json | json 'j[0]["state"]')"
is "the attempt was first" "None 2 1" "$(journal)"
ok "it boots" boots
before=$(m show upgrade history --json)
step <decided
is "that was the attempt of this epoch" "failed peace nothing True" "$(says) $(json 'str(j["status"]["settled"])' <answer)"
has "the controllers are told why" 'could not switch: cannot make snapshots' "$(reason)"
has "and the way out" 'upgrade clear' "$(reason)"
is "nothing was done" "$before" "$(m show upgrade history --json)"
rm data/snapshots
[ ! -e kept-snapshots ] || mv kept-snapshots data/snapshots
ok "a person allows it once more" m upgrade clear

# The decision
step <decided
is "it goes where the record says" "behind peace switch" "$(says)"
is "the attempt was first" "None 2 1" "$(journal)"
is "and the name of the operation that it is" "$(json 'j["staged"]' <data/cluster/journal)" "$(m show upgrade history --json | json 'j[0]["id"]')"
ok "it boots" boots
is "2 runs" 2 "$(status '[s["version"] for s in j["slots"] if s["name"] == j["booted"]][0]')"
step <decided
is "it has arrived" "arrived peace reach" "$(says)"
step <peace
is "what is older is nothing any more" "in-place old nothing None" "$(says | sed 's/^[a-z-]* old/in-place old/') $(json 'str(j["status"])' <answer)"

# What waits for the shutdown, when the record wants another version: a power cut took the place of that shutdown
staged() { m show upgrade history --json | json '"%s %s %s" % (j[0]["operation"], j[0]["state"], j[0]["reason"])'; }
mine=$(printf %032d 6)
mv data/cluster away # as a machine that stands alone
ok "an operator prepares a rollback" m rollback system -q --no-reboot --id "$mine"
mv away data/cluster
step <decided
is "that is left alone" "in-place peace nothing ROLLBACK IN_PROGRESS asked for by an operator" "$(says) $(staged)"
cp disk.img prepared.img && cp -a data prepared
fails 2 usage "the word alone is for the cluster's" m abort
has "another one waits for it, and names the way out of a node" 'abort --local' "$(m slot activate a --no-reboot 2>&1)"
has "it can be taken back" 'prepared here is given up' "$(m abort --local)"
is "as an operator's" "ROLLBACK ABORTED aborted by an operator" "$(staged)"
fails 2 usage "there is nothing more" m abort --local
cp prepared.img disk.img && rm -r data && mv prepared data
sed -i "s/\"staged\":\"[0-9a-f]*\"/\"staged\":\"$mine\"/" data/cluster/journal
told 12 "$(record 2 "{\"version\":\"2\",\"digest\":\"$two\"}" ",\"previous\":$one")" null | step
is "what the cluster has staged is given up" "in-place peace nothing False" "$(says) $(json 'str(j["again"])' <answer)"
is "and says why" "ROLLBACK ABORTED the cluster has decided otherwise since" "$(staged)"
m switch-at-shutdown -q
is "the next shutdown changes nothing" 2 "$(boots && status '[s["version"] for s in j["slots"] if s["name"] == j["booted"]][0]')"

# The controllers were taken back by hand: an engine follows to a version that its own gate keeps it from asking for
id=$(printf %032d 8)
cp conf plain && sed -i 's/^\[System\]/[System]\nRollbackMinVersion=1.5/' conf
told 12 "$(record 2 "{\"version\":\"2\",\"digest\":\"$two\"}" ",\"previous\":$one")" "$(operation ROLLBACK PREPARE "$one" 0)" | step
is "a rollback that is asked for meets the gate" "False previous-version-too-old" "$(json '"%s %s" % (j["vote"]["yes"], j["vote"]["kind"])' <answer)"
told 14 "$(record 3 "$one")" null | step
is "what is decided does not" "behind peace switch False" "$(says) $(json 'str(j["again"])' <answer)"
is "it goes there as the controllers did" "ROLLBACK 1 True" "$(m show upgrade history --json | json '"%s %s %s" % (j[0]["operation"], j[0]["to_version"], j[0]["local"])')"
ok "it boots" boots
is "1 runs" 1 "$(status '[s["version"] for s in j["slots"] if s["name"] == j["booted"]][0]')"
told 14 "$(record 3 "$one")" null | step
is "it has arrived" "arrived peace reach" "$(says)"
mv plain conf

# That rollback is taken back: the cluster can be rolled back again, and so can each of its nodes
id=$(printf %032d 9)
back=$(record 4 "{\"version\":\"2\",\"digest\":\"$two\"}" ",\"previous\":$one")
told 16 "$back" "$(operation ROLLBACK TAKE_BACK "$one" 2)" | step
is "it goes back to where it was" "behind turn switch ROLLBACK 2 True" "$(says) $(m show upgrade history --json | json '"%s %s %s" % (j[0]["operation"], j[0]["to_version"], j[0]["way_back"])')"
ok "it boots" boots
is "2 runs" 2 "$(status '[s["version"] for s in j["slots"] if s["name"] == j["booted"]][0]')"
is "what it left is the previous version" 1 "$(status '[s["version"] for s in j["slots"] if s["name"] == j["previous"]][0]')"
told 17 "$back" null >last
step <last
is "it has arrived there" "arrived peace reach" "$(says)"
id=$(printf %032d 10)
told 18 "$back" "$(operation ROLLBACK PREPARE "$one" 0)" | step
is "and can be rolled back once more" "in-place open prepare True" "$(says) $(json 'str(j["vote"]["yes"])' <answer)"
ok "it is let go" m abort --local
told 19 "$back" null >last

# The version that the cluster was rolled back from is asked for again
second="{\"version\":\"2\",\"digest\":\"$two\"}"
settings() { cat data/root/cfg/settings; }
mkdir -p data/root/cfg && echo "of 2" >data/root/cfg/settings
told 20 "$(record 5 "$one")" null | step
is "the cluster goes back" "behind peace switch" "$(says)"
ok "it boots" boots
told 21 "$(record 5 "$one")" null | step
is "it is in place" "arrived peace reach" "$(says)"
is "where version 2 is refused" '["2"]' "$(status '[v["version"] for v in j["refused_versions"]]')"
is "and left behind, with its configuration" 'confirmed' "$(status '[s["state"] for s in j["slots"] if s["version"] == "2"][0]')"
mkdir -p data/root/cfg && echo "set under 1" >data/root/cfg/settings
again=$(record 6 "$second" ",\"previous\":$one" | sed 's/"previous_epoch":0/"previous_epoch":5/')
told 22 "$again" null >goes-on
step <goes-on
is "who slept through the vote installs it anew" "without peace fetch" "$(says)"
is "whatever it refuses: none of that is an updater's" "installed" "$(status '[s["state"] for s in j["slots"] if s["version"] == "2"][0]')"
step <goes-on
is "and switches" "behind peace switch" "$(says)"
is "it is refused no longer" '[[], null]' "$(status '[j["refused_versions"], j["refused"]]')"
ok "it boots" boots
is "2 runs" 2 "$(status '[s["version"] for s in j["slots"] if s["name"] == j["booted"]][0]')"
is "with what was set under version 1" "set under 1" "$(settings)"
step <goes-on
is "it has arrived" "arrived peace reach" "$(says)"
# Where the slot to go back to is lost, nothing is installed anew: that would run on the configuration of its successor
first=$(status '[s["name"] for s in j["slots"] if s["version"] == "1"][0]')
ok "version 1 is marked bad" m slot mark-bad "$first"
before=$(status 'j["slots"]')
told 23 "$(record 7 "$one")" null | step
is "it stays, and has nothing more to do" "stranded peace nothing True" "$(says) $(json 'str(j["status"]["settled"])' <answer)"
has "and says what is missing, and the ways out" "version 1 with its configuration; 'bootmgr slot mark-good' there .*, else 'bootmgr node delete'" "$(reason)"
is "nothing is fetched" "$before" "$(status 'j["slots"]')"
ok "it is good after all" m slot mark-good "$first"
told 23 "$(record 7 "$one")" null | step
is "the cluster goes back once more" "behind peace switch" "$(says)"
ok "it boots" boots
is "to what version 1 had" "set under 1" "$(settings)"
told 24 "$(record 7 "$one")" null >last
step <last
is "it is in place" "arrived peace reach" "$(says)"
id=$(printf %032d 11)
told 25 "$(record 7 "$one")" "$(operation UPGRADE PREPARE "$second" 0)" | step
is "asked for its vote it says yes" "in-place open prepare True" "$(says) $(json 'str(j["vote"]["yes"])' <answer)"
ok "it is let go" m abort --local
three=$("$BOOTMGR" bundle inspect --json 3.bundle | json 'j["digest"]')
cp 3.bundle "data/cluster/bundles/$three"
id=$(printf %032d 12)
told 26 "$(record 7 "$one")" "$(operation UPGRADE PREPARE "{\"version\":\"3\",\"digest\":\"$three\"}" 0)" | step
has "a NO has the way out, too" '^False bundle-incompatible .*; see Compatible=' \
        "$(json '"%s %s %s" % (j["vote"]["yes"], j["vote"]["kind"], j["vote"]["message"])' <answer)"
told 27 "$(record 7 "$one")" null >last

# The instant at which machines that go together are reset
late=$top/units/system-shutdown/bootmgr-instant
begin=$(date +%s%3N)
echo $(($(date +%s%6N) + 700000)) >instant
ok "it is waited for" "$late" reboot instant
passed_ms=$(($(date +%s%3N) - begin))
is "to the moment ($passed_ms ms)" yes "$([ $passed_ms -ge 700 ] && [ $passed_ms -lt 2000 ] && echo yes)"
begin=$(date +%s)
for when in $(($(date +%s%6N) - 1)) $(($(date +%s%6N) + 3600000000)) 0 '' nonsense; do
        echo "$when" >instant
        ok "one that is past, far off or none is not: '$when'" "$late" reboot instant
done
echo $(($(date +%s%6N) + 5000000)) >instant
ok "nor is it when the machine is switched off" "$late" poweroff instant
ok "or where none was agreed on" "$late" reboot nowhere
is "no time was lost" yes "$([ $(($(date +%s) - begin)) -lt 5 ] && echo yes)"

# Nobody can be asked
ok "without a controller its own operation is shown" m show upgrade status
has "and that it is so" "only what this node did is shown" "$(cat err)"

# Options of clusters
rm data/cluster/controllers
fails 2 usage "on a machine that stands alone" m upgrade system 2.bundle --strict
fails 2 usage "a rollback neither" m rollback system --lead 3s

# An install that was cut off with the machine: the record says that it runs
content "a large root" 3000000 >root-5
"$BOOTMGR" bundle create -q --version 5 --compatible test-box --root root-5 --kernel kernel-2 --key release.key 5.bundle || exit 2
mkfifo pipe
{ head -c 1500000 5.bundle; sleep 60; } >pipe &
feeder=$!
m upgrade system - <pipe >/dev/null 2>&1 &
worker=$!
for _ in $(seq 200); do
        [ "$(status '"incomplete" in [s["state"] for s in j["slots"]]')" = true ] && break
        sleep 0.05
done
step <last
has "while it is at work, the node waits" '^waiting ' "$(says)"
children=$(pgrep -P $worker)
# shellcheck disable=SC2086
kill -KILL $children $worker
wait $worker 2>/dev/null
# Nobody here waits for them: they are gone when the kernel says so.
for child in $children; do
        while kill -0 "$child" 2>/dev/null; do sleep 0.05; done
done
kill $feeder
step <last
is "when nobody is, it does not" "in-place peace nothing" "$(says)"

# How often bootmgrd looks how far the work of others is: where the machine is a member, each look asks a controller
# shellcheck source=tests/cli/bus.sh
. "$top/tests/cli/bus.sh"
trap 'stop_all' EXIT
start_bus ""
printf '[Storage]\nDataDirectory=%s/data\n' "$W" >daemon.conf
cat >looked <<END
#!/bin/sh
echo "\$*" >>"$W/words"
cd "$W" && exec "$BOOTMGR" --disk disk.img --esp esp --data data --config conf --cmdline "$running" "\$@"
END
chmod +x looked
looks() {
        mkdir run && : >words
        env BOOTMGR_PROGRAM="$W/looked" RUNTIME_DIRECTORY="$W/run" BOOTMGR_CONFIG="$W/daemon.conf" "$bootmgrd" 2>>bootmgrd.err &
        daemon=$!
        until grep -q 'upgrade status' words; do
                kill -0 $daemon || return
                sleep 0.1
        done
        (echo $$ && sleep 8) >run/lock
        kill $daemon && wait $daemon
        grep -c 'upgrade status' words
        rm -r run
}
found=$(looks)
is "alone it looks each second ($found times)" yes "$([ "$found" -gt 4 ] && echo yes)"
echo https://127.0.0.1:1 >data/cluster/controllers && echo e1 >data/cluster/name
found=$(looks)
is "as a member it does not ($found times)" yes "$([ "$found" -le 3 ] && echo yes)"
finish
