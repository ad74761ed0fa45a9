/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a simulated cluster consists of: machines, messages under way, and a store in memory, which is the table of the local
 * one. And what must hold at every write of it, with the names of tests/model. */
#pragma once

#include "cluster/coordinator.h"
#include "cluster/participant.h"
#include "cluster/table.h"
#include "cluster.h"

#define NODES_MAX    6
#define VIEWS        4 /* the newest first: messages are up to so many writes old */
#define MESSAGES_MAX 32
#define OPERATIONS   8
#define EPOCHS       64

struct message {
        char from[NODE_NAME_SIZE];
        bool is_vote;
        uint8_t id[CLUSTER_ID_SIZE];
        struct vote vote;
        struct member_status status;
};

struct machine {
        char name[NODE_NAME_SIZE];
        enum node_role role;
        bool there;
        struct slot_set set;
        int slot;
        struct journal journal; /* as it was written and read again */
        int going;              /* memory: about to switch to; SLOT_NONE */
        uint64_t epoch;         /* memory: … for this one */
        bool way_back;          /* memory: … and what it leaves is the cluster's previous version */
        bool by_hand;
        uint64_t came_back;  /* the epoch whose trial did not come up */
        struct plan pending; /* a controller's: read, not written yet */
        bool has_pending;
        bool outsider; /* joined after the snapshot that was gone back to */
};

static struct {
        unsigned seed;
        struct table table;
        uint64_t now;
        struct cluster_view views[VIEWS];
        struct machine machines[NODES_MAX];
        size_t n;
        struct message messages[MESSAGES_MAX];
        size_t n_messages;
        bool calm;
        unsigned long changes; /* of anything: it has come to rest when there is none */
        unsigned opened, manual;
        uint8_t committed[EPOCHS]; /* the version of each epoch, as the first byte of its digest */
        uint8_t decided[OPERATIONS + 1];
        unsigned long commits, aborts, backs, follows, fences,
                ways_back; /* of all schedules: it has to happen what is looked for */
} w;

