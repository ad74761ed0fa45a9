/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The machine a verb works on: configuration, disk, state record, data directory, and what runs. The
 * same for a running machine and for an image file (factories, tests, benchmarks). */
#pragma once

#include "loader/loader.h"
#include "operation/boot.h"
#include "slot/config.h"
#include "slot/store.h"
#include "snapshot/snapshot.h"

struct machine_options {
        const char *disk;    /* --disk: device or image file; NULL: found */
        const char *esp;     /* --esp: directory; NULL: the disk's ESP */
        const char *data;    /* --data: directory; NULL: config's, for an image IMAGE.data */
        const char *config;  /* --config: one file; NULL: the usual places */
        const char *cmdline; /* --cmdline: what counts as booted; NULL: /proc/cmdline, for an image nothing */
        const char *efivars; /* --efivars: directory; NULL: efivarfs, for an image none */
        const char *hooks;   /* directory of migration hooks; NULL: the system's, for an image none */
};

struct machine {
        struct machine_options options; /* strings borrowed from the caller */
        struct config config;
        struct disk disk;
        struct state_place place;
        struct state state; /* as loaded, or as saved last */
        bool state_lost;    /* no valid copy of the record was found … */
        bool state_kept;    /* … and it is not to be written now: this process goes by what it has made up instead */
        bool offline;       /* an image, or no bootmgr.slot= on the command line: nothing runs on it */
        bool rescue; /* the rescue system runs: whose configuration is there counts as present, and it is left at once */
        int booted;  /* the running slot, or SLOT_NONE */
        uint64_t booted_generation;
        enum boot_start start; /* what started it */
        uint8_t boot_id[16];
        char *data_path;
        struct snapshot_place snapshots; /* .data is -1 when the data directory is missing */
        struct error data_error;         /* why, then */
        int lock;                        /* held when >= 0 */
};

/* Safe to close. */
#define MACHINE_CLOSED                                                                                                      \
        ((struct machine){                                                                                                  \
                .place = { .fd = { -1, -1 } }, .snapshots = { .data = -1, .root = -1 }, .lock = -1, .booted = SLOT_NONE })

/* Opens everything for reading. A missing data directory is not an error here: see data_error. */
int machine_open(const struct machine_options *options, struct machine *ret, struct error *e);
void machine_close(struct machine *m);
#define _cleanup_machine_ _cleanup_(machine_close)

/* One operation at a time: an flock that dies with its holder. Loads the state again under the lock, makes
 * the data directory when it can, and closes an operation whose worker died. kind_busy names the holder. */
int machine_lock(struct machine *m, struct error *e);
/* The same, waiting for the holder: for those who have nobody that could try again. -EBUSY only after two minutes. */
int machine_lock_patiently(struct machine *m, struct error *e);
void machine_unlock(struct machine *m);
bool machine_is_locked_by_other(struct machine *m); /* without taking it */

/* Writes the record (m->state.set), unless that is kept as it is. Only under the lock. */
int machine_save(struct machine *m, struct error *e);

/* Opens the record for writing, for those who save through m->place themselves (boot_carry_out). */
int machine_open_for_writing(struct machine *m, struct error *e);

int machine_open_loader(struct machine *m, bool write, struct loader *ret, struct error *e);

/* Our entries, newest first, as loader->list gives them; *ret is malloc'ed. */
int machine_list_entries(struct machine *m, struct loader_entry **ret, size_t *ret_n, struct error *e);

/* Behind machine_lock(): whether there is a record, where this boot has had one: made again if it was lost (boot-config).
 * Without it nothing is known that could be done, and "nothing to do" would be a lie. kind_state_unreadable. */
int machine_need_record(const struct machine *m, struct error *e);

/* Room on the ESP in bytes, with what the boot files of this slot take, which go before new ones come (SLOT_NONE: without);
 * UINT64_MAX when the loader keeps nothing there. Checks that it can be written. */
int machine_esp_free(struct machine *m, int slot, uint64_t *ret, struct error *e);

/* Fails when the ESP cannot be written, or is too full for one more boot entry. */
int machine_check_esp(struct machine *m, struct error *e);

/* The slot that counts as the present one: booted, or offline the one that boots next; in
 * the rescue system the owner of the configuration. */
int machine_reference_slot(struct machine *m);

/* Fails with the reason when there is no data directory. */
int machine_need_data(struct machine *m, struct error *e);
