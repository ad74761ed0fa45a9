/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/once.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/log.h"
#include "cluster/home.h"
#include "cluster/prune.h"
#include "slot/kinds.h"

static int refuse_other(const char *id, struct error *e)
{
        fail(e, -EEXIST, &kind_id_reused, "the id %s was used for something else", id);
        return fail_hint(e, "make a new id for each request, and repeat a request with the same words");
}

/* *of: as in once_find_alone(). */
static int find(struct store *s, const uint8_t id[static CLUSTER_ID_SIZE], const char *verb, char of[static ONCE_OF_SIZE],
                struct error *e)
{
        _cleanup_reply_ struct store_reply reply = {};
        _cleanup_json_ json_t *o = NULL;
        char text[CLUSTER_ID_TEXT_SIZE], key[sizeof(KEY_REQUESTS) + CLUSTER_ID_TEXT_SIZE];
        int r;

        *of = '\0';
        snprintf(key, sizeof(key), KEY_REQUESTS "%s", id_to_text(id, text));
        r = store_range_wait(s, &(struct store_range){ .key = key }, &reply, e);
        if (r < 0 || reply.n_entries == 0)
                return r;
        r = json_parse_strict(reply.entries[0].value, reply.entries[0].size, "a request in the store", &o, e);
        if (r < 0)
                return r;
        if (!streq(json_string_value(json_object_get(o, "verb")), verb))
                return refuse_other(text, e);
        snprintf(of, ONCE_OF_SIZE, "%s", json_string_value(json_object_get(o, "of")) ?: "");
        return 1;
}

int once_find(struct store *s, const uint8_t id[static CLUSTER_ID_SIZE], const char *verb, struct error *e)
{
        char of[ONCE_OF_SIZE];

        return find(s, id, verb, of, e);
}

static void put(const struct once *o, const char *of, struct plan *plan)
{
        char id[CLUSTER_ID_TEXT_SIZE], text[128 + ONCE_OF_SIZE];

        snprintf(text, sizeof(text), "{\"format\":%d,\"minor\":%d,\"verb\":\"%s\"%s%s%s}", CLUSTER_FORMAT, CLUSTER_MINOR,
                 o->verb, *of ? ",\"of\":\"" : "", of, *of ? "\"" : "");
        plan_put_text(plan, text, KEY_REQUESTS "%s", id_to_text(o->id, id));
}

static int remember(const struct once *o, const char *of, struct plan *plan, struct error *e)
{
        char id[CLUSTER_ID_TEXT_SIZE];

        plan_compare(plan, STORE_ABSENT, 0, KEY_REQUESTS "%s", id_to_text(o->id, id));
        plan_compare(plan, STORE_ABSENT, 0, KEY_HISTORY "%s", id);
        put(o, of, plan);
        return plan_failed(plan, e);
}

/* Whether it is an operation's: an abort with the id of what it aborts is not told from it afterwards. */
static int refuse_operations(const struct cluster_view *view, const struct once *o, struct error *e)
{
        _cleanup_reply_ struct store_reply reply = {};
        char id[CLUSTER_ID_TEXT_SIZE], key[sizeof(KEY_HISTORY) + CLUSTER_ID_TEXT_SIZE];
        int r;

        id_to_text(o->id, id);
        if (operation_is_open(view) && memcmp(view->operation.id, o->id, CLUSTER_ID_SIZE) == 0)
                return refuse_other(id, e);
        snprintf(key, sizeof(key), KEY_HISTORY "%s", id);
        r = store_range_wait(o->store, &(struct store_range){ .key = key }, &reply, e);
        return r >= 0 && reply.n_entries > 0 ? refuse_other(id, e) : r;
}

/* A machine of which nothing was asked so has no store, and gets none by being asked. */
static bool has_local_store(const char *data)
{
        _cleanup_close_ int home = cluster_home(data, false, NULL);

        return home >= 0 && faccessat(home, LOCAL_STORE, F_OK, 0) == 0;
}

/* 1: open. 0: it is damaged, or of another format. That is no reason to refuse anything: what it remembered is lost, as with
 * a new disk. It is this file also where the machine has become a member since: who goes back by hand asks no cluster. */
