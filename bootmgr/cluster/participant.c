/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/participant.h"

#include "base/buf.h"
#include "base/version.h"

static const char *const stands[_STANDS_MAX] = {
        [STANDS_NOWHERE] = "nowhere",   [STANDS_FENCED] = "fenced",     [STANDS_WAITING] = "waiting",
        [STANDS_IN_PLACE] = "in-place", [STANDS_ARRIVED] = "arrived",   [STANDS_BEHIND] = "behind",
        [STANDS_WITHOUT] = "without",   [STANDS_STRANDED] = "stranded", [STANDS_FAILED] = "failed",
        [STANDS_LEFT] = "left",
};
static const char *const hearings[_HEARS_MAX] = {
        [HEARS_OLD] = "old",     [HEARS_PEACE] = "peace", [HEARS_OPEN] = "open",       [HEARS_PREPARED] = "prepared",
        [HEARS_OTHER] = "other", [HEARS_TURN] = "turn",   [HEARS_NOT_YET] = "not-yet",
};
static const char *const actions[_PARTICIPANT_ACTION_MAX] = {
        [PARTICIPANT_NOTHING] = "nothing", [PARTICIPANT_PREPARE] = "prepare", [PARTICIPANT_VOTE] = "vote",
        [PARTICIPANT_REACH] = "reach",     [PARTICIPANT_SWITCH] = "switch",   [PARTICIPANT_FETCH] = "fetch",
        [PARTICIPANT_REFUSED] = "refused", [PARTICIPANT_DECLINE] = "decline", [PARTICIPANT_FINALIZE] = "finalize",
};

/* Nothing, where a cell is not there: HEARS_OLD teaches nothing; who waits has something to do already; who failed or left
 * has had its one time in this epoch; who is stranded is helped by a person. Who is behind while an operation is open and
 * undecided waits for its end. */
static const enum participant_action table[_STANDS_MAX][_HEARS_MAX] = {
        [STANDS_FENCED] = { [HEARS_PEACE] = PARTICIPANT_REFUSED,
                            [HEARS_OPEN] = PARTICIPANT_REFUSED,
                            [HEARS_PREPARED] = PARTICIPANT_REFUSED,
                            [HEARS_OTHER] = PARTICIPANT_REFUSED,
                            [HEARS_TURN] = PARTICIPANT_REFUSED,
                            [HEARS_NOT_YET] = PARTICIPANT_REFUSED },
        [STANDS_IN_PLACE] = { [HEARS_OPEN] = PARTICIPANT_PREPARE, [HEARS_PREPARED] = PARTICIPANT_VOTE },
        [STANDS_ARRIVED] = { [HEARS_PEACE] = PARTICIPANT_REACH,
                             [HEARS_OPEN] = PARTICIPANT_REACH,
                             [HEARS_PREPARED] = PARTICIPANT_REACH,
                             [HEARS_OTHER] = PARTICIPANT_REACH,
                             [HEARS_TURN] = PARTICIPANT_REACH,
                             [HEARS_NOT_YET] = PARTICIPANT_REACH },
        [STANDS_BEHIND] = { [HEARS_PEACE] = PARTICIPANT_SWITCH,
                            [HEARS_OPEN] = PARTICIPANT_DECLINE,
                            [HEARS_TURN] = PARTICIPANT_SWITCH },
        [STANDS_WITHOUT] = { [HEARS_PEACE] = PARTICIPANT_FETCH,
                             [HEARS_OPEN] = PARTICIPANT_DECLINE,
                             [HEARS_TURN] = PARTICIPANT_FETCH },
        [STANDS_STRANDED] = { [HEARS_OPEN] = PARTICIPANT_DECLINE },
        [STANDS_FAILED] = { [HEARS_OPEN] = PARTICIPANT_DECLINE },
        [STANDS_LEFT] = { [HEARS_OPEN] = PARTICIPANT_DECLINE },
};

const char *participant_stand_to_string(enum participant_stand stand)
{
        return stand < _STANDS_MAX ? stands[stand] : "unknown";
}

const char *participant_hears_to_string(enum participant_hears hears)
{
        return hears < _HEARS_MAX ? hearings[hears] : "unknown";
}

const char *participant_action_to_string(enum participant_action action)
{
        return action < _PARTICIPANT_ACTION_MAX ? actions[action] : "unknown";
}

enum participant_action participant_next(enum participant_stand stand, enum participant_hears hears)
{
        return table[stand][hears];
}

/* ---- where it stands ---- */

