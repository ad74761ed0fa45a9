/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/buf.h"
#include "loader/rescue.h"
#include "operation/degraded.h"
#include "operation/operation.h"
#include "operation/refused.h"
#include "operation/run.h"
#include "operation/upkeep.h"

static json_t *name_or_null(int slot)
{
        char name[2] = { slot == SLOT_NONE ? '\0' : slot_name(slot) };

        return json_string_or_null(slot == SLOT_NONE ? NULL : name);
}

static json_t *digest_or_null(const uint8_t digest[static DIGEST_SIZE])
{
        char hex[2 * DIGEST_SIZE + 1];

        if (is_all_zero(digest, DIGEST_SIZE))
                return json_null();
        hex_encode(digest, DIGEST_SIZE, hex);
        return json_string(hex);
}

static json_t *device_or_null(const struct disk *disk, const struct partition *p)
{
        if (!p->present)
                return json_null();
        return *p->node ? json_string(p->node) : json_sprintf("%s@%llu", disk->path, (unsigned long long)p->offset);
}

/* Fewer tries left wins where the bootloader's counter and the record differ. */
static int tries_left(const struct slot *slot, int number, const struct loader_entry *entries, size_t n)
{
        int left = slot_tries_left(slot);

        for (size_t i = 0; i < n; i++)
                if (entries[i].slot == number && entries[i].generation == slot->generation && entries[i].tries_left >= 0)
                        left = MIN(left, entries[i].tries_left);
        return left;
}

static json_t *slot_to_json(const struct machine *m, int i, const struct loader_entry *entries, size_t n)
{
        const struct slot *s = &m->state.set.slots[i];
        char name[2] = { slot_name(i) };

        return json_pack("{s:s, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:I, s:I}", "name", name, "version",
                         json_string_or_null(*s->version ? s->version : NULL), "state", slot_state_to_string(s->state),
                         "tries_left", s->state == SLOT_TRIAL ? json_integer(tries_left(s, i, entries, n)) : json_null(),
                         "reason", json_string_or_null(s->reason ? slot_reason_to_string(s->reason) : NULL), "device",
                         device_or_null(&m->disk, &m->disk.slots[i]), "digest", digest_or_null(s->digest), "root_hash",
                         digest_or_null(s->verity.root_hash), "security_version", (json_int_t)s->security_version,
                         "generation", (json_int_t)s->generation);
}

/* What a rollback would restore. */
static json_t *snapshot_to_json(struct machine *m)
{
        const struct slot_set *set = &m->state.set;
        _cleanup_snapshot_ struct snapshot s = {};
        bool valid;

        if (set->previous == SLOT_NONE || !slot_has_snapshot(&set->slots[set->previous]) || m->snapshots.data < 0)
                return json_null();
        if (snapshot_find(&m->snapshots, set->slots[set->previous].snapshot, &s, NULL) < 0)
                return json_pack("{s:n, s:s, s:o, s:n, s:n, s:b}", "id", "version", set->slots[set->previous].version,
                                 "digest", digest_or_null(set->slots[set->previous].snapshot), "files", "bytes", "valid", 0);
        valid = snapshot_verify(&m->snapshots, &s, NULL) >= 0;
        return json_pack("{s:s, s:s, s:o, s:I, s:I, s:b}", "id", s.id, "version", s.version, "digest",
                         digest_or_null(s.digest), "files", (json_int_t)s.files, "bytes", (json_int_t)s.bytes, "valid",
                         valid);
}

static json_t *operation_or_null(struct machine *m)
{
        _cleanup_operation_ struct operation op = {};

        if (operation_current(m, &op, NULL) < 0 || op.result != RESULT_IN_PROGRESS)
                return json_null();
        return operation_to_json(&op);
}

