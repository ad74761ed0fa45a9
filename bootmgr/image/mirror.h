/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The servers that hold one file, and which of them to ask. Decided from what was seen of each; no I/O, no clock. */
#pragma once

#include "base/util.h"

#define MIRRORS_MAX 16

struct mirror {
        char *url;             /* owned */
        char *where;           /* the same for messages, without credentials; owned */
        uint64_t speed;        /* bytes per second of one transfer, smoothed; 0: not known yet */
        uint64_t again;        /* not asked before that, µs of the monotonic clock */
        unsigned failures;     /* in a row */
        uint64_t failed;       /* the last one, µs of the monotonic clock */
        unsigned users;        /* transfers at work */
        bool dead;             /* it does not have the file, or another one: not asked any more */
        bool wrong;            /* a part of what it gave was not right: asked where there is no other one */
        bool promised;         /* it said when to ask again */
        bool began;            /* it has given a part of what the file begins with */
        bool seen;             /* it has given a part of the file, with these: */
        char *etag, *modified; /* owned; NULL: it gave none */
};

/* The one to ask: untried ones first, each by one transfer, then the fastest; none that was wrong, unless all were. -EAGAIN:
 * none before *ret_wait µs from now have passed; -ENOENT: all are dead. */
int mirror_pick(const struct mirror *m, size_t n, uint64_t now, uint64_t *ret_wait);

/* Bytes of one transfer, over so long. */
void mirror_measured(struct mirror *m, uint64_t bytes, uint64_t usec);

/* `progress`: this transfer brought something worth asking for before it broke. Then it is asked again at once, else later
 * and later. */
void mirror_failed(struct mirror *m, bool progress, uint64_t now);

/* Whether a transfer that began then, brought no such thing and broke is a failure of its own: those that were at work
 * together see the same one. */
bool mirror_fails_anew(const struct mirror *m, uint64_t started);

/* The server says how long it is to be left alone. */
void mirror_rests(struct mirror *m, uint64_t usec, uint64_t now);

/* Whether one of them has shown that it is there: it gave a part of the file, or said when it will. */
bool mirror_is_there(const struct mirror *m, size_t n);

/* Whether a transfer from `which` at that rate is to be left for another one. */
bool mirror_is_slow(const struct mirror *m, size_t n, size_t which, uint64_t rate, uint64_t now);

/* Whether there is another one to go to. */
bool mirror_has_other(const struct mirror *m, size_t n, size_t which, uint64_t now);
