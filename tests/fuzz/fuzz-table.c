/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The file of a local store: what is accepted says the same when it is written and read again, and takes transactions. */
#include "fuzz.h"

#include "cluster/table.h"

static void compare(const struct table *a, const struct table *b)
{
        must(a->revision == b->revision && a->n_items == b->n_items);
        for (size_t i = 0; i < a->n_items; i++) {
                const struct store_entry *x = &a->items[i]->entry, *y = &b->items[i]->entry;

                must(streq(x->key, y->key) && x->size == y->size && memcmp(x->value, y->value, x->size) == 0);
                must(x->created == y->created && x->modified == y->modified);
                must(x->created <= x->modified && x->modified <= a->revision && x->size <= STORE_VALUE_MAX);
                must(i == 0 || strcmp(a->items[i - 1]->entry.key, x->key) < 0);
        }
}

static char *format(const struct table *t)
{
        char *text = table_format(t);

        must(text);
        return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static struct table t, again;
        struct store_write writes[] = { { "a", false, "1", 1 }, { "zz", true, .prefix = true } };
        struct store_compare quiet = { STORE_QUIET, "", 0 };
        _cleanup_free_ char *copy = malloc(size + 1), *text = NULL, *after = NULL;
        _cleanup_error_ struct error e = {};
        uint64_t revision;

        must(copy);
        memcpy(copy, data, size);
        if (table_parse(copy, size, &t, &e) < 0) {
                must(e.message && e.kind);
                return 0;
        }
        text = format(&t);
        must(table_parse(text, strlen(text), &again, NULL) == 0);
        compare(&t, &again);
        revision = t.revision;
        quiet.revision = revision;
        /* More under the prefix than the history holds: then nothing changes. */
        if (t.n_items <= TABLE_HISTORY) {
                must(table_commit(&t, &(struct store_txn){ &quiet, 1, writes, 2 }) == 1);
                must(t.revision == revision + 1);
                table_take_back(&t);
        }
        compare(&t, &again);
        after = format(&t);
        must(streq(text, after));
        table_done(&t);
        table_done(&again);
        return 0;
}