#define hold(condition, ...)                                                                                                \
        do {                                                                                                                \
                if (!(condition)) {                                                                                         \
                        fprintf(stderr, "seed %u: " #condition ": ", w.seed);                                               \
                        fprintf(stderr, __VA_ARGS__);                                                                       \
                        fputc('\n', stderr);                                                                                \
                        ck_abort();                                                                                         \
                }                                                                                                           \
        } while (0)

static uint64_t random_state;

static unsigned dice(unsigned n)
{
        random_state ^= random_state << 13;
        random_state ^= random_state >> 7;
        random_state ^= random_state << 17;
        return (unsigned)((random_state >> 16) % n);
}

/* ---- the store ---- */

/* A decoded value, copied: to read all of the store again after each write takes ten times as long. Every value is decoded
 * once, by cluster_view_add(), into the view of the write that made it. */
static bool take_from(const struct cluster_view *old, struct cluster_view *view, const struct store_entry *k)
{
        struct cluster_node *n, *from;

        if (k->modified == w.table.revision || old->record_revision == 0)
                return false;
        if (streq(k->key, KEY_RECORD)) {
                view->record_revision = k->modified;
                return record_copy(RECORD_CLUSTER, &old->record, &view->record) == 0;
        }
        if (streq(k->key, KEY_OPERATION)) {
                view->operation_revision = k->modified;
                return record_copy(RECORD_OPERATION, &old->operation, &view->operation) == 0;
        }
        n = cluster_view_node(view, strrchr(k->key, '/') + 1);
        from = cluster_view_node(old, strrchr(k->key, '/') + 1);
        if (!n || !from)
                return false;
        if (startswith(k->key, KEY_STATUS) && from->has_status) {
                n->has_status = true;
                return record_copy(RECORD_STATUS, &from->status, &n->status) == 0;
        }
        if (startswith(k->key, KEY_VOTES) && from->voted && operation_is_open(view)) {
                n->voted = true;
                return record_copy(RECORD_VOTE, &from->vote, &n->vote) == 0;
        }
        return false;
}

/* All members at once, where none came or went. */
static bool take_members(const struct cluster_view *old, struct cluster_view *view)
{
        size_t n = 0;

        for (size_t i = 0; i < w.table.n_items; i++) {
                const struct store_entry *k = &w.table.items[i]->entry;

                if (startswith(k->key, KEY_NODES) && k->modified == w.table.revision)
                        return false;
                n += startswith(k->key, KEY_NODES) && !streq(k->key, KEY_DELETED);
        }
        if (n == 0 || n != old->n_nodes)
                return false;
        view->nodes = calloc(n, sizeof(*view->nodes));
        hold(view->nodes, "no memory");
        view->n_nodes = view->allocated = n;
        for (size_t i = 0; i < n; i++)
                hold(record_copy(RECORD_MEMBER, &old->nodes[i].member, &view->nodes[i].member) == 0, "no memory");
        return true;
}

static void read_store(const struct cluster_view *old, struct cluster_view *view)
{
        bool members = take_members(old, view);
        struct error e = {};

        for (size_t i = 0; i < w.table.n_items; i++) {
                const struct store_entry *k = &w.table.items[i]->entry;

                if (members && startswith(k->key, KEY_NODES))
                        continue;
                if (startswith(k->key, KEY_LOG) || startswith(k->key, KEY_HISTORY) || take_from(old, view, k))
                        continue;
                hold(cluster_view_add(view, k->key, k->value, k->size, k->modified, &e) >= 0, "%s: %s", k->key, e.message);
        }
        view->revision = w.table.revision;
}

static void watch(const struct cluster_view *before, const struct cluster_view *after);

/* What was deleted is not there to be newer: who decided without knowing of it was to fail all the same. */
static void watch_deletions(const struct store_txn *txn)
{
        for (size_t i = 0; i < txn->n_compares; i++)
                for (size_t k = 0; k < w.table.n_history && txn->compares[i].test == STORE_QUIET; k++) {
                        const struct table_change *c = &w.table.history[k];

                        hold(c->now || c->revision <= txn->compares[i].revision || c->revision == w.table.revision ||
                                     !startswith(c->before->entry.key, txn->compares[i].key),
                             "%s was deleted, and %s is quiet", c->before->entry.key, txn->compares[i].key);
                }
}

/* All or nothing. */
static bool apply(struct plan *plan)
{
        const struct store_txn txn = plan_txn(plan);
        struct error e = {};
        int made;

        hold(plan_failed(plan, &e) == 0, "%s", e.message);
        made = txn.n_writes > 0 ? table_commit(&w.table, &txn) : 0;
        hold(made >= 0, "no memory");
        if (made) {
                w.changes++;
                watch_deletions(&txn);
                cluster_view_done(&w.views[VIEWS - 1]);
                memmove(w.views + 1, w.views, (VIEWS - 1) * sizeof(*w.views));
                w.views[0] = (struct cluster_view){};
                read_store(&w.views[1], &w.views[0]);
                watch(&w.views[1], &w.views[0]);
        }
        plan_done(plan);
        return made;
}

/* ---- properties that hold at every write ---- */

static struct machine *machine_of(const char *name)
{
        for (size_t i = 0; i < w.n; i++)
                if (streq(w.machines[i].name, name))
                        return &w.machines[i];
        return NULL;
}

static unsigned runs(const struct machine *m)
{
        return m->set.slots[m->slot].digest[0];
}

static void watch_follow(const struct cluster_view *after)
{
        unsigned there = 0, all = 0;

        w.follows++;
        for (size_t i = 0; i < w.n; i++) {
                struct machine *m = &w.machines[i];

                if (m->role == ROLE_ENGINE || !m->there)
                        continue;
                all++;
                there += runs(m) == after->record.running.digest[0];
        }
        hold(2 * there > all, "version %s is followed, and %u of %u controllers run it", after->record.running.version,
             there, all);
}

/* By what members and epochs were, not by the fences that were written. */
static void note_outsiders(const struct cluster_view *before, const struct cluster_view *after)
{
        for (size_t i = 0; i < after->n_nodes; i++)
                if (after->nodes[i].member.joined > before->record.previous_epoch) {
                        machine_of(after->nodes[i].member.name)->outsider = true;
                        w.fences++;
                }
}

static void watch_decision(const struct cluster_view *before, const struct cluster_view *after)
{
        const struct cluster_operation *was = &before->operation;
        bool closed = operation_is_open(before) && !operation_is_open(after);

        if (!operation_is_open(before))
                return;
        if (was->phase == PHASE_PREPARE && (closed || after->operation.phase != PHASE_PREPARE)) {
                hold(w.decided[was->id[0]]++ == 0, "operation %u is decided again", was->id[0]);
                hold(closed == (after->record.epoch == before->record.epoch), "a commit is a new epoch, an abort is none");
                w.commits += !closed;
                w.aborts += closed;
        }
        if (!closed && was->phase != PHASE_TAKE_BACK && after->operation.phase == PHASE_TAKE_BACK) {
                hold(w.decided[was->id[0]]++ == 1, "operation %u is taken back without a commit, or again", was->id[0]);
                hold(!was->formed, "operation %u is taken back after its controllers had formed", was->id[0]);
                w.backs++;
        }
}

static void watch(const struct cluster_view *before, const struct cluster_view *after)
{
        const struct cluster_record *a = &before->record, *b = &after->record;

        watch_decision(before, after);
        if (before->record_revision == 0 || a->epoch == b->epoch)
                return;
        hold(b->epoch == a->epoch + 1 && b->epoch < EPOCHS, "epoch %lu after %lu", (unsigned long)b->epoch,
             (unsigned long)a->epoch);
        w.committed[b->epoch] = b->running.digest[0];
        if (b->origin == ORIGIN_FOLLOW)
                watch_follow(after);
        if (b->origin == ORIGIN_GO_BACK)
                for (size_t i = 0; i < w.n; i++)
                        w.machines[i].outsider = w.machines[i].outsider && cluster_view_node(after, w.machines[i].name) &&
                                                 node_is_fenced(after, cluster_view_node(after, w.machines[i].name));
        else if (version_id_equal(&b->running, &a->previous) && b->origin != ORIGIN_INIT)
                note_outsiders(before, after);
        for (size_t i = 0; i < after->n_nodes; i++)
                hold(node_is_fenced(after, &after->nodes[i]) == machine_of(after->nodes[i].member.name)->outsider,
                     "%s in epoch %lu", after->nodes[i].member.name, (unsigned long)b->epoch);
}

/* ---- what a machine keeps ---- */

static void save_journal(struct machine *m, const struct journal *j)
{
        _cleanup_free_ char *text = record_encode(RECORD_JOURNAL, j);
        struct journal again;

        hold(text, "no memory");
        hold(record_decode(RECORD_JOURNAL, text, strlen(text), &again, NULL) == 0, "%s", text);
        record_done(RECORD_JOURNAL, &m->journal);
        m->journal = again;
        w.changes++;
}

static void put_slot(struct machine *m, int slot, unsigned v)
{
        struct version_id id = version(v);

        slot_set_begin_write(&m->set, slot);
        memcpy(m->set.slots[slot].version, id.version, sizeof(id.version));
        memcpy(m->set.slots[slot].digest, id.digest, sizeof(id.digest));
        slot_set_end_write(&m->set, slot);
}