static json_t *rescue_or_null(struct loader *loader)
{
        char kernel[2 * BOOT_FILE_ID_SIZE + 1], initrd[2 * BOOT_FILE_ID_SIZE + 1];
        struct rescue rescue;

        if (!loader || rescue_find(loader, &rescue, NULL) < 0)
                return json_null();
        hex_encode(rescue.kernel, BOOT_FILE_ID_SIZE, kernel);
        hex_encode(rescue.initrd, BOOT_FILE_ID_SIZE, initrd);
        return json_pack("{s:s, s:s, s:b}", "kernel", kernel, "initrd", initrd, "usable", rescue.usable);
}

static void add_note(json_t *notes, const char *text)
{
        if (text && *text)
                json_array_append_new(notes, json_text(text));
}

/* What a person should know and no other field says. */
static json_t *notes_to_json(struct machine *m, struct loader *loader, const struct error *loader_error)
{
        _cleanup_free_ char *degraded = degraded_reason(m), *why = NULL;
        _cleanup_buf_ struct buf b = {};
        json_t *notes = json_array();
        char *cursor, *line;

        if (m->state_lost)
                add_note(notes, m->state.unread
                                        ? "no copy of the state record can be read: where the next boot cannot read it "
                                          "either, it makes it again from the boot entries"
                                        : "no valid copy of the state record was found");
        else if (m->state.n_valid < 2)
                add_note(notes, "one copy of the state record is damaged; the next write mends it");
        if (m->snapshots.data < 0)
                add_note(notes, m->data_error.message);
        else if (degraded && (why = xasprintf("the version that runs could not be given its configuration: %s", degraded)))
                add_note(notes, why);
        if (!m->config.etc_overlay)
                add_note(notes, "EtcOverlay=no: a writable root can be checked by kernel and initrd only");
        if (!loader)
                add_note(notes, loader_error->message);
        else if (loader->ops->inspect(loader, &b, NULL) >= 0 && b.data)
                for (cursor = b.data; (line = strsep(&cursor, "\n"));)
                        add_note(notes, line);
        if (loader && m->booted != SLOT_NONE && upkeep_firmware_lacks(m, loader) > 0)
                add_note(notes,
                         "the firmware's boot options are missing or not up to date: 'bootmgr confirm' makes them, as "
                         "the next boot does");
        return notes;
}

int status_json(struct machine *m, json_t **ret, struct error *e)
{
        const struct slot_set *set = &m->state.set;
        _cleanup_free_ struct loader_entry *entries = NULL;
        struct loader_entry next = { .slot = SLOT_NONE };
        struct error loader_error = {};
        struct loader loader;
        json_t *slots = json_array(), *status;
        bool opened;
        size_t n = 0;

        opened = machine_open_loader(m, false, &loader, &loader_error) >= 0;
        if (opened && (loader.ops->list(&loader, &entries, &n, NULL) < 0 || loader.ops->next(&loader, &next, NULL) < 0))
                next.slot = SLOT_NONE;
        for (int i = 0; i < set->n_slots; i++)
                json_array_append_new(slots, slot_to_json(m, i, entries, n));
        status = json_pack("{s:o, s:o, s:o, s:I, s:o, s:o, s:o, s:b, s:I, s:o, s:o, s:o, s:s, s:o}", "booted",
                           name_or_null(m->booted), "next", name_or_null(next.slot), "previous", name_or_null(set->previous),
                           "generation", (json_int_t)set->generation, "slots", slots, "snapshot", snapshot_to_json(m),
                           "operation", operation_or_null(m), "finalized", set->finalized, "security_floor",
                           (json_int_t)set->floor, "refused", digest_or_null(set->refused), "refused_versions",
                           refused_to_json(m), "rescue", rescue_or_null(opened ? &loader : NULL), "bootmgr", BOOTMGR_VERSION,
                           "notes", notes_to_json(m, opened ? &loader : NULL, &loader_error));
        if (opened)
                loader_close(&loader);
        error_done(&loader_error);
        if (!status)
                return fail(e, -ENOMEM, NULL, "out of memory");
        *ret = status;
        return 0;
}
