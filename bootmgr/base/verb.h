/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Verb tables: one table from which dispatch, help and completion are made. */
#pragma once

#include <getopt.h>

#include "base/error.h"

struct verb_option {
        const char *name;  /* long option without dashes */
        const char *value; /* placeholder, NULL: takes none */
        const char *help;  /* one line; NULL: understood, but in no help or completion */
        char letter;       /* short form or 0 */
};

/* What was parsed. Owned by the dispatcher; strings point into argv. */
struct verb_args {
        const char *const *positional; /* NULL-terminated, after the words of the verb */
        int n_positional;
        const struct verb_option *const *seen; /* options in the order given … */
        const char *const *values;             /* … and their values (NULL where none) */
        int n_seen;
        void *context; /* the caller's */
};

struct verb {
        const char *words;                                   /* "show upgrade status": matched word by word */
        const char *positional;                              /* for usage: "BUNDLE|URL", "[SLOT]", NULL: none */
        int min_positional, max_positional;                  /* max -1: any number */
        const struct verb_option *options;                   /* ended by .name == NULL; may be NULL */
        const char *help;                                    /* one line */
        bool hidden;                                         /* not in help or completion: for units */
        int (*run)(struct verb_args *args, struct error *e); /* 0 or -errno */
};

/* Finds the verb for argv by its words, parses its options and the `global` ones (allowed anywhere),
 * checks counts and runs it. Unknown words name the nearest verb and are kind_usage. */
int verb_dispatch(const struct verb *verbs, size_t n, const struct verb_option *global, int argc, char **argv, void *context,
                  struct error *e);

/* The words among the arguments, without options and their values: at most `argc`, and that many are returned. */
size_t verb_words(const struct verb *verbs, size_t n, const struct verb_option *global, int argc, char **argv,
                  const char **words);

bool verb_has(const struct verb_args *args, const char *option);
/* The value of the last occurrence, or NULL. */
const char *verb_value(const struct verb_args *args, const char *option);

/* Help for these verbs: the whole table, or those that the caller picked from it. */
void verb_help(const struct verb *verbs, size_t n, const struct verb_option *global, const char *program, FILE *f);
/* Candidates for the next word or option after `line`; a NULL-terminated list, both owned by the caller. */
char **verb_complete(const struct verb *verbs, size_t n, const struct verb_option *global, const char *line);
