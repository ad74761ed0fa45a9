#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What an install over HTTP takes of memory, with the workers of two processors.
# asan: no, it would be the sanitizer's memory
. "$(dirname "$0")/lib.sh"
"$BOOTMGR" bundle keygen -q release && mkdir trust esp data && cp release.pem trust/ || exit 2
content "the kernel" 20000 >kernel
printf '[System]\nCompatible=test-box\n[Trust]\nDirectory=%s/trust\n' "$W" >conf
"$BOOTMGR" init -q --image-size 300M --esp-size 34M --root-size 100M disk.img || exit 2
running=

# Half of it can be compressed; a sixth of it changes
python3 - <<'END' || exit 2
import random
r = random.Random("memory")
root = bytearray(b"".join(r.randbytes(10000) + r.randbytes(8) * 1250 for _ in range(4000)))
open("root-1", "wb").write(root)
for _ in range(150):
    at = r.randrange(0, len(root) - 100000)
    root[at:at + 100000] = r.randbytes(100000)
open("root-2", "wb").write(root)
END
for v in 1 2; do
        "$BOOTMGR" bundle create -q --level 1 --version $v --compatible test-box --root root-$v --kernel kernel \
                --key release.key $v.bundle || exit 2
done
python3 "$top/tests/cli/http_server.py" port log &
server=$!
trap 'kill $server; [ -n "${KEEP-}" ] && echo "kept: $W" || { chmod -R u+rwx "$W" 2>/dev/null; rm -rf "$W"; }' EXIT
for _ in $(seq 100); do [ -e port ] && break; sleep 0.05; done

# shellcheck disable=SC2317 # called by ok
update() { # VERSION; the last line is the peak of it, in KiB
        python3 -c 'import os, sys
status, usage = os.wait4(os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ), 0)[1:]
print(usage.ru_maxrss)
sys.exit(status != 0)' taskset -c 0,1 "$BOOTMGR" --disk disk.img --esp esp --data data --config conf --cmdline "$running" \
                upgrade system -q --no-read-back "http://127.0.0.1:$(cat port)/ranges/$1.bundle"
}
at_most() { # MIB WHAT
        echo "# $(tail -n 1 out) KiB"
        is "$2 takes at most $1 MiB" yes "$([ "$(tail -n 1 out)" -le $(($1 * 1024)) ] && echo yes)"
}
for slot in a b; do
        ok "version 1 in $slot" m upgrade system -q 1.bundle
        ok "it boots" boots
done
ok "version 2, of which both slots hold much" update 2
at_most 28 "it"
ok "it boots" boots
rm -r data/slots
ok "version 1, of which nothing is known" update 1
at_most 28 "that"

finish
