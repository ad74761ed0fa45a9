/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/polkit.h"

#include "base/util.h"

#define AUTHORITY "org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority", "org.freedesktop.PolicyKit1.Authority"
#define ALLOW_INTERACTION 1u

struct question {
        sd_bus_message *message;
        sd_bus_message_handler_t allowed;
        void *userdata;
};

static void question_free(struct question *q)
{
        sd_bus_message_unref(q->message);
        free(q);
}

static int deny(sd_bus_message *message, const char *why)
{
        return sd_bus_reply_method_errorf(message, SD_BUS_ERROR_ACCESS_DENIED, "%s", why);
}

static int on_answer(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
        struct question *q = userdata;
        sd_bus_error error = SD_BUS_ERROR_NULL;
        int authorized = 0, challenge = 0, r;

        r = sd_bus_message_is_method_error(reply, NULL) ? -EACCES : sd_bus_message_enter_container(reply, 'r', "bba{ss}");
        if (r >= 0)
                r = sd_bus_message_read(reply, "bb", &authorized, &challenge);
        if (r < 0) {
                deny(q->message, "polkit does not answer");
        } else if (!authorized && challenge) {
                sd_bus_reply_method_errorf(q->message, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED, "authentication is required");
        } else if (!authorized) {
                deny(q->message, "polkit says no");
        } else {
                r = q->allowed(q->message, q->userdata, &error);
                if (r < 0)
                        sd_bus_reply_method_errno(q->message, r, &error);
        }
        sd_bus_error_free(&error);
        question_free(q);
        return 1;
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

int polkit_check(sd_bus_message *message, const char *action, sd_bus_message_handler_t allowed, void *userdata, sd_bus_error *error)
{
        bool interactive = sd_bus_message_get_allow_interactive_authorization(message) > 0;
        struct question *q;
        int r;

        if (is_root(message))
                return allowed(message, userdata, error);
        q = calloc(1, sizeof(*q));
        if (!q)
                return -ENOMEM;
        *q = (struct question){ .message = sd_bus_message_ref(message), .allowed = allowed, .userdata = userdata };
        r = sd_bus_call_method_async(sd_bus_message_get_bus(message), NULL, AUTHORITY, "CheckAuthorization", on_answer, q,
                                     "(sa{sv})sa{ss}us", "system-bus-name", 1, "name", "s", sd_bus_message_get_sender(message), action,
                                     0, interactive ? ALLOW_INTERACTION : 0, "");
        if (r < 0) {
                question_free(q);
                return r;
        }
        return 1;
}
