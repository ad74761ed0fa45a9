/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Errors a person reads.
 *
 * Functions return 0 or a negative errno. Those whose failure a user must understand take a
 * `struct error *` as their last parameter and fill it once, where the reason is known: one failure
 * is one message that quotes the bad value, and one hint that names the way out. Callers further up
 * pass the code on and add nothing, unless they know more. A function either logs or returns.
 *
 *         if (size > max)
 *                 return fail(e, -EFBIG, &kind_bundle_invalid, "root image of %s needs %…", …);
 */
#pragma once

#include "base/util.h"

/* A class of failure with a stable name; what scripts and the API decide on. */
struct error_kind {
        const char *name; /* e.g. "no-previous-version" */
        int exit_status;  /* 1 failed, 2 usage, 3 refused by a check */
};

extern const struct error_kind kind_failed; /* "failed", 1: what has no kind of its own */
extern const struct error_kind kind_usage;  /* "usage", 2: the words or the input are wrong */

struct error {
        int code; /* negative errno; 0: nothing is recorded */
        const struct error_kind *kind;
        char *message; /* a sentence without a full stop, owned */
        char *hint;    /* what to do about it; owned, may be NULL */
};

/* Records the failure and returns `code` (a negative errno). The first record wins: it is nearest
 * to the cause. `e` may be NULL, `kind` NULL means kind_failed. With code < 0 the text of errno is
 * NOT appended: say it in the format with %m-like care through error_text(). */
int fail(struct error *e, int code, const struct error_kind *kind, const char *fmt, ...) _printf_(4, 5);

/* Adds the way out to a recorded failure; returns e->code. With `e` NULL or empty it returns the code of this thread's last
 * fail(): so `fail(e, …); return fail_hint(e, …);` returns the same whether the caller wants the record or not. */
int fail_hint(struct error *e, const char *fmt, ...) _printf_(2, 3);

/* Records `code` as "what: strerror", for plain system-call failures. -ECANCELED is none: whoever interrupts says so. */
int fail_errno(struct error *e, int code, const char *fmt, ...) _printf_(3, 4);

/* The text of a negative errno; valid until the next call in this thread. */
const char *error_text(int code);

/* The exit status for a result: 0 when code is 0, else the kind's. */
int error_exit_status(const struct error *e, int code);

/* Frees the texts and clears the record. */
void error_done(struct error *e);
#define _cleanup_error_ _cleanup_(error_done)
