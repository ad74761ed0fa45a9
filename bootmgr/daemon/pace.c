/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/pace.h"

#include "base/buf.h"
#include "base/clock.h"

#define FULL (PACE_BURST * PACE_INTERVAL)

struct pace_of {
        struct pace_of *next; /* in its bucket */
        char name[NODE_NAME_SIZE];
        uint64_t free_at; /* when it has all of its share again */
};

static struct pace_of *find(struct pace *p, const char *name)
{
        struct pace_of *of, **bucket = &p->buckets[crc32c(0, name, strlen(name)) % PACE_BUCKETS];

        for (of = *bucket; of; of = of->next)
                if (streq(of->name, name))
                        return of;
        of = calloc(1, sizeof(*of));
        if (!of)
                return NULL;
        snprintf(of->name, sizeof(of->name), "%s", name);
        of->next = *bucket;
        *bucket = of;
        p->n++;
        return of;
}

bool pace_take(struct pace *p, const char *name, uint64_t now)
{
        struct pace_of *of = find(p, name);
        uint64_t next;

        if (!of)
                return false;
        next = MAX(of->free_at, now) + PACE_INTERVAL;
        if (next - now > FULL)
                return false;
        of->free_at = next;
        return true;
}

void pace_forget(struct pace *p, uint64_t now)
{
        for (size_t i = 0; i < PACE_BUCKETS; i++)
                for (struct pace_of **at = &p->buckets[i], *of = *at; of; of = *at) {
                        if (of->free_at > now) {
                                at = &of->next;
                                continue;
                        }
                        *at = of->next;
                        free(of);
                        p->n--;
                }
}

void pace_done(struct pace *p)
{
        pace_forget(p, UINT64_MAX);
}
