#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# A few schedules of disturbances over a cluster of real daemons, with a real etcd, in network namespaces, from one build of bootmgr to
# another one and back: tests/cluster/run has all of them. Each has a network of its own, so they go side by side.
# asan: no, it is about the protocol, and takes twice as long there
. "$(dirname "$0")/lib.sh"
ok "etcd is there" command -v etcd

# NAME OPTIONS...
schedules() {
        name=$1
        shift
        "$top/tests/cluster/run" --limit 260 "$@" >"$name.log" 2>&1
        echo $? >"$name.status"
}

schedules "one controller, two engines" --schedules 2 --seed small --controllers 1 --engines 2 &
schedules "one controller, by hand" --schedules 2 --from 3 --seed small --controllers 1 --engines 2 &
schedules "three controllers, four engines" --schedules 1 --seed large &
wait
for log in *.log; do
        cat "$log"
        is "${log%.log}" 0 "$(cat "${log%.log}.status")"
done
# An upgrade that is given up keeps every promise, too: most of the five must have gone there and back.
if ! grep -q SKIPPED ./*.log; then
        went=$(sed -n 's/^the whole way.*: \([0-9]*\) of .*/\1/p' ./*.log | awk '{ n += $1 } END { print n + 0 }')
        ok "most of them went the whole way: $went of 5" [ "$went" -ge 3 ]
fi
finish
