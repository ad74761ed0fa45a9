/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The keys of a view as a watch tells them, kept in order, and the view that they make. History, log and tokens are left
 * out: no view has them. No I/O. */
#pragma once

#include "cluster/view.h"

#define KEY_ALL "bootmgr/"

struct replica_entry {
        struct store_entry entry; /* owned */
        bool changed;             /* and no view has it yet */
        bool deleted;
};

struct replica {
        uint64_t revision;             /* 0: nothing was told yet */
        struct replica_entry *entries; /* owned, by key */
        size_t n, allocated;
        bool whole; /* the next view is to be made of everything: something was deleted */
};

/* As store_changed. -ENOMEM: it is not to be used before it was told everything anew. */
int replica_change(struct replica *r, const struct store_change *changes, size_t n, uint64_t revision, bool fresh);
/* -EINVAL, -EPROTONOSUPPORT: a value cannot be read. */
int replica_view(const struct replica *r, struct cluster_view *ret, struct error *e);
/* Brings up to date what an earlier call has made (an empty view before the first): only what has changed is read. On
 * failure the view stays as it was. */
int replica_update(struct replica *r, struct cluster_view *view, struct error *e);
void replica_done(struct replica *r);
