/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The tables of steps, and what runs them. Inside operation/ only. */
#pragma once

#include "image/install.h"
#include "operation/record.h"
#include "operation/run.h"

enum step_when {
        STEP_PREPARE,  /* while the machine runs; a failure costs nothing but the other slot */
        STEP_SHUTDOWN, /* services are stopped */
        STEP_BOOT,     /* after the reboot; driven by boot_steps.c and confirm.c */
};

#define STEP_SKIP 1 /* a step returns it: nothing to do here, run->note says why */

struct run {
        struct machine *m;
        struct operation op;
        struct observer *o;
        struct step_record *current;
        char *note;           /* becomes the step's message; owned */
        uint64_t last_report; /* monotonic µs */
        struct progress progress;

        /* an upgrade, while it prepares */
        const struct upgrade_options *upgrade;
        struct bundle *bundle;
        struct range root;
        struct loader loader;
        bool loader_open;

        /* a rollback, while it prepares */
        const struct rollback_options *rollback;
};

struct step {
        const char *name;
        enum step_when when;
        int (*run)(struct run *run, struct error *e); /* 0, STEP_SKIP or -errno; NULL for STEP_BOOT */
};

/* The table of a kind of operation, ended by .name == NULL. */
const struct step *steps_of(enum operation_kind kind);

/* Fills op->steps from the table, all WAITING. */
void run_init(struct run *run, struct machine *m, enum operation_kind kind, int from, int to, struct observer *o);
/* Continues the newest operation of the data directory. */
int run_resume(struct run *run, struct machine *m, struct observer *o, struct error *e);
/* Makes the record's operation again where nobody can read its steps; those of STEP_PREPARE are done, with that note. */
int run_from_record(struct run *run, struct machine *m, struct observer *o, const char *note, struct error *e);
void run_close_loader(struct run *run);
void run_done(struct run *run);
#define _cleanup_run_ _cleanup_(run_done)

/* Runs the steps of `when` in order; stops at the first failure, whose step is FAILED then. Steps are saved
 * only once the operation has a sequence (operation_begin), so that a refused one leaves no trace. */
int run_steps(struct run *run, enum step_when when, struct error *e);

/* One step around a function, with the same bookkeeping. */
int run_step(struct run *run, const char *name, int (*function)(struct run *run, struct error *e), struct error *e);

/* An automatic return, which is bound by nothing but a bootable slot: not by a data partition that cannot be written. */
bool run_must_go_on(const struct run *run);

void run_note(struct run *run, const char *fmt, ...) _printf_(2, 3);
int run_save(struct run *run, bool durable, struct error *e);
/* From the switch on the record says what counts: a full data partition makes nothing fail that was done. */
void run_save_if_possible(struct run *run);

/* Ends the operation before the machine was switched: JSON, then the record. Returns `code`. */
int run_abandon(struct run *run, int code, struct error *e);

/* Ends it in JSON and in the record (not saved there): FAILED or ABORTED (after -ECANCELED). `e` is what
 * happened. */
void run_fail(struct run *run, int code, const struct error *e);

/* What the record says of the operation; saved by the caller. */
void record_operation(struct slot_set *set, const struct operation *op, enum operation_state state, enum slot_reason reason);

/* Steps shared by the tables; in switch.c. */
int step_stop_services(struct run *run, struct error *e);
/* On a node of a cluster the word alone is for what the cluster does. */
#define GIVE_IT_UP "give it up with 'bootmgr abort', on a node of a cluster 'bootmgr abort --local'"
/* What a person can do about an operation that is at work or was switched to. */
const char *operation_way_out(const struct machine *m, const struct operation *op);

int step_carry_config(struct run *run, struct error *e);
/* The same while an upgrade is prepared: a slot that is installed may be booted by the initramfs when no other can be. */
void carry_beforehand(struct run *run);
int step_snapshot_config(struct run *run, struct error *e);
int step_record_previous(struct run *run, struct error *e);
int step_switch_entry(struct run *run, struct error *e);
/* in upgrade.c */
int step_check_bundle(struct run *run, struct error *e);
int step_write_image(struct run *run, struct error *e);
int step_verify_image(struct run *run, struct error *e);
int step_install_boot_files(struct run *run, struct error *e);
/* in rollback.c */
int step_check_previous(struct run *run, struct error *e);

/* Whether bootmgr put there what lies in a slot: it can be told by its version, and gone back to. */
bool slot_is_known(const struct slot *slot);

/* What the entry of a slot says, from the record; extra: config's KernelCommandLine. Borrows from m. */
struct entry_spec entry_spec_for(struct machine *m, int slot, uint64_t generation);

/* Holds logind's shutdown inhibitor while a slot is written: fd or -errno (best effort). */
int inhibit_shutdown(const char *why);

/* Whether an entry like this can be made, and whether the bootloader will choose it. Changes nothing: asked before
 * anything is overwritten or left. */
int check_entry(struct machine *m, struct loader *loader, const struct entry_spec *spec, struct error *e);

/* The slot an automatic return goes to: the previous one, else any other that is selectable and ran before: one
 * that is only installed is no way back, and its /etc was not carried yet. */
int automatic_target(const struct slot_set *set, int from);
