/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One question to the controllers' HTTPS interface, and waiting for the answer: for verbs. client.h is for what waits for
 * nothing. */
#pragma once

#include "base/json.h"

#define ASK_URLS 8

struct ask {
        const char *const *urls; /* "https://HOST:PORT", NULL-terminated: asked in turn, until one answers */
        const char *path;
        const char *body;               /* JSON: it is a POST; NULL: a GET */
        const char *ca;                 /* PEM; NULL: whoever answers is believed, so nothing secret may be in it */
        const char *certificate, *key;  /* PEM, or NULL */
        size_t max;                     /* bytes of the answer */
        long patience_msec;             /* for each server; 0: 40 s, as long as the store may take */
        const struct error_kind *kind;  /* without an answer; NULL: kind_fetch */
        const volatile bool *cancelled; /* once it is set, nobody else is asked, and within a second -EAGAIN; may be NULL */
};

/* What was answered, the caller's. Errors have the kind that the controller gave them; without an answer `kind`, where
 * certificates do not fit kind_certificate. */
int ask_text(const struct ask *ask, char **ret, struct error *e);
int ask_json(const struct ask *ask, json_t **ret, struct error *e);

/* A text of lines, which is cut up, as a list. */
void ask_lines(char *text, const char *urls[static ASK_URLS + 1]);

/* As this node, with its certificate, in cluster/ of the data directory. `urls` NULL: the controllers that are known there;
 * certificates and `max` need not be given. */
int ask_as_node(int home, const struct ask *ask, json_t **ret, struct error *e);
