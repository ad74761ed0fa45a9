/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/microhttpd.h"

#include <dlfcn.h>

struct microhttpd mhd;
struct gnutls gnutls;

int microhttpd_load(struct error *e)
{
        static const struct {
                const char *name;
                void **function;
        } functions[] = {
#define X(n) { "MHD_" #n, (void **)&mhd.n },
                MHD_FUNCTIONS(X)
#undef X
#define X(n) { "gnutls_" #n, (void **)&gnutls.n },
                        GNUTLS_FUNCTIONS(X)
#undef X
        };
        /* What it depends on is searched, too: GnuTLS. */
        void *library = dlopen("libmicrohttpd.so.12", RTLD_NOW | RTLD_LOCAL);

        for (size_t i = 0; library && i < ARRAY_SIZE(functions); i++) {
                *functions[i].function = dlsym(library, functions[i].name);
                if (!*functions[i].function)
                        library = NULL;
        }
        if (library)
                return 0;
        fail(e, -ENOPKG, NULL, "libmicrohttpd cannot be loaded: %s", dlerror());
        return fail_hint(e, "install it (Debian: libmicrohttpd12)");
}
