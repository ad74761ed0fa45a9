/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "loader/loader.h"

#include <pthread.h>

#include "slot/kinds.h"

static const struct loader_ops *const loaders[] = { &loader_systemd_boot, &loader_none };

int loader_open(struct loader *ret, const char *name, const struct disk *disk, const char *esp_directory,
                const char *efivars, bool write, struct error *e)
{
        struct loader l = { .disk = disk, .esp_directory = esp_directory, .efivars = efivars, .writable = write };
        int r;

        for (size_t i = 0; i < ARRAY_SIZE(loaders); i++)
                if (streq(loaders[i]->name, name))
                        l.ops = loaders[i];
        if (!l.ops) {
                fail(e, -EINVAL, &kind_config_invalid, "the bootloader '%s' is not known", name);
                return fail_hint(e, "Loader= is systemd-boot or none");
        }
        r = l.ops->open(&l, write, e);
        if (r >= 0)
                *ret = l;
        return r;
}

void loader_close(struct loader *l)
{
        l->ops->close(l);
        l->priv = NULL;
}

struct file_check {
        struct loader *loader;
        const uint8_t *id;
        struct error why;
        int r;
};

static void *check_file(void *userdata)
{
        struct file_check *c = userdata;

        if (!is_all_zero(c->id, BOOT_FILE_ID_SIZE))
                c->r = c->loader->ops->check_boot_file(c->loader, c->id, &c->why);
        return NULL;
}

/* Side by side: hashing is what takes the time. */
int loader_check_slot(struct loader *l, const struct slot *slot, struct error *e)
{
        struct file_check kernel = { .loader = l, .id = slot->kernel }, initrd = { .loader = l, .id = slot->initrd };
        struct file_check *failed;
        pthread_t thread;

        if (pthread_create(&thread, NULL, check_file, &initrd) == 0) {
                check_file(&kernel);
                pthread_join(thread, NULL);
        } else {
                check_file(&kernel);
                check_file(&initrd);
        }
        failed = kernel.r < 0 ? &kernel : &initrd;
        if (failed->r < 0 && e && !e->code) {
                *e = failed->why;
                failed->why = (struct error){};
        }
        error_done(&kernel.why);
        error_done(&initrd.why);
        return failed->r;
}

uint64_t loader_entries_highest(const struct loader_entry *entries, size_t n, uint64_t known)
{
        for (size_t i = 0; i < n; i++) /* newest first */
                if (generation_is_credible(entries[i].generation, known))
                        return entries[i].generation;
        return 0;
}

int loader_highest_generation(struct loader *l, uint64_t *ret, struct error *e)
{
        _cleanup_free_ struct loader_entry *entries = NULL;
        size_t n = 0;
        int r;

        r = l->ops->list(l, &entries, &n, e);
        if (r >= 0)
                *ret = loader_entries_highest(entries, n, l->slots ? l->slots->generation : 0);
        return r;
}

int loader_prune_files(struct loader *l, struct error *e)
{
        _cleanup_free_ struct loader_entry *entries = NULL;
        _cleanup_free_ uint64_t *keep = NULL;
        size_t n = 0;
        int r;

        r = l->ops->list(l, &entries, &n, e);
        if (r < 0)
                return r;
        keep = calloc(MAX(n, 1U), sizeof(*keep));
        if (!keep)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                keep[i] = entries[i].generation;
        return l->ops->prune(l, keep, n, e);
}
