/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What boots from a disk as a cut has left it: systemd-boot's choice and count, bootmgr-recover as the initramfs runs it,
 * the booted system's early unit, confirmation; all of it the real code, and around it what must hold. */
#include "crash.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "loader/sdboot.h"
#include "operation/boot.h"
#include "operation/steps.h"
#include "slot/kinds.h"
#include "snapshot/owner.h"

#define BOOTS_MAX 16

static uint8_t present_boot[16];
static struct boot_decision decision;
static bool decided;
static char running;           /* version that came up last */
static char booted_with[4096]; /* its kernel command line */

/* Linked in place of the real ones (--wrap): every boot has its own id, and the decision is looked at. */
int __wrap_boot_id(uint8_t id[static 16]);
int __real_boot_carry_out(const struct boot_decision *d, const struct disk *disk, const struct state_place *place,
                          struct state *state, struct loader *loader, const char *extra_cmdline, bool writable_root,
                          struct error *e);
int __wrap_boot_carry_out(const struct boot_decision *d, const struct disk *disk, const struct state_place *place,
                          struct state *state, struct loader *loader, const char *extra_cmdline, bool writable_root,
                          struct error *e);
int recover_main(int argc, char **argv);

int __wrap_boot_id(uint8_t id[static 16])
{
        memcpy(id, present_boot, 16);
        return 0;
}

int __wrap_boot_carry_out(const struct boot_decision *d, const struct disk *disk, const struct state_place *place,
                          struct state *state, struct loader *loader, const char *extra_cmdline, bool writable_root,
                          struct error *e)
{
        decision = *d;
        decided = true;
        return __real_boot_carry_out(d, disk, place, state, loader, extra_cmdline, writable_root, e);
}

char running_version(void)
{
        return running;
}

int open_machine(struct machine *m, const char *cmdline, struct error *e)
{
        static char config[PATH_MAX + 16], disk[PATH_MAX], esp[PATH_MAX], data[PATH_MAX];
        struct machine_options options = { .disk = disk, .esp = esp, .data = data, .config = config, .cmdline = cmdline };

        snprintf(config, sizeof(config), "%.*s/conf", (int)(strlen(work) - strlen("/work")), work);
        snprintf(disk, sizeof(disk), "%s", volume_path(RAW));
        snprintf(esp, sizeof(esp), "%s", volume_path(ESP));
        snprintf(data, sizeof(data), "%s", volume_path(DATA));
        return machine_open(&options, m, e);
}

/* ---- what lies there ---- */

static bool is_file(const char *path, const char *content, size_t size)
{
        _cleanup_free_ char *found = NULL;
        size_t found_size;

        return file_read(AT_FDCWD, path, MIB(1), &found, &found_size) >= 0 && found_size == size &&
               memcmp(found, content, size) == 0;
}

/* Which version's root lies in the slot as a whole; 0: none. */
static char version_of_root(const struct disk *disk, int slot)
{
        static char buffer[65536];
        _cleanup_close_ int fd = open(volume_path(RAW), O_RDONLY | O_CLOEXEC);

        for (char v = '1'; v <= LAST_VERSION; v++) {
                size_t size;
                const char *content = content_of(v, false, &size);

                if (pread(fd, buffer, size, (off_t)disk->slots[slot].offset) == (ssize_t)size &&
                    memcmp(buffer, content, size) == 0)
                        return v;
        }
        return 0;
}

static char version_of_kernel(const char *path)
{
        for (char v = '1'; v <= LAST_VERSION; v++) {
                size_t size;
                const char *content = content_of(v, true, &size);

                if (is_file(path, content, size))
                        return v;
        }
        return 0;
}

/* The shared configuration: a directory with a file, a file, and one that only version 2 and later have. */
static void config_of(char version, char *text, size_t size)
{
        memset(text, version, size);
        snprintf(text, size, "format %c\n", version);
        text[9] = version;
        text[size - 1] = '\n';
}

#define CONFIG_SIZE 1200
#define SINGLE_SIZE 700