static bool holds(const struct slot *slot, const struct version_id *v)
{
        return slot_has_system(slot) && version_id_is(v) && memcmp(slot->digest, v->digest, DIGEST_SIZE) == 0;
}

/* Whether the version came to the cluster after what this node was last in place with: its configuration goes along, and
 * what a slot that had the version before was left with is not it. Else the cluster goes back: a rollback leaves no previous
 * version, and one that is taken back is about what was in place before it. */
static bool goes_forward(const struct participant_input *in, int slot)
{
        const struct cluster_record *record = in->record;

        if (!version_id_is(&record->previous) || in->journal->reached > record->previous_epoch)
                return false;
        /* It has just joined: which of the two came first, its own record says. */
        return in->journal->reached > 0 || slot != in->set->previous;
}

/* Whether this node was in place with what came after the version. Installed anew, that would run on the configuration of
 * its successor, which it may not be able to read. Only of a rollback the record says when that came: where the controllers
 * were taken elsewhere by hand, or by themselves, and once such a record is finalized, the last epoch of its previous
 * version is that of an older one. There, and for who has missed several epochs, the versions say which of the two came
 * first. */
static bool has_passed(const struct participant_input *in)
{
        const struct cluster_record *record = in->record;
        int order = version_compare(record->running.version, in->set->slots[in->slot].version);

        if (in->journal->reached == 0)
                return false;
        /* An upgrade goes on from the previous version. A newer one than it goes to was left by a rollback, which this node
         * has missed: here would be the configuration that the others have given up. */
        if (version_id_is(&record->previous))
                return order < 0 && !holds(&in->set->slots[in->slot], &record->previous);
        return order < 0 ||
               (in->journal->reached > record->previous_epoch && (order == 0 || record->origin == ORIGIN_COMMIT));
}

static bool may_go_to(const struct participant_input *in, int slot)
{
        const struct slot *s = &in->set->slots[slot];

        return holds(s, &in->record->running) && slot_is_selectable(s) &&
               (s->state == SLOT_INSTALLED || !goes_forward(in, slot));
}

/* The slot to switch to: one that holds the version, not the running one. */
static int find_slot(const struct participant_input *in)
{
        for (int i = 0; i < in->set->n_slots; i++)
                if (i != in->slot && may_go_to(in, i))
                        return i;
        return SLOT_NONE;
}

/* Whether the switch that the journal speaks of was made: a slot got a newer generation since. A switch that was cut before
 * it was durable takes a generation too, but no slot has it. */
static bool attempt_was_made(const struct participant_input *in)
{
        const struct journal *j = in->journal;

        if (j->attempted != in->record->epoch)
                return false;
        for (int i = 0; i < in->set->n_slots; i++)
                if (in->set->slots[i].generation > j->attempted_generation)
                        return true;
        return false;
}

/* Whether the machine's newest operation is what SWITCH has staged last, and not what an operator has. */
static bool is_of_cluster(const struct slot_set *set, const struct journal *journal)
{
        return !is_all_zero(journal->staged, sizeof(journal->staged)) &&
               memcmp(set->operation_id, journal->staged, sizeof(journal->staged)) == 0;
}

/* Its shutdown found no room for the seal, say: no slot was changed, and the boot after it is as the one before. Tried again
 * it would fail again, at each boot, without an end. What a cut takes the place of stays STAGED, or is ABORTED by the boot.
 */
static bool attempt_was_given_up(const struct participant_input *in)
{
        return in->journal->attempted == in->record->epoch && in->set->operation_state == OPERATION_FAILED &&
               is_of_cluster(in->set, in->journal);
}

/* A switch that the next boot ends, an operation whose worker runs, or a trial. Not one that waits for the shutdown: after a
 * crash nobody would shut down, and the order is given again. */
static bool is_at_work(const struct participant_input *in)
{
        return in->set->phase != SWITCH_NONE || in->set->operation_state == OPERATION_RUNNING ||
               in->set->slots[in->slot].state == SLOT_TRIAL;
}

bool participant_has_staged(const struct slot_set *set, const struct journal *journal)
{
        return set->operation_state == OPERATION_STAGED && is_of_cluster(set, journal);
}

/* A power cut took the place of the shutdown that was to go on with it, and the record has gone elsewhere since: it would
 * hold up all that is to be done here, and the next ordinary reboot would switch without a commit. */
static bool is_stale(const struct participant_input *in)
{
        int to = in->set->operation_to;

        if (!participant_has_staged(in->set, in->journal))
                return false;
        return to < 0 || to >= in->set->n_slots || holds(&in->set->slots[in->slot], &in->record->running) ||
               !may_go_to(in, to);
}

