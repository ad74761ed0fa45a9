/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The other half of operation/boot.h: writes what boot.c has decided. */
#include "base/buf.h"
#include "base/log.h"
#include "operation/boot.h"

struct entry_spec boot_entry_spec(const struct disk *disk, const struct slot_set *set, int slot, uint64_t generation,
                                  const char *extra_cmdline, bool writable_root)
{
        const struct slot *s = &set->slots[slot];

        return (struct entry_spec){
                .generation = generation,
                .slot = slot,
                .version = s->version,
                .root_partuuid = disk->slots[slot].uuid,
                .kernel = s->kernel,
                .initrd = is_all_zero(s->initrd, sizeof(s->initrd)) ? NULL : s->initrd,
                .writable_root = writable_root,
                .verity = &s->verity,
                .extra_cmdline = extra_cmdline,
        };
}

/* In the order of every switch: SWITCHING is in d->set already and saved; the entry; SWITCHED. */
static int make_entry(const struct boot_decision *d, const struct disk *disk, const struct state *state,
                      struct loader *loader, const char *extra_cmdline, bool writable_root, struct error *e)
{
        struct entry_spec spec = boot_entry_spec(disk, &state->set, d->switch_to, state->set.target_generation,
                                                 extra_cmdline, writable_root);
        _cleanup_error_ struct error full = {};
        int r;

        if (d->action != BOOT_CONTINUE || d->bad_slot == SLOT_NONE)
                return loader->ops->switch_to(loader, &spec, d->tries, e);
        /* On a full ESP the entries of the slot that is left have what the new one takes: nobody is to start them, and the
         * one that this boot has come by stays. */
        r = loader->ops->switch_to(loader, &spec, d->tries, &full);
        if (r == -ENOSPC && loader->ops->remove_slot(loader, d->bad_slot, NULL) >= 0)
                return loader->ops->switch_to(loader, &spec, d->tries, e);
        return r < 0 ? fail(e, r, full.kind, "%s", full.message ?: error_text(r)) : r;
}

static int end_switch(const struct boot_decision *d, const struct state_place *place, struct state *state, struct error *e)
{
        slot_set_end_switch(&state->set, d->tries);
        if (d->action == BOOT_CONTINUE)
                slot_set_count_attempt(&state->set, d->switch_to, d->boot_id);
        return state_save(place, state, e);
}

/* As it was before: what was marked stays marked, the switch that cannot follow does not begin. One that an earlier boot had
 * begun for the same, a lost entry, was dropped by this decision, and stays so. */
static void keep_switch(const struct boot_decision *d, struct slot_set *set, const struct slot_set *before)
{
        set->phase = before->phase;
        set->target = before->target;
        set->target_generation = before->target_generation;
        set->generation = before->generation;
        if (before->phase == SWITCH_SWITCHING && d->found == BOOT_FOUND_MISSING)
                slot_set_drop_switch(set);
        if (before->phase == SWITCH_SWITCHING && d->found == BOOT_FOUND_VANISHED) {
                set->phase = SWITCH_SWITCHED;
                set->target_generation = set->slots[set->target].generation;
        }
        if (set->target != SLOT_NONE && !slot_has_system(&set->slots[set->target]))
                slot_set_drop_switch(set);
}

static int save(const struct boot_decision *d, const struct slot_set *before, bool can_write,
                const struct state_place *place, struct state *state, struct error *e)
{
        /* Without an entry the next boot is on the version that was to be left: its configuration unsealed, and no way back
         * behind it. So it stays a look at the other one, which can be repeated. */
        if (d->found == BOOT_FOUND_CHOSEN && !can_write) {
                log_warning("the rollback to slot %c is not begun: the bootloader cannot be told", slot_name(d->switch_to));
                return 0;
        }
        state->set = d->set;
        if (d->switch_to != SLOT_NONE && !can_write)
                keep_switch(d, &state->set, before);
        return state_save(place, state, e);
}

/* A rollback begins in the slot that runs, with or without an entry: it is to come up, with what is its own. As where the
 * loader cannot be told at all; the generation stays used. */
int boot_go_without(const struct boot_decision *d, const struct slot_set *before, const struct state_place *place,
                    struct state *state, struct loader *loader, struct error *e)
{
        uint64_t given = state->set.generation;
        int r = loader->ops->drop(loader, given, e);

        if (r < 0)
                return r; /* the next boot looks whether it is there */
        if (d->found == BOOT_FOUND_CHOSEN)
                state->set = *before;
        else
                keep_switch(d, &state->set, before);
        state->set.generation = given;
        return state_save(place, state, e);
}

static int switch_to(const struct boot_decision *d, const struct slot_set *before, const struct disk *disk,
                     const struct state_place *place, struct state *state, struct loader *loader, const char *extra_cmdline,
                     bool writable_root, struct error *e)
{
        _cleanup_error_ struct error why = {};
        bool goes_on = d->action == BOOT_CONTINUE;
        int r = make_entry(d, disk, state, loader, extra_cmdline, writable_root, goes_on ? &why : e);

        if (r >= 0)
                return end_switch(d, place, state, e);
        if (!goes_on)
                return r;
        log_warning("slot %c goes on without a new entry: %s", slot_name(d->switch_to), why.message ?: error_text(r));
        return boot_go_without(d, before, place, state, loader, e);
}

/* Worth a word, not the boot. */
static void arm(struct loader *loader, uint64_t generation)
{
        _cleanup_error_ struct error why = {};
        int r = loader->ops->arm(loader, generation, BOOT_ARM_TRIES, &why);

        if (r < 0)
                log_warning("the starts of generation %llu are not counted: %s", (unsigned long long)generation,
                            why.message ?: error_text(r));
}

int boot_carry_out(const struct boot_decision *d, const struct disk *disk, const struct state_place *place,
                   struct state *state, struct loader *loader, const char *extra_cmdline, bool writable_root,
                   struct error *e)
{
        /* The initramfs knows no partition of a slot that only Slots= names: an entry would be without a root. */
        bool is_known = d->switch_to == SLOT_NONE || *disk->slots[d->switch_to].uuid;
        bool can_write = loader->writable && loader->ops != &loader_none && is_known;
        struct slot_set before = state->set;
        int r;

        r = d->save ? save(d, &before, can_write, place, state, e) : 0;
        if (r < 0)
                return r;
        if (d->action == BOOT_REBOOT && !can_write)
                return fail(e, -EROFS, NULL, "slot %c is to boot instead, but %s", slot_name(d->switch_to),
                            is_known ? "the bootloader cannot be told" : "its partition is not known here");
        if (d->switch_to != SLOT_NONE && can_write) {
                r = switch_to(d, &before, disk, place, state, loader, extra_cmdline, writable_root, e);
                if (r < 0)
                        return r;
        }
        if (d->bad_slot != SLOT_NONE && can_write) {
                r = loader->ops->remove_slot(loader, d->bad_slot, NULL);
                if (r < 0) /* they are behind the others: not worth the boot */
                        log_warning("the entries of slot %c stay: %s", slot_name(d->bad_slot), error_text(r));
        }
        if (d->arm && can_write)
                arm(loader, d->arm);
        return 0;
}
