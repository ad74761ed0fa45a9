/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/plan.h"

#include "base/buf.h"
#include "cluster/backend.h"

static void fail_plan(struct plan *p, int r)
{
        if (p->failed == 0)
                p->failed = r;
}

/* NULL: there is no room, or no memory, or it is no key. */
static char *make_key(struct plan *p, bool room, const char *fmt, va_list ap)
{
        char *key = NULL;

        if (!room) {
                fail_plan(p, -E2BIG);
        } else if (vasprintf(&key, fmt, ap) < 0) {
                fail_plan(p, -ENOMEM);
                key = NULL;
        } else if (!store_key_valid(key)) {
                fail_plan(p, fail(&p->why, -EINVAL, NULL, "'%.64s' cannot be a key of the store", key));
                free(TAKE_PTR(key));
        }
        return key;
}

void plan_compare(struct plan *p, enum store_test test, uint64_t revision, const char *fmt, ...)
{
        va_list ap;
        char *key;

        va_start(ap, fmt);
        key = make_key(p, p->n_compares < PLAN_COMPARES_MAX, fmt, ap);
        va_end(ap);
        if (key)
                p->compares[p->n_compares++] = (struct store_compare){ test, key, revision };
}

static void add_write(struct plan *p, struct store_write w, const char *fmt, va_list ap)
{
        w.key = make_key(p, p->n_writes < STORE_WRITES, fmt, ap);
        if (w.key)
                p->writes[p->n_writes++] = w;
        else
                free((char *)w.value);
}

static int check_value(enum record_type type, const char *text, struct error *e)
{
        union any_record room;
        int r = text ? record_decode(type, text, strlen(text), &room, e) : -ENOMEM;

        if (r >= 0)
                record_done(type, &room);
        return r;
}

void plan_put(struct plan *p, enum record_type type, const void *record, const char *fmt, ...)
{
        char *text = record_encode(type, record);
        int r = check_value(type, text, &p->why);
        va_list ap;

        if (r < 0) {
                fail_plan(p, r);
                free(text);
                return;
        }
        va_start(ap, fmt);
        add_write(p, (struct store_write){ .value = text, .size = strlen(text) }, fmt, ap);
        va_end(ap);
}

void plan_put_text(struct plan *p, const char *text, const char *fmt, ...)
{
        char *copy = strdup(text);
        va_list ap;

        if (!copy) {
                fail_plan(p, -ENOMEM);
                return;
        }
        va_start(ap, fmt);
        add_write(p, (struct store_write){ .value = copy, .size = strlen(copy) }, fmt, ap);
        va_end(ap);
}

void plan_delete(struct plan *p, bool prefix, const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        add_write(p, (struct store_write){ .delete = true, .prefix = prefix }, fmt, ap);
        va_end(ap);
}

int plan_failed(struct plan *p, struct error *e)
{
        if (p->failed == 0)
                return 0;
        if (p->failed == -E2BIG && !p->why.message)
                return fail(e, -E2BIG, NULL, "more than fits into one transaction of the store");
        return fail(e, p->failed, p->why.kind, "%s", p->why.message ?: error_text(p->failed));
}

void plan_done(struct plan *p)
{
        for (size_t i = 0; i < p->n_compares; i++)
                free((char *)p->compares[i].key);
        for (size_t i = 0; i < p->n_writes; i++) {
                free((char *)p->writes[i].key);
                free((char *)p->writes[i].value);
        }
        error_done(&p->why);
        memset(p, 0, sizeof(*p));
}

const char *id_to_text(const uint8_t id[static CLUSTER_ID_SIZE], char text[static CLUSTER_ID_TEXT_SIZE])
{
        hex_encode(id, CLUSTER_ID_SIZE, text);
        return text;
}
