/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The small files on data, each written again as it was read: the owner marker, the journal of a restore, the description of
 * a snapshot. The first byte says which. */
#define FUZZ_HAS_INITIALIZE
#include "fuzz.h"

#include "base/version.h"
#include "slot/kinds.h"
#include "snapshot/journal.h"
#include "snapshot/metadata.h"
#include "snapshot/owner.h"
#include "snapshot/path.h"

static struct snapshot_place place = { -1, -1 };

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        static char path[PATH_MAX];

        log_set_max_level(0);
        place.data = scratch_open(path);
        return 0;
}

static void check_owner(const struct input *in)
{
        _cleanup_error_ struct error e = {};
        struct slot booted = { .version = "1" };
        struct owner a, b;

        put_file(place.data, "owner", in->data, in->size);
        if (owner_read(place.data, &a, &e) < 0) {
                must(e.message);
                return;
        }
        must(a.phase > OWNER_NONE && a.phase <= OWNER_MIGRATING && a.slot >= 0 && a.slot < SLOT_MAX);
        must(version_valid(a.version) && a.from_slot < SLOT_MAX);
        for (int slot = 0; slot < 2; slot++)
                must(owner_decide(&a, &booted, slot) <= OWNER_RESTORE_AND_MIGRATE);
        must(owner_write(place.data, &a, NULL) >= 0);
        must(owner_read(place.data, &b, NULL) >= 0);
        must(a.phase == b.phase && a.slot == b.slot && streq(a.version, b.version) && a.generation == b.generation);
        if (a.phase != OWNER_OWNED && a.from_slot != SLOT_NONE)
                must(a.from_slot == b.from_slot && streq(a.from_version, b.from_version) &&
                     memcmp(a.from_snapshot, b.from_snapshot, DIGEST_SIZE) == 0);
}

static void check_paths(char *const *a, char *const *b)
{
        must(paths_count(a) == paths_count(b));
        for (size_t i = 0; a && a[i]; i++) {
                must(!path_problem(a[i]) && streq(a[i], b[i]));
        }
}

static void check_apart(char *const *a, char *const *b)
{
        for (; *a; a++)
                for (char *const *q = b; *q; q++)
                        must(a == q || (!path_below(*a, *q) && !path_below(*q, *a)));
}

static void check_journal(const struct input *in)
{
        _cleanup_journal_ struct journal a = {}, b = {};

        put_file(place.data, "restore.journal", in->data, in->size);
        must(journal_read(&place, &a, NULL) >= 0);
        if (!a.valid)
                return;
        must(journal_write(&place, &a, NULL) >= 0 && journal_read(&place, &b, NULL) >= 0 && b.valid);
        must(a.generation == b.generation && memcmp(a.digest, b.digest, DIGEST_SIZE) == 0);
        check_paths(a.paths, b.paths);
}

static void check_description(const struct input *in)
{
        _cleanup_snapshot_ struct snapshot a = {}, b = {};
        _cleanup_error_ struct error e = {};

        put_file(place.data, "0.json", in->data, in->size);
        if (metadata_read(place.data, "0", &a, &e) < 0) {
                must(e.message && e.kind == &kind_snapshot_altered);
                return;
        }
        must(a.slot < SLOT_MAX && (!*a.version || version_valid(a.version)));
        must(metadata_write(place.data, "0", &a, NULL) >= 0 && metadata_read(place.data, "0", &b, NULL) >= 0);
        must(streq(a.id, b.id) && a.slot == b.slot && streq(a.version, b.version) && a.generation == b.generation);
        must(a.files == b.files && a.bytes == b.bytes && a.nodes == b.nodes && a.size == b.size);
        check_paths(a.paths, b.paths);
        check_paths(a.absent, b.absent);
        check_apart(a.paths, a.paths);
        check_apart(a.absent, a.absent);
        check_apart(a.paths, a.absent);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct input in = { data, size };
        uint8_t what = take_byte(&in);

        if (what == 'o')
                check_owner(&in);
        else if (what == 'j')
                check_journal(&in);
        else
                check_description(&in);
        return 0;
}