static int put_file(const char *path, const char *text, size_t size)
{
        char real[PATH_MAX];
        int fd, r;

        snprintf(real, sizeof(real), "%s/root/%s", volume_path(DATA), path);
        fd = io_open(AT_FDCWD, real, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        r = fd < 0 ? fd : io_pwrite(fd, text, size, 0);
        if (r >= 0)
                r = io_fsync(fd);
        fd_close(fd);
        return r;
}

/* What a version's own services make of the configuration. */
int service_migrates(char version, struct error *e)
{
        char text[CONFIG_SIZE], real[PATH_MAX];
        int r;

        snprintf(real, sizeof(real), "%s/root/cfg", volume_path(DATA));
        r = mkdir_parents(AT_FDCWD, real, 0755);
        config_of(version, text, CONFIG_SIZE);
        if (r >= 0)
                r = put_file("cfg/settings", text, CONFIG_SIZE);
        config_of(version, text, SINGLE_SIZE);
        if (r >= 0)
                r = put_file("single", text, SINGLE_SIZE);
        if (r >= 0 && version >= '2')
                r = put_file("late", text, SINGLE_SIZE);
        return r < 0 ? fail_errno(e, r, "the service cannot write its configuration") : 0;
}

/* Whose configuration is there, whole: '1' …; '!': a mixture or damage. */
static char whose_config(void)
{
        char path[PATH_MAX], text[CONFIG_SIZE];
        bool late;

        snprintf(path, sizeof(path), "%s/root/late", volume_path(DATA));
        late = access(path, F_OK) == 0;
        for (char v = '1'; v <= LAST_VERSION; v++) {
                config_of(v, text, CONFIG_SIZE);
                snprintf(path, sizeof(path), "%s/root/cfg/settings", volume_path(DATA));
                if (!is_file(path, text, CONFIG_SIZE))
                        continue;
                config_of(v, text, SINGLE_SIZE);
                snprintf(path, sizeof(path), "%s/root/single", volume_path(DATA));
                return is_file(path, text, SINGLE_SIZE) && late == (v >= '2') ? v : '!';
        }
        return '!';
}

/* The slot's own /etc holds what version 1 or its carrying put there; never half of it. */
static int check_etc(int slot, struct error *e)
{
        char path[PATH_MAX], stale[PATH_MAX], deep[PATH_MAX];

        snprintf(path, sizeof(path), "%s/etc/%c/upper/marker", volume_path(DATA), slot_name(slot));
        snprintf(stale, sizeof(stale), "%s/etc/%c/upper/stale", volume_path(DATA), slot_name(slot));
        snprintf(deep, sizeof(deep), "%s/etc/%c/upper/dir/deep", volume_path(DATA), slot_name(slot));
        if (is_file(path, "a\n", 2) && (running == '1' || (access(stale, F_OK) < 0 && is_file(deep, "deep\n", 5))))
                return 0;
        return fail(e, -EIO, NULL, "the /etc of slot %c is not what was carried", slot_name(slot));
}

/* ---- booting ---- */

static int choose_entry(struct machine *m, struct loader_entry *ret, char name[static ENTRY_NAME_MAX], struct error *e)
{
        struct loader l;
        int r = machine_open_loader(m, true, &l, e);

        if (r < 0)
                return r;
        r = l.ops->next(&l, ret, e);
        loader_close(&l);
        if (r < 0)
                return fail(e, r, NULL, "systemd-boot has nothing of ours to start");
        entry_name_format(ret->generation, ret->slot, ret->tries_left, ret->tries_done, name);
        return 0;
}

/* One try less, as systemd-boot does it before it starts the kernel. What firmware writes is on the disk at once. */
static int count_try(const struct loader_entry *entry, char name[static ENTRY_NAME_MAX])
{
        char counted[ENTRY_NAME_MAX], path[PATH_MAX];
        _cleanup_close_ int dir = -1, fd = -1;
        int r;

        if (entry->tries_left <= 0)
                return 0;
        snprintf(path, sizeof(path), "%s/loader/entries", volume_path(ESP));
        dir = dir_open(AT_FDCWD, path);
        entry_name_format(entry->generation, entry->slot, entry->tries_left - 1, entry->tries_done + 1, counted);
        vfat_by_firmware = true;
        r = io_rename(dir, name, dir, counted, 0);
        vfat_by_firmware = false;
        if (r < 0)
                return r;
        strcpy(name, counted);
        fd = io_open(dir, name, O_RDONLY, 0);
        r = io_fsync(fd);
        return r < 0 ? r : io_fsync(dir);
}

static char *value_of(const char *name, const char *key)
{
        char path[PATH_MAX + ENTRY_NAME_MAX];
        _cleanup_free_ char *text = NULL;
        char *cursor, *line;

        snprintf(path, sizeof(path), "%s/loader/entries/%s", volume_path(ESP), name);
        if (file_read(AT_FDCWD, path, 4096, &text, NULL) < 0)
                return NULL;
        for (cursor = text; (line = line_next(&cursor));) {
                const char *value = startswith(line, key);

                if (value && (*value == ' ' || *value == '\t'))
                        return strdup(value + strspn(value, " \t"));
        }
        return NULL;
}

char *running_cmdline(void)
{
        _cleanup_error_ struct error e = {};
        char name[ENTRY_NAME_MAX];
        struct loader_entry entry;
        struct machine m;
        char *options = NULL;

        if (open_machine(&m, "", &e) < 0)
                die("%s", e.message);
        if (choose_entry(&m, &entry, name, &e) >= 0)
                options = value_of(name, "options");
        machine_close(&m);
        return options;
}

static int initramfs(char *cmdline, char *verb)
{
        char *argv[] = { (char *)"bootmgr-recover",
                         (char *)"--disk",
                         (char *)volume_path(RAW),
                         (char *)"--esp",
                         (char *)volume_path(ESP),
                         (char *)"--cmdline",
                         cmdline,
                         verb,
                         NULL };

        decided = false;
        return recover_main(8, argv);
}

static int start_system(char *cmdline, const struct disk *disk, int slot, struct error *e)
{
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        int r;

        /* 1: it could not do its work and lets the boot go on. */
        if (initramfs(cmdline, (char *)"boot") == 0 && decided &&
            (decision.action == BOOT_REBOOT || (decision.action == BOOT_RECOVERY && decision.found != BOOT_FOUND_EXHAUSTED)))
                return 0;
        running = version_of_root(disk, slot);
        if (!running) {
                initramfs(cmdline, (char *)"failed");
                return 0;
        }
        r = open_machine(&m, cmdline, e);
        if (r >= 0)
                r = operation_at_boot(&m, NULL, e);
        if (r == -EHOSTDOWN) {
                error_done(e);
                return 0;
        }
        return r < 0 ? r : 1;
}

int boot_once(struct error *e)
{
        _cleanup_free_ char *options = NULL, *kernel = NULL;
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        char name[ENTRY_NAME_MAX], path[PATH_MAX + 64], version;
        struct loader_entry entry;
        int r;

        if (getrandom(present_boot, sizeof(present_boot), 0) != sizeof(present_boot))
                return -EIO;
        r = open_machine(&m, "", e);
        if (r >= 0)
                r = choose_entry(&m, &entry, name, e);
        if (r < 0)
                return r;
        if (count_try(&entry, name) < 0)
                return fail(e, -EIO, NULL, "systemd-boot cannot count");
        options = value_of(name, "options");
        kernel = value_of(name, "linux");
        if (!options || !kernel)
                return fail(e, -EIO, NULL, "the entry %s is not whole", name);
        snprintf(path, sizeof(path), "%s%s", volume_path(ESP), kernel);
        snprintf(booted_with, sizeof(booted_with), "%s", options);
        version = version_of_kernel(path);
        if (!version && entry.tries_left < 0)
                return fail(e, -EIO, NULL, "the kernel of the confirmed entry %s is damaged", name);
        if (!version)
                return 0; /* firmware goes on to the next boot option: a try is gone */
        r = start_system(options, &m.disk, entry.slot, e);
        if (r > 0 && version != running)
                return fail(e, -EIO, NULL, "a kernel of version %c runs with the root of version %c", version, running);
        return r;
}

/* ---- invariants ---- */

static int check_config(char former, struct error *e)
{
        char whose = whose_config();

        /* A version that runs for the first time takes over what an older one left. */
        if (whose == running || (whose != '!' && whose < running && whose == former))
                return 0;
        return fail(e, -EIO, NULL, "version %c runs with %s%c", running,
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
        if (set->slots[m.booted].version[0] != running)
                return fail(e, -EIO, NULL, "version %c runs, the record says %s", running, set->slots[m.booted].version);
        if (set->slots[m.booted].state != SLOT_CONFIRMED || set->phase != SWITCH_NONE)
                return fail(e, -EIO, NULL, "slot %c runs and is %s, switch %s", slot_name(m.booted),
                            slot_state_to_string(set->slots[m.booted].state), switch_phase_to_string(set->phase));
        for (int i = 0; i < set->n_slots; i++)
                if (slot_is_selectable(&set->slots[i]) &&
                    (version_of_root(&m.disk, i) != set->slots[i].version[0] || !has_kernel(&set->slots[i])))
                        return fail(e, -EIO, NULL, "slot %c is %s, and its root or kernel is not that of version %s",
                                    slot_name(i), slot_state_to_string(set->slots[i].state), set->slots[i].version);
        if (operation_current(&m, &op, NULL) >= 0 && op.result == RESULT_IN_PROGRESS &&
            set->operation_state != OPERATION_STAGED)
                return fail(e, -EIO, NULL, "the %s never ends", operation_kind_to_string(op.kind));
        r = check_entries(&m, x->generation, e);
        if (r >= 0)
                r = check_snapshots(&m, e);
        return r < 0 ? r : check_etc(m.booted, e);
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
                                           entries[i].tries_left);
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

        *ret_cmdline = strdup(booted_with);
        r = open_machine(&m, *ret_cmdline ?: "", e);
        return r < 0 ? r : operation_confirm(&m, NULL, e);
}

/* Once more, and nothing is left to do. */
static int check_idempotent(struct error *e)
{
        _cleanup_free_ char *before = fingerprint(), *after = NULL, *cmdline = NULL;
        char was = running;
        int r = boot_once(e);

        if (r > 0)
                r = confirm(&cmdline, e);
        else if (r == 0)
                r = fail(e, -EIO, NULL, "the next boot started again");
        if (r < 0)
                return r;
        after = fingerprint();
        if (was == running && before && after && streq(before, after))
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

        snprintf(bundle, sizeof(bundle), "%.*s/%c.bundle", (int)(strlen(work) - strlen("/work")), work, LAST_VERSION);
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
        char target = 0, was = running;
        int r = switch_again(cmdline, &target, e);

        if (r >= 0)
                r = come_up(e);
        if (r < 0)
                return r;
        return running == target ? check_config(was, e)
                                 : fail(e, -EIO, NULL, "the next operation went to version %c, not %c", running, target);
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
static int settle(char former, char **ret_cmdline, struct error *e)
{
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        int r = check_config(former, e);

        if (r >= 0 && whose_config() != running)
                r = service_migrates(running, e);
        if (r >= 0)
                r = confirm(ret_cmdline, e);
        if (r >= 0)
                r = open_machine(&m, *ret_cmdline ?: "", e);
        return r < 0 ? r
                     : m.booted != SLOT_NONE && m.state.set.slots[m.booted].state == SLOT_TRIAL &&
                               m.state.set.operation_state == OPERATION_STAGED;
}

static int shut_down(const char *cmdline, struct error *e)
{
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        int r = open_machine(&m, cmdline, e);

        return r < 0 ? r : operation_switch(&m, NULL, e);
}

int boot_and_check(const struct expectation *x, bool completed, bool thorough, struct error *e)
{
        _cleanup_free_ char *cmdline = NULL;
        char former = whose_config();
        int r = check_record(x, e);

        if (r >= 0 && completed && x->after)
                r = check_after(x, e);
        if (r >= 0)
                r = come_up(e);
        if (r < 0)
                return r;
        if (!strchr(x->allowed, running) || (completed && x->completed && running != x->completed))
                return fail(e, -EIO, NULL, "version %c came up", running);
        r = settle(former, &cmdline, e);
        /* A return that was staged before it was cut goes on at the next shutdown. */
        if (r > 0 && (r = shut_down(cmdline, e)) >= 0 && (r = come_up(e)) >= 0) {
                free(TAKE_PTR(cmdline));
                r = settle(former, &cmdline, e);
        }
        if (r >= 0)
                r = check_machine(x, cmdline ?: "", e);
        if (r >= 0)
                r = check_idempotent(e);
        if (r >= 0 && thorough)
                r = check_goes_on(cmdline ?: "", e);
        return r;
}
