/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the store says at one revision, as its values are read in the order of their keys; and kept up to date, value by
 * value: what thousands of nodes say must not be read again for each of them. */
#pragma once

#include "cluster/plan.h"

/* A member and what it has said. */
struct cluster_node {
        struct member member;
        bool voted; /* in the open operation */
        struct vote vote;
        bool has_status;
        struct member_status status;
        uint64_t status_revision; /* of the store, when that was written */
        uint64_t order;           /* rolling: its instant; 0: none yet */
        uint64_t order_seen;      /* µs for which that was seen here: coordinator_seen() */
};

struct cluster_view {
        uint64_t revision;
        struct cluster_record record;
        uint64_t record_revision; /* 0: there is none: no cluster was made */
        struct cluster_operation operation;
        uint64_t operation_revision; /* 0: none is open */
        struct cluster_node *nodes;  /* owned, by name */
        size_t n_nodes, allocated;
        uint32_t controllers; /* CRC-32C of their addresses: another one, another list */
        uint64_t news;        /* the revision of the newest change of more than what a node says of itself */
};

/* Adds one key. They come in ascending order, so that members are there before what they say; what a member says that is not
 * there, and what was said of another operation, is left out. Keys that are not of a view are left out too. */
int cluster_view_add(struct cluster_view *view, const char *key, const char *value, size_t size, uint64_t revision,
                     struct error *e);
/* The same for one key of a view that is complete: a new value of it, or a new key. 1: not this one, the view is to be made
 * anew, as it is where a key was deleted. On failure nothing has changed. */
int cluster_view_update(struct cluster_view *view, const char *key, const char *value, size_t size, uint64_t revision,
                        struct error *e);
void cluster_view_done(struct cluster_view *view);
#define _cleanup_cluster_view_ _cleanup_(cluster_view_done)

/* The member of that name, or NULL. */
struct cluster_node *cluster_view_node(const struct cluster_view *view, const char *name);

static inline bool operation_is_open(const struct cluster_view *view)
{
        return view->operation_revision > 0;
}

/* Predicates of a member, as the model has them. */
bool node_decides(const struct cluster_node *n);                                     /* a controller, or standalone */
bool node_is_fenced(const struct cluster_view *view, const struct cluster_node *n);  /* refused */
bool node_is_settled(const struct cluster_view *view, const struct cluster_node *n); /* in this epoch */
bool node_has_reached(const struct cluster_view *view, const struct cluster_node *n);
bool node_has_left(const struct cluster_view *view, const struct cluster_node *n); /* settled on another version */
