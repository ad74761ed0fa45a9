#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# A few schedules of disturbances over a cluster of real daemons, with a real etcd: tests/cluster/run has all of them.
. "$(dirname "$0")/lib.sh"
ok "etcd is there" command -v etcd
python3 "$top/tests/cluster/run" --schedules 5 --seed test
status=$?
is "all schedules hold" 0 $status
finish
