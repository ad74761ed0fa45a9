/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "snapshot/links.h"

const char *links_find(const struct links *l, uint64_t dev, uint64_t ino)
{
        for (const struct link *x = l->buckets[ino % LINKS_BUCKETS]; x; x = x->next)
                if (x->dev == dev && x->ino == ino)
                        return x->path;
        return NULL;
}

int links_add(struct links *l, uint64_t dev, uint64_t ino, const char *path)
{
        struct link **bucket = &l->buckets[ino % LINKS_BUCKETS], *x = malloc(sizeof(*x) + strlen(path) + 1);

        if (!x)
                return -ENOMEM;
        *x = (struct link){ .next = *bucket, .dev = dev, .ino = ino };
        strcpy(x->path, path);
        *bucket = x;
        return 0;
}

void links_done(struct links *l)
{
        for (size_t i = 0; i < LINKS_BUCKETS; i++)
                while (l->buckets[i]) {
                        struct link *next = l->buckets[i]->next;

                        free(l->buckets[i]);
                        l->buckets[i] = next;
                }
}
