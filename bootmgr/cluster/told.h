/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a controller tells one node: all that participant_decide() needs of the store, as one line of JSON.
 *
 *      {"format":1,"minor":0,"revision":R,"now_usec":N,"cluster":{…record…},"operation":{…} or null,
 *       "controllers":["https://…"],
 *       "you":{"member":true,"role":"engine","fenced":false,"asked":true,"voted":false,"order_usec":0,
 *              "status":{…} or null}}
 *
 * The same bound of format and minor as in cluster/record.h; members that are not known are passed over. */
#pragma once

#include "cluster/view.h"

#define TOLD_MAX (2 * CLUSTER_VALUE_MAX) /* bytes of a line */

struct told {
        uint64_t revision;
        uint64_t now; /* the controller's clock when it said so, realtime µs */
        struct cluster_record record;
        bool open;
        struct cluster_operation operation; /* when one is open */
        bool member, fenced, voted;
        bool asked; /* for its vote, where an operation is open; an older controller does not say: true */
        enum node_role role;
        uint64_t order;    /* rolling: its instant; 0: none */
        char *controllers; /* URLs of all that can be asked, a line each; owned; NULL: it was not told */
};
#define TOLD_CONTROLLERS CLIENT_ENDPOINTS /* at most */

/* What of a view a node acts on: where it is the same as before, there is nothing to tell. That its vote is there is no
 * news: the vote was answered, and one that was not is sent again. Nor, at once, is which status of it the store has; but in
 * a while a node must hear of that: what it said may have been overtaken by what it had said before to a controller that was
 * slow. */
struct told_mark {
        uint64_t record, operation; /* revisions */
        uint64_t order;
        uint32_t controllers;
        bool member, fenced, asked;
        uint64_t status; /* revision; told_mark_equal() does not look at it */
};
struct told_mark told_mark(const struct cluster_view *view, const struct cluster_node *node); /* NULL: no member */
bool told_mark_equal(const struct told_mark *a, const struct told_mark *b);

/* The part that is the same for all nodes, as it goes into told_format(): malloc'ed, NULL: no memory. */
char *told_of_all(const struct cluster_view *view);
/* A line without its end; `node` NULL: no member. malloc'ed, NULL: no memory. */
char *told_format(const char *of_all, const struct cluster_view *view, const struct cluster_node *node, uint64_t now);
/* Overwrites *ret on success. -EPROTONOSUPPORT, -EINVAL. */
int told_parse(const char *text, size_t size, struct told *ret, struct error *e);
void told_done(struct told *t);

/* Whether two lines tell a node the same, but for when that was and which status of it the store has. What cannot be read is
 * the same as nothing. */
bool told_is_same(const char *line, const char *other);
/* Whether that is the status of it that the store has. An older controller does not tell: false. */
bool told_has_status(const char *line, const json_t *status);
#define _cleanup_told_ _cleanup_(told_done)
