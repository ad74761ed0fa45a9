/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an etcd server, or whoever passes for one, may answer: to a range, to a transaction, line by line to a watch, and as
 * an error. The first byte says which. */
#include "fuzz.h"

#include "cluster/etcd.h"

static void check_entries(const struct store_reply *reply)
{
        for (size_t i = 0; i < reply->n_entries; i++) {
                const struct store_entry *entry = &reply->entries[i];

                must(*entry->key && strlen(entry->key) <= STORE_KEY_MAX && entry->size <= STORE_VALUE_MAX);
                must(entry->modified > 0 && entry->modified <= INT64_MAX);
                must(((const char *)entry->value)[entry->size] == '\0');
        }
}

static void check_range(const char *text, size_t size)
{
        _cleanup_reply_ struct store_reply reply = {};
        _cleanup_error_ struct error e = {};

        if (etcd_parse_range(text, size, &reply, &e) < 0) {
                must(e.message && reply.n_entries == 0);
                return;
        }
        must(reply.revision > 0);
        check_entries(&reply);
}

static void check_txn(const char *text, size_t size)
{
        struct store_reply reply = {};
        _cleanup_error_ struct error e = {};

        if (etcd_parse_txn(text, size, &reply, &e) < 0)
                must(e.message && !reply.done);
        else
                must(reply.revision > 0 && !reply.entries);
}

static void check_lines(char *text)
{
        char *line;

        while ((line = line_next(&text))) {
                _cleanup_events_ struct etcd_events events = {};
                _cleanup_error_ struct error e = {};

                if (etcd_parse_events(line, strlen(line), &events, &e) < 0) {
                        must(e.message && e.code != 0);
                        continue;
                }
                check_entries(&events.entries);
                for (size_t i = 0; i < events.entries.n_entries; i++)
                        must(events.entries.entries[i].modified <= events.revision);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct input in = { data, size };
        uint8_t which = take_byte(&in) % 4;
        size_t n;
        _cleanup_free_ char *text = take_bytes(&in, in.size, true, &n);
        _cleanup_error_ struct error e = {};

        if (which == 0)
                check_range(text, n);
        else if (which == 1)
                check_txn(text, n);
        else if (which == 2)
                check_lines(text);
        else if (etcd_judge(200, text, n, &e) < 0)
                must(e.message && e.code < 0);
        return 0;
}
