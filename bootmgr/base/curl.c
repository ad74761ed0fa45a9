/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/curl.h"

#include <dlfcn.h>

struct curl_functions curl;

int curl_load(const struct error_kind *kind, struct error *e)
{
        static const struct {
                const char *name;
                void **function;
        } functions[] = {
#define X(n) { "curl_" #n, (void **)&curl.n },
                CURL_FUNCTIONS(X)
#undef X
        };
        void *library = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);

        for (size_t i = 0; library && i < ARRAY_SIZE(functions); i++) {
                *functions[i].function = dlsym(library, functions[i].name);
                if (!*functions[i].function)
                        library = NULL;
        }
        if (!library)
                return fail(e, -ENOPKG, kind, "libcurl cannot be loaded: %s", dlerror());
        return curl.global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? 0 : fail(e, -EIO, kind, "libcurl cannot be used");
}
