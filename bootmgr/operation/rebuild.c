/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "operation/rebuild.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/parse.h"
#include "image/bundle.h"
#include "image/format.h"
#include "operation/record.h"
#include "operation/steps.h"
#include "snapshot/owner.h"

#define FINALIZED     "finalized"
#define FINALIZED_MAX 4096

static bool lacks_identity(const struct slot *s)
{
        return slot_has_system(s) && is_all_zero(s->digest, DIGEST_SIZE);
}

static int read_manifest(const struct machine *m, int slot, struct manifest *ret)
{
        _cleanup_free_ char *text = NULL;
        char path[32];
        size_t size;
        int r;

        snprintf(path, sizeof(path), "slots/%c/manifest", slot_name(slot));
        r = file_read(m->snapshots.data, path, BUNDLE_MAX_MANIFEST, &text, &size);
        return r < 0 ? r : manifest_parse(text, size, ret, NULL);
}

static bool is_boot_file(const struct manifest *manifest, const char *name, const uint8_t id[static BOOT_FILE_ID_SIZE])
{
        const struct bundle_image *image = manifest_image(manifest, name);

        return image ? boot_file_has_digest(id, image->digest) : is_all_zero(id, BOOT_FILE_ID_SIZE);
}

/* Where there is no entry of ours (another loader), the running slot is known by the owner marker. */
static bool is_owners(const struct machine *m, int slot, const char *version)
{
        struct owner owner;

        return owner_read(m->snapshots.data, &owner, NULL) >= 0 && owner.phase == OWNER_OWNED && owner.slot == slot &&
               streq(owner.version, version);
}

/* The digest vouches for no more than that this manifest is meant: a rollback compares the root with it. */
static bool identify(const struct machine *m, int slot, struct slot *s)
{
        const struct bundle_image *kernel, *initrd, *root;
        struct manifest manifest;

        if (read_manifest(m, slot, &manifest) < 0)
                return false;
        if (*s->version ? !streq(s->version, manifest.version) || !is_boot_file(&manifest, "kernel", s->kernel) ||
                                  !is_boot_file(&manifest, "initrd", s->initrd)
                        : !is_owners(m, slot, manifest.version))
                return false;
        kernel = manifest_image(&manifest, "kernel");
        initrd = manifest_image(&manifest, "initrd");
        strcpy(s->version, manifest.version);
        s->security_version = manifest.security_version;
        memcpy(s->digest, manifest.digest, DIGEST_SIZE);
        root = manifest_image(&manifest, "root");
        if (root)
                s->verity = root->verity;
        if (kernel && is_all_zero(s->kernel, BOOT_FILE_ID_SIZE))
                boot_file_make_id(kernel->digest, slot, s->kernel);
        if (initrd && is_all_zero(s->initrd, BOOT_FILE_ID_SIZE))
                boot_file_make_id(initrd->digest, slot, s->initrd);
        return true;
}

/* The newest seal of this version in this slot that is whole. */
static void find_snapshot(const struct machine *m, int slot, struct slot *s)
{
        struct snapshot *list = NULL;
        size_t n = 0;

        if (slot_has_snapshot(s) || snapshot_list(&m->snapshots, &list, &n, NULL) < 0)
                return;
        for (size_t i = 0; i < n; i++)
                if (list[i].slot == slot && streq(list[i].version, s->version) &&
                    snapshot_verify(&m->snapshots, &list[i], NULL) >= 0) {
                        memcpy(s->snapshot, list[i].digest, DIGEST_SIZE);
                        break;
                }
        for (size_t i = 0; i < n; i++)
                snapshot_done(&list[i]);
        free(list);
}

/* Whether this operation went from `from` to the running slot, and both still hold what they held. */
static bool led_here(const struct machine *m, const struct operation *op)
{
        const struct slot_set *set = &m->state.set;
        int from = op->from_slot, to = op->to_slot;

        return (op->kind == OPERATION_UPGRADE || op->way_back) && to == m->booted && from >= 0 && from < set->n_slots &&
               from != to && slot_has_system(&set->slots[from]) && streq(set->slots[from].version, op->from_version) &&
               streq(set->slots[to].version, op->to_version);
}

/* The newest operation that changed what boots says whether there is a way back. One whose trial this is goes on. */
static void consult_operations(struct machine *m)
{
        struct slot_set *set = &m->state.set;
        struct operation *list = NULL;
        size_t n = 0;

        if (operation_history(m, &list, &n, NULL) < 0)
                return;
        for (size_t i = 0; i < n; i++) {
                const struct operation *op = &list[i];
                bool goes_on = op->result == RESULT_IN_PROGRESS && op->to_slot == m->booted && op->generation > 0 &&
                               op->generation == set->slots[m->booted].generation;

                if (goes_on)
                        record_operation(set, op, OPERATION_RUNNING, REASON_NONE);
                if ((goes_on || op->result == RESULT_DONE) && led_here(m, op))
                        set->previous = op->from_slot;
                if (op->result == RESULT_DONE || op->generation > 0)
                        break;
        }
        for (size_t i = 0; i < n; i++)
                operation_done(&list[i]);
        free(list);
}

int rebuild_keep_finalized(struct machine *m, uint64_t generation, uint64_t floor, struct error *e)
{
        char text[96];
        int r;

        if (m->snapshots.data < 0)
                return 0;
        snprintf(text, sizeof(text), "generation=%llu\nfloor=%llu\n", (unsigned long long)generation,
                 (unsigned long long)floor);
        r = file_replace(m->snapshots.data, FINALIZED, text, strlen(text), 0644);
        return r < 0 ? fail_errno(e, r, "cannot write %s/" FINALIZED, m->data_path) : 0;
}

static void find_finalized(struct machine *m)
{
        struct slot_set *set = &m->state.set;
        _cleanup_free_ char *text = NULL;
        uint64_t generation = 0, floor = 0;
        char *cursor, *line;

        if (file_read(m->snapshots.data, FINALIZED, FINALIZED_MAX, &text, NULL) < 0)
                return;
        for (cursor = text; (line = line_next(&cursor));) {
                const char *value = strchr(line, '=');

                if (value && startswith(line, "generation="))
                        parse_u64(value + 1, &generation);
                else if (value && startswith(line, "floor="))
                        parse_u64(value + 1, &floor);
        }
        set->floor = MAX(set->floor, floor);
        set->finalized = set->previous != SLOT_NONE && generation == set->slots[m->booted].generation;
}

int rebuild_record(struct machine *m)
{
        struct slot_set *set = &m->state.set;
        bool changed = false;

        for (int i = 0; i < set->n_slots && m->snapshots.data >= 0; i++) {
                struct slot *s = &set->slots[i];

                if (!lacks_identity(s))
                        continue;
                if (identify(m, i, s)) {
                        find_snapshot(m, i, s);
                        changed = true;
                } else if (!*s->version && set->target != i) {
                        *s = (struct slot){};
                        changed = true;
                }
        }
        if (changed && set->previous == SLOT_NONE && m->booted != SLOT_NONE) {
                consult_operations(m);
                find_finalized(m);
        }
        return changed;
}
