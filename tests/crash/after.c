/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What must be there once an operation has said that it succeeded, whatever happens then. */
#include "crash.h"

#include <dirent.h>
#include <fcntl.h>

#include "cluster/home.h"
#include "operation/steps.h"

static int wrong(struct error *e, const char *what)
{
        return fail(e, -EIO, NULL, "done and not durable: %s", what);
}

int after_install(struct machine *m, struct error *e)
{
        const struct slot_set *set = &m->state.set;

        if (set->operation_state != OPERATION_STAGED || set->operation_to < 0 ||
            set->slots[set->operation_to].state != SLOT_INSTALLED)
                return wrong(e, "the slot is not recorded as installed");
        return 0;
}

int after_staged(struct machine *m, struct error *e)
{
        return m->state.set.operation_state == OPERATION_STAGED ? 0 : wrong(e, "nothing is staged");
}

/* No entry of that slot has as many tries left, or more; -1: none at all is there. */
static int check_no_entry(struct machine *m, int slot, int tries_left, struct error *e)
{
        _cleanup_free_ struct loader_entry *entries = NULL;
        struct loader l;
        size_t n = 0;
        int r;

        r = machine_open_loader(m, true, &l, e);
        if (r < 0)
                return r;
        r = l.ops->list(&l, &entries, &n, e);
        loader_close(&l);
        for (size_t i = 0; r >= 0 && i < n; i++)
                if (entries[i].slot == slot && entries[i].tries_left >= tries_left)
                        return wrong(e, "an entry is there still");
        return r;
}

int after_confirm(struct machine *m, struct error *e)
{
        if (m->booted == SLOT_NONE || m->state.set.slots[m->booted].state != SLOT_CONFIRMED)
                return wrong(e, "the slot is not recorded as confirmed");
        return check_no_entry(m, m->booted, 0, e);
}

int after_finalize(struct machine *m, struct error *e)
{
        char path[PATH_MAX];

        snprintf(path, sizeof(path), "%s/loader/entries/bootmgr-previous-a-1.conf", volume_path(ESP));
        if (access(path, F_OK) == 0)
                return wrong(e, "the boot menu offers the way back");
        snprintf(path, sizeof(path), "%s/finalized", volume_path(DATA));
        return m->state.set.finalized && access(path, F_OK) == 0 ? 0 : wrong(e, "it is not finalized");
}

int after_mark_bad(struct machine *m, struct error *e)
{
        return m->state.set.slots[0].state == SLOT_BAD ? check_no_entry(m, 0, -1, e)
                                                       : wrong(e, "the slot is not marked bad");
}

int after_mark_good(struct machine *m, struct error *e)
{
        char path[PATH_MAX];

        snprintf(path, sizeof(path), "%s/loader/entries/bootmgr-1-a.conf", volume_path(ESP));
        if (access(path, F_OK) < 0)
                return wrong(e, "its entry is not there");
        return m->state.set.slots[0].state == SLOT_CONFIRMED ? 0 : wrong(e, "the slot is not marked good");
}

int after_abort(struct machine *m, struct error *e)
{
        return m->state.set.operation_state == OPERATION_ABORTED ? 0 : wrong(e, "it is not aborted");
}

int after_clear(struct machine *m, struct error *e)
{
        char path[PATH_MAX];

        snprintf(path, sizeof(path), "%s/refused", volume_path(DATA));
        return access(path, F_OK) < 0 && is_all_zero(m->state.set.refused, DIGEST_SIZE) ? 0
                                                                                        : wrong(e, "it is refused still");
}

int after_record(struct machine *m, struct error *e)
{
        return m->state.set.generation == 5 ? 0 : wrong(e, "the last save is lost");
}

int after_carry(struct machine *m, struct error *e)
{
        return check_etc(1, true, e);
}

int after_rescue(struct machine *m, struct error *e)
{
        char path[PATH_MAX];

        snprintf(path, sizeof(path), "%s/loader/entries/bootmgr-rescue+0-0.conf", volume_path(ESP));
        return access(path, F_OK) < 0 ? 0 : wrong(e, "the former rescue entry is there still");
}

int after_refused(struct machine *m, struct error *e)
{
        return is_all_zero(m->state.set.refused, DIGEST_SIZE) ? wrong(e, "what was left is not refused") : 0;
}

int after_rebuild(struct machine *m, struct error *e)
{
        return m->state_lost ? wrong(e, "the record was not made again") : 0;
}

/* Whether all that init made is there but the record, which is 1 MiB. */
static bool is_made(const struct machine *m)
{
        char a[SECTOR], b[SECTOR], path[PATH_MAX + 16];
        _cleanup_close_ int fd = open(volume_path(RAW), O_RDONLY | O_CLOEXEC), made = -1;
        uint64_t record = m->place.offset[0];

        snprintf(path, sizeof(path), "%.*s/made.img", (int)(strlen(work) - strlen("/work")), work);
        made = open(path, O_RDONLY | O_CLOEXEC);
        for (off_t at = lseek(made, 0, SEEK_DATA); at >= 0; at = lseek(made, at, SEEK_DATA))
                for (off_t hole = lseek(made, at, SEEK_HOLE); at < hole; at += SECTOR)
                        if (((uint64_t)at < record || (uint64_t)at >= record + MIB(1)) &&
                            (pread(fd, a, SECTOR, at) != SECTOR || pread(made, b, SECTOR, at) != SECTOR ||
                             memcmp(a, b, SECTOR) != 0))
                                return false;
        return true;
}

/* A disk that init did not finish is no machine, or one that init makes anew; nothing boots from it yet. */
int check_init(const struct expectation *x, bool completed, struct error *e)
{
        struct disk_spec spec = { .path = volume_path(RAW) };
        struct disk disk;
        struct machine m;
        int r;

        r = open_machine(&m, "", completed ? e : NULL);
        if (r >= 0) {
                if (completed && (m.state_lost || m.state.n_valid != 2))
                        r = wrong(e, "the state record");
                else if (!m.state_lost && !is_made(&m))
                        r = fail(e, -EIO, NULL, "a machine that init did not finish has a state record");
                machine_close(&m);
        }
        if (r < 0 && (completed || (e && e->message)))
                return r;
        /* Whatever is half made, beginning again makes it whole. Not for each state: mkfs runs. */
        return disk_find(&spec, &disk, NULL) == -ENOMEM ? -ENOMEM : 0;
}

/* What lies there under its name is whole: other nodes are given it. */
int check_bundle(const struct expectation *x, bool completed, struct error *e)
{
        char directory[PATH_MAX + 32], path[PATH_MAX + 300];
        _cleanup_free_ char *made = NULL;
        _cleanup_closedir_ DIR *dir = NULL;
        struct dirent *entry;
        size_t size, found = 0;
        int r;

        bundle_of('2', path);
        r = file_read(AT_FDCWD, path, MIB(16), &made, &size);
        snprintf(directory, sizeof(directory), "%s/" CLUSTER_HOME "/bundles", volume_path(DATA));
        dir = r < 0 ? NULL : opendir(directory);
        while (dir && (entry = readdir(dir))) {
                if (*entry->d_name == '.' || strchr(entry->d_name, '.'))
                        continue;
                snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);
                if (!is_file(path, made, size))
                        return fail(e, -EIO, NULL, "the bundle that is kept is not whole");
                found++;
        }
        return r >= 0 && completed && found != 1 ? wrong(e, "the bundle is kept") : r;
}