static enum participant_stand find_stand(const struct participant_input *in)
{
        if (!in->member || in->slot < 0 || in->slot >= in->set->n_slots)
                return STANDS_NOWHERE;
        if (in->fenced)
                return STANDS_FENCED;
        if (is_at_work(in))
                return STANDS_WAITING;
        if (holds(&in->set->slots[in->slot], &in->record->running))
                return in->journal->reached == in->record->epoch ? STANDS_IN_PLACE : STANDS_ARRIVED;
        if (in->journal->reached == in->record->epoch)
                return STANDS_LEFT;
        if (attempt_was_made(in) || attempt_was_given_up(in))
                return STANDS_FAILED;
        if (find_slot(in) != SLOT_NONE)
                return STANDS_BEHIND;
        return has_passed(in) ? STANDS_STRANDED : STANDS_WITHOUT;
}

/* ---- what it hears ---- */

static bool is_old(const struct participant_input *in)
{
        const struct journal *j = in->journal;
        bool prepared = !is_all_zero(j->prepared, sizeof(j->prepared));

        return in->record->epoch < MAX(j->attempted, j->reached) || (prepared && in->revision < j->prepared_revision);
}

static bool may_answer(const struct participant_input *in)
{
        const struct journal *j = in->journal;

        return in->asked && memcmp(in->operation->id, j->over, sizeof(j->over)) != 0 && in->revision > j->over_revision &&
               !in->voted && is_all_zero(j->prepared, sizeof(j->prepared));
}

static bool is_my_turn(const struct participant_input *in)
{
        const struct cluster_operation *op = in->operation;

        if (op->phase == PHASE_TAKE_BACK)
                return true;
        if (in->role != ROLE_ENGINE)
                return true;
        if (op->phase != PHASE_ENGINES)
                return false;
        return op->engines == ENGINES_TOGETHER || op->one_instant || in->order > 0;
}

static enum participant_hears find_hears(const struct participant_input *in)
{
        if (is_old(in))
                return HEARS_OLD;
        if (!in->operation)
                return HEARS_PEACE;
        if (in->operation->phase > PHASE_PREPARE)
                return is_my_turn(in) ? HEARS_TURN : HEARS_NOT_YET;
        if (memcmp(in->operation->id, in->journal->prepared, CLUSTER_ID_SIZE) == 0)
                return in->voted ? HEARS_OTHER : HEARS_PREPARED;
        return may_answer(in) ? HEARS_OPEN : HEARS_OTHER;
}

/* ---- what it does ---- */

static uint64_t instant(const struct participant_input *in)
{
        if (!in->operation)
                return 0;
        if (in->role != ROLE_ENGINE)
                return in->operation->controllers_at;
        return in->order ?: in->operation->engines_at;
}

/* It has not gone where it is to go in this epoch, nor tried to. */
static bool is_to_go(const struct participant_input *in, enum participant_stand stand)
{
        return stand == STANDS_BEHIND || stand == STANDS_WITHOUT ||
               (stand == STANDS_WAITING && in->set->slots[in->slot].state != SLOT_TRIAL);
}

/* The operation that it was prepared for is not there any more, or is decided, and the node has done its part. */
static bool is_over(const struct participant_input *in, enum participant_stand stand)
{
        if (is_all_zero(in->journal->prepared, CLUSTER_ID_SIZE))
                return false;
        if (!in->operation || memcmp(in->operation->id, in->journal->prepared, CLUSTER_ID_SIZE) != 0)
                return true;
        return in->operation->phase != PHASE_PREPARE && !is_to_go(in, stand);
}

/* It can be taken by hand to where it would go on from with the others. */
static bool holds_previous(const struct participant_input *in)
{
        for (int i = 0; i < in->set->n_slots; i++)
                if (i != in->slot && holds(&in->set->slots[i], &in->record->previous) &&
                    slot_is_selectable(&in->set->slots[i]))
                        return true;
        return false;
}

