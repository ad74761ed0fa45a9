/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What etcd 3.4's JSON gateway says and is told. Its ways: keys and values are base64, 64-bit numbers are strings, and what
 * is zero, false or empty is left out (no "succeeded" is false, no "type" of an event is PUT). Errors are known by their
 * "code", not by the HTTP status, which builds differ in. Pure, and fuzzed. */
#pragma once

#include "base/buf.h"
#include "cluster/store.h"

/* Bodies of requests; NULL: no memory. */
char *etcd_range_body(const struct store_range *range);
char *etcd_txn_body(const struct store_txn *txn);
char *etcd_watch_body(const char *prefix, uint64_t from);

/* Whether a whole answer is one: 0; -EAGAIN: this member cannot answer now; else as store_answered says. */
int etcd_judge(long status, const char *body, size_t size, struct error *e);
/* What a good answer holds: the caller's, store_reply_done(). -EBADMSG, and -ENOMEM. */
int etcd_parse_range(const char *body, size_t size, struct store_reply *ret, struct error *e);
int etcd_parse_txn(const char *body, size_t size, struct store_reply *ret, struct error *e);

/* One line of a watch. */
struct etcd_events {
        bool created;
        bool compacted; /* what was asked for is gone: begin with everything */
        bool ended;     /* the member gives the watch up */
        struct store_reply entries;
        bool *deleted;     /* of each entry */
        uint64_t revision; /* of the last of them */
};
int etcd_parse_events(const char *line, size_t size, struct etcd_events *ret, struct error *e);
void etcd_events_done(struct etcd_events *events);
#define _cleanup_events_ _cleanup_(etcd_events_done)
