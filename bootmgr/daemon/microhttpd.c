/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/microhttpd.h"

#include "base/library.h"

struct microhttpd mhd;
struct gnutls gnutls;

int microhttpd_load(struct error *e)
{
        static const struct library_function functions[] = {
#define X(n) { "MHD_" #n, (void **)&mhd.n },
                MHD_FUNCTIONS(X)
#undef X
/* What it depends on is searched, too. */
#define X(n) { "gnutls_" #n, (void **)&gnutls.n },
                        GNUTLS_FUNCTIONS(X)
#undef X
        };

        return library_load("microhttpd", 12, functions, ARRAY_SIZE(functions), NULL, e);
}
