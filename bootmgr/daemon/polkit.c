/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/polkit.h"

#include "base/util.h"

#define AUTHORITY         "org.freedesktop.PolicyKit1"
#define AUTHORITY_PATH    "/org/freedesktop/PolicyKit1/Authority"
#define AUTHORITY_OBJECT  "org.freedesktop.PolicyKit1.Authority"
#define ALLOW_INTERACTION 1U

struct question {
        sd_bus_message *message;
        const char *const *action; /* the one that is asked about; those behind it come next */
        polkit_done done;
        void *userdata;
};

static void question_free(struct question *q)
{
        sd_bus_message_unref(q->message);
        free(q);
}

static int read_answer(const struct question *q, sd_bus_message *reply, sd_bus_error *error)
{
        int authorized = 0, challenge = 0, r;

        if (sd_bus_message_is_method_error(reply, NULL))
                return sd_bus_error_setf(error, SD_BUS_ERROR_ACCESS_DENIED,
                                         "polkit, which decides about %s, does not answer", *q->action);
        r = sd_bus_message_enter_container(reply, 'r', "bba{ss}");
        if (r >= 0)
                r = sd_bus_message_read(reply, "bb", &authorized, &challenge);
        if (r < 0)
                return sd_bus_error_set_errno(error, r);
        if (authorized)
                return 0;
        if (challenge)
                return sd_bus_error_setf(error, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED,
                                         "authentication is required for %s", *q->action);
        return sd_bus_error_setf(error, SD_BUS_ERROR_ACCESS_DENIED, "polkit does not allow %s", *q->action);
}

static int ask(struct question *q);

static int on_answer(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
        struct question *q = userdata;
        sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        r = read_answer(q, reply, &error);
        if (r >= 0 && q->action[1]) {
                q->action++;
                r = ask(q);
                if (r >= 0)
                        return 1;
                sd_bus_error_set_errno(&error, r);
        }
        q->done(r < 0 ? &error : NULL, q->userdata);
        sd_bus_error_free(&error);
        question_free(q);
        return 1;
}

/* Without a time limit: a person may type a password, and if polkit dies, the bus answers in its place. */
static int ask(struct question *q)
{
        sd_bus *bus = sd_bus_message_get_bus(q->message);
        bool interactive = sd_bus_message_get_allow_interactive_authorization(q->message) > 0;
        sd_bus_message *m = NULL;
        int r;

        r = sd_bus_message_new_method_call(bus, &m, AUTHORITY, AUTHORITY_PATH, AUTHORITY_OBJECT, "CheckAuthorization");
        if (r >= 0)
                r = sd_bus_message_append(m, "(sa{sv})sa{ss}us", "system-bus-name", 1, "name", "s",
                                          sd_bus_message_get_sender(q->message), *q->action, 0,
                                          interactive ? ALLOW_INTERACTION : 0, "");
        if (r >= 0)
                r = sd_bus_call_async(bus, NULL, m, on_answer, q, UINT64_MAX);
        sd_bus_message_unref(m);
        return r;
}

static bool is_root(sd_bus_message *message)
{
        sd_bus_creds *creds = NULL;
        uid_t uid = (uid_t)-1;

        if (sd_bus_query_sender_creds(message, SD_BUS_CREDS_EUID, &creds) >= 0)
                sd_bus_creds_get_euid(creds, &uid);
        sd_bus_creds_unref(creds);
        return uid == 0;
}

int polkit_check(sd_bus_message *message, const char *const *actions, polkit_done done, void *userdata)
{
        struct question *q;
        int r;

        if (!*actions || is_root(message)) {
                done(NULL, userdata);
                return 0;
        }
        q = calloc(1, sizeof(*q));
        if (!q)
                return -ENOMEM;
        *q = (struct question){
                .message = sd_bus_message_ref(message), .action = actions, .done = done, .userdata = userdata
        };
        r = ask(q);
        if (r < 0)
                question_free(q);
        return r < 0 ? r : 0;
}
