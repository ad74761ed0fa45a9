/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libcurl, loaded when it is needed: it brings 26 further libraries, and everything that needs none of them would take half
 * again as long to start (9.3 ms instead of 5.9 ms, measured). */
#pragma once

#include <curl/curl.h>

#include "base/error.h"

/* clang-format off */
#define CURL_FUNCTIONS(X)                                                                                              \
        X(easy_cleanup) X(easy_getinfo) X(easy_init) X(easy_pause) X(easy_perform) X(easy_setopt) X(easy_strerror)                     \
        X(free) X(global_init) X(multi_add_handle) X(multi_assign) X(multi_cleanup) X(multi_fdset) X(multi_info_read)  \
        X(multi_init) X(multi_perform) X(multi_remove_handle) X(multi_setopt) X(multi_socket_action) X(multi_timeout)  \
        X(slist_append) X(slist_free_all) X(url) X(url_cleanup) X(url_get) X(url_set)
/* clang-format on */

struct curl_functions {
#define X(name) typeof(curl_##name) *name;
        CURL_FUNCTIONS(X)
#undef X
};

/* curl.easy_init() and so on, after curl_load(). */
extern struct curl_functions curl;

struct curl_number {
        CURLoption option;
        long value;
};
struct curl_pointer {
        CURLoption option;
        const void *value;
};
/* Sets all of them, up to the first that cannot be. */
CURLcode curl_set(CURL *easy, const struct curl_number *numbers, size_t n_numbers, const struct curl_pointer *pointers,
                  size_t n_pointers);

/* -ENOPKG when it is not there. From any thread. */
int curl_load(const struct error_kind *kind, struct error *e);
