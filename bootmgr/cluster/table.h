/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The keys of a local store in memory, with what changed lately; and the text of its file. Nothing here does I/O. */
#pragma once

#include "cluster/store.h"

#define TABLE_HISTORY  1024 /* changes that are remembered */
#define TABLE_FILE_MAX MIB(16)

/* One value of one key; shared by the table and its history. */
struct table_item {
        unsigned references;
        struct store_entry entry;
};

struct table_change {
        uint64_t revision;
        struct table_item *now, *before; /* NULL: not there; never both */
};

struct table {
        uint64_t revision; /* 1: nothing was ever written, as in etcd */
        struct table_item **items;
        size_t n_items; /* in the order of their keys */
        struct table_change history[TABLE_HISTORY];
        size_t n_history;
        uint64_t known; /* every change after this revision is in the history … */
        uint64_t exact; /* … and after this one with what was there before */
};

void table_init(struct table *t);
void table_done(struct table *t);

/* Behind the last key, as it is, outside of the history: for reading a file. -EINVAL: it does not come behind. */
int table_add(struct table *t, const struct store_entry *entry);

/* Compares, and writes when all hold: 1. 0: one does not hold. Nothing was changed either with -ENOMEM, or with -E2BIG: it
 * would be more changes than the history holds, and could not be taken back. */
int table_commit(struct table *t, const struct store_txn *txn);
/* Takes back the last commit that wrote something, which could not be made durable. */
void table_take_back(struct table *t);
/* -ESTALE: the revision is not known. */
int table_range(const struct table *t, const struct store_range *range, struct store_reply *ret);

/* Changes under a prefix, from a revision on; each holds a reference: table_changes_done(). 0, or -ESTALE when some are not
 * known any more. */
int table_changes(const struct table *t, const char *prefix, uint64_t from, struct table_change **ret, size_t *ret_n);
/* Everything under the prefix, as changes. */
int table_all(const struct table *t, const char *prefix, struct table_change **ret, size_t *ret_n);
void table_changes_done(struct table_change *changes, size_t n);

/* What another process has written since: the differences become changes. `newer` is emptied. -ESTALE: it is not a
 * successor, nothing in the history holds for it. The table is the new one in both cases; -ENOMEM: it is the old one. */
int table_follow(struct table *t, struct table *newer);
/* Takes the newer one as it is: -ESTALE, always. */
int table_replace(struct table *t, struct table *newer);

/* The file, as docs/formats.md says. -EBADMSG, kind_store; -EPROTONOSUPPORT: a newer format. */
char *table_format(const struct table *t);
int table_parse(const char *text, size_t size, struct table *ret, struct error *e);
