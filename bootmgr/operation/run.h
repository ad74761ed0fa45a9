/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Carrying operations out. What each does is a table of steps in upgrade.c and rollback.c; run.c runs them.
 *
 *      while it runs   upgrade_prepare()/rollback_prepare()/activate_prepare()   -> STAGED
 *      at shutdown     operation_switch()         services stopped: carry, seal, record, switch
 *      early at boot   operation_at_boot()        before sysinit.target: restore or migrate
 *      when it is up   operation_check_health(), operation_confirm()
 */
#pragma once

#include "operation/check.h"
#include "operation/operation.h"

/* Told of every change, e.g. to draw a bar. Called often. NULL: nobody looks. */
struct observer {
        void (*changed)(struct observer *o, const struct operation *op);
        void *userdata;
        const volatile bool *cancelled; /* set by a signal handler: stop at the next safe place; NULL: never */
};

struct upgrade_options {
        const char *source; /* path or URL */
        bool automatic;     /* by an updater, not by a person (recorded) */
        bool no_read_back;  /* VERIFY_IMAGE is skipped, and says so */
        bool full_speed;    /* with the I/O priority of the caller, not the idle one */
        bool again;         /* also a version that was rolled back from: a cluster has been asked for it by an operator */
        bool hold;          /* installed, but no shutdown switches to it before upgrade_release() */
        const char *id;     /* of the operation: who asks has made it (operation/request.h); NULL: a new one */
};
/* CHECK_BUNDLE … INSTALL_BOOT_FILES; then staged. Under the lock. */
int upgrade_prepare(struct machine *m, const struct upgrade_options *options, struct observer *o, struct error *e);
/* What was installed and held in that slot is staged, in an operation of its own; `reason` is recorded, `id` as above. It is
 * not refused any more. Under the lock. */
int upgrade_release(struct machine *m, int slot, const char *reason, const char *id, struct observer *o, struct error *e);

struct rollback_options {
        bool automatic;        /* bound by nothing but a bootable slot and the daily limit */
        enum slot_reason why;  /* for automatic ones */
        const char *reason;    /* a sentence, recorded; NULL: made from `why` */
        bool local;            /* install.sh --rollback: without the version gate; restores at shutdown */
        bool without_snapshot; /* nothing is restored: the configuration is taken over as it is */
        const char *id;        /* as above */
};
/* CHECK_PREVIOUS, then staged. A rollback of an operation that waits for health or confirmation
 * supersedes it. Refusals as in check.h. */
int rollback_prepare(struct machine *m, const struct rollback_options *options, struct observer *o, struct error *e);

/* slot activate: like a rollback, to any bootable slot; leaves no previous one. `id` as above. */
int activate_prepare(struct machine *m, int slot, const char *id, struct observer *o, struct error *e);
/* The same, because the cluster has decided so. `way_back`: the slot that is left is the cluster's previous version, and
 * becomes the previous slot. */
int activate_for_cluster(struct machine *m, int slot, bool way_back, const char *id, struct observer *o, struct error *e);

/* Which slots an upgrade would write and lose: for the warning before it starts. */
int upgrade_target(struct machine *m, int *ret_slot, struct error *e);

/* STOP_SERVICES … SWITCH_ENTRY of the staged operation, if there is one (else success). A failure ends the
 * operation and leaves the running slot as what boots next. Offline it is called right after preparing. */
int operation_switch(struct machine *m, struct observer *o, struct error *e);

/* Asks systemd for the reboot; returns at once. `at`: the instant, on this machine's clock, at which the machine is to be
 * reset, once services are stopped and file systems unmounted (units/system-shutdown/bootmgr-instant); 0, or past: at once.
 */
int operation_reboot(struct machine *m, uint64_t at, struct error *e);
/* The running slot's /etc, for the slot that is being installed: for the upgrade that is at work and holds the lock. */
int operation_carry(struct machine *m, struct observer *o, struct error *e);
/* Whether the shutdown carries on what is prepared: bootmgr-switch.service waits for it. Where systemd does not say: true.
 */
bool switch_is_awaited(void);

/* The boot-time decision if the initramfs did not make it, what it means for the operation, and the owner
 * rule. -EHOSTDOWN: this slot cannot go on and was marked bad, reboot (the caller does). */
int operation_at_boot(struct machine *m, struct observer *o, struct error *e);

/* What the initramfs counts of a version that does not come up begins anew. */
void operation_came_up(const struct machine *m);
/* Runs the health checks; on trial their result is a step. kind_unhealthy names the first failing check; on
 * trial the automatic rollback is then prepared already (`*ret_rollback`): the caller reboots. */
int operation_check_health(struct machine *m, struct observer *o, bool *ret_rollback, struct error *e);
/* Confirms the running slot if it is on trial, removes what that made unreachable. Idempotent. */
int operation_confirm(struct machine *m, struct observer *o, struct error *e);

int operation_abort(struct machine *m, struct error *e); /* a staged one */
/* The same, for who has staged it: only that one, and success where it is not staged (any more). */
int operation_give_up(struct machine *m, const uint8_t id[static 16], const char *reason, struct error *e);
int operation_finalize(struct machine *m, struct error *e);
int operation_clear_refused(struct machine *m, struct error *e); /* upgrade clear */
int slot_mark_good(struct machine *m, int slot, struct error *e);
int slot_mark_bad_by_operator(struct machine *m, int slot, struct error *e);

/* status --json. New reference. */
int status_json(struct machine *m, json_t **ret, struct error *e);
