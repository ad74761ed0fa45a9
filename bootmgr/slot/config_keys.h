/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The keys of bootmgr.conf(5): which field of struct config each is, and what its value may be. A new key is a line of the
 * table in config_keys.c, a default in config.c, and a paragraph of the manual page. */
#pragma once

#include "base/util.h"

struct config_key {
        const char *group, *name;
        /* Sets the field from its text ("": without a value); 0, or -errno with what would be right in *expected. */
        int (*set)(const char *value, void *field, const char **expected);
        size_t field; /* its offset in struct config */
};

/* NULL: there is no such key. `group` NULL: it stands before the first one. */
const struct config_key *config_key_find(const char *group, const char *name);

/* Words separated by blanks as a NULL-terminated list, malloc'ed; -E2BIG for more than 64. */
int config_list_split(const char *text, char ***ret);
void config_list_free(char **list);
