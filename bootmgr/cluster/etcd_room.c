/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/etcd_room.h"

#include "base/buf.h"
#include "base/json.h"
#include "base/log.h"
#include "cluster/etcd_members.h"
#include "slot/kinds.h"

#define ALARM "/v3/maintenance/alarm"

static const char *header(const json_t *status, const char *name)
{
        return json_string_value(json_object_get(json_object_get(status, "header"), name)) ?: "";
}

/* Each member has a file of its own: only who has raised the alarm can say that there is room again. */
static bool is_full(const json_t *alarms, const char *member)
{
        const json_t *alarm;
        size_t i;

        json_array_foreach(json_object_get(alarms, "alarms"), i, alarm)
        {
                if (streq(json_string_value(json_object_get(alarm, "alarm")), "NOSPACE") &&
                    streq(json_string_value(json_object_get(alarm, "memberID")), member))
                        return true;
        }
        return false;
}

static int ask(int home, const char *path, json_t *body, json_t **ret, struct error *e)
{
        _cleanup_json_ json_t *owned = body;
        _cleanup_free_ char *text = body ? json_dumps(body, JSON_COMPACT) : NULL, *answer = NULL;
        int r = text ? etcd_ask(home, path, text, &answer, e) : -ENOMEM;

        return r < 0 || !ret ? r : json_parse_strict(answer, strlen(answer), "etcd's answer", ret, e);
}

int etcd_make_room(int home, struct error *e)
{
        _cleanup_json_ json_t *status = NULL, *alarms = NULL;
        _cleanup_error_ struct error why = {};
        const char *member;
        int r = ask(home, "/v3/maintenance/status", json_object(), &status, e);

        if (r >= 0)
                r = ask(home, ALARM, json_pack("{s:s}", "action", "GET"), &alarms, e);
        member = header(status, "member_id");
        if (r < 0 || !is_full(alarms, member))
                return r;
        /* Somebody may have been quicker. */
        if (ask(home, "/v3/kv/compaction", json_pack("{s:s, s:b}", "revision", header(status, "revision"), "physical", 1),
                NULL, &why) < 0)
                log_warning("%s", why.message ?: "etcd does not drop what was");
        r = ask(home, "/v3/maintenance/defragment", json_object(), NULL, e);
        if (r >= 0)
                r = ask(home, ALARM,
                        json_pack("{s:s, s:s, s:s}", "action", "DEACTIVATE", "memberID", member, "alarm", "NOSPACE"), NULL,
                        e);
        if (r < 0)
                return r;
        log_notice("etcd was full: what was is dropped, and there is room again");
        return 1;
}
