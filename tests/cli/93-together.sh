#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# A few schedules of disturbances over a cluster of real daemons, with a real etcd: tests/cluster/run has all of them.
. "$(dirname "$0")/lib.sh"
ok "etcd is there" command -v etcd
"$top/tests/cluster/run" --schedules 4 --seed small --controllers 1 --engines 2
is "one controller, two engines" 0 $?
"$top/tests/cluster/run" --schedules 1 --seed large
is "three controllers, four engines" 0 $?
finish
