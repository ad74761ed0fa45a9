#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Root images around 2 and 4 GiB, where 32-bit sizes and offsets end. The files are sparse: they take time to read, and
# hardly any room.
. "$(dirname "$0")/lib.sh"

"$BOOTMGR" bundle keygen -q release && mkdir trust esp data && cp release.pem trust/ || exit 2
content "the kernel" 20000 >kernel
cat >conf <<END
[System]
Compatible=test-box
[Trust]
Directory=$W/trust
END

# Content at the start, across every boundary that lies in the image, and at its very end.
sparse() { # FILE SIZE
        python3 -c 'import sys
name, size = sys.argv[1], int(sys.argv[2])
with open(name, "wb") as f:
    f.truncate(size)
    for at in (0, 2**31 - 5, 2**32 - 5, size - 10):
        if at + 10 <= size:
            f.seek(at)
            f.write(b"%010d" % at)' "$1" "$2"
}

# shellcheck disable=SC2317 # called by ok
# Whether the first file is what lies in the second at this offset: data is compared, holes are zeros.
same() { # FILE DISK OFFSET
        python3 -c 'import errno, os, sys
a, b, base = os.open(sys.argv[1], os.O_RDONLY), os.open(sys.argv[2], os.O_RDONLY), int(sys.argv[3])
size = os.fstat(a).st_size
def stretches(fd, start, end):
    at = start
    while at < end:
        try: at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as e:
            if e.errno == errno.ENXIO: return
            raise
        stop = min(os.lseek(fd, at, os.SEEK_HOLE), end)
        while at < stop:
            n = min(stop - at, 1 << 20)
            yield at - start, n
            at += n
compared = 0
for at, n in [*stretches(a, 0, size), *stretches(b, base, base + size)]:
    compared += n
    if os.pread(a, n, at) != os.pread(b, n, base + at): sys.exit(f"they differ at {at}")
print(compared)' "$@"
}

G=$((1 << 30))
ok "a disk" "$BOOTMGR" init --json --image-size 9G --esp-size 34M --root-size 4100M disk.img
offset() { json "[p['offset'] for p in j['partitions'] if p['label'] == '$1'][0]" <layout; }
cp out layout
running=

v=0
for size in $((2 * G - 1)) $((2 * G)) $((2 * G + 1)) $((4 * G - 1)) $((4 * G)) $((4 * G + 1)) $((4 * G + 262144 * 3 + 17)); do
        v=$((v + 1))
        sparse root $size
        case $v in 2 | 4 | 7) how=content ;; *) how=fixed ;; esac
        ok "$size: create" "$BOOTMGR" bundle create -q --chunking $how --version $v --compatible test-box --root root --kernel kernel --key release.key $v.bundle
        ok "$size: inspect" "$BOOTMGR" bundle inspect --json $v.bundle
        is "$size: its size" "$size" "$(json '[i["size"] for i in j["images"] if i["name"] == "root"][0]' <out)"
        chunks=$(json '[i["chunks"] for i in j["images"] if i["name"] == "root"][0]' <out)
        [ $how = content ] || is "$size: its chunks" $(((size + 262143) / 262144)) "$chunks"
        [ $how = fixed ] || has "$size: a chunk is much of zeros" '^[0-9]{2,3}$' "$chunks"
        ok "$size: verify" "$BOOTMGR" bundle verify --trust trust $v.bundle
        has "$size: the bundle is small" '^[0-9]{1,6}$' "$(stat -c %s $v.bundle | awk '$1 < 1000000')"
done

# Installed: below 2 GiB into a, above 4 GiB into b, whose data lie beyond 8 GiB in the disk
install() { # BUNDLE SIZE LABEL
        sparse root "$2"
        ok "$2: install" m upgrade system -q "$1"
        ok "$2: is what lies in $3" same root disk.img "$(offset "$3")"
        has "$2: and more than nothing was compared" '^[1-9][0-9]*$' "$(cat out)"
}
install 3.bundle $((2 * G + 1)) root-a
ok "it boots" boots
install 7.bundle $((4 * G + 262144 * 3 + 17)) root-b
ok "it boots" boots
is "b runs, a can be gone back to" '["b", "a"]' "$(status '[j["booted"], j["previous"]]')"

# A byte changed behind 2 GiB in a is found before going back
printf X | dd of=disk.img bs=1 seek=$(($(offset root-a) + 2 * G - 3)) conv=notrunc status=none
fails 3 previous-altered "a byte changed behind 2 GiB" m rollback system
has "is named by its chunk" "offset $(((2 * G - 3) / 262144 * 262144))" "$(cat out)"
has "little room was taken (MiB)" '^[0-9]{1,2}$' "$(du -sm . | cut -f1)"

finish
