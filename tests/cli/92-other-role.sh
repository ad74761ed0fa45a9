#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# A machine that is deleted and joins anew in the other role, while its bootmgrd goes on: that ends, for one that has the new part.
# asan: no, it waits for daemons that 91-join.sh runs, too
#
# Functions that ok calls by their names:
# shellcheck disable=SC2317
. "$(dirname "$0")/lib.sh"
. "$top/tests/cli/bus.sh"
. "$top/tests/cli/controller.sh"
c() { "$BOOTMGR" --config conf --data "$W/c1" "$@"; }
e() { "$BOOTMGR" --config conf-e --data "$W/e1" "$@"; }
daemon='' other='' other_bus=''
trap 'stop_all $etcds $daemon $other $other_bus' EXIT
ports=$(free_ports 2)
port=${ports% *} port_e=${ports#* }
url=https://127.0.0.1:$port
printf '[API]\nListen=127.0.0.1:%s\n' "$port" >conf
printf '[API]\nListen=127.0.0.1:%s\n[Storage]\nDataDirectory=%s/e1\n' "$port_e" "$W" >conf-e
mkdir c1 e1 run-e

ok "a controller" c cluster init acme --name c1 --address 127.0.0.1
move_store c1
start_etcd c1
until cluster_record c1 3 2>/dev/null; do sleep 0.1; done
cluster_member c1 c1 controller 0
serve c1 conf "$url"

# ---- another machine, with a bus of its own ----

printf '#!/bin/sh\nexec "%s" --config "%s/conf-e" --data "%s/e1" "$@"\n' "$BOOTMGR" "$W" "$W" >bootmgr-e
chmod +x bootmgr-e
sed "s|<listen>.*|<listen>$DBUS_SYSTEM_BUS_ADDRESS-e</listen>|" bus.conf >bus-e.conf
dbus-daemon --config-file=bus-e.conf --nofork --nopidfile 2>bus-e.err &
other_bus=$!
until DBUS_SYSTEM_BUS_ADDRESS=$DBUS_SYSTEM_BUS_ADDRESS-e busctl list >/dev/null 2>&1; do
        kill -0 $other_bus || { cat bus-e.err; exit 2; }
        sleep 0.05
done
on_bus() { DBUS_SYSTEM_BUS_ADDRESS=$DBUS_SYSTEM_BUS_ADDRESS-e "$@"; }
# Its bootmgrd; the words of the one before are kept.
starts() {
        cat bootmgrd-e.err >>bootmgrd-e.all 2>/dev/null
        env DBUS_SYSTEM_BUS_ADDRESS="$DBUS_SYSTEM_BUS_ADDRESS-e" BOOTMGR_PROGRAM="$W/bootmgr-e" RUNTIME_DIRECTORY="$W/run-e" \
                BOOTMGR_CONFIG="$W/conf-e" "$bootmgrd" 2>bootmgrd-e.err &
        other=$!
        until on_bus busctl status org.bootmgr1 >/dev/null 2>&1; do kill -0 $other || return; sleep 0.05; done
}
soon() { for _ in $(seq 100); do "$@" && return; sleep 0.1; done; return 1; }
# What it is: the controller hears of an engine; a controller serves.
is_engine() { curl -s --cacert c1/cluster/ca.pem --cert c1/cluster/node.pem --key c1/cluster/node.key "$url/metrics" | grep -q '^bootmgr_connected_nodes 1$'; }
is_controller() { curl -sk "https://127.0.0.1:$port_e/api/cluster/ca" | cmp -s - e1/cluster/ca.pem; }
# With which status it ends by itself, soon. In this shell, whose child it is.
ends() {
        for _ in $(seq 200); do
                kill -0 $other 2>/dev/null || break
                sleep 0.1
        done
        kill -0 $other 2>/dev/null && kill -KILL $other
        wait $other
        ended=$?
}
joins() { e node join "$url" "$(c cluster token --role "$1")" --name e1 --address 127.0.0.1; }

ok "it joins as an engine" joins engine
starts
ok "which its bootmgrd is" soon is_engine
sleep 16
ok "and stays" kill -0 $other
ok "it is deleted" c node delete e1
ok "and joins anew, as a controller" joins controller
ends
is "the bootmgrd of the engine ends, for another one" 75 $ended
has "and says why" 'another node than before, now controller' "$(cat bootmgrd-e.err)"
starts
ok "which is a controller's" soon is_controller
ok "deleted once more" c node delete e1
ok "it joins as an engine again" joins engine
ends
is "the controller's ends" 75 $ended
starts
ok "for an engine's" soon is_engine
ok "deleted, and without what lay there" sh -c "'$BOOTMGR' --config conf --data c1 node delete e1 && rm -r e1/cluster"
ok "it becomes the first of another cluster" e cluster init other --name e1 --address 127.0.0.1
ends
is "which its bootmgrd does not miss" 75 $ended
starts
ok "the next one is its controller's" soon is_controller
kill $other
wait $other
rm -r e1/cluster
starts
ok "a machine that stands alone joins, with a bootmgrd that was asked for something" joins engine
ends
is "and has the next one find out" 75 $ended
other=
kill $daemon
wait $daemon
daemon=
has_not "nothing was wrong with the daemons' memory" 'Sanitizer|runtime error' "$(cat bootmgrd.err bootmgrd-e.all bootmgrd-e.err)"

finish
