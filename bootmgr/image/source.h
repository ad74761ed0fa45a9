/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is behind a struct source: one ops table for files and pipes (source.c), one for HTTP (http.c).
 * Inside image/ only. */
#pragma once

#include "image/bundle.h"

struct source_ops {
        /* At most n bytes; 0 at the end; -errno with `e` filled in. */
        ssize_t (*read)(struct source *s, void *data, size_t n, struct error *e);
        /* Moves forward without reading; -EOPNOTSUPP: read and drop instead. NULL: the same. */
        int (*skip)(struct source *s, uint64_t n, struct error *e);
        void (*close)(struct source *s);
};

struct source {
        const struct source_ops *ops;
        char *where;   /* for messages, without credentials */
        uint64_t size; /* UINT64_MAX: not known */
        uint64_t done; /* bytes handed out */
        int fd;        /* files and pipes */
        void *http;    /* http.c's own */
};

/* What a wait that a signal ended means: bootmgr's handlers are there to stop the work (cli/main.c). */
int source_interrupted(const struct source *s, struct error *e);

int http_open(const char *url, struct source *ret, struct error *e);
