/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/curl.h"

#include <pthread.h>

#include "base/library.h"

struct curl_functions curl;

static int load(const struct error_kind *kind, struct error *e)
{
        static const struct library_function functions[] = {
#define X(n) { "curl_" #n, (void **)&curl.n },
                CURL_FUNCTIONS(X)
#undef X
        };
        static bool loaded;
        int r = loaded ? 0 : library_load("curl", 4, functions, ARRAY_SIZE(functions), kind, e);

        if (r < 0 || loaded)
                return r;
        if (curl.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
                return fail(e, -EIO, kind, "libcurl cannot be used");
        loaded = true;
        return 0;
}

int curl_load(const struct error_kind *kind, struct error *e)
{
        static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER;
        int r;

        pthread_mutex_lock(&loading);
        r = load(kind, e);
        pthread_mutex_unlock(&loading);
        return r;
}

CURLcode curl_set(CURL *easy, const struct curl_number *numbers, size_t n_numbers, const struct curl_pointer *pointers,
                  size_t n_pointers)
{
        CURLcode r = CURLE_OK;

        for (size_t i = 0; i < n_numbers && r == CURLE_OK; i++)
                r = curl.easy_setopt(easy, numbers[i].option, numbers[i].value);
        for (size_t i = 0; i < n_pointers && r == CURLE_OK; i++)
                r = curl.easy_setopt(easy, pointers[i].option, pointers[i].value);
        return r;
}
