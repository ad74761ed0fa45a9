#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# A data partition or an ESP without a byte left: the way back has room of its own, and an automatic one needs none. In a mount
# namespace, where they are small file systems.
# shellcheck disable=SC2317 # fill is called through ok
[ -n "${IN_NAMESPACE-}" ] || IN_NAMESPACE=1 exec unshare --map-root-user --mount sh "$0"
. "$(dirname "$0")/lib.sh"

config() { cat data/root/cfg/app.conf; }
operation() { m show upgrade status --json | json "$1"; }
held() { find data -maxdepth 1 -name '*-reserve' -size +0 -printf '%f\n' | sort | tr '\n' ' '; }
size_held() { du -ck data/*-reserve 2>/dev/null | tail -n 1 | cut -f1; }
fill() { dd if=/dev/zero of=data/fill bs=4k 2>/dev/null || ! dd if=/dev/zero of=data/more bs=1 count=1 2>/dev/null; }
# shellcheck disable=SC2034 # it is lib.sh's
upgraded() { # [SIZE [BYTES of configuration]]
        if mountpoint -q data; then umount data; fi
        rm -rf disk.img esp data trust conf && running='' && make_machine && mount -t tmpfs -o "size=${1:-4M}" tmpfs data || return 1
        m upgrade system -q 1.bundle && boots && mkdir -p data/root/cfg && echo one >data/root/cfg/app.conf
        [ -z "${2-}" ] || content large "$2" >data/root/cfg/large
        m upgrade system -q 2.bundle && boots && echo two >data/root/cfg/app.conf
}
bundle 1 && bundle 2 || exit 2

upgraded || exit 2
is "room is held while there is a way back" "operations-reserve snapshots-reserve " "$(held)"
ok "the partition is full" fill
ok "an operator goes back" m rollback system
is "what was sealed is whole" 2 "$(m snapshot list --json | json 'j[0]["version"]')"
ok "version 1 comes up" boots
is "with its configuration" one "$(config)"
is "the rollback is done" DONE "$(operation 'j["state"]')"
is "nothing is held any more: there is no way back" "" "$(held)"

upgraded || exit 2
rm data/*-reserve
ok "full, and nothing is held" fill
before=$(fingerprint)
fails 3 no-space "an operator's rollback is refused" m rollback system
has "it names the need and the room" 'has 0 KiB .* needs [0-9]+ KiB' "$(json 'j["message"]' <out)"
has "and the way out" 'make room on the data partition' "$(json 'j["hint"]' <out)"
has "a dry run says so, too" '^space +refused' "$(m rollback system --dry-run 2>&1)"
fails 3 no-space "and so it is without a snapshot" m rollback system --without-snapshot
is "and nothing is changed" "$before" "$(fingerprint)"

ok "an automatic one goes on" m rollback system --automatic
is "slot a boots next" a "$(status 'j["next"]')"
choose_next
fails 3 no-space "version 1 does not run without its configuration" m boot-config
is "nothing was lost" two "$(config)"
rm data/fill
ok "once there is room it goes on" boot_up
is "with its configuration" one "$(config)"
is "what version 2 had is kept" 1 "$(find data/discarded -name '*.tar.zst' | wc -l)"
is "slot a is confirmed" confirmed "$(status 'j["slots"][0]["state"]')"

# The configuration has grown since the upgrade, and the data with it: what the shutdown could not seal is not begun
upgraded 6M || exit 2
content grown 1500000 >data/root/cfg/grown
ok "full" fill
before=$(fingerprint)
fails 3 no-space "what is held is not enough any more" m rollback system
has "it counts" 'has [1-9][0-9]+ KiB .* needs [0-9]{4} KiB' "$(json 'j["message"]' <out)"
is "nothing is changed" "$before" "$(fingerprint)"
fails 3 no-space "going there by name" m slot activate a
is "nothing is changed then either" "$before" "$(fingerprint)"
ok "an automatic one is asked for no room" m rollback system --automatic
is "slot a boots next" a "$(status 'j["next"]')"
upgraded 6M || exit 2
content grown 1000000 >data/root/cfg/grown
before=$(size_held)
ok "the next boot, once it is up" boots
after=$(size_held)
is "holds what the configuration needs by now (after $before KiB: $after)" yes "$([ "$after" -ge $((before + 1900)) ] && echo yes)"
ok "full" fill
ok "an operator goes back" m rollback system
ok "version 1 comes up" boots
is "with its configuration" one "$(config)"
upgraded 6M || exit 2
before=$(size_held)
m rollback system -q --no-reboot && m abort -q || exit 2
is "what a rollback releases is held again once it is aborted" "$before operations-reserve snapshots-reserve " "$(size_held) $(held)"
upgraded 6M || exit 2
yes "a line that compresses" | head -c 1500000 >data/root/cfg/grown
ok "full" fill
ok "what is enough is not refused" m rollback system
ok "version 1 comes up" boots
is "with its configuration" one "$(config)"

# An engine that is asked for its vote says so while there is time
upgraded 6M || exit 2
version() { status '[{"version": s["version"], "digest": s["digest"]} for s in j["slots"] if s["version"] == "'"$1"'"][0]'; }
record=$(printf '{"format":1,"minor":0,"epoch":2,"running":%s,"previous":%s,"previous_epoch":1,"finalized":false,"origin":"commit"}' \
        "$(version 2)" "$(version 1)")
rollback=$(printf '{"format":1,"minor":0,"id":"%032d","kind":"ROLLBACK","phase":"PREPARE","result":"IN_PROGRESS","from":%s,"to":%s,%s,"before":%s}' \
        7 "$(version 2)" "$(version 1)" '"epoch":0,"strict":false,"one_instant":false,"engines":"together","max_unavailable":0' "$record")
step() { # REVISION OPERATION
        printf '{"format":1,"minor":0,"revision":%d,"now_usec":1,"cluster":%s,"operation":%s,"you":%s}' "$1" "$record" "$2" \
                '{"member":true,"role":"engine","fenced":false,"voted":false,"order_usec":0}' | m --json cluster step >answer
}
ok "it is in place" step 1 null
content grown 1500000 >data/root/cfg/grown
ok "full" fill
ok "a rollback of its cluster is asked for" step 2 "$rollback"
has "it says NO, what it lacks, and the way out" '^False no-space .* needs [0-9]{4} KiB.*; make room' \
        "$(json '"%s %s %s" % (j["vote"]["yes"], j["vote"]["kind"], j["vote"]["message"])' <answer)"

# A shared path that cannot be sealed
upgraded || exit 2
mkdir data/root/cfg/mounted && mount -t tmpfs tmpfs data/root/cfg/mounted || exit 2
before=$(fingerprint)
fails 3 configuration-path "one that has become a mount point" m rollback system
is "nothing is changed" "$before" "$(fingerprint)"
umount data/root/cfg/mounted
ok "once it is none" m rollback system

# Room for the marker, and not for what is to be kept: as long as nothing was exchanged the configuration stays whose it was
upgraded 4M 100000 || exit 2
rm data/*-reserve
ok "full, and nothing is held" fill
ok "an automatic rollback" m rollback system --automatic
rm -f data/more && truncate -s -16K data/fill
choose_next
fails 3 no-space "version 1 does not run without its configuration" m boot-config
has "it is still that of 2" '^phase=owned$' "$(cat data/owner)"
m slot mark-bad -q a >/dev/null 2>&1
running="bootmgr.slot=b bootmgr.generation=2"
ok "2 boots again" m boot-config
is "with its own" two "$(config)"

# On trial: what is shown is the upgrade that failed, why, and where that was found out
upgraded || exit 2
m rollback system -q && boots && m upgrade clear -q && m upgrade system -q 2.bundle || exit 2
choose_next
m boot-config -q || exit 2
rm -f data/*-reserve
ok "full, on trial" fill
ok "an automatic rollback" m rollback system --automatic --reason 'unit app.service failed'
rm -f data/fill data/more
choose_next
ok "1 comes up" boot_up
is "the upgrade failed" '["UPGRADE", "FAILED"]' "$(operation '[j["operation"], j["state"]]')"
has "why, and where that was found out" 'found out by rollback.target\); superseded by a rollback' "$(operation 'j["reason"]')"
is "by the rollback" true "$([ "$(operation 'j["superseded_by"]')" = "$(m show upgrade history --json | json 'j[0]["id"]')" ] && echo true)"
is "which is done" '["ROLLBACK", "DONE"]' "$(m show upgrade history --json | json '[j[0]["operation"], j[0]["state"]]')"

# Nobody shut the machine down: the loader has gone back, or a person at its menu
died() { # as systemd-boot counts
        entry=$(next_entry) && mv "esp/loader/entries/$entry" "esp/loader/entries/${entry%+*}+0-3.conf"
}
upgraded || exit 2
m rollback system -q && boots && m upgrade clear -q && m upgrade system -q 2.bundle && choose_next && m boot-config -q || exit 2
echo two >data/root/cfg/app.conf
is "room is held on trial" "operations-reserve snapshots-reserve " "$(held)"
ok "full, on trial" fill
kept=$(find data/discarded -name '*.tar.zst' | wc -l)
ok "version 2 dies" died
choose_next
ok "version 1 comes up" m boot-config
is "with its configuration" one "$(config)"
is "what version 2 had is kept" $((kept + 1)) "$(find data/discarded -name '*.tar.zst' | wc -l)"
is "the upgrade failed" '["UPGRADE", "FAILED"]' "$(operation '[j["operation"], j["state"]]')"
has "and is refused" true "$(status 'len(j["refused"]) > 0')"

upgraded || exit 2
ok "full, and version 2 is confirmed" fill
running=$(sed -n 's/^options *//p' "esp/loader/entries/$(offered)")
ok "version 1 is chosen in the menu, and comes up" m boot-config
is "with its configuration" one "$(config)"
is "what version 2 had is sealed" true "$(m snapshot list --json | json '"2" in [s["version"] for s in j]')"

# Its entry was lost and made again, under a new generation: the configuration is its own all the same
upgraded || exit 2
ok "full, nothing is held" eval 'rm data/*-reserve && fill'
rm esp/loader/entries/bootmgr-2-b.conf
running=$(sed -n 's/^options *//p' esp/loader/entries/bootmgr-1-a.conf)
ok "version 1 makes the entry of version 2 again" "$BUILD/bootmgr-recover" --disk disk.img --esp esp --cmdline "$running" boot
choose_next
ok "which comes up" m boot-config
has "the marker stays as it was, and that is said" 'goes on naming generation 2: .*no space is left' "$(cat err)"
is "with its configuration" two "$(config)"
rm data/fill data/more
ok "once there is room" boot_up
has "it names this generation" '^generation=3$' "$(cat data/owner)"
ok "and 1 is what can be gone back to" m rollback system -q

# Steps that cannot be written keep no machine from anything: here those of a preparation whose worker died
upgraded || exit 2
python3 -c 'import glob, json
path = max(glob.glob("data/operations/*"))
op = json.load(open(path))
op.update(state="IN_PROGRESS", end=None, generation=0)
json.dump(op, open(path, "w"))'
rm data/*-reserve
ok "full, and an interrupted preparation is to be closed" fill
before=$(cat data/operations/*)
ok "the machine boots" boot_up
has "and says what it could not write" 'what was interrupted stays as it is|No space left' "$(cat err)"
is "which is as it was" "$before" "$(cat data/operations/*)"
rm data/fill
ok "once there is room" m boot-config
is "it is closed" FAILED "$(operation 'j["state"]')"

# What is held is no room that an upgrade lacks, and leaves half of it to others
upgraded 5632k 1048576 || exit 2
free=$(df --output=avail -k data | tail -n 1)
held=$(du -ck data/*-reserve | tail -n 1 | cut -f1)
is "room is held, and no more than what is left ($held of $((held + free)) KiB)" yes "$([ "$held" -gt 1024 ] && [ "$held" -le "$free" ] && echo yes)"
is "which is less than an upgrade asks for" yes "$([ "$free" -lt 2100 ] && echo yes)"
bundle 3 || exit 2
ok "an upgrade counts both" m upgrade system 3.bundle
# What an upgrade takes of data while it writes is asked for before it takes the way back: of kernel and initrd until they lie on the
# ESP, and of the chunk index
large() { # VERSION, BYTES of its initrd
        content "root $1" 1048576 >"root-$1" && content "kernel $1" 20000 >"kernel-$1" && content "initrd $1" "$2" >"initrd-$1"
        "$BOOTMGR" bundle create -q --version "$1" --compatible test-box --root "root-$1" --kernel "kernel-$1" --initrd "initrd-$1" \
                --key release.key "$1.bundle"
}
upgraded || exit 2
large 4 8000000 || exit 2
before=$(fingerprint)
fails 3 no-space "an initrd that has no room" m upgrade system 4.bundle
has "it says how much it needs" 'has [0-9]+ KiB free, .* [0-9]+ KiB' "$(json 'j["message"]' <out)"
has "and the way out" 'free space on the data partition' "$(json 'j["hint"]' <out)"
is "nothing is changed" "$before" "$(fingerprint)"
ok "an operator goes back" m rollback system
ok "version 1 comes up" boots

# However little there is, and whatever is held of it: it is refused, or it is enough
upgraded 6M 500000 || exit 2
large 5 1500000 || exit 2
cp -a disk.img disk.kept && cp -a esp esp.kept && cp -a data data.kept
before=$(fingerprint)
kept=$running outcomes=
for taken in 0 1000 1400 1800 1900 2000 2100 2200 2300 2400 2600 3000; do
        head -c "${taken}K" /dev/zero >data/fill
        if m upgrade system --json 5.bundle >out 2>err; then
                outcomes=$outcomes+
        else
                rm -f data/fill
                outcomes=$outcomes$([ "$before" = "$(fingerprint)" ] && json '"-" if j["kind"] == "no-space" else "?"' <out || echo "!")
        fi
        find data -mindepth 1 -delete
        rm -rf esp && cp -a esp.kept esp && cp -a disk.kept disk.img && cp -a data.kept/. data && running=$kept
done
has "it goes on as long as there is room ($outcomes)" '^[+]+-+$' "$outcomes"
umount data

# ---- the ESP ----
full_esp() {
        upgraded || return 1
        cp -a esp esp.copy && mount -t tmpfs -o size=600k tmpfs esp && cp -a esp.copy/. esp/ && rm -rf esp.copy || return 1
        { cat esp/loader/entries/bootmgr-2-b.conf && echo 'bootmgr-confirmed yes'; } >"esp/loader/entries/bootmgr-2-b+0-9.conf" &&
                rm esp/loader/entries/bootmgr-2-b.conf
        dd if=/dev/zero of=esp/fill bs=4k 2>/dev/null
        ! dd if=/dev/zero of=esp/more bs=1 count=1 2>/dev/null
}
recover() { choose_next && "$BUILD/bootmgr-recover" --disk disk.img --esp esp --cmdline "$running" boot; }

ok "the ESP is full, and the starts of version 2 are used up" full_esp
ok "the initramfs of version 1" recover
has "what is left has made room for the entry" 'bootmgr-1-a.conf bootmgr-3-a\+3-0.conf' "$(entries)"
ok "version 1 comes up" m boot-config
is "with its configuration" one "$(config)"
rm esp/fill
ok "and is confirmed, once there is room" m confirm -q
is "the rollback is done" '["ROLLBACK", "DONE"]' "$(operation '[j["operation"], j["state"]]')"

# Once there is room again the version that runs may have no start left, and is what the next one falls back to
rm esp/loader/entries/bootmgr-previous-* 2>/dev/null
counted() { # [line to be added]
        sed '/^[b#]/d' esp/loader/entries/bootmgr-3-a* >entry
        [ -z "${1-}" ] || echo "$1" >>entry
        rm esp/loader/entries/bootmgr-3-a* && mv entry esp/loader/entries/bootmgr-3-a+0-9.conf
}
m upgrade clear && counted && counted "# $(printf '%0500d' 0 | tail -c "+$(wc -c <esp/loader/entries/bootmgr-3-a+0-9.conf)")" || exit 2
before=$(entries)
fails 3 esp-unusable "it is not left where that cannot be mended" m upgrade system --yes 2.bundle
is "and nothing is changed" "$before" "$(entries)"
counted 'bootmgr-confirmed yes'
ok "else it is left with all of them" m upgrade system -q --yes 2.bundle
has "and with the new one's entry" 'bootmgr-3-a\+8-0.conf bootmgr-[4-9]-b\+3-0.conf' "$(entries)"
new=$(next_entry)
mv "esp/loader/entries/$new" "esp/loader/entries/${new%+3-0.conf}+0-3.conf"
ok "version 2 dies early each time, and version 1 comes up" boots
is "with its configuration" one "$(config)"
is "version 2 is bad" '["confirmed", "bad"]' "$(status '[s["state"] for s in j["slots"]]')"
umount data esp

# A version that is only to have its entry again keeps nobody from anything
upgraded || exit 2
cp -a esp esp.copy && mount -t tmpfs -o size=600k tmpfs esp && cp -a esp.copy/. esp/ && rm -rf esp.copy esp/loader/entries/bootmgr-2-b.conf || exit 2
ok "full" sh -c 'dd if=/dev/zero of=esp/fill bs=4k 2>/dev/null; ! dd if=/dev/zero of=esp/more bs=1 count=1 2>/dev/null'
phase() {
        python3 -B -c 'import sys
sys.path.insert(0, sys.argv[1])
import reader
with open("disk.img", "rb") as f:
    read = lambda at, size: (f.seek(at), f.read(size))[1]
    print(reader.record(read, reader.partitions(read, f.seek(0, 2))["bootmgr-state"]).phase)' "$top/qemu"
}
running=$(sed -n 's/^options *//p' esp/loader/entries/bootmgr-1-a.conf)
initramfs() { "$BUILD/bootmgr-recover" --disk disk.img --esp esp --cmdline "$running" boot; }
ok "the initramfs cannot make it" eval '! initramfs'
is "and nothing of it stays begun" "none" "$(phase)"
ok "version 1 comes up" m boot-config
is "with its configuration" one "$(config)"
is "nothing is bad" '["confirmed", "confirmed"]' "$(status '[s["state"] for s in j["slots"]]')"
is "nothing is begun, and 1 is what can be gone back to" "none a" "$(phase) $(status 'j["previous"]')"
is "the upgrade is what was done last" '["UPGRADE", "DONE"]' "$(operation '[j["operation"], j["state"]]')"
rm esp/fill
recover >out 2>&1
has "once there is room it has it" 'bootmgr-[3-9]-b\+3-0.conf' "$(entries)"
ok "2 comes up" boots
ok "and goes back" m rollback system -q
umount data esp
finish
