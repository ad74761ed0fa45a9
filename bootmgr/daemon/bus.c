/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/bus.h"

#include <ctype.h>

#include "daemon/methods.h"

#define NAME                "org.bootmgr1"
#define PATH                "/org/bootmgr1"
#define OPERATION_PATH      "/org/bootmgr1/operation"
#define MANAGER_INTERFACE   "org.bootmgr1.Manager"
#define OPERATION_INTERFACE "org.bootmgr1.Operation"

static sd_bus *published; /* where changes are announced: there is one bus */

/* --- properties: from what was read last ------------------------------------------------------------------ */

static int get_json(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                    void *userdata, sd_bus_error *error)
{
        struct manager *m = userdata;
        const json_t *j = streq(property, "StatusJSON")    ? m->status
                          : streq(property, "FailureJSON") ? m->failure
                                                           : m->operation;
        _cleanup_free_ char *text = j ? json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

        return sd_bus_message_append(reply, "s", text ?: "null");
}

static int get_working(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                       void *userdata, sd_bus_error *error)
{
        struct manager *m = userdata;

        return sd_bus_message_append(reply, "b", m->working);
}

static int get_slot(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                    void *userdata, sd_bus_error *error)
{
        struct manager *m = userdata;
        char name[16];

        snprintf(name, sizeof(name), "%s", property);
        name[0] = (char)tolower((unsigned char)name[0]);
        return sd_bus_message_append(reply, "s", json_string_value(json_object_get(m->status, name)) ?: "");
}

static int get_generation(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                          void *userdata, sd_bus_error *error)
{
        struct manager *m = userdata;

        return sd_bus_message_append(reply, "t", (uint64_t)json_integer_value(json_object_get(m->status, "generation")));
}

static int get_version(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                       void *userdata, sd_bus_error *error)
{
        return sd_bus_message_append(reply, "s", BOOTMGR_VERSION);
}

static const char *text_of(const json_t *o, const char *name)
{
        return json_string_value(json_object_get(o, name)) ?: "";
}

static uint32_t number_of(const json_t *o, const char *name)
{
        return (uint32_t)json_integer_value(json_object_get(o, name));
}

static int get_operation_text(sd_bus *bus, const char *path, const char *interface, const char *property,
                              sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        static const struct {
                const char *property, *member;
        } names[] = {
                { "Id", "id" },         { "Kind", "operation" },           { "State", "state" },
                { "Reason", "reason" }, { "FromVersion", "from_version" }, { "ToVersion", "to_version" },
        };
        struct manager *m = userdata;

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                if (streq(property, names[i].property))
                        return sd_bus_message_append(reply, "s", text_of(m->operation, names[i].member));
        return -ENOENT;
}

static int get_progress(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                        void *userdata, sd_bus_error *error)
{
        struct manager *m = userdata;

        return sd_bus_message_append(reply, "u", number_of(m->operation, "progress"));
}

