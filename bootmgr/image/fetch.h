/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Ranges of one file that lies on one or several HTTP servers. Any number of threads may fetch at the same time, each
 * through a connection of its own, which is kept for the next range. A transfer that breaks goes on where it was, at another
 * server if there is one; a server that fails, is slow or holds another file is left. Inside image/ only. */
#pragma once

#include "base/error.h"
#include "slot/config.h"

struct fetch;

struct fetch_sink {
        /* The next bytes of the range, in the thread that fetches it. Negative: the transfer ends with this. */
        int (*take)(struct fetch_sink *s, const void *data, size_t n);
};

/* `urls`: one or several of the same file, apart from each other by blanks. Nothing is asked yet. The configuration must
 * outlive it. */
int fetch_new(const char *urls, const struct fetch_config *config, struct fetch **ret, struct error *e);
struct fetch *fetch_free(struct fetch *f);

/* Lets everything that fetches end soon, with -ECANCELED. */
void fetch_stop(struct fetch *f);

/* n bytes from `offset`, less where the file ends before. The first one that is asked for shows what the server can: where
 * it knows no ranges everything to the end of the file is given to the sink, whatever n is, and there must be no other
 * fetch_range(). */
int fetch_range(struct fetch *f, uint64_t offset, uint64_t n, struct fetch_sink *sink, struct error *e);

/* The same into memory, where `done` bytes are there now. */
struct fetch_memory {
        struct fetch_sink sink;
        uint8_t *data;
        size_t done;
};
struct fetch_memory fetch_memory(void *data);

/* n bytes that came from `offset` are not right: every server is asked for them, one by one, until `data` is_right(). Those
 * that gave something else are not asked for anything any more, but for what nobody else has, and a warning names them.
 * -EBADMSG: no server has them, or there is no other one. From any thread. */
int fetch_again(struct fetch *f, uint64_t offset, void *data, size_t n, bool (*is_right)(void *userdata), void *userdata);

struct fetch_state {
        bool ranges;       /* the server knows them; valid once the first byte was taken */
        uint64_t size;     /* of the file; UINT64_MAX: not known */
        uint64_t received; /* body bytes that arrived, whatever became of them */
};
struct fetch_state fetch_state(struct fetch *f);
bool fetch_has_others(const struct fetch *f);   /* there is more than one server */
const char *fetch_where(const struct fetch *f); /* the first URL, for messages */
/* The URLs of those that have given nothing of its first FETCH_BEGINNING bytes, apart by blanks: what is wrong there is not
 * theirs. Owned by the caller; NULL: there is none. */
#define FETCH_BEGINNING KIB(128)
char *fetch_others(struct fetch *f);