static void say(const struct participant_input *in, struct participant_decision *d)
{
        static const char *const why[_STANDS_MAX] = {
                [STANDS_FENCED] = "it joined after the snapshot",
                [STANDS_WAITING] = "a switch is under way",
                [STANDS_BEHIND] = "it is about to switch",
                [STANDS_WITHOUT] = "it fetches the version",
                [STANDS_FAILED] = "it switched, and came back",
                [STANDS_LEFT] = "it was taken to another version on the spot",
        };
        const struct slot *slot = &in->set->slots[in->slot];

        d->status.epoch = in->record->epoch;
        d->status.generation = in->set->generation;
        d->status.confirmed = slot->state == SLOT_CONFIRMED;
        memcpy(d->status.running.version, slot->version, sizeof(slot->version));
        memcpy(d->status.running.digest, slot->digest, sizeof(slot->digest));
        d->status.settled = d->journal.reached == in->record->epoch || d->stand == STANDS_FAILED ||
                            d->stand == STANDS_STRANDED;
        if (d->stand == STANDS_WAITING)
                d->status.settled = false;
        d->unmade = d->stand == STANDS_FAILED && !attempt_was_made(in);
        snprintf(d->status.message, sizeof(d->status.message), "%s",
                 d->action == PARTICIPANT_REACH ? ""
                 : d->unmade                    ? "its shutdown could not switch"
                                                : why[d->stand] ?: "");
        if (d->stand == STANDS_STRANDED && holds_previous(in))
                snprintf(d->status.message, sizeof(d->status.message),
                         "it has missed a rollback to version %s; 'bootmgr rollback system --local' there, and it goes on "
                         "to version %s",
                         in->record->previous.version, in->record->running.version);
        else if (d->stand == STANDS_STRANDED)
                snprintf(d->status.message, sizeof(d->status.message),
                         "no slot has version %s with its configuration; 'bootmgr slot mark-good' there if it is only "
                         "marked bad, else 'bootmgr node delete' and join anew",
                         in->record->running.version);
        if (is_all_zero(slot->digest, DIGEST_SIZE) || !*slot->version)
                d->status.running = (struct version_id){}; /* a system that bootmgr did not put there */
}

/* Another operation that is open in this very view began after this one's end: there may be no newer view before its
 * deadline, and it is to be answered. What else this revision says has been heard. */
static void release(const struct participant_input *in, struct journal *j)
{
        bool another = in->operation && in->operation->phase == PHASE_PREPARE;

        memcpy(j->over, in->journal->prepared, CLUSTER_ID_SIZE);
        j->over_revision = another ? MAX(in->revision, UINT64_C(1)) - 1 : in->revision;
        memset(j->prepared, 0, CLUSTER_ID_SIZE);
        j->prepared_revision = 0;
}

void participant_decide(const struct participant_input *in, struct participant_decision *ret)
{
        struct participant_decision d = { .stand = find_stand(in), .journal = *in->journal, .slot = SLOT_NONE };
        struct participant_input released = *in; /* as it is once what is over is */

        released.journal = &d.journal;
        d.release = d.stand != STANDS_NOWHERE && !is_old(in) && is_over(in, d.stand);
        if (d.release)
                release(in, &d.journal);
        d.save = d.release;
        d.hears = find_hears(&released);
        d.action = table[d.stand][d.hears];
        if (d.stand == STANDS_NOWHERE) {
                *ret = d;
                return;
        }
        if (d.stand == STANDS_IN_PLACE && d.hears == HEARS_PEACE && in->record->finalized && !in->set->finalized &&
            in->set->previous != SLOT_NONE)
                d.action = PARTICIPANT_FINALIZE;
        d.abandon = d.hears != HEARS_OLD && is_stale(in);
        if (d.action == PARTICIPANT_REACH) {
                d.journal.reached = in->record->epoch;
                d.save = true;
        }
        if (d.action == PARTICIPANT_SWITCH) {
                d.slot = find_slot(in);
                d.at = instant(in);
                d.way_back = holds(&in->set->slots[in->slot], &in->record->previous);
                /* The same attempt after a crash: its first generation tells whether it was made. */
                d.save = d.save || d.journal.attempted != in->record->epoch;
                if (d.journal.attempted != in->record->epoch)
                        d.journal.attempted_generation = in->set->generation;
                d.journal.attempted = in->record->epoch;
        }
        if (d.hears != HEARS_OLD)
                say(in, &d);
        *ret = d;
}

void participant_prepared(const struct participant_input *in, struct journal *ret)
{
        *ret = *in->journal;
        memcpy(ret->prepared, in->operation->id, CLUSTER_ID_SIZE);
        ret->prepared_revision = in->revision;
}

void participant_abort_local(struct journal *journal)
{
        memcpy(journal->over, journal->prepared, CLUSTER_ID_SIZE);
        memset(journal->prepared, 0, CLUSTER_ID_SIZE);
        journal->over_revision = journal->prepared_revision;
        journal->prepared_revision = 0;
}