static int get_steps(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                     void *userdata, sd_bus_error *error)
{
        struct manager *m = userdata;
        const json_t *steps = json_object_get(m->operation, "steps");
        int r = sd_bus_message_open_container(reply, 'a', "(ssusss)");

        for (size_t i = 0; r >= 0 && i < json_array_size(steps); i++) {
                const json_t *s = json_array_get(steps, i);

                r = sd_bus_message_append(reply, "(ssusss)", text_of(s, "name"), text_of(s, "state"),
                                          number_of(s, "progress"), text_of(s, "start"), text_of(s, "end"),
                                          text_of(s, "message"));
        }
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

#define EMITS SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE
/* Who may do what is polkit's to say: methods.c. */
#define METHOD(name, in, in_names, out, out_names)                                                                          \
        SD_BUS_METHOD_WITH_NAMES(name, in, in_names, out, out_names, handle_method, SD_BUS_VTABLE_UNPRIVILEGED)
#define NAMED(name) SD_BUS_PARAM(name)

static const sd_bus_vtable manager_vtable[] = {
        SD_BUS_VTABLE_START(0),
        METHOD("Upgrade", "sa{sv}", NAMED(source) NAMED(options), "s", NAMED(id)),
        METHOD("UpgradeFile", "ha{sv}", NAMED(bundle) NAMED(options), "s", NAMED(id)),
        METHOD("Rollback", "a{sv}", NAMED(options), "s", NAMED(id)),
        METHOD("SlotActivate", "sa{sv}", NAMED(slot) NAMED(options), "s", NAMED(id)),
        METHOD("CheckRollback", NULL, "", "s", NAMED(json)),
        METHOD("Abort", NULL, "", NULL, ""),
        METHOD("Finalize", NULL, "", NULL, ""),
        METHOD("ClearRefused", NULL, "", NULL, ""),
        METHOD("MarkGood", "s", NAMED(slot), NULL, ""),
        METHOD("MarkBad", "s", NAMED(slot), NULL, ""),
        METHOD("GetStatus", NULL, "", "s", NAMED(json)),
        METHOD("GetOperation", NULL, "", "s", NAMED(json)),
        METHOD("GetHistory", NULL, "", "s", NAMED(json)),
        SD_BUS_PROPERTY("Version", "s", get_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Booted", "s", get_slot, 0, EMITS),
        SD_BUS_PROPERTY("Next", "s", get_slot, 0, EMITS),
        SD_BUS_PROPERTY("Previous", "s", get_slot, 0, EMITS),
        SD_BUS_PROPERTY("Generation", "t", get_generation, 0, EMITS),
        SD_BUS_PROPERTY("Working", "b", get_working, 0, EMITS),
        SD_BUS_PROPERTY("FailureJSON", "s", get_json, 0, EMITS),
        SD_BUS_PROPERTY("StatusJSON", "s", get_json, 0, EMITS),
        SD_BUS_PROPERTY("OperationJSON", "s", get_json, 0, EMITS),
        SD_BUS_VTABLE_END,
};

static const sd_bus_vtable operation_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Id", "s", get_operation_text, 0, EMITS),
        SD_BUS_PROPERTY("Kind", "s", get_operation_text, 0, EMITS),
        SD_BUS_PROPERTY("FromVersion", "s", get_operation_text, 0, EMITS),
        SD_BUS_PROPERTY("ToVersion", "s", get_operation_text, 0, EMITS),
        SD_BUS_PROPERTY("State", "s", get_operation_text, 0, EMITS),
        SD_BUS_PROPERTY("Reason", "s", get_operation_text, 0, EMITS),
        SD_BUS_PROPERTY("Progress", "u", get_progress, 0, EMITS),
        SD_BUS_PROPERTY("Steps", "a(ssusss)", get_steps, 0, EMITS),
        SD_BUS_SIGNAL_WITH_NAMES("ProgressChanged", "ssu", NAMED(id) NAMED(step) NAMED(progress), 0),
        SD_BUS_VTABLE_END,
};

/* --- asking for properties before they are known --------------------------------------------------------- */

#define HELD_MAX 64 /* anyone may ask */

static struct {
        sd_bus_message *messages[HELD_MAX];
        size_t n;
} held;

/* Known by `bootmgr status` only. */
static const char *const of_status[] = { "Booted", "Next", "Previous", "Generation", "StatusJSON" };

static bool is_property_known(const struct manager *m, const char *name)
{
        static const char *const ours[] = { "Version", "Working", "FailureJSON" };

        for (size_t i = 0; i < ARRAY_SIZE(ours); i++)
                if (streq(ours[i], name))
                        return true;
        for (size_t i = 0; i < ARRAY_SIZE(of_status); i++)
                if (streq(of_status[i], name))
                        return m->status;
        return m->operation;
}

/* Whoever starts us to ask something is answered with what is true: not before it is known. Calls of methods wait for
 * nothing: their tasks look for themselves. */
static int on_message(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        struct manager *m = userdata;
        const char *name;

        if (m->known || !sd_bus_message_is_method_call(message, "org.freedesktop.DBus.Properties", NULL))
                return 0;
        if (sd_bus_message_is_method_call(message, NULL, "Get") && sd_bus_message_read(message, "ss", NULL, &name) >= 0 &&
            is_property_known(m, name))
                return 0;
        if (held.n == HELD_MAX)
                return sd_bus_reply_method_errorf(message, SD_BUS_ERROR_LIMITS_EXCEEDED,
                                                  "too many calls at once: try again");
        held.messages[held.n++] = sd_bus_message_ref(message);
        manager_look(m);
        return 1;
}

static void on_looked(struct manager *m)
{
        for (size_t i = 0; i < held.n; i++) {
                sd_bus_enqueue_for_read(published, held.messages[i]);
                sd_bus_message_unref(held.messages[i]);
        }
        held.n = 0;
}

/* --- announcing ------------------------------------------------------------------------------------------ */

static void announce_manager(const struct manager *m, bool status, bool operation)
{
        const char *names[9] = {};
        size_t n = 0;

        if (status && m->status)
                for (size_t i = 0; i < ARRAY_SIZE(of_status); i++)
                        names[n++] = of_status[i];
        if (status) {
                names[n++] = "Working";
                names[n++] = "FailureJSON";
        }
        if (operation)
                names[n++] = "OperationJSON";
        sd_bus_emit_properties_changed_strv(published, PATH, MANAGER_INTERFACE, (char **)names);
}

static void announce_operation(const struct manager *m)
{
        const json_t *step = manager_running_step(m);

        sd_bus_emit_properties_changed(published, OPERATION_PATH, OPERATION_INTERFACE, "Id", "Kind", "FromVersion",
                                       "ToVersion", "State", "Reason", "Progress", "Steps", NULL);
        if (step)
                sd_bus_emit_signal(published, OPERATION_PATH, OPERATION_INTERFACE, "ProgressChanged", "ssu",
                                   text_of(m->operation, "id"), text_of(step, "name"), number_of(step, "progress"));
}

static void on_change(struct manager *m, bool status, bool operation)
{
        announce_manager(m, status, operation);
        if (operation)
                announce_operation(m);
}

static const struct manager_face face = { .changed = on_change, .looked = on_looked };

int bus_publish(sd_bus *bus, struct manager *m)
{
        int r;

        published = bus;
        m->faces[0] = &face;
        r = sd_bus_add_filter(bus, NULL, on_message, m);
        if (r >= 0)
                r = sd_bus_add_object_vtable(bus, NULL, PATH, MANAGER_INTERFACE, manager_vtable, m);
        if (r >= 0)
                r = sd_bus_add_object_vtable(bus, NULL, OPERATION_PATH, OPERATION_INTERFACE, operation_vtable, m);
        return r < 0 ? r : sd_bus_request_name(bus, NAME, 0);
}
