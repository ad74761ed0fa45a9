/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/plan.h"

#include "base/buf.h"

static void format_key(struct plan *p, char key[static PLAN_KEY_SIZE], const char *fmt, va_list ap)
{
        int n = vsnprintf(key, PLAN_KEY_SIZE, fmt, ap);

        p->failed = p->failed || n < 0 || n >= PLAN_KEY_SIZE;
}

void plan_guard(struct plan *p, enum guard_kind kind, uint64_t revision, const char *fmt, ...)
{
        va_list ap;

        if (p->n_guards == PLAN_GUARDS_MAX) {
                p->failed = true;
                return;
        }
        va_start(ap, fmt);
        format_key(p, p->guards[p->n_guards].key, fmt, ap);
        va_end(ap);
        p->guards[p->n_guards].kind = kind;
        p->guards[p->n_guards++].revision = revision;
}

static struct plan_write *add_write(struct plan *p)
{
        struct plan_write *more = NULL;

        if (p->n_writes < PLAN_WRITES_MAX)
                more = reallocarray(p->writes, p->n_writes + 1, sizeof(*more));
        if (!more) {
                p->failed = true;
                return NULL;
        }
        p->writes = more;
        p->writes[p->n_writes] = (struct plan_write){};
        return &p->writes[p->n_writes++];
}

void plan_put(struct plan *p, enum record_type type, const void *record, const char *fmt, ...)
{
        struct plan_write *w = add_write(p);
        va_list ap;

        if (!w)
                return;
        va_start(ap, fmt);
        format_key(p, w->key, fmt, ap);
        va_end(ap);
        w->value = record_encode(type, record);
        p->failed = p->failed || !w->value || strlen(w->value) > CLUSTER_VALUE_MAX;
}

void plan_delete(struct plan *p, bool prefix, const char *fmt, ...)
{
        struct plan_write *w = add_write(p);
        va_list ap;

        if (!w)
                return;
        va_start(ap, fmt);
        format_key(p, w->key, fmt, ap);
        va_end(ap);
        w->prefix = prefix;
}

int plan_failed(const struct plan *p, struct error *e)
{
        return p->failed ? fail(e, -ENOMEM, NULL, "out of memory, or more than fits into one transaction") : 0;
}

void plan_done(struct plan *p)
{
        for (size_t i = 0; i < p->n_writes; i++)
                free(p->writes[i].value);
        free(p->writes);
        memset(p, 0, sizeof(*p));
}

const char *id_to_text(const uint8_t id[static CLUSTER_ID_SIZE], char text[static CLUSTER_ID_TEXT_SIZE])
{
        hex_encode(id, CLUSTER_ID_SIZE, text);
        return text;
}
