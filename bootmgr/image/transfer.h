/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One request to one server, and what it answers. What comes of it is fetch.c's, and all of this is between the two. */
#pragma once

#include <pthread.h>

#include "image/curl.h"
#include "image/fetch.h"
#include "image/mirror.h"

struct fetch {
        const struct fetch_config *config;
        struct curl_slist *headers; /* HeaderFile=: for the servers that the operator has named */
        pthread_mutex_t asking;     /* what they all have: one at a time (fetch_again()) */
        pthread_mutex_t lock;       /* everything below */
        pthread_cond_t wake;
        struct mirror mirrors[MIRRORS_MAX];
        size_t n_mirrors;
        CURL *idle[FETCH_CONNECTIONS_MAX];
        size_t n_idle;
        char *why; /* the last attempt failed, for messages; owned */
        bool known, ranges, stopping;
        uint64_t size; /* UINT64_MAX: not known */
        uint64_t received;
        uint64_t asked;   /* end of what was asked for so far */
        uint64_t suspect; /* up to there a server may have sent it that was left for what it holds */
        uint64_t free_at; /* when the rate limit lets the next byte through */
};

/* Why a transfer was ended by us. */
enum verdict {
        VERDICT_NONE,
        VERDICT_COMPLETE,
        VERDICT_CHANGED,   /* another file than before */
        VERDICT_OTHER,     /* another file than the other servers have */
        VERDICT_NO_RANGES, /* a part was asked for, and everything comes */
        VERDICT_NO_LENGTH, /* nobody has said how long the file is */
        VERDICT_SLOW,
        VERDICT_STALLED,
        VERDICT_STOPPED,
        VERDICT_REFUSED, /* by the sink */
};

struct transfer {
        struct fetch *f;
        struct fetch_sink *sink;
        uint64_t offset, end; /* next byte to give to the sink, and behind the last one */
        bool only;            /* of no other server than `mirror` */
        uint64_t last_progress;
        bool last_try;   /* nothing has arrived for as long as it is waited for: this one was the last */
        uint64_t gained; /* bytes since there was last progress */
        /* of this attempt */
        size_t mirror;
        CURL *easy;
        char message[CURL_ERROR_SIZE];
        struct curl_slist *headers, *bare; /* of the request, and without those of the operator */
        char *away;                        /* the origin that it was redirected to, where they do not go; owned */
        long status;
        uint64_t rest; /* µs that the server asks to be left alone: Retry-After */
        bool judged;
        enum verdict verdict;
        int refused;
        uint64_t begin, drop; /* first byte wanted; bytes still to come that are not */
        char *etag, *modified;
        uint64_t range_start, range_total;
        uint64_t started, last_byte, mark, mark_received, got;
        uint64_t counted, counted_at; /* bytes, wanted or not, since so many had come that it was worth waiting; and when */
};

/* Bytes; less is as good as nothing, or a server could hold up everything with a byte now and then. */
#define PROGRESS KIB(64)

/* Whether this status brings the file. */
static inline bool is_answer(long status)
{
        return status == 200 || status == 206;
}

/* Asks t->mirror for what is missing and gives it to the sink; how it ended is in t and in *ret. Negative: it could not be
 * tried. */
int transfer_attempt(struct transfer *t, CURLcode *ret);

/* With the lock: the connection is used again, or closed. */
void transfer_release(struct transfer *t, bool reuse);

/* With the lock: everything that fetches is to end. */
bool fetch_is_stopped(const struct fetch *f);
/* With the lock: until then (monotonic), or until that. */
void fetch_wait(struct fetch *f, uint64_t until);
