# shellcheck shell=sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What the CLI tests share: sourced first by each. A test needs no root and no machine: it works on image files.
#
#   $BOOTMGR            the program (default: that of $BUILD, else build/)
#   $W                  a directory of its own, the current one; removed at the end (KEEP=1 keeps it)
#   ok WHAT COMMAND     COMMAND must succeed
#   fails STATUS KIND WHAT COMMAND
#                       COMMAND must end with STATUS and, with --json, an error of KIND
#   is WHAT EXPECTED ACTUAL
#   finish              at the end: the result
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
export LC_ALL=C.UTF-8
BUILD=${BUILD:-build}
case $BUILD in
/*) ;;
*) BUILD=$top/$BUILD ;;
esac
BOOTMGR=${BOOTMGR:-$BUILD/bootmgr}
W=$(mktemp -d "${TMPDIR:-/tmp}/bootmgr-cli.XXXXXX")
cd "$W" || exit 2
trap '[ -n "${KEEP-}" ] && echo "kept: $W" || { chmod -R u+rwx "$W" 2>/dev/null; rm -rf "$W"; }' EXIT
passed=0
failed=0

pass() {
        passed=$((passed + 1))
        echo "ok: $1"
}

# WHAT [FILE with details]
flunk() {
        failed=$((failed + 1))
        echo "NOT OK: $1"
        [ $# -lt 2 ] || sed 's/^/    /' "$2"
}

ok() {
        what=$1
        shift
        if "$@" >out 2>err; then
                pass "$what"
        else
                echo "exit status $?: $*" | cat - out err >why
                flunk "$what" why
        fi
}

is() {
        if [ "$2" = "$3" ]; then
                pass "$1"
        else
                printf 'expected: %s\nfound:    %s\n' "$2" "$3" >why
                flunk "$1" why
        fi
}

# Whether the text holds the pattern (grep -E).
has() {
        if printf '%s\n' "$3" | grep -Eq -- "$2"; then
                pass "$1"
        else
                printf 'no match for: %s\nin: %s\n' "$2" "$3" >why
                flunk "$1" why
        fi
}

has_not() {
        if printf '%s\n' "$3" | grep -Eq -- "$2"; then
                printf 'unwanted match for: %s\nin: %s\n' "$2" "$3" >why
                flunk "$1" why
        else
                pass "$1"
        fi
}

# Values of JSON on stdin: json EXPRESSION, in Python, of `j`.
json() {
        python3 -c 'import json, sys
j = json.load(sys.stdin)
v = eval(sys.argv[1])
print(v if isinstance(v, str) else json.dumps(v))' "$1"
}

fails() {
        status=$1 kind=$2 what=$3
        shift 3
        "$@" --json >out 2>err </dev/null
        found=$?
        if [ "$found" -eq "$status" ] && [ "$(json 'j["kind"]' <out 2>/dev/null)" = "$kind" ]; then
                pass "$what: $kind"
        else
                { echo "expected status $status and kind $kind, found status $found: $*" && cat out err; } >why
                flunk "$what" why
        fi
}

finish() {
        echo "$(basename "$0"): $passed passed, $failed failed"
        [ "$failed" -eq 0 ]
        exit
}

# ---- a factory: keys, bundles, an image ----

# Content that compresses badly, the same for the same seed and size.
content() {
        python3 -c 'import random, sys
r = random.Random(sys.argv[1])
sys.stdout.buffer.write(r.randbytes(int(sys.argv[2])))' "$1" "$2"
}

# bundle VERSION [options]: $W/VERSION.bundle; its root is 1 MiB, its kernel and initrd small.
bundle() {
        v=$1
        shift
        [ -e release.key ] || "$BOOTMGR" bundle keygen release -q || exit 2
        content "root $v" 1048576 >"root-$v"
        content "kernel $v" 20000 >"kernel-$v"
        content "initrd $v" 30000 >"initrd-$v"
        "$BOOTMGR" bundle create -q --version "$v" --compatible test-box --root "root-$v" --kernel "kernel-$v" \
                --initrd "initrd-$v" --key release.key "$@" "$v.bundle"
}

# An empty disk.img with its esp/, data/ and conf.
make_machine() {
        mkdir -p esp data trust
        [ -e release.key ] || "$BOOTMGR" bundle keygen release -q || exit 2
        cp release.pem trust/
        cat >conf <<END
[System]
Compatible=test-box
[Configuration]
SharedPaths=/cfg
[Trust]
Directory=$W/trust
END
        "$BOOTMGR" init -q --image-size 64M --esp-size 34M --root-size 4M disk.img || exit 2
}

# The program on that machine; what runs there is in $running, as a kernel command line.
running=
m() {
        if [ -n "$running" ]; then
                "$BOOTMGR" --disk disk.img --esp esp --data data --config conf --cmdline "$running" "$@"
        else
                "$BOOTMGR" --disk disk.img --esp esp --data data --config conf "$@"
        fi
}

# What the machine would boot now, as systemd-boot and the kernel would say it; then the units' work.
boots() { choose_next && boot_up; }

choose_next() {
        entry=$(next_entry)
        running=$(sed -n 's/^options *//p' "esp/loader/entries/$entry")
}

boot_up() { m boot-config -q && m check-health -q && m confirm -q; }

# The newest of our entries that has tries left (foreign ones are not among these tests).
next_entry() {
        find esp/loader/entries -name 'bootmgr-*.conf' ! -name '*+0-*' -printf '%f\n' | sort -t- -k2,2n | tail -n 1
}

# The entries that boot by themselves, sorted, on one line: without the menu's "previous version" ($(offered)).
entries() { find esp/loader/entries -name '*.conf' ! -name 'bootmgr-previous-*' -printf '%f\n' | sort | tr '\n' ' ' | sed 's/ $//'; }

offered() { find esp/loader/entries -name 'bootmgr-previous-*' -printf '%f\n'; }

status() { m status --json | json "$1"; }

# Everything that a refusal may not change. Holes are found by reading: where the file system has them changes when it writes
# back what was written long before.
fingerprint() {
        tar --sparse --hole-detection=raw --sort=name --mtime=@0 -cf - disk.img esp data | sha256sum
}
