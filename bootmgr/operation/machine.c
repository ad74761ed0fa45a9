/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "operation/machine.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/io.h"
#include "base/log.h"
#include "base/parse.h"
#include "operation/degraded.h"
#include "operation/record.h"
#include "loader/rescue.h"
#include "slot/kinds.h"
#include "snapshot/owner.h"

#define RUN_DIRECTORY "/run/bootmgr"
#define EFIVARS       "/sys/firmware/efi/efivars"
#define LOCK_PATIENCE (120 * USEC_PER_SEC)

/* Which slot runs: bootmgr.slot= and the root's PARTUUID must agree; the PARTUUID is what is mounted, so it
 * wins. */
static void find_booted(struct machine *m, const char *cmdline)
{
        _cleanup_free_ char *slot = cmdline_get(cmdline, "bootmgr.slot");
        _cleanup_free_ char *generation = cmdline_get(cmdline, "bootmgr.generation");
        _cleanup_free_ char *root = cmdline_get(cmdline, "root");
        int named = slot ? slot_from_name(slot) : SLOT_NONE;
        int mounted = SLOT_NONE;

        if (root && startswith(root, "PARTUUID="))
                mounted = disk_slot_by_partuuid(&m->disk, startswith(root, "PARTUUID="));
        m->booted = mounted != SLOT_NONE ? mounted : named;
        if (named >= m->state.set.n_slots)
                m->booted = SLOT_NONE;
        if (named != m->booted && named != SLOT_NONE)
                log_warning("the kernel command line says bootmgr.slot=%s, but its root is slot %c", slot,
                            m->booted == SLOT_NONE ? '-' : slot_name(m->booted));
        if (!generation || parse_u64(generation, &m->booted_generation) < 0 || m->booted_generation > GENERATION_MAX)
                m->booted_generation = 0;
        m->start = boot_start_parse(cmdline);
}

static int read_cmdline(struct machine *m, char **ret, struct error *e)
{
        int r;

        if (m->options.cmdline || m->options.disk) {
                *ret = strdup(m->options.cmdline ?: "");
                return *ret ? 0 : -ENOMEM;
        }
        r = file_read(AT_FDCWD, "/proc/cmdline", 65536, ret, NULL);
        return r < 0 ? fail_errno(e, r, "cannot read /proc/cmdline") : 0;
}

static int find_disk(struct machine *m, const char *cmdline, struct error *e)
{
        _cleanup_free_ char *root = cmdline_get(cmdline, "root");
        struct disk_spec spec = {
                .path = m->options.disk ?: m->config.disk,
                .root_partuuid = root ? startswith(root, "PARTUUID=") : NULL,
                .slot_device = (const char *const *)m->config.slot_device,
        };

        return disk_find(&spec, &m->disk, e);
}

static int load_state(struct machine *m, struct error *e)
{
        struct error why = {};
        int r;

        r = state_load(&m->place, &m->state, &why);
        m->state_lost = r == -ENODATA;
        if (r == -ENODATA) {
                slot_set_init(&m->state.set, MAX(m->disk.n_slots, 2));
                r = 0;
        } else if (r < 0) {
                r = fail(e, r, why.kind, "%s", why.message ?: error_text(r));
        }
        error_done(&why);
        return r;
}

/* The shared paths of an image lie below DATA/root: nothing of the machine that runs this is touched. */
static void open_data(struct machine *m)
{
        m->snapshots.data = dir_open(AT_FDCWD, m->data_path);
        if (m->snapshots.data < 0) {
                _cleanup_free_ char *reason = degraded_data_reason(m);
                int r = m->snapshots.data;

                m->snapshots.data = -1;
                fail(&m->data_error, r, &kind_degraded, "the data directory %s cannot be opened: %s", m->data_path,
                     reason ?: error_text(r));
                return;
        }
        error_done(&m->data_error);
        m->snapshots.root = m->offline ? dir_open(m->snapshots.data, "root") : dir_open(AT_FDCWD, "/");
        if (m->snapshots.root < 0)
                m->snapshots.root = -1;
}