static int open_alone(const char *data, struct store **ret, struct error *e)
{
        _cleanup_free_ char *path = xasprintf("%s/" CLUSTER_HOME, data);
        _cleanup_error_ struct error why = {};
        int r = path ? store_open_local(path, NULL, ret, &why) : -ENOMEM;

        if (r == -EBADMSG || r == -EPROTONOSUPPORT) {
                log_warning("%s/" LOCAL_STORE " cannot be used: %s", path, why.message);
                return 0;
        }
        return r < 0 ? fail(e, r, why.kind, "%s", why.message ?: error_text(r)) : 1;
}

int once_find_alone(const char *data, const char *id, const char *verb, char of[static ONCE_OF_SIZE], struct error *e)
{
        _cleanup_store_ struct store *store = NULL;
        uint8_t bytes[CLUSTER_ID_SIZE];
        int r = hex_decode(id, bytes, sizeof(bytes));

        *of = '\0';
        if (r >= 0 && has_local_store(data))
                r = open_alone(data, &store, e);
        return r <= 0 ? r : find(store, bytes, verb, of, e);
}

/* The one that cannot be read is put aside, for who wants to see what it was. */
static int make_alone(const char *data, struct store **ret, struct error *e)
{
        _cleanup_close_ int home = cluster_home(data, true, e);
        int r = home < 0 ? home : open_alone(data, ret, e);

        if (r != 0)
                return r;
        r = io_rename(home, LOCAL_STORE, home, LOCAL_STORE ".damaged", 0);
        return r < 0 ? fail_errno(e, r, "cannot put %s/" CLUSTER_HOME "/" LOCAL_STORE " aside", data)
                     : open_alone(data, ret, e);
}

static int begin_alone(const char *data, const char *id, struct once *o, struct store **ret, struct error *e)
{
        int r = hex_decode(id, o->id, sizeof(o->id));

        return r < 0 ? r : make_alone(data, ret, e);
}

static int commit_alone(struct store *store, const struct plan *plan, struct error *e)
{
        _cleanup_reply_ struct store_reply reply = {};
        struct store_txn txn = plan_txn(plan);
        int r = store_commit_wait(store, &txn, &reply, e);

        return r < 0 ? r : reply.done;
}

int once_begin_alone(const char *data, const char *id, const char *verb, const char *of, struct error *e)
{
        _cleanup_store_ struct store *store = NULL;
        _cleanup_plan_ struct plan plan = {};
        struct once o = { .verb = verb };
        int r = begin_alone(data, id, &o, &store, e);

        if (r >= 0)
                r = prune_requests(store, &plan, e);
        if (r >= 0)
                r = remember(&o, of, &plan, e);
        if (r >= 0)
                r = commit_alone(store, &plan, e);
        /* Somebody was quicker: with the same words it is the same request. */
        return r != 0 ? MIN(r, 0) : MIN(once_find(store, o.id, verb, e), 0);
}

int once_end_alone(const char *data, const char *id, const char *verb, struct error *e)
{
        _cleanup_store_ struct store *store = NULL;
        _cleanup_plan_ struct plan plan = {};
        struct once o = { .verb = verb };
        int r = begin_alone(data, id, &o, &store, e);

        if (r < 0)
                return r;
        put(&o, "", &plan);
        r = plan_failed(&plan, e);
        return r < 0 ? r : MIN(commit_alone(store, &plan, e), 0);
}

int once_decide(const struct cluster_view *view, struct plan *plan, void *userdata, struct error *e)
{
        const struct once *o = userdata;
        int r;

        if (is_all_zero(o->id, sizeof(o->id)))
                return o->decide(view, plan, o->userdata, e);
        r = once_find(o->store, o->id, o->verb, e);
        if (r != 0)
                return r < 0 ? r : 0;
        r = refuse_operations(view, o, e);
        if (r >= 0)
                r = prune_requests(o->store, plan, e);
        if (r >= 0)
                r = o->decide(view, plan, o->userdata, e);
        /* Also where nothing had to be done: asked again later, something might. */
        return r < 0 ? r : remember(o, "", plan, e);
}
