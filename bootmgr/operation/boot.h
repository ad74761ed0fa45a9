/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The boot-time decision (design section 4): pure, and the same in the initramfs (bootmgr-recover) and in
 * the booted system when the initramfs did not make it.
 *
 *      found                                                        done
 *      BOOT_FOUND_NOTHING    no slot of ours runs                   nothing
 *      BOOT_FOUND_LOST       no copy of the record is readable      boot; rebuild the record from the entries
 *      BOOT_FOUND_UNREAD     the same, and one could not be read:   boot; nothing is written, the record may be whole:
 *                            it may be whole the next time          the next boot that finds this, too, makes it again;
 *                                                                   where that cannot be written, as if it had not
 *      BOOT_FOUND_ROOT       the root cannot be used, or the slot   mark it bad, switch to another slot, reboot;
 *                            is marked bad or incomplete            no other: recovery, and it is tried again
 *      BOOT_FOUND_FINISH     SWITCHING, and its entry is there      SWITCHED; then as what is found next
 *      BOOT_FOUND_DROP       SWITCHING, and it is not, or is empty  as if it had not begun: nothing failed
 *                                                                   (an entry that was to be made again: as MISSING
 *                                                                   or VANISHED, once more)
 *      BOOT_FOUND_TRIAL      the slot on trial, with tries left     count the attempt once per boot id
 *      BOOT_FOUND_EXHAUSTED  the slot on trial, without any         mark it bad, switch to another slot, reboot;
 *                            tries left                             no other: the operation failed, and after a
 *                                                                   moment it boots all the same
 *      BOOT_FOUND_FALLBACK   another slot than the one on trial,    the operation failed: mark that slot bad; this
 *                            which has no tries left, no files or   slot is confirmed again, or goes on with its
 *                            is marked bad                          own trial
 *      BOOT_FOUND_VANISHED   another slot than the one on trial,    a power cut while the loader counted took it:
 *                            which has tries left but no entry      make it again with one try less, reboot
 *      BOOT_FOUND_DETOUR     another slot than the one on trial,    nothing: a person chose it in the menu
 *                            which still has tries
 *      BOOT_FOUND_MISSING    an older slot than the confirmed one,  the confirmed one's entry was deleted: make it
 *                            which has no entry                     again, on trial, reboot
 *      BOOT_FOUND_PASSED     an older slot than the confirmed one,  it cannot be started any more: mark it bad; a
 *                            which has no files or has used up its  rollback to this slot begins here
 *                            starts, or the firmware's last boot
 *                            option started this one
 *      BOOT_FOUND_CHOSEN     the previous slot, by the menu's entry a rollback to this slot begins here
 *                            for it; or a rollback that began so
 *                            was cut
 *      BOOT_FOUND_CONFIRMED  the confirmed slot                     nothing; its starts are counted anew
 *
 * Where a slot that is to be left, for it is bad, cannot be left, there is the recovery page for a while before it boots;
 * where another one is only to have its entry again, and cannot, the boot is as BOOT_FOUND_DETOUR.
 *
 * A rollback that begins here needs no reboot: the slot gets a new entry, on trial, and this boot is its first try. It
 * has the record's operation with this boot's id, from which the running system makes its steps (operation/at_boot.c).
 * Where the entry cannot be made, one that a person chose is not begun: the boot is as BOOT_FOUND_DETOUR; any other one is
 * all the same, and the slot comes up as it was, confirmed.
 *
 * A rollback that was prepared, and whose way the machine goes by itself (FALLBACK, EXHAUSTED, ROOT), goes on in the same
 * way instead of failing. Where no operation has led to the version that is given up, a rollback begins.
 *
 * Never: an incomplete or bad slot goes on while another can boot; a loop without an end.
 */
#pragma once

#include "loader/loader.h"
#include "slot/store.h"

enum boot_found {
        BOOT_FOUND_NOTHING,
        BOOT_FOUND_LOST,
        BOOT_FOUND_ROOT,
        BOOT_FOUND_FINISH,
        BOOT_FOUND_DROP,
        BOOT_FOUND_TRIAL,
        BOOT_FOUND_EXHAUSTED,
        BOOT_FOUND_FALLBACK,
        BOOT_FOUND_VANISHED,
        BOOT_FOUND_DETOUR,
        BOOT_FOUND_MISSING,
        BOOT_FOUND_PASSED,
        BOOT_FOUND_CHOSEN,
        BOOT_FOUND_CONFIRMED,
        BOOT_FOUND_UNREAD,
        _BOOT_FOUND_MAX,
};