int machine_open(const struct machine_options *options, struct machine *ret, struct error *e)
{
        struct machine m = {
                .options = *options,
                .booted = SLOT_NONE,
                .lock = -1,
                .snapshots = { .data = -1, .root = -1 },
                .place = { .fd = { -1, -1 } },
        };
        _cleanup_free_ char *cmdline = NULL;
        const char *data;
        int r;

        r = config_load(options->config, &m.config, e);
        if (r >= 0)
                r = read_cmdline(&m, &cmdline, e);
        if (r >= 0)
                r = find_disk(&m, cmdline, e);
        if (r >= 0)
                r = state_place_open(&m.disk, m.config.state, O_RDONLY, &m.place, e);
        if (r >= 0)
                r = load_state(&m, e);
        if (r < 0)
                goto fail;
        m.offline = m.disk.image;
        m.rescue = cmdline_has(cmdline, RESCUE_WORD);
        find_booted(&m, cmdline);
        r = boot_id(m.boot_id);
        if (r < 0)
                goto fail;
        data = options->data ?: m.offline ? NULL : m.config.data;
        m.data_path = data ? strdup(data) : xasprintf("%s.data", m.disk.path);
        if (!m.data_path) {
                r = -ENOMEM;
                goto fail;
        }
        open_data(&m);
        *ret = m;
        return 0;
fail:
        machine_close(&m);
        return r;
}

void machine_close(struct machine *m)
{
        state_place_close(&m->place);
        m->snapshots.data = fd_close(m->snapshots.data);
        m->snapshots.root = fd_close(m->snapshots.root);
        m->lock = fd_close(m->lock);
        config_done(&m->config);
        error_done(&m->data_error);
        free(TAKE_PTR(m->data_path));
}

/* An image carries the lock itself, so that looking at it leaves nothing behind. */
static int open_lock(struct machine *m, bool create)
{
        int r;

        if (m->offline)
                return io_open(AT_FDCWD, m->disk.path, O_RDONLY, 0);
        if (create) {
                r = mkdir_parents(AT_FDCWD, RUN_DIRECTORY, 0755);
                if (r < 0)
                        return r;
        }
        /* Whoever may open it may lock it, and so keep a machine from rolling back: nobody but root. */
        return io_open(AT_FDCWD, RUN_DIRECTORY "/lock", create ? O_RDWR | O_CREAT : O_RDONLY, 0600);
}

static int refuse_busy(struct machine *m, int fd, struct error *e)
{
        char text[32] = "";
        ssize_t n = m->offline ? 0 : pread(fd, text, sizeof(text) - 1, 0);

        text[n > 0 ? strcspn(text, "\n") : 0] = '\0';
        fail(e, -EBUSY, &kind_busy, "another bootmgr%s%s is at work on %s", *text ? ", process " : "", text, m->disk.path);
        return fail_hint(e, "wait for it ('bootmgr show upgrade status --watch'), or end it: a second try succeeds");
}

/* Before a clock is set right, one that starts in the past each time would take what was noted today for the future. */
static void correct_times(struct machine *m)
{
        _cleanup_error_ struct error why = {};
        uint64_t now = now_realtime();

        if (clock_is_synchronised() && slot_set_correct_auto_rollbacks(&m->state.set, now, now) && machine_save(m, &why) < 0)
                log_warning("%s", why.message ?: "the times of automatic rollbacks stay in the future");
}

int machine_lock(struct machine *m, struct error *e)
{
        _cleanup_close_ int fd = -1;
        char pid[32];
        int r;

        if (m->lock >= 0)
                return 0;
        fd = open_lock(m, true);
        if (fd < 0)
                return fail_errno(e, fd, "cannot open the lock %s", m->offline ? m->disk.path : RUN_DIRECTORY "/lock");
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
                return errno == EWOULDBLOCK ? refuse_busy(m, fd, e) : fail_errno(e, -errno, "cannot take the lock");
        if (!m->offline) {
                snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
                r = io_truncate(fd, 0);
                if (r >= 0)
                        r = io_pwrite(fd, pid, strlen(pid), 0);
                if (r < 0)
                        return fail_errno(e, r, "cannot write the lock");
        }
        m->lock = TAKE_FD(fd);
        r = load_state(m, e);
        if (r < 0)
                return r;
        r = operation_settle_switch(m, e);
        if (r < 0)
                return r;
        correct_times(m);
        operation_close_orphan(m);
        return 0;
}

