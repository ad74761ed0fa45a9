/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is behind a struct store: a const ops table in one file each, local.c and etcd.c. Inside cluster/ only. */
#pragma once

#include "cluster/store.h"

/* What was asked is checked before it gets here: a backend sees no key, value or count out of bounds. */
struct store_ops {
        /* Begin; store_call_end() tells the result, later. A negative errno: nothing began. */
        int (*range)(struct store_call *call, const struct store_range *range, struct error *e);
        int (*commit)(struct store_call *call, const struct store_txn *txn, struct error *e);
        void (*cancel)(struct store_call *call);
        /* Begin; store_watch_tell() hands over what changed. */
        int (*watch)(struct store_watch *w, struct error *e);
        void (*unwatch)(struct store_watch *w);
        void (*close)(struct store *s); /* frees the store; no call and no watch is left */
};

/* The first member of a backend's own struct. */
struct store {
        const struct store_ops *ops;
        sd_event *event;
        bool own_event;
        struct store_call *calls;
        struct store_watch *watches;
};

struct store_call {
        struct store *store;
        struct store_call *next, *previous;
        store_answered answered;
        void *userdata;
        void *backend; /* its own */
};

struct store_watch {
        struct store *store;
        struct store_watch *next, *previous;
        char *prefix;
        uint64_t next_revision; /* of the first change to come; 0: everything anew */
        store_changed changed;
        void *userdata;
        bool live, telling, ended;
        void *backend;
};

/* What every backend begins with. */
int store_init(struct store *s, const struct store_ops *ops, sd_event *event, struct error *e);
/* Tells the caller and forgets the call. */
void store_call_end(struct store_call *call, int result, const struct store_reply *reply, const struct error *e);
/* Tells the watcher; next_revision moves on. false: the watch was ended by it, and is no more. */
bool store_watch_tell(struct store_watch *w, const struct store_change *changes, size_t n, uint64_t revision, bool fresh);

/* Adds a copy; 0 or -ENOMEM. */
int store_reply_add(struct store_reply *r, const struct store_entry *entry);
/* Whether it can be a key: what a server or a file says of itself is checked, too. */
bool store_key_valid(const char *key);
