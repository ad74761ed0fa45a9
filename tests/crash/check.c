/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What must hold, of the disk that a cut has left and of the machine that comes up from it. */
#include "crash.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "image/install.h"
#include "operation/boot.h"
#include "operation/steps.h"
#include "slot/kinds.h"
#include "snapshot/owner.h"

#define BOOTS_MAX 16

static int check_config(struct error *e)
{
        char whose = whose_config();

        if (whose == running_version())
                return 0;
        return fail(e, -EIO, NULL, "version %c runs with %s%c", running_version(),
                    whose == '!' ? "a mixture as its configuration: " : "the configuration of version ", whose);
}

static int check_snapshots(struct machine *m, struct error *e)
{
        const struct slot_set *set = &m->state.set;

        for (int i = 0; i < set->n_slots; i++) {
                _cleanup_snapshot_ struct snapshot s = {};
                int r;

                if (!slot_has_snapshot(&set->slots[i]) || !slot_has_system(&set->slots[i]))
                        continue;
                r = snapshot_find(&m->snapshots, set->slots[i].snapshot, &s, e);
                if (r >= 0)
                        r = snapshot_verify(&m->snapshots, &s, e);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int check_entries(struct machine *m, uint64_t generation, struct error *e)
{
        _cleanup_free_ struct loader_entry *entries = NULL;
        struct loader l;
        size_t n = 0;
        int r = machine_open_loader(m, true, &l, e);

        if (r < 0)
                return r;
        r = l.ops->list(&l, &entries, &n, e);
        loader_close(&l);
        for (size_t i = 0; r >= 0 && i < n; i++) {
                if (entries[i].generation > m->state.set.generation)
                        return fail(e, -EIO, NULL, "an entry has generation %llu, the record knows of %llu",
                                    (unsigned long long)entries[i].generation, (unsigned long long)m->state.set.generation);
                for (size_t k = 0; k < i; k++)
                        if (entries[k].generation == entries[i].generation && entries[k].slot != entries[i].slot)
                                return fail(e, -EIO, NULL, "generation %llu was given to two slots",
                                            (unsigned long long)entries[i].generation);
        }
        if (r >= 0 && m->state.set.generation < generation)
                return fail(e, -EIO, NULL, "the generation went back from %llu to %llu", (unsigned long long)generation,
                            (unsigned long long)m->state.set.generation);
        return r;
}

static bool has_kernel(const struct slot *slot)
{
        char path[PATH_MAX + 64], file[BOOT_FILE_PATH_SIZE];

        boot_file_path(slot->kernel, file);
        snprintf(path, sizeof(path), "%s/%s", volume_path(ESP), file);
        return version_of_kernel(path) == slot->version[0];
}

/* What lies on data beside a version says what its root is: without it nobody can tell that the way back is whole. */
static int check_kept(const struct machine *m, int slot, struct error *e)
{
        struct range root;
        int r = range_open(&m->disk, &m->disk.slots[slot], O_RDONLY, &root, e);

        if (r < 0)
                return r;
        r = install_check_slot(&root, m->snapshots.data, slot, m->state.set.slots[slot].digest, NULL, e);
        range_close(&root);
        return r;
}

/* Up and confirmed: what every machine in that state fulfils. */
static int check_machine(const struct expectation *x, const char *cmdline, struct error *e)
{
        _cleanup_operation_ struct operation op = {};
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        const struct slot_set *set;
        int r = open_machine(&m, cmdline, e);

        if (r < 0)
                return r;
        set = &m.state.set;
        if (m.state_lost || m.booted == SLOT_NONE)
                return fail(e, -EIO, NULL, "it is up without a record, or as no slot");
        if (set->slots[m.booted].version[0] != running_version())
                return fail(e, -EIO, NULL, "version %c runs, the record says %s", running_version(),
                            set->slots[m.booted].version);
        if (set->slots[m.booted].state != SLOT_CONFIRMED || set->phase != SWITCH_NONE)
                return fail(e, -EIO, NULL, "slot %c runs and is %s, switch %s", slot_name(m.booted),
                            slot_state_to_string(set->slots[m.booted].state), switch_phase_to_string(set->phase));
        for (int i = 0; i < set->n_slots; i++)
                if (slot_is_selectable(&set->slots[i]) && !(x->kernel_damaged && i == 0) &&
                    (version_of_root(&m.disk, i) != set->slots[i].version[0] || !has_kernel(&set->slots[i])))
                        return fail(e, -EIO, NULL, "slot %c is %s, and its root or kernel is not that of version %s",
                                    slot_name(i), slot_state_to_string(set->slots[i].state), set->slots[i].version);
        for (int i = 0; i < set->n_slots && r >= 0; i++)
                if (slot_is_selectable(&set->slots[i]) && set->slots[i].version[0] != '1')
                        r = check_kept(&m, i, e);
        if (r < 0)
                return r;
        if (operation_current(&m, &op, NULL) >= 0 && op.result == RESULT_IN_PROGRESS &&
            set->operation_state != OPERATION_STAGED)
                return fail(e, -EIO, NULL, "the %s never ends", operation_kind_to_string(op.kind));
        r = check_entries(&m, x->generation, e);
        if (r >= 0)
                r = check_snapshots(&m, e);
        return r < 0 ? r : check_etc(m.booted, running_version() != '1', e);
}

/* What a boot that finds everything done may not change. */
static char *fingerprint(void)
{
        _cleanup_error_ struct error e = {};
        _cleanup_free_ struct loader_entry *entries = NULL;
        struct machine m = MACHINE_CLOSED;
        struct slot_set set;
        struct owner owner = {};
        struct loader l;
        struct buf b = {};
        size_t n = 0;

        if (open_machine(&m, "", &e) < 0)
                return NULL;
        set = m.state.set;
        for (int i = 0; i < SLOT_MAX; i++) {
                memset(set.slots[i].last_boot, 0, sizeof(set.slots[i].last_boot));
                set.slots[i].attempts = 0;
        }
        buf_printf(&b, "%08x", crc32c(0, &set, sizeof(set)));
        if (machine_open_loader(&m, true, &l, &e) >= 0) {
                if (l.ops->list(&l, &entries, &n, &e) >= 0)
                        for (size_t i = 0; i < n; i++)
                                buf_printf(&b, " %llu-%d+%d", (unsigned long long)entries[i].generation, entries[i].slot,
                                           entries[i].confirmed ? -1 : entries[i].tries_left); /* each start counts */
                loader_close(&l);
        }
        if (owner_read(m.snapshots.data, &owner, &e) >= 0)
                buf_printf(&b, " %d %d %s %llu %c", owner.phase, owner.slot, owner.version,
                           (unsigned long long)owner.generation, whose_config());
        machine_close(&m);
        return buf_take(&b);
}

static int come_up(struct error *e)
{
        for (int i = 0; i < BOOTS_MAX; i++) {
                int r = boot_once(e);

                if (r != 0)
                        return r;
        }
        return fail(e, -ELOOP, NULL, "it did not come up in %d boots", BOOTS_MAX);
}

static int confirm(char **ret_cmdline, struct error *e)
{
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        int r;

        *ret_cmdline = strdup(running_with());
        r = open_machine(&m, *ret_cmdline ?: "", e);
        return r < 0 ? r : operation_confirm(&m, NULL, e);
}

/* Once more, and nothing is left to do. */
static int check_idempotent(struct error *e)
{
        _cleanup_free_ char *before = fingerprint(), *after = NULL, *cmdline = NULL;
        char was = running_version();
        int r = boot_once(e);

        if (r > 0)
                r = confirm(&cmdline, e);
        else if (r == 0)
                r = fail(e, -EIO, NULL, "the next boot started again");
        if (r < 0)
                return r;
        after = fingerprint();
        if (was == running_version() && before && after && streq(before, after))
                return 0;
        return fail(e, -EIO, NULL, "the next boot changed '%s' to '%s'", before ?: "", after ?: "");
}

/* What was staged goes on at the next shutdown; what was not can be begun, to a version newer than all. The version that
 * is to boot: *ret. */
static int switch_again(const char *cmdline, char *ret, struct error *e)
{
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        char bundle[PATH_MAX + 32];
        struct upgrade_options options = { .source = bundle };
        int r;

        bundle_of(LAST_VERSION, bundle);
        r = open_machine(&m, cmdline, e);
        if (r >= 0)
                r = operation_clear_refused(&m, e);
        if (r >= 0 && m.state.set.operation_state != OPERATION_STAGED)
                r = upgrade_prepare(&m, &options, NULL, e);
        if (r < 0)
                return r;
        *ret = m.state.set.slots[m.state.set.operation_to].version[0];
        return operation_switch(&m, NULL, e);
}

/* A second try succeeds. */
static int check_goes_on(const char *cmdline, struct error *e)
{
        char target = 0;
        int r = switch_again(cmdline, &target, e);

        if (r >= 0)
                r = come_up(e);
        if (r < 0)
                return r;
        return running_version() == target
                       ? check_config(e)
                       : fail(e, -EIO, NULL, "the next operation went to version %c, not %c", running_version(), target);
}

/* An entry says what its name says, and names files that are whole: they were flushed before it, and go after it. Without
 * content it is a remnant, which no loader starts. */
static int check_entry_file(const struct expectation *x, const char *name, struct error *e)
{
        _cleanup_free_ char *version = entry_value(name, "version"), *kernel = entry_value(name, "linux");
        _cleanup_free_ char *options = entry_value(name, "options");
        char path[PATH_MAX + 64], generation[32];

        if (!version && !kernel && !options)
                return 0;
        snprintf(path, sizeof(path), "%s%s", volume_path(ESP), kernel ?: "/");
        snprintf(generation, sizeof(generation), "bootmgr-%s-", version ?: "");
        if (!version || !kernel || !options || !startswith(name, generation))
                return fail(e, -EIO, NULL, "the entry %s holds something else", name);
        if (!version_of_kernel(path) && !(x->kernel_damaged && strstr(name, "-a.conf")))
                return fail(e, -EIO, NULL, "the entry %s names %s, which is not whole", name, kernel);
        return 0;
}

/* Whole, or so short that nobody takes it for what its name promises. */
static int check_boot_files(const struct expectation *x, struct error *e)
{
        char path[PATH_MAX], file[PATH_MAX + 300];
        _cleanup_closedir_ DIR *dir = NULL;
        struct dirent *found;
        struct stat st;
        size_t size;

        content_of('1', true, &size);
        snprintf(path, sizeof(path), "%s/bootmgr", volume_path(ESP));
        dir = opendir(path);
        while (dir && (found = readdir(dir))) {
                snprintf(file, sizeof(file), "%s/%s", path, found->d_name);
                if (strlen(found->d_name) == (size_t)2 * BOOT_FILE_ID_SIZE && stat(file, &st) == 0 &&
                    (size_t)st.st_size == size && !version_of_kernel(file) &&
                    !(x->kernel_damaged && streq(found->d_name + 2 * BOOT_FILE_ID_SIZE - 2, "0a")))
                        return fail(e, -EIO, NULL, "the boot file %s is not what its name says", found->d_name);
        }
        return 0;
}

static int check_entry_files(const struct expectation *x, struct error *e)
{
        char path[PATH_MAX];
        _cleanup_closedir_ DIR *dir = NULL;
        struct dirent *found;
        int r = 0;

        snprintf(path, sizeof(path), "%s/loader/entries", volume_path(ESP));
        dir = opendir(path);
        while (dir && r >= 0 && (found = readdir(dir))) {
                const char *rest = startswith(found->d_name, "bootmgr-");

                if (rest && *rest >= '0' && *rest <= '9')
                        r = check_entry_file(x, found->d_name, e);
        }
        return r;
}

/* A root whose first block is there is there as a whole: it would be mounted by whoever does not know the record. */
static int check_roots(struct error *e)
{
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        int r = open_machine(&m, "", e);

        for (int i = 0; r >= 0 && i < m.disk.n_slots; i++)
                if (has_first_block(&m.disk, i) && !version_of_root(&m.disk, i))
                        return fail(e, -EIO, NULL, "the root of slot %c can be mounted, and is not whole", slot_name(i));
        return r;
}

int check_disk(const struct expectation *x, struct error *e)
{
        int r = check_entry_files(x, e);

        if (r >= 0)
                r = check_boot_files(x, e);
        return r < 0 || x->damaged ? r : check_roots(e);
}

static int check_record(const struct expectation *x, struct error *e)
{
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        int r = open_machine(&m, "", e);

        if (r >= 0 && m.state_lost && !x->record_lost)
                return fail(e, -EIO, NULL, "no copy of the state record is valid");
        return r;
}

static int check_after(const struct expectation *x, struct error *e)
{
        _cleanup_free_ char *cmdline = running_cmdline();
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        int r = open_machine(&m, cmdline ?: "", e);

        return r < 0 ? r : x->after(&m, e);
}

/* Its services start, and it is confirmed. 1: it is about to be left instead. */
static int settle(char **ret_cmdline, struct error *e)
{
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        int r = check_config(e);

        if (r >= 0)
                r = confirm(ret_cmdline, e);
        if (r >= 0)
                r = open_machine(&m, *ret_cmdline ?: "", e);
        return r < 0 ? r
                     : m.booted != SLOT_NONE && m.state.set.slots[m.booted].state == SLOT_TRIAL &&
                               m.state.set.operation_state == OPERATION_STAGED;
}

/* A kernel that nobody could look at when the return was staged is looked at here: then the version stays. */
static int shut_down(const struct expectation *x, const char *cmdline, struct error *e)
{
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        int r = open_machine(&m, cmdline, e);

        if (r >= 0)
                r = operation_switch(&m, NULL, e);
        if (r >= 0 || !x->kernel_damaged || m.state.set.slots[0].state != SLOT_BAD)
                return r;
        error_done(e);
        return 0;
}

int boot_and_check(const struct expectation *x, bool completed, bool thorough, struct error *e)
{
        _cleanup_free_ char *cmdline = NULL;
        int r = check_disk(x, e);

        if (r >= 0)
                r = check_record(x, e);

        if (r >= 0 && completed && x->after)
                r = check_after(x, e);
        if (r >= 0)
                r = come_up(e);
        if (r < 0)
                return r;
        if (!strchr(x->allowed, running_version()) || (completed && x->completed && running_version() != x->completed))
                return fail(e, -EIO, NULL, "version %c came up", running_version());
        r = settle(&cmdline, e);
        /* A return that was staged before it was cut goes on at the next shutdown. */
        if (r > 0 && (r = shut_down(x, cmdline, e)) >= 0 && (r = come_up(e)) >= 0) {
                free(TAKE_PTR(cmdline));
                r = settle(&cmdline, e);
        }
        if (r >= 0)
                r = check_machine(x, cmdline ?: "", e);
        if (r >= 0)
                r = check_idempotent(e);
        if (r >= 0 && thorough)
                r = check_goes_on(cmdline ?: "", e);
        return r < 0 ? r : check_counter(e);
}
