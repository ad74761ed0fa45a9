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
#include "recover/console.h"
#include "slot/kinds.h"
#include "snapshot/owner.h"

static uint8_t present_boot[16];
static struct boot_decision decision;
static bool decided;
static bool initramfs_failed;
static bool without_record;    /* the system that came up last went on without the record, and left it */
static char running;           /* version that came up last */
static char booted_with[4096]; /* its kernel command line */
int page_key;
static bool pressed;

/* Linked in place of the real ones (--wrap): every boot has its own id, and the decision is looked at. */
int __wrap_boot_id(uint8_t id[static 16]);
int __real_boot_carry_out(const struct boot_decision *d, const struct disk *disk, const struct state_place *place,
                          struct state *state, struct loader *loader, const char *extra_cmdline, bool writable_root,
                          struct error *e);
int __wrap_boot_carry_out(const struct boot_decision *d, const struct disk *disk, const struct state_place *place,
                          struct state *state, struct loader *loader, const char *extra_cmdline, bool writable_root,
                          struct error *e);
int recover_main(int argc, char **argv);
int __real_consoles_key(struct consoles *c, unsigned seconds);
int __wrap_consoles_key(struct consoles *c, unsigned seconds);

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

int __wrap_consoles_key(struct consoles *c, unsigned seconds)
{
        int key = pressed ? 0 : page_key;

        pressed = true; /* once in a boot: what cannot be done is not asked for again */
        return key ?: __real_consoles_key(c, seconds);
}

char running_version(void)
{
        return running;
}

bool ran_without_record(void)
{
        return without_record;
}

const char *running_with(void)
{
        return booted_with;
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

bool is_file(const char *path, const char *content, size_t size)
{
        _cleanup_free_ char *found = NULL;
        size_t found_size;

        return file_read(AT_FDCWD, path, MIB(1), &found, &found_size) >= 0 && found_size == size &&
               memcmp(found, content, size) == 0;
}

/* Which version's root lies in the slot as a whole; 0: none. */
char version_of_root(const struct disk *disk, int slot)
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

/* Of any version, and as a whole: a cut may leave a part of it. */
bool has_first_block(const struct disk *disk, int slot)
{
        char block[4096];
        _cleanup_close_ int fd = open(volume_path(RAW), O_RDONLY | O_CLOEXEC);

        if (pread(fd, block, sizeof(block), (off_t)disk->slots[slot].offset) != sizeof(block))
                return false;
        for (char v = '1'; v <= LAST_VERSION; v++) {
                size_t size;

                if (memcmp(block, content_of(v, false, &size), sizeof(block)) == 0)
                        return true;
        }
        return false;
}

char version_of_kernel(const char *path)
{
        for (char v = '1'; v <= LAST_VERSION; v++) {
                size_t size;
                const char *content = content_of(v, true, &size);

                if (is_file(path, content, size))
                        return v;
        }
        return 0;
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

/* One try less, as systemd-boot does it before it starts the kernel: what firmware writes is on the disk at once, and where
 * it refuses a name that is there already, the kernel starts without it. */
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
        r = io_rename(dir, name, dir, counted, RENAME_NOREPLACE);
        vfat_by_firmware = false;
        if (r < 0)
                return r == -EEXIST ? 0 : r;
        strcpy(name, counted);
        fd = io_open(dir, name, O_RDONLY, 0);
        r = io_fsync(fd);
        return r < 0 ? r : io_fsync(dir);
}

int check_counter(struct error *e)
{
        struct loader_entry first, entry;
        char name[ENTRY_NAME_MAX];
        struct machine m;
        int r = open_machine(&m, "", e);

        if (r < 0)
                return r;
        r = choose_entry(&m, &first, name, e);
        entry = first;
        for (int i = 0; r >= 0 && entry.generation == first.generation && entry.tries_left > 0; i++) {
                r = i < 3 * SLOT_MAX_TRIES ? count_try(&entry, name) : -ELOOP;
                if (r < 0)
                        fail(e, r, NULL, "the counter of generation %d stands still", (int)first.generation);
                else
                        r = choose_entry(&m, &entry, name, e);
        }
        machine_close(&m);
        return r;
}

char *entry_value(const char *name, const char *key)
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
                options = entry_value(name, "options");
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
        pressed = false;
        initramfs_failed = recover_main(8, argv) != 0;
        return initramfs_failed;
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
        without_record = m.state_kept;
        if (r == -EHOSTDOWN) {
                error_done(e);
                return 0;
        }
        return r < 0 ? r : 1;
}

/* What starts it has read the entry; `word` comes with it, where that is not the loader as always. */
static int start_entry(const struct loader_entry *entry, const char *name, const char *word, const struct disk *disk,
                       struct error *e)
{
        _cleanup_free_ char *options = entry_value(name, "options"), *kernel = entry_value(name, "linux");
        char path[PATH_MAX + 64], version;
        int r;

        if (!options || !kernel)
                return fail(e, -EIO, NULL, "the entry %s is not whole", name);
        snprintf(path, sizeof(path), "%s%s", volume_path(ESP), kernel);
        snprintf(booted_with, sizeof(booted_with), "%s%s%s", options, word ? " " : "", word ?: "");
        version = version_of_kernel(path);
        if (!version && entry->tries_left < 0)
                return fail(e, -EIO, NULL, "the kernel of the confirmed entry %s is damaged", name);
        if (!version)
                return 0; /* firmware goes on to the next boot option: a try is gone */
        r = start_system(booted_with, disk, entry->slot, e);
        if (r > 0 && version != running)
                return fail(e, -EIO, NULL, "a kernel of version %c runs with the root of version %c", version, running);
        return r;
}

int boot_once(struct error *e)
{
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        char name[ENTRY_NAME_MAX];
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
        return start_entry(&entry, name, NULL, &m.disk, e);
}

int boot_slot(int slot, const char *word, struct error *e)
{
        _cleanup_free_ struct loader_entry *entries = NULL;
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        char name[ENTRY_NAME_MAX];
        struct loader l;
        size_t n = 0, i;
        int r;

        if (getrandom(present_boot, sizeof(present_boot), 0) != sizeof(present_boot))
                return -EIO;
        r = open_machine(&m, "", e);
        if (r >= 0)
                r = machine_open_loader(&m, true, &l, e);
        if (r < 0)
                return r;
        r = l.ops->list(&l, &entries, &n, e);
        loader_close(&l);
        for (i = 0; r >= 0 && i < n && entries[i].slot != slot;)
                i++;
        if (r < 0 || i == n)
                return r < 0 ? r : fail(e, -ENOENT, NULL, "slot %c has no entry", slot_name(slot));
        entry_name_format(entries[i].generation, slot, entries[i].tries_left, entries[i].tries_done, name);
        r = start_entry(&entries[i], name, word, &m.disk, e);
        /* What it could not make durable the system finds in the cache, and goes by: a cut may take it back. */
        return r > 0 && initramfs_failed ? fail(e, -EIO, NULL, "the initramfs could not do its work") : r;
}
