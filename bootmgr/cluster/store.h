/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the cluster agrees on: keys with values, and a revision that grows by one with each transaction that writes. The same
 * interface on etcd (etcd.c), for controllers, and on one file (local.c), for a machine that stands alone.
 *
 *      range         all keys under a prefix, or one key, as of one revision
 *      transaction   if these compares hold, all these writes are made, else none: what decisions are made with
 *      watch         what is under a prefix now, and every change of it from then on, for as long as it takes
 *
 * Everything is asked on an sd-event loop and answered from it, never before the call has returned and exactly once, unless
 * it was cancelled. From an answer anything may be called but store_close(). A store opened without a loop has its own: then
 * the _wait forms may be used, and those only.
 *
 * A transaction whose answer was lost is not asked again: it may have been made. Its result is -EREMOTEIO then, and whoever
 * asked reads what came of it. */
#pragma once

#include "cluster/client.h"

#define STORE_KEY_MAX    255      /* bytes; of [A-Za-z0-9._/:@+~-] */
#define STORE_VALUE_MAX  KIB(256) /* bytes, any */
#define STORE_TXN_MAX    MIB(1)   /* keys and values of one transaction */
#define STORE_COMPARES   128      /* etcd's bounds */
#define STORE_WRITES     128
#define STORE_ANSWER_MAX MIB(32) /* what one range may hold, as etcd writes it */

struct store;
struct store_call;
struct store_watch;

struct store_entry {
        char *key;
        const void *value; /* a NUL is behind it, too */
        size_t size;
        uint64_t created, modified; /* revisions */
};

/* ---- opening ---- */

/* One file, made when it is not there, below a directory that is: what is written is durable. Several processes may have it
 * open. `event` NULL: a loop of its own. */
int store_open_local(const char *directory, sd_event *event, struct store **ret, struct error *e);

/* `endpoints` (NULL-terminated): "https://HOST:PORT", asked in turn, the one that answered last first. Nothing is connected
 * to yet. */
int store_open_etcd(const char *const *endpoints, const struct client_tls *tls, sd_event *event, struct store **ret,
                    struct error *e);

/* Cancels what is asked and ends the watches. NULL-safe; returns NULL. */
struct store *store_close(struct store *s);
static inline void store_closep(struct store **s)
{
        *s = store_close(*s);
}
#define _cleanup_store_ _cleanup_(store_closep)

/* ---- asking ---- */

struct store_range {
        const char *key;
        bool prefix;       /* all keys that begin with `key`, which may be "" */
        uint64_t revision; /* as it was then; 0: now, agreed with the majority */
        bool keys_only;    /* without values: each has size 0 */
};

enum store_test {
        STORE_ABSENT,   /* there is no such key */
        STORE_REVISION, /* the key was written last at this revision; 0: as STORE_ABSENT */
        STORE_VALUE,    /* the key is there and has this value */
        /* No key that is there under this prefix was written after this revision. A key that was deleted since is not seen:
         * who deletes what others compare so writes another key under the prefix in the same transaction. */
        STORE_QUIET,
};

struct store_compare {
        enum store_test test;
        const char *key;
        uint64_t revision;
        const void *value;
        size_t size;
};

struct store_write {
        const char *key; /* each key once in a transaction, one under a deleted prefix too */
        bool delete;     /* that it is not there is no error */
        const void *value;
        size_t size;
        bool prefix; /* of a deletion: all keys that begin with `key`; the local store takes 1024 at once (-E2BIG) */
};

struct store_txn {
        const struct store_compare *compares;
        size_t n_compares;
        const struct store_write *writes;
        size_t n_writes;
};

struct store_reply {
        uint64_t revision; /* the store's at the answer; of a transaction that was made: its own */
        bool done;         /* the compares held, and the writes were made */
        struct store_entry *entries;
        size_t n_entries; /* of a range, in the order of their keys */
};

/* Results: 0 · -EHOSTUNREACH nobody could be asked, nothing was done · -ESTALE the revision is no longer, or not yet, there
 * · -EREMOTEIO a transaction's answer was lost: it was made or not · -ENOSPC the store is full · -EACCES it refuses us ·
 * -E2BIG, -EINVAL, -EBADMSG, -EIO, -ENOMEM. `e` says more, as kind_store. What `reply` points to is lent for the time of
 * the call. */
typedef void (*store_answered)(int result, const struct store_reply *reply, const struct error *e, void *userdata);

/* `ret` (may be NULL) is good until the answer. -EINVAL: a bound above, or a key twice. */
int store_range(struct store *s, const struct store_range *range, store_answered answered, void *userdata,
                struct store_call **ret, struct error *e);
int store_commit(struct store *s, const struct store_txn *txn, store_answered answered, void *userdata,
                 struct store_call **ret, struct error *e);
/* No answer comes. A transaction that is under way is made or not. */
void store_cancel(struct store_call *call);

/* ---- asking and waiting, for verbs: only where the loop is the store's own ---- */

/* The entries are the caller's: store_reply_done(). */
int store_range_wait(struct store *s, const struct store_range *range, struct store_reply *ret, struct error *e);
int store_commit_wait(struct store *s, const struct store_txn *txn, struct store_reply *ret, struct error *e);
void store_reply_done(struct store_reply *r);
#define _cleanup_reply_ _cleanup_(store_reply_done)

/* ---- watching ---- */

struct store_change {
        const struct store_entry *entry; /* of a deleted key: without value; `modified` says when */
        bool deleted;
};

/* `fresh`: the changes are all keys under the prefix as of `revision`, and what is not among them is not there. So it
 * begins, unless `from` was given, and so it goes on where changes were lost to compaction. Else they are the next changes,
 * in the order of revisions, those of one transaction always together, `revision` that of the last. Reconnecting is not seen
 * here. */
typedef void (*store_changed)(const struct store_change *changes, size_t n, uint64_t revision, bool fresh, void *userdata);

/* `from` 0: begin with all keys; else with the first change at or after this revision. */
int store_watch(struct store *s, const char *prefix, uint64_t from, store_changed changed, void *userdata,
                struct store_watch **ret, struct error *e);
/* Whether changes arrive at the moment; else it is trying to. */
bool store_watch_is_live(const struct store_watch *w);
/* Also from `changed`. NULL-safe; returns NULL. */
struct store_watch *store_watch_end(struct store_watch *w);
