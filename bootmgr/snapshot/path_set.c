/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "snapshot/path_set.h"

/* FNV-1a. */
static size_t bucket_of(const char *path)
{
        uint64_t hash = UINT64_C(0xcbf29ce484222325);

        for (; *path; path++)
                hash = (hash ^ (unsigned char)*path) * UINT64_C(0x100000001b3);
        return (hash ^ hash >> 32) % PATH_SET_BUCKETS;
}

int path_set_add(struct path_set *s, const char *path)
{
        struct path_entry **bucket = &s->buckets[bucket_of(path)], *x = malloc(sizeof(*x) + strlen(path) + 1);

        if (!x)
                return -ENOMEM;
        x->next = *bucket;
        strcpy(x->path, path);
        *bucket = x;
        return 0;
}

bool path_set_has(const struct path_set *s, const char *path)
{
        for (const struct path_entry *x = s->buckets[bucket_of(path)]; x; x = x->next)
                if (streq(x->path, path))
                        return true;
        return false;
}

void path_set_done(struct path_set *s)
{
        for (size_t i = 0; i < PATH_SET_BUCKETS; i++)
                while (s->buckets[i]) {
                        struct path_entry *next = s->buckets[i]->next;

                        free(s->buckets[i]);
                        s->buckets[i] = next;
                }
}
