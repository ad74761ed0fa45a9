/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What delta.c and delta_base.c share. */
#pragma once

#include <pthread.h>

#include "image/format.h"

struct delta {
        struct bundle_delta head;
        uint32_t table_size, table_crc; /* as it is stored */
        uint8_t *table;
        uint64_t first[BUNDLE_MAX_IMAGES]; /* record of each image */
        uint64_t n;
        const struct range *base; /* NULL: none */
        int direct;
        const struct fetch_config *config;
        pthread_mutex_t lock; /* everything below */
        struct bundle *full;
        struct full_use use;
        struct error why; /* there is none */
};

struct delta_record delta_record_at(const struct bundle *b, const struct chunk_walk *w);
/* -ESTALE: the base has not what that chunk needs of it. */
int delta_base_altered(const struct bundle *b, const struct chunk_walk *w, struct error *e);
