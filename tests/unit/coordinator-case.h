/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests of the decisions over a view share: a cluster that is in place, an operation that is open in it, and what a
 * plan compares and writes. */
#pragma once

#include "cluster/view.h"
#include "cluster.h"

#define VOTES_9 KEY_VOTES "09000000000000000000000000000000/" /* of the operation of open_in() */
#define SEEN    510 /* each phase of open_in() for all of its limit, and not for twice that */
#define N       6   /* three controllers, three engines; the last engine joined after the upgrade */

static const char *const names[N] = { "c0", "c1", "c2", "e3", "e4", "e5" };
static struct cluster_view view;

static _unused_ void vote(int i, bool yes)
{
        view.nodes[i].voted = true;
        view.nodes[i].vote = (struct vote){ .yes = yes, .message = "no room" };
}

/* Settled in this epoch on that version. */
static _unused_ void settle(int i, unsigned v)
{
        view.nodes[i].has_status = true;
        view.nodes[i].status = (struct member_status){
                .epoch = view.record.epoch, .settled = true, .confirmed = true, .running = version(v)
        };
}

/* Version 2 in epoch 5, upgraded from 1 whose last epoch was 3; everybody is in place. */
static void setup(void)
{
        view = (struct cluster_view){ .revision = 50, .record_revision = 40, .n_nodes = N };
        view.record = (struct cluster_record){
                .epoch = 5, .running = version(2), .previous = version(1), .previous_epoch = 3
        };
        view.nodes = calloc(N, sizeof(*view.nodes));
        ck_assert_ptr_nonnull(view.nodes);
        for (int i = 0; i < N; i++) {
                strcpy(view.nodes[i].member.name, names[i]);
                view.nodes[i].member.role = i < 3 ? ROLE_CONTROLLER : ROLE_ENGINE;
                view.nodes[i].member.joined = i == 5 ? 4 : 0;
                settle(i, 2);
        }
}

static void teardown(void)
{
        cluster_view_done(&view);
}

/* An open rollback (or upgrade to 3) in that phase; after the commit the record is what the commit made it. */
static _unused_ void open_in(enum operation_kind kind, enum cluster_phase phase)
{
        struct cluster_operation *op = &view.operation;

        *op = (struct cluster_operation){ .id = { 9 },
                                          .kind = kind,
                                          .phase = phase,
                                          .from = version(2),
                                          .to = version(kind == OPERATION_ROLLBACK ? 1 : 3) };
        op->before = view.record;
        op->deadline = 1000;
        op->prepare_limit = op->switch_limit = 500;
        op->lead = 10;
        view.operation_revision = 45;
        if (phase <= PHASE_PREPARE)
                return;
        op->epoch = 6;
        view.record.epoch = phase == PHASE_TAKE_BACK ? 7 : 6;
        view.record.running = phase == PHASE_TAKE_BACK ? op->from : op->to;
        if (kind == OPERATION_ROLLBACK && phase != PHASE_TAKE_BACK) {
                view.record.previous = (struct version_id){};
                ck_assert_int_eq(cluster_record_add_fence(&view.record, 4, 5), 0);
        }
}
static _unused_ const struct store_write *write_of(const struct plan *p, const char *key)
{
        for (size_t i = 0; i < p->n_writes; i++)
                if (streq(p->writes[i].key, key))
                        return &p->writes[i];
        return NULL;
}

static _unused_ bool compares(const struct plan *p, enum store_test test, const char *key, uint64_t revision)
{
        for (size_t i = 0; i < p->n_compares; i++)
                if (p->compares[i].test == test && streq(p->compares[i].key, key) && p->compares[i].revision == revision)
                        return true;
        return false;
}
