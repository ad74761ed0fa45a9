/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The keys of a view as a watch tells them, kept in order, and the view that they make. History and log are left out: they
 * only grow. No I/O. */
#pragma once

#include "cluster/view.h"

#define KEY_ALL "bootmgr/"

struct replica {
        uint64_t revision;           /* 0: nothing was told yet */
        struct store_entry *entries; /* owned, by key */
        size_t n, allocated;
};

/* As store_changed. -ENOMEM: it is not to be used before it was told everything anew. */
int replica_change(struct replica *r, const struct store_change *changes, size_t n, uint64_t revision, bool fresh);
/* -EINVAL, -EPROTONOSUPPORT: a value cannot be read. */
int replica_view(const struct replica *r, struct cluster_view *ret, struct error *e);
void replica_done(struct replica *r);