int machine_lock_patiently(struct machine *m, struct error *e)
{
        uint64_t deadline = now_monotonic() + LOCK_PATIENCE;

        for (;;) {
                int r = machine_lock(m, e);

                if (r != -EBUSY || now_monotonic() > deadline)
                        return r;
                if (e)
                        error_done(e);
                nanosleep(&(struct timespec){ .tv_nsec = 200000000 }, NULL);
        }
}

void machine_unlock(struct machine *m)
{
        m->lock = fd_close(m->lock);
}

bool machine_is_locked_by_other(struct machine *m)
{
        _cleanup_close_ int fd = -1;

        if (m->lock >= 0)
                return false;
        fd = open_lock(m, false);
        /* A shared try-lock held for a moment can only make a writer that starts right now say "busy". */
        return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

int machine_open_for_writing(struct machine *m, struct error *e)
{
        struct state_place place;
        int flags = fcntl(m->place.fd[0], F_GETFL), r;

        /* Opened once: udev looks at a partition anew each time that a writer closes it. */
        if (flags >= 0 && (flags & O_ACCMODE) == O_RDWR)
                return 0;
        r = state_place_open(&m->disk, m->config.state, O_RDWR, &place, e);
        if (r < 0)
                return r;
        state_place_close(&m->place);
        m->place = place;
        return 0;
}

int machine_save(struct machine *m, struct error *e)
{
        int r;

        if (m->lock < 0)
                return fail(e, -EPERM, NULL, "the state record is written under the lock only");
        if (m->state_kept)
                return 0;
        r = machine_open_for_writing(m, e);
        if (r >= 0)
                r = state_save(&m->place, &m->state, e);
        if (r >= 0)
                m->state_lost = false;
        return r;
}

/* The ESP as a directory, when it is given as one; NULL: the disk's partition. */
static const char *esp_directory(const struct machine *m)
{
        struct stat st;

        if (m->options.esp)
                return m->options.esp;
        return m->config.esp && stat(m->config.esp, &st) == 0 && S_ISDIR(st.st_mode) ? m->config.esp : NULL;
}

int machine_open_loader(struct machine *m, bool write, struct loader *ret, struct error *e)
{
        const char *directory = esp_directory(m);
        int r;

        if (m->offline && !directory) {
                fail(e, -EINVAL, &kind_usage, "%s is an image file: its EFI system partition is not looked into",
                     m->disk.path);
                return fail_hint(e, "name the directory that holds the ESP's files with --esp DIR");
        }
        r = loader_open(ret, m->config.loader, &m->disk, directory,
                        m->options.efivars
                                ?: m->offline ? NULL
                                              : EFIVARS,
                        write, e);
        if (r >= 0)
                ret->slots = &m->state.set;
        return r;
}

int machine_list_entries(struct machine *m, struct loader_entry **ret, size_t *ret_n, struct error *e)
{
        struct loader loader;
        int r;

        r = machine_open_loader(m, false, &loader, e);
        if (r < 0)
                return r;
        r = loader.ops->list(&loader, ret, ret_n, e);
        loader_close(&loader);
        return r;
}

int machine_need_record(const struct machine *m, struct error *e)
{
        if (!m->state_lost || m->booted_generation == 0)
                return 0;
        fail(e, -ENODATA, &kind_state_unreadable, "no copy of the state record of %s %s", m->disk.path,
             m->state.unread ? "can be read" : "is valid");
        return fail_hint(e, "'bootmgr boot-config' makes it again from the boot entries, as the next boot does");
}

/* What the slot's own boot files take, those of a try to write it that was cut among them: what a prune removes then. */
static uint64_t boot_file_bytes(const struct esp *esp, const struct slot_set *set, int slot)
{
        int fd = dir_open(esp->fd, BOOT_FILE_DIRECTORY);
        _cleanup_closedir_ DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        struct dirent *found;
        uint64_t bytes = 0;

        while (dir && (found = readdir(dir))) {
                uint8_t id[BOOT_FILE_ID_SIZE];
                bool others = false;
                struct stat st;

                if (hex_decode(found->d_name, id, sizeof(id)) < 0 || !boot_file_is_of(id, slot))
                        continue;
                /* One that was named by its content alone may end like that, and be another's too. */
                for (int i = 0; i < set->n_slots; i++)
                        others |= i != slot && (memcmp(set->slots[i].kernel, id, sizeof(id)) == 0 ||
                                                memcmp(set->slots[i].initrd, id, sizeof(id)) == 0);
                if (!others && fstatat(dirfd(dir), found->d_name, &st, 0) == 0)
                        bytes += (uint64_t)st.st_size;
        }
        return bytes;
}

int machine_esp_free(struct machine *m, int slot, uint64_t *ret, struct error *e)
{
        struct esp esp;
        int r;

        if (streq(m->config.loader, loader_none.name)) {
                *ret = UINT64_MAX;
                return 0;
        }
        r = esp_open(&m->disk, esp_directory(m), true, &esp, e);
        if (r < 0)
                return r;
        r = esp_free_bytes(&esp, slot == SLOT_NONE ? 0 : boot_file_bytes(&esp, &m->state.set, slot), ret);
        esp_close(&esp);
        return r < 0 ? fail_errno(e, r, "cannot tell the room on the ESP %s", esp.where) : 0;
}

int machine_check_esp(struct machine *m, struct error *e)
{
        uint64_t room;
        int r;

        r = machine_esp_free(m, SLOT_NONE, &room, e);
        if (r < 0 || room > 0)
                return r;
        fail(e, -ENOSPC, &kind_esp_unusable, "the ESP of %s is full: a boot entry needs room", m->disk.path);
        return fail_hint(e, "remove from it what is not needed");
}

/* No slot runs, and what would boot next may be what does not: the configuration says which version was the last that did.
 */
static int owner_slot(const struct machine *m)
{
        struct owner owner;
        int slot;

        if (m->snapshots.data < 0 || owner_read(m->snapshots.data, &owner, NULL) < 0 || owner.phase == OWNER_NONE)
                return SLOT_NONE;
        slot = owner.phase == OWNER_OWNED ? owner.slot : owner.from_slot;
        return slot < m->state.set.n_slots ? slot : SLOT_NONE;
}

int machine_reference_slot(struct machine *m)
{
        struct loader_entry next;
        struct loader l;
        int slot = SLOT_NONE;

        if (m->booted != SLOT_NONE)
                return m->booted;
        if (m->rescue)
                return owner_slot(m);
        if (machine_open_loader(m, false, &l, NULL) < 0)
                return SLOT_NONE;
        if (l.ops->next(&l, &next, NULL) == 0 && next.slot < m->state.set.n_slots)
                slot = next.slot;
        loader_close(&l);
        return slot;
}

int machine_need_data(struct machine *m, struct error *e)
{
        int r;

        if (m->snapshots.data >= 0 && m->snapshots.root >= 0)
                return 0;
        if (m->offline) {
                _cleanup_free_ char *root = xasprintf("%s/root", m->data_path);

                r = root ? mkdir_parents(AT_FDCWD, root, 0755) : -ENOMEM;
        } else {
                r = io_mkdir(AT_FDCWD, m->data_path, 0755);
        }
        if (r >= 0) {
                m->snapshots.data = fd_close(m->snapshots.data);
                open_data(m);
        }
        if (m->snapshots.data >= 0 && m->snapshots.root >= 0)
                return 0;
        fail(e, -ENOENT, &kind_degraded, "%s", m->data_error.message ?: "there is no data directory");
        return fail_hint(e, "mount the data partition, or name the directory with DataDirectory= or --data");
}