/* What started this boot, by the kernel command line. */
enum boot_start {
        BOOT_START_ENTRY,    /* an entry of the bootloader, as always */
        BOOT_START_FALLBACK, /* the firmware's last boot option of ours: all before it failed (loader/firmware.h) */
        BOOT_START_ROLLBACK, /* the menu's "previous version": a person wants to go back */
};
enum boot_start boot_start_parse(const char *cmdline);

enum boot_action {
        BOOT_CONTINUE, /* go on booting this slot */
        BOOT_REBOOT,   /* an entry for another slot is to be made, then reboot */
        BOOT_RECOVERY, /* no other slot can boot: stop with a page that says why, then try again */
};

struct boot_input {
        int slot;            /* that boots, or SLOT_NONE */
        uint64_t generation; /* from the command line; 0: not told */
        enum boot_start start;
        uint8_t boot_id[16];
        uint64_t now; /* realtime µs */
        bool record_lost;
        bool record_unread;                 /* and it is not to be written anew, unless the slot has to be left */
        struct slot_set set;                /* the record; initialised and empty when it is lost */
        const struct loader_entry *entries; /* ours, as loader->list gives them */
        size_t n_entries;
        bool entries_known;           /* false: the ESP cannot be read. Then, as with no entry at all (another
                                       * loader), nothing follows from entries that are not there */
        bool counts;                  /* the loader counts the starts of confirmed versions: a real machine */
        enum slot_reason root_failed; /* REASON_NONE: it was mounted, or was not tried yet */
};

struct boot_decision {
        enum boot_found found;
        enum boot_action action;
        struct slot_set set; /* what the record is to say … */
        bool save;           /* … if it changes */
        int bad_slot;        /* is bad or incomplete: its entries go once the record is durable; or SLOT_NONE */
        int switch_to;       /* the slot that gets set.target_generation: another one for BOOT_REBOOT, the running
                              * one where a rollback to it begins, or SLOT_NONE; … */
        int tries;           /* … and so many tries */
        uint64_t arm;        /* the running one has started: the counter of the entry of this generation is to be full
                              * again; 0: no */
        uint8_t boot_id[16]; /* of this boot: the first try of the running one */
};

/* A confirmed version has so many starts in a row that end before the initramfs; once so few are left, a start that does not
 * makes it all of them again. */
#define BOOT_ARM_TRIES SLOT_MAX_TRIES
#define BOOT_ARM_AGAIN 6

/* Every input has an answer. */
void boot_decide(const struct boot_input *in, struct boot_decision *ret);

/* The generation whose entry's counter is to be made full, now that the version has started; 0: none. */
uint64_t boot_to_be_armed(const struct boot_input *in, const struct slot_set *set);

const char *boot_found_to_string(enum boot_found found); /* "trial", … */

/* What the initramfs leaves to the booted system: lines "key=value", among them found= with one of these words. */
#define BOOT_RESULT     "/run/bootmgr/boot"
#define BOOT_RESULT_MAX 4096

/* In the data directory: the letter of a slot that was mounted and has not come up since, and how many boots in a row. */
#define COMING_UP_NAME "coming-up"

/* What the entry of a slot says, from the record. Borrows from all of them. */
struct entry_spec boot_entry_spec(const struct disk *disk, const struct slot_set *set, int slot, uint64_t generation,
                                  const char *extra_cmdline, bool writable_root);

/* Carries it out: the record, then entries; for BOOT_REBOOT in the order of every switch. The caller reboots after
 * success only: -EROFS and other failures say that no other slot was switched to. `extra_cmdline` goes into a new
 * entry. */
int boot_carry_out(const struct boot_decision *d, const struct disk *disk, const struct state_place *place,
                   struct state *state, struct loader *loader, const char *extra_cmdline, bool writable_root,
                   struct error *e);

/* The same where `switch_to` could not be given an entry, and this boot goes on all the same: what was begun of it, from the
 * record of `before`, is taken back. */
int boot_go_without(const struct boot_decision *d, const struct slot_set *before, const struct state_place *place,
                    struct state *state, struct loader *loader, struct error *e);
