/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/library.h"

#include <dlfcn.h>

int library_load(const char *name, int version, const struct library_function *functions, size_t n,
                 const struct error_kind *kind, struct error *e)
{
        char file[64];
        void *library;

        snprintf(file, sizeof(file), "lib%s.so.%d", name, version);
        library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
        for (size_t i = 0; library && i < n; i++) {
                *functions[i].function = dlsym(library, functions[i].name);
                if (!*functions[i].function)
                        library = NULL;
        }
        if (library)
                return 0;
        fail(e, -ENOPKG, kind, "lib%s cannot be loaded: %s", name, dlerror());
        return fail_hint(e, "install it (Debian: lib%s%d)", name, version);
}
