#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The independent readers of qemu/, which judge the disks after a power cut: against what bootmgr, mkfs and mtools have written.
. "$(dirname "$0")/lib.sh"

reader() { python3 "$top/tests/cli/reader.py" "$@"; }
# The machine's ESP, a directory in these tests, in the image.
fill_esp() {
        mkfs.vfat -F 32 --offset 2048 disk.img 34816 >out 2>&1 || { cat out && exit 2; }
        mcopy -s -Q -i disk.img@@1048576 esp/* ::/ || exit 2
}
# What bootmgr says of its record, in the form of `reader record`.
told() {
        m status --json | json '"%d %s " % (j["generation"], "'"$1"'") + " ".join("%s:%s:%s:%d:%s" % (s["name"], s["version"] or "", s["state"],
                s["generation"], s["digest"] or "0" * 64) for s in j["slots"])' | tr -s '\n' ' ' | sed 's/ $//'
}

reader log >out 2>&1
status=$?
sed -n '/^\(NOT \)\{0,1\}ok/Ip' out
[ $status -eq 0 ] || flunk "write logs" out

bundle 1 && bundle 2 || exit 2
make_machine
is "the record of an empty disk" "$(told none)" "$(reader record disk.img)"
m upgrade system -q 1.bundle && boots || exit 2
is "the record with version 1" "$(told none)" "$(reader record disk.img)"
m upgrade system -q 2.bundle
is "the record with version 2 on trial" "$(told switched)" "$(reader record disk.img)"

echo "a file with a name that is longer than two directory entries" >"esp/A name of More than thirteen characters.text"
mkdir -p esp/EFI/many
for i in $(seq 40); do echo "$i" >"esp/EFI/many/file number $i"; done
fill_esp
is "every file of the ESP, names and content" "$(cd esp && find . -type f -exec sha256sum {} + | sed 's,  \./, ,' | sort)" \
        "$(reader files disk.img | sort)"
is "the entry on trial comes first" "bootmgr-2-b+3-0.conf bootmgr-1-a.conf" "$(reader order disk.img)"
mv "esp/loader/entries/bootmgr-2-b+3-0.conf" "esp/loader/entries/bootmgr-2-b+0-3.conf"
fill_esp
is "without tries it comes last" "bootmgr-1-a.conf bootmgr-2-b+0-3.conf" "$(reader order disk.img)"
rm "esp/bootmgr/$(sed -n 's,^linux */bootmgr/,,p' esp/loader/entries/bootmgr-1-a.conf)"
fill_esp
is "an entry without its kernel is hidden" "bootmgr-2-b+0-3.conf" "$(reader order disk.img)"

python3 "$top/tests/cli/record.py" lose disk.img
is "no copy of the record is valid" none "$(reader record disk.img)"
printf 'EFI DEAD' | dd of=disk.img bs=1 seek=512 conv=notrunc status=none
is "the backup of the partition table counts" "bootmgr-2-b+0-3.conf" "$(reader order disk.img)"
finish
