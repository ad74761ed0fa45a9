/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is behind a struct source: one ops table for files and pipes (source.c), one for HTTP (http.c).
 * Inside image/ only. */
#pragma once

#include "image/bundle.h"
#include "slot/config.h"

struct source_ops {
        /* At most n bytes; 0 at the end; -errno with `e` filled in. */
        ssize_t (*read)(struct source *s, void *data, size_t n, struct error *e);
        /* Moves forward without reading; -EOPNOTSUPP: read and drop instead. NULL: the same. */
        int (*skip)(struct source *s, uint64_t n, struct error *e);
        /* As source_read_at(), source_want(), source_fetched(); NULL: cannot be, is not needed, what was handed out. */
        ssize_t (*read_at)(struct source *s, uint64_t offset, void *data, size_t n, struct error *e);
        /* As source_read_again(); NULL: -EBADMSG. */
        int (*read_again)(struct source *s, uint64_t offset, void *data, size_t n, bool (*is_right)(void *userdata),
                          void *userdata);
        int (*want)(struct source *s, const struct source_range *ranges, size_t n);
        /* As source_go_back(); NULL: it cannot. */
        int (*go_back)(struct source *s, uint64_t offset, struct error *e);
        bool (*can_go_back)(const struct source *s);
        uint64_t (*fetched)(const struct source *s);
        /* As fetch_others(); NULL: there are none. */
        char *(*others)(const struct source *s);
        void (*close)(struct source *s);
};

struct source {
        const struct source_ops *ops;
        char *where;     /* for messages, without credentials */
        bool has_others; /* servers that stand in for that one */
        uint64_t size;   /* UINT64_MAX: not known */
        uint64_t done;   /* where the reading is */
        uint64_t handed; /* bytes handed out */
        int fd;          /* files and pipes */
        void *http;      /* http.c's own */
};

/* What a wait that a signal ended means: bootmgr's handlers are there to stop the work (cli/main.c). */
int source_interrupted(const struct source *s, struct error *e);

/* Bytes that were read from `offset` are not right: as fetch_again(). -EBADMSG: there are no others. From any thread. */
int source_read_again(struct source *s, uint64_t offset, void *data, size_t n, bool (*is_right)(void *userdata),
                      void *userdata);

/* One or several URLs of the same file. The configuration must outlive the source. */
int http_open(const char *urls, const struct fetch_config *config, struct source *ret, struct error *e);
