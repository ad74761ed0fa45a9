#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The local procedure, installed as /usr/lib/bootmgr/install.sh: goes back to the previous version on this
# machine alone, without bootmgrd and without the version gate (RollbackMinVersion=). Nothing else of it is
# relaxed: a previous version that is missing, damaged or below the security floor is refused here, too.
set -eu

usage() {
        cat <<'END'
usage: install.sh --rollback

  --rollback  prepare going back to the previous version and its configuration,
              without bootmgrd and without the version gate; the reboot that
              carries it out is yours to start
  --help      show this

Exit status: 0 prepared, 1 failed, 2 usage, 3 refused by a check.
END
}

case "${1-}" in
--rollback)
        [ $# -eq 1 ] || { usage >&2; exit 2; }
        ;;
-h | --help)
        usage
        exit 0
        ;;
*)
        usage >&2
        exit 2
        ;;
esac

"${BOOTMGR:-bootmgr}" rollback system --local --no-reboot
echo "The rollback is prepared. A reboot is needed: 'systemctl reboot' carries it out."
