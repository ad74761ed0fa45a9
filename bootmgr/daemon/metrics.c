/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names as Prometheus advises: base units, _total for counters, _info for what is told by labels. What is not known is
 * left out. */
#include "daemon/metrics.h"

#include <fcntl.h>
#include <inttypes.h>

#include "base/clock.h"
#include "base/file.h"
#include "daemon/api.h"
#include "daemon/cluster.h"

static void describe(struct buf *b, const char *name, const char *type, const char *help)
{
        buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void gauge(struct buf *b, const char *name, const char *help, double value)
{
        describe(b, name, "gauge", help);
        buf_printf(b, "%s %.17g\n", name, value);
}

static void counter(struct buf *b, const char *name, const char *help, uint64_t value)
{
        describe(b, name, "counter", help);
        buf_printf(b, "%s %" PRIu64 "\n", name, value);
}

static void label(struct buf *b, const char *separator, const char *name, const char *value)
{
        buf_printf(b, "%s%s=\"", separator, name);
        for (const char *p = value ?: ""; *p; p++) {
                if (*p == '\n')
                        buf_puts(b, "\\n");
                else if (*p == '"' || *p == '\\')
                        buf_printf(b, "\\%c", *p);
                else
                        buf_append(b, p, 1);
        }
        buf_puts(b, "\"");
}

static const char *text(const json_t *o, const char *member)
{
        return json_string_value(json_object_get(o, member)) ?: "";
}

static double number(const json_t *o, const char *member)
{
        return json_number_value(json_object_get(o, member));
}

static double truth(const json_t *o, const char *member)
{
        return json_is_true(json_object_get(o, member));
}

static void put_slots(struct buf *b, const json_t *status)
{
        const json_t *slots = json_object_get(status, "slots"), *slot;
        size_t i;

        describe(b, "bootmgr_slot_info", "gauge", "The slots: version and state.");
        json_array_foreach(slots, i, slot)
        {
                label(b, "bootmgr_slot_info{", "slot", text(slot, "name"));
                label(b, ",", "version", text(slot, "version"));
                label(b, ",", "state", text(slot, "state"));
                buf_puts(b, "} 1\n");
        }
        describe(b, "bootmgr_slot_running", "gauge", "Whether the slot is the one that runs.");
        json_array_foreach(slots, i, slot)
        {
                label(b, "bootmgr_slot_running{", "slot", text(slot, "name"));
                buf_printf(b, "} %d\n", streq(text(slot, "name"), text(status, "booted")));
        }
        describe(b, "bootmgr_slot_security_version", "gauge", "The security version of what is in the slot.");
        json_array_foreach(slots, i, slot)
        {
                label(b, "bootmgr_slot_security_version{", "slot", text(slot, "name"));
                buf_printf(b, "} %.17g\n", number(slot, "security_version"));
        }
}

static void put_status(struct buf *b, const json_t *status)
{
        const json_t *snapshot = json_object_get(status, "snapshot");

        put_slots(b, status);
        gauge(b, "bootmgr_generation", "The highest generation that was given out.", number(status, "generation"));
        gauge(b, "bootmgr_security_floor", "The lowest security version that may boot.", number(status, "security_floor"));
        gauge(b, "bootmgr_finalized", "Whether the way back was given up.", truth(status, "finalized"));
        gauge(b, "bootmgr_previous_available", "Whether there is a previous version to go back to.",
              json_is_string(json_object_get(status, "previous")));
        if (!json_is_object(snapshot))
                return;
        gauge(b, "bootmgr_snapshot_valid", "Whether the snapshot that a rollback would restore is whole.",
              truth(snapshot, "valid"));
        gauge(b, "bootmgr_snapshot_size_bytes", "The size of that snapshot.", number(snapshot, "bytes"));
}

static void put_time(struct buf *b, const char *name, const char *help, const char *time)
{
        uint64_t usec;

        if (parse_time(time, &usec) >= 0)
                gauge(b, name, help, (double)usec / USEC_PER_SEC);
}

static void put_operation(struct buf *b, const json_t *op)
{
        describe(b, "bootmgr_operation_info", "gauge", "The newest operation.");
        label(b, "bootmgr_operation_info{", "id", text(op, "id"));
        label(b, ",", "operation", text(op, "operation"));
        label(b, ",", "from_version", text(op, "from_version"));
        label(b, ",", "to_version", text(op, "to_version"));
        label(b, ",", "state", text(op, "state"));
        buf_puts(b, "} 1\n");
        gauge(b, "bootmgr_operation_in_progress", "Whether the newest operation has not ended.",
              streq(text(op, "state"), "IN_PROGRESS"));
        gauge(b, "bootmgr_operation_failed", "Whether the newest operation has failed.", streq(text(op, "state"), "FAILED"));
        gauge(b, "bootmgr_operation_progress_ratio", "How far the newest operation is, 0 to 1.",
              number(op, "progress") / 100);
        put_time(b, "bootmgr_operation_start_timestamp_seconds", "When the newest operation began.", text(op, "start"));
        put_time(b, "bootmgr_operation_end_timestamp_seconds", "When the newest operation ended.", text(op, "end"));
}

static void put_http(struct buf *b, const struct api *api)
{
        const struct http *h = &api->http;

        describe(b, "bootmgr_http_responses_total", "counter", "Answers of the HTTPS interface.");
        for (unsigned i = 2; i <= 5; i++)
                buf_printf(b, "bootmgr_http_responses_total{code=\"%uxx\"} %" PRIu64 "\n", i, h->statistics.answers[i]);
        gauge(b, "bootmgr_http_connections", "Open connections.", h->peers.n);
        gauge(b, "bootmgr_http_authenticated_connections", "Open connections of known clients.", h->peers.n_known);
        gauge(b, "bootmgr_http_event_streams", "Readers of /api/events.", api->events.streams.n);
        describe(b, "bootmgr_http_dropped_connections_total", "counter", "Connections that were ended, by reason.");
        buf_printf(b,
                   "bootmgr_http_dropped_connections_total{reason=\"evicted\"} %" PRIu64 "\n"
                   "bootmgr_http_dropped_connections_total{reason=\"full\"} %" PRIu64 "\n"
                   "bootmgr_http_dropped_connections_total{reason=\"slow\"} %" PRIu64 "\n",
                   h->peers.evicted, h->peers.refused, h->peers.late);
        counter(b, "bootmgr_http_rate_limited_total", "Requests of unknown clients beyond their share.", h->peers.too_many);
}

static void put_memory(struct buf *b)
{
        _cleanup_free_ char *statm = NULL;
        unsigned long long size, resident;

        if (file_read(AT_FDCWD, "/proc/self/statm", KIB(4), &statm, NULL) >= 0 &&
            sscanf(statm, "%llu %llu", &size, &resident) == 2)
                gauge(b, "process_resident_memory_bytes", "Resident memory of bootmgrd.",
                      (double)resident * (double)sysconf(_SC_PAGESIZE));
}

char *metrics_text(const struct api *api)
{
        const struct manager *m = api->manager;
        struct buf b = {};

        describe(&b, "bootmgr_build_info", "gauge", "The version of bootmgrd.");
        label(&b, "bootmgr_build_info{", "version", BOOTMGR_VERSION);
        buf_puts(&b, "} 1\n");
        gauge(&b, "bootmgr_status_known", "Whether the state of the machine could be read.", json_is_object(m->status));
        gauge(&b, "bootmgr_working", "Whether bootmgrd has an operation at work.", m->working);
        gauge(&b, "bootmgr_epoch", "The epoch of the cluster; 0 on a standalone machine.", (double)m->member.epoch);
        gauge(&b, "bootmgr_connected_nodes", "The nodes that this controller hears of at the moment.",
              api->cluster->nodes.n);
        if (json_is_object(m->status))
                put_status(&b, m->status);
        if (json_is_object(m->operation))
                put_operation(&b, m->operation);
        put_http(&b, api);
        put_memory(&b);
        return buf_take(&b);
}
