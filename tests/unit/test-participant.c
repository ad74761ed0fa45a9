/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The participant: its table cell by cell, and where a node stands and what it hears for every combination of record, slots,
 * journal and operation. */
#include "participant-case.h"

START_TEST(every_cell_is_meant)
{
        for (int s = 0; s < _STANDS_MAX; s++)
                for (int h = 0; h < _HEARS_MAX; h++) {
                        enum participant_action action = participant_next((enum participant_stand)s,
                                                                          (enum participant_hears)h);
                        enum participant_action expected = PARTICIPANT_NOTHING;
                        bool free = h == HEARS_PEACE || h == HEARS_TURN;

                        if (s == STANDS_FENCED && h != HEARS_OLD)
                                expected = PARTICIPANT_REFUSED;
                        if (s == STANDS_ARRIVED && h != HEARS_OLD)
                                expected = PARTICIPANT_REACH;
                        if (s == STANDS_IN_PLACE)
                                expected = h == HEARS_OPEN       ? PARTICIPANT_PREPARE
                                           : h == HEARS_PREPARED ? PARTICIPANT_VOTE
                                                                 : PARTICIPANT_NOTHING;
                        if (s == STANDS_BEHIND || s == STANDS_WITHOUT || s == STANDS_STRANDED || s == STANDS_FAILED ||
                            s == STANDS_LEFT)
                                expected = h == HEARS_OPEN ? PARTICIPANT_DECLINE : PARTICIPANT_NOTHING;
                        if (free && s == STANDS_BEHIND)
                                expected = PARTICIPANT_SWITCH;
                        if (free && s == STANDS_WITHOUT)
                                expected = PARTICIPANT_FETCH;
                        ck_assert_msg(action == expected, "%s x %s", participant_stand_to_string((enum participant_stand)s),
                                      participant_hears_to_string((enum participant_hears)h));
                }
}
END_TEST

START_TEST(a_rollback_from_its_opening_to_its_end)
{
        struct participant_decision d;
        struct journal next;

        expect(STANDS_IN_PLACE, HEARS_PEACE, PARTICIPANT_NOTHING);
        in.operation = &operation;
        expect(STANDS_IN_PLACE, HEARS_OPEN, PARTICIPANT_PREPARE);
        participant_prepared(&in, &next);
        journal = next;
        expect(STANDS_IN_PLACE, HEARS_PREPARED, PARTICIPANT_VOTE); /* until it is there */
        in.voted = true;
        expect(STANDS_IN_PLACE, HEARS_OTHER, PARTICIPANT_NOTHING);
        in.revision = 60;
        commit(PHASE_CONTROLLERS);
        expect(STANDS_BEHIND, HEARS_NOT_YET, PARTICIPANT_NOTHING);
        ck_assert(!decide().release && !decide().save); /* that slot is what it has promised to go to */
        commit(PHASE_ENGINES);
        expect(STANDS_BEHIND, HEARS_TURN, PARTICIPANT_SWITCH);
        d = decide();
        ck_assert(d.slot == 0 && d.at == 200 && d.save && d.journal.attempted == 6 && d.journal.attempted_generation == 8);
        ck_assert(!d.status.settled && !d.release);
        journal = d.journal;
        slot_set_begin_switch(&set, 0, 0);
        expect(STANDS_WAITING, HEARS_TURN, PARTICIPANT_NOTHING);
        ck_assert(!decide().release);
        slot_set_end_switch(&set, 3);
        in.slot = 0;
        expect(STANDS_WAITING, HEARS_TURN, PARTICIPANT_NOTHING); /* on trial: it has gone there */
        d = decide();
        ck_assert(d.release && d.save && d.journal.over_revision == 60 && is_all_zero(d.journal.prepared, CLUSTER_ID_SIZE));
        journal = d.journal;
        slot_set_confirm(&set, 0);
        expect(STANDS_ARRIVED, HEARS_TURN, PARTICIPANT_REACH);
        d = decide();
        ck_assert(d.save && d.journal.reached == 6 && d.status.settled && d.status.confirmed);
        ck_assert(version_id_equal(&d.status.running, &record.running));
        journal = d.journal;
        in.operation = NULL;
        expect(STANDS_IN_PLACE, HEARS_PEACE, PARTICIPANT_NOTHING);
}
END_TEST

/* Nothing but a record of a newer epoch makes it switch, whatever the operation says. */
START_TEST(no_switch_without_a_commit)
{
        for (int phase = PHASE_PREPARE; phase < _PHASE_MAX; phase++)
                for (int role = 0; role < ROLE_OPERATOR; role++)
                        for (int voted = 0; voted < 2; voted++) {
                                setup();
                                operation.phase = (enum cluster_phase)phase;
                                operation.controllers_at = operation.engines_at = in.order = 1;
                                in.role = (enum node_role)role;
                                in.voted = voted;
                                in.operation = &operation;
                                ck_assert_int_ne(decide().action, PARTICIPANT_SWITCH);
                                participant_prepared(&in, &journal);
                                ck_assert_int_ne(decide().action, PARTICIPANT_SWITCH);
                        }
}
END_TEST

START_TEST(turns)
{
        static const struct {
                enum node_role role;
                enum cluster_phase phase;
                enum engines_mode mode;
                bool one_instant;
                uint64_t order;
                bool mine;
                uint64_t at;
        } rows[] = {
                { ROLE_CONTROLLER, PHASE_CONTROLLERS, ENGINES_TOGETHER, false, 0, true, 100 },
                { ROLE_STANDALONE, PHASE_CONTROLLERS, ENGINES_TOGETHER, false, 0, true, 100 },
                { ROLE_ENGINE, PHASE_CONTROLLERS, ENGINES_TOGETHER, false, 0, false, 0 },
                { ROLE_ENGINE, PHASE_ENGINES, ENGINES_TOGETHER, false, 0, true, 200 },
                { ROLE_ENGINE, PHASE_ENGINES, ENGINES_ROLLING, false, 0, false, 0 },
                { ROLE_ENGINE, PHASE_ENGINES, ENGINES_ROLLING, false, 300, true, 300 },
                { ROLE_ENGINE, PHASE_ENGINES, ENGINES_ROLLING, true, 0, true, 200 },
                { ROLE_ENGINE, PHASE_TAKE_BACK, ENGINES_ROLLING, false, 0, true, 200 },
        };
        struct participant_decision d;

        commit(rows[_i].phase);
        in.role = rows[_i].role;
        in.order = rows[_i].order;
        operation.engines = rows[_i].mode;
        operation.one_instant = rows[_i].one_instant;
        d = decide();
        ck_assert_int_eq(d.hears, rows[_i].mine ? HEARS_TURN : HEARS_NOT_YET);
        ck_assert_int_eq(d.action, rows[_i].mine ? PARTICIPANT_SWITCH : PARTICIPANT_NOTHING);
        ck_assert(!rows[_i].mine || d.at == rows[_i].at);
}
END_TEST

/* It was off, or cut off: the operation is long over. */
START_TEST(who_was_away_follows_at_once)
{
        struct participant_decision d;

        record.epoch = 9;
        record.running = version(1);
        expect(STANDS_BEHIND, HEARS_PEACE, PARTICIPANT_SWITCH);
        d = decide();
        ck_assert(d.slot == 0 && d.at == 0 && d.journal.attempted == 9);
        record.running = version(4);
        expect(STANDS_WITHOUT, HEARS_PEACE, PARTICIPANT_FETCH);
        put_slot(0, 4, SLOT_INSTALLED, 0);
        expect(STANDS_BEHIND, HEARS_PEACE, PARTICIPANT_SWITCH);
        in.operation = &operation; /* another one is being prepared: it waits, and does not hold it up */
        expect(STANDS_BEHIND, HEARS_OPEN, PARTICIPANT_DECLINE);
}
END_TEST

/* A crash between the journal and each write of the switch. */
START_TEST(a_switch_that_was_cut_goes_on_and_one_that_came_back_does_not)
{
        commit(PHASE_ENGINES);
        journal = decide().journal;
        expect(STANDS_BEHIND, HEARS_TURN, PARTICIPANT_SWITCH);
        ck_assert(!decide().save && decide().journal.attempted_generation == 8);
        /* A generation was taken, and no entry was made. */
        slot_set_begin_switch(&set, 0, 0);
        slot_set_drop_switch(&set);
        expect(STANDS_BEHIND, HEARS_TURN, PARTICIPANT_SWITCH);
        ck_assert_uint_eq(decide().journal.attempted_generation, 8);
        /* Prepared for the shutdown that a crash took the place of. */
        set.operation_state = OPERATION_STAGED;
        expect(STANDS_BEHIND, HEARS_TURN, PARTICIPANT_SWITCH);
        set.operation_state = OPERATION_IDLE;
        slot_set_begin_switch(&set, 0, 0);
        slot_set_end_switch(&set, 3);
        slot_set_mark_bad(&set, 0, REASON_HEALTH);
        expect(STANDS_FAILED, HEARS_TURN, PARTICIPANT_NOTHING);
        ck_assert(decide().status.settled);
        in.operation = NULL;
        expect(STANDS_FAILED, HEARS_PEACE, PARTICIPANT_NOTHING);
        record.epoch = 7; /* a new epoch is a new chance; what is bad is not gone to again */
        expect(STANDS_STRANDED, HEARS_PEACE, PARTICIPANT_NOTHING);
        record.previous = version(3); /* which is newer than what the others went on from */
        record.previous_epoch = 6;
        expect(STANDS_STRANDED, HEARS_PEACE, PARTICIPANT_NOTHING);
        record.previous = version(2); /* with an upgrade it is installed anew */
        expect(STANDS_WITHOUT, HEARS_PEACE, PARTICIPANT_FETCH);
}
END_TEST

/* A power cut between the attempt and the shutdown that was to go on with it; the others went on meanwhile. */
START_TEST(what_was_staged_does_not_outlive_its_epoch)
{
        commit(PHASE_CONTROLLERS);
        in.role = ROLE_CONTROLLER;
        journal = decide().journal;
        stage(0);
        expect(STANDS_BEHIND, HEARS_TURN, PARTICIPANT_SWITCH);
        ck_assert(!decide().abandon);
        record.epoch = 7; /* taken back: it is in place, and its next reboot is an ordinary one */
        record.running = version(2);
        operation.phase = PHASE_TAKE_BACK;
        expect(STANDS_ARRIVED, HEARS_TURN, PARTICIPANT_REACH);
        ck_assert(decide().abandon);
        in.fenced = true;
        ck_assert(decide().abandon);
        in.fenced = false;
        record.running = version(3); /* or gone on to another version, which needs the slot */
        record.previous = version(2);
        record.previous_epoch = 6;
        in.operation = NULL;
        expect(STANDS_WITHOUT, HEARS_PEACE, PARTICIPANT_FETCH);
        ck_assert(decide().abandon);
        record.running = version(1); /* a new epoch that goes there all the same */
        record.previous = (struct version_id){};
        record.previous_epoch = 3;
        expect(STANDS_BEHIND, HEARS_PEACE, PARTICIPANT_SWITCH);
        ck_assert(!decide().abandon);
        set.slots[0].state = SLOT_BAD;
        ck_assert(decide().abandon);
}
END_TEST

/* The shutdown found no room for the seal: no slot was changed. Once more would be once more at each boot. */
START_TEST(a_switch_that_its_shutdown_has_given_up_is_the_attempt_of_its_epoch)
{
        commit(PHASE_ENGINES);
        participant_prepared(&in, &journal);
        journal = decide().journal;
        stage(0);
        expect(STANDS_BEHIND, HEARS_TURN, PARTICIPANT_SWITCH); /* a cut took the place of the shutdown */
        set.operation_state = OPERATION_ABORTED;               /* or came before the entry */
        expect(STANDS_BEHIND, HEARS_TURN, PARTICIPANT_SWITCH);
        set.operation_state = OPERATION_FAILED;
        expect(STANDS_FAILED, HEARS_TURN, PARTICIPANT_NOTHING);
        ck_assert(decide().unmade && decide().status.settled && decide().release);
        ck_assert_str_eq(decide().status.message, "its shutdown could not switch");
        in.operation = NULL;
        expect(STANDS_FAILED, HEARS_PEACE, PARTICIPANT_NOTHING);
        set.operation_id[0]++; /* an operator's has failed since: that was not the cluster's attempt */
        expect(STANDS_BEHIND, HEARS_PEACE, PARTICIPANT_SWITCH);
        set.operation_id[0]--;
        record.epoch = 7; /* a new epoch is a new chance */
        expect(STANDS_BEHIND, HEARS_PEACE, PARTICIPANT_SWITCH);
        record.epoch = 6;
        memset(journal.staged, 0, sizeof(journal.staged));
        memset(set.operation_id, 0, sizeof(set.operation_id));
        expect(STANDS_BEHIND, HEARS_PEACE, PARTICIPANT_SWITCH);
}
END_TEST

START_TEST(only_what_the_cluster_has_staged_is_given_up)
{
        stage(0);
        ck_assert(decide().abandon);
        set.operation_id[0]++; /* an operator's */
        ck_assert(!decide().abandon);
        memset(journal.staged, 0, sizeof(journal.staged));
        memset(set.operation_id, 0, sizeof(set.operation_id));
        ck_assert(!decide().abandon);
        stage(0);
        set.operation_state = OPERATION_RUNNING;
        ck_assert(!decide().abandon);
        set.operation_state = OPERATION_STAGED;
        record.epoch = 4; /* an old view teaches nothing */
        ck_assert(decide().hears == HEARS_OLD && !decide().abandon);
}
END_TEST

START_TEST(who_is_taken_off_by_hand_stays_so)
{
        slot_set_begin_switch(&set, 0, 0);
        slot_set_end_switch(&set, 0);
        in.slot = 0;
        expect(STANDS_LEFT, HEARS_PEACE, PARTICIPANT_NOTHING);
        ck_assert(decide().status.settled && decide().status.epoch == 5);
        ck_assert_str_eq(decide().status.running.version, "1");
        /* The majority did the same, and the record follows it. */
        record.epoch = 6;
        record.running = version(1);
        expect(STANDS_ARRIVED, HEARS_PEACE, PARTICIPANT_REACH);
}
END_TEST

START_TEST(old_views_teach_nothing)
{
        struct participant_decision d;

        in.operation = &operation;
        participant_prepared(&in, &journal);
        in.operation = NULL;
        in.revision = 49; /* from before it was opened */
        expect(STANDS_IN_PLACE, HEARS_OLD, PARTICIPANT_NOTHING);
        ck_assert(!decide().release && !decide().save);
        in.revision = 51; /* it is over */
        d = decide();
        ck_assert(d.release && d.hears == HEARS_PEACE);
        journal = d.journal;
        in.operation = &operation;
        in.revision = 50; /* and this is older */
        expect(STANDS_IN_PLACE, HEARS_OTHER, PARTICIPANT_NOTHING);
        operation.id[0] = 7;
        in.revision = 51;
        expect(STANDS_IN_PLACE, HEARS_OTHER, PARTICIPANT_NOTHING);
        in.revision = 52; /* another one */
        expect(STANDS_IN_PLACE, HEARS_OPEN, PARTICIPANT_PREPARE);
        record.epoch = 4;
        record.running = version(1);
        in.operation = NULL;
        expect(STANDS_BEHIND, HEARS_OLD, PARTICIPANT_NOTHING);
}
END_TEST

/* It was cut off while the one was aborted and the next was opened: no newer view may come before that one's deadline, since
 * votes are news to nobody. */
START_TEST(the_view_that_releases_it_is_answered)
{
        struct participant_decision d;

        in.operation = &operation;
        participant_prepared(&in, &journal);
        operation.id[0] = 7;
        in.revision = 60;
        expect(STANDS_IN_PLACE, HEARS_OPEN, PARTICIPANT_PREPARE);
        d = decide();
        ck_assert(d.release && d.save && d.journal.over[0] == 9 && is_all_zero(d.journal.prepared, CLUSTER_ID_SIZE));
        journal = d.journal;
        expect(STANDS_IN_PLACE, HEARS_OPEN, PARTICIPANT_PREPARE); /* what was in its way will pass */
        in.revision = 59;                                         /* opened before, and over since */
        operation.id[0] = 8;
        expect(STANDS_IN_PLACE, HEARS_OTHER, PARTICIPANT_NOTHING);
        operation.id[0] = 9;
        in.revision = 60;
        expect(STANDS_IN_PLACE, HEARS_OTHER, PARTICIPANT_NOTHING);
}
END_TEST

/* It would be fenced, and told nothing more: its promise would never be over. */
START_TEST(who_is_not_asked_promises_nothing)
{
        in.operation = &operation;
        in.asked = false;
        expect(STANDS_IN_PLACE, HEARS_OTHER, PARTICIPANT_NOTHING);
        record.running = version(1);
        record.epoch = 6;
        expect(STANDS_BEHIND, HEARS_OTHER, PARTICIPANT_NOTHING);
}
END_TEST

/* The operation goes on without it, or is over, or others have taken it elsewhere. */
START_TEST(who_is_behind_is_bound_until_it_has_gone_there)
{
        journal = (struct journal){}; /* it has just joined */
        in.operation = &operation;
        participant_prepared(&in, &journal);
        in.revision = 60;
        commit(PHASE_CONTROLLERS);
        put_slot(0, 3, SLOT_CONFIRMED, 7);
        expect(STANDS_WITHOUT, HEARS_NOT_YET, PARTICIPANT_NOTHING);
        ck_assert(!decide().release);
        in.fenced = true;
        ck_assert(decide().release);
        in.fenced = false;
        in.operation = NULL;
        ck_assert(decide().release);
        in.operation = &operation;
        operation.id[0]++;
        ck_assert(decide().release);
        operation.id[0]--;
        operation.phase = PHASE_TAKE_BACK; /* it never left */
        record.epoch = 7;
        record.running = version(2);
        expect(STANDS_ARRIVED, HEARS_TURN, PARTICIPANT_REACH);
        ck_assert(decide().release);
        commit(PHASE_ENGINES);
        participant_abort_local(&journal); /* as before the commit */
        expect(STANDS_WITHOUT, HEARS_TURN, PARTICIPANT_FETCH);
        ck_assert(!decide().release && is_all_zero(decide().journal.prepared, CLUSTER_ID_SIZE));
}
END_TEST

START_TEST(abort_local_frees_it_for_good)
{
        in.operation = &operation;
        participant_prepared(&in, &journal);
        participant_abort_local(&journal);
        ck_assert(is_all_zero(journal.prepared, CLUSTER_ID_SIZE));
        in.revision = 70;
        expect(STANDS_IN_PLACE, HEARS_OTHER, PARTICIPANT_NOTHING);
        commit(PHASE_ENGINES); /* the others went on: so does it, once it hears of it */
        expect(STANDS_BEHIND, HEARS_TURN, PARTICIPANT_SWITCH);
}
END_TEST

START_TEST(the_fenced_and_the_deleted_do_nothing)
{
        commit(PHASE_TAKE_BACK);
        in.fenced = true;
        expect(STANDS_FENCED, HEARS_TURN, PARTICIPANT_REFUSED);
        ck_assert(!decide().save);
        in.member = false;
        expect(STANDS_NOWHERE, HEARS_TURN, PARTICIPANT_NOTHING);
        ck_assert(!decide().save);
}
END_TEST

START_TEST(a_finalize_reaches_every_node)
{
        record.finalized = true;
        expect(STANDS_IN_PLACE, HEARS_PEACE, PARTICIPANT_FINALIZE);
        set.finalized = true;
        expect(STANDS_IN_PLACE, HEARS_PEACE, PARTICIPANT_NOTHING);
        set.finalized = false;
        set.previous = SLOT_NONE;
        expect(STANDS_IN_PLACE, HEARS_PEACE, PARTICIPANT_NOTHING);
}
END_TEST

/* Whatever the record of the slots, the journal and the cluster say: one answer, and never a slot that cannot boot. */
START_TEST(every_input_has_an_answer)
{
        static const enum slot_state states[] = { SLOT_EMPTY, SLOT_INCOMPLETE, SLOT_INSTALLED,
                                                  SLOT_TRIAL, SLOT_CONFIRMED,  SLOT_BAD };
        unsigned long n = 0, switches = 0;

        for (size_t other = 0; other < ARRAY_SIZE(states); other++)
                for (size_t mine = SLOT_INSTALLED; mine < ARRAY_SIZE(states); mine++)
                        for (unsigned running = 1; running <= 3; running++)
                                for (uint64_t epoch = 4; epoch <= 7; epoch++)
                                        for (int phase = -1; phase < _PHASE_MAX; phase++)
                                                for (unsigned bits = 0; bits < 64; bits++) {
                                                        struct participant_decision d;

                                                        setup();
                                                        put_slot(0, 1, states[other], other <= SLOT_INSTALLED ? 0 : 7);
                                                        put_slot(1, 2, states[mine], 8);
                                                        record.running = version(running);
                                                        record.epoch = epoch;
                                                        operation.phase = (enum cluster_phase)MAX(phase, 0);
                                                        in.operation = phase < 0 ? NULL : &operation;
                                                        in.role = bits & 1 ? ROLE_CONTROLLER : ROLE_ENGINE;
                                                        in.voted = bits & 2;
                                                        journal.prepared[0] = bits & 4 ? 9 : 0;
                                                        journal.attempted = bits & 8 ? 6 : 5;
                                                        journal.reached = bits & 16 ? 4 : 5;
                                                        in.order = bits & 32 ? 1 : 0;
                                                        participant_decide(&in, &d);
                                                        n++;
                                                        ck_assert(d.journal.attempted >= journal.attempted);
                                                        ck_assert(d.journal.reached >= journal.reached);
                                                        if (d.action != PARTICIPANT_SWITCH)
                                                                continue;
                                                        switches++;
                                                        ck_assert(d.slot == 0 && slot_is_selectable(&set.slots[0]));
                                                        ck_assert(running == 1 && epoch > journal.reached &&
                                                                  epoch >= journal.attempted);
                                                        ck_assert_uint_eq(d.journal.attempted, epoch);
                                                }
        ck_assert(n > 10000 && switches > 100);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("participant");
        TCase *t = tcase_create("participant");

        tcase_set_timeout(t, 60);
        tcase_add_checked_fixture(t, setup, NULL);
        tcase_add_test(t, every_cell_is_meant);
        tcase_add_test(t, a_rollback_from_its_opening_to_its_end);
        tcase_add_test(t, no_switch_without_a_commit);
        tcase_add_loop_test(t, turns, 0, 8);
        tcase_add_test(t, who_was_away_follows_at_once);
        tcase_add_test(t, a_switch_that_was_cut_goes_on_and_one_that_came_back_does_not);
        tcase_add_test(t, what_was_staged_does_not_outlive_its_epoch);
        tcase_add_test(t, a_switch_that_its_shutdown_has_given_up_is_the_attempt_of_its_epoch);
        tcase_add_test(t, only_what_the_cluster_has_staged_is_given_up);
        tcase_add_test(t, who_is_taken_off_by_hand_stays_so);
        tcase_add_test(t, old_views_teach_nothing);
        tcase_add_test(t, the_view_that_releases_it_is_answered);
        tcase_add_test(t, who_is_not_asked_promises_nothing);
        tcase_add_test(t, who_is_behind_is_bound_until_it_has_gone_there);
        tcase_add_test(t, abort_local_frees_it_for_good);
        tcase_add_test(t, the_fenced_and_the_deleted_do_nothing);
        tcase_add_test(t, a_finalize_reaches_every_node);
        tcase_add_test(t, every_input_has_an_answer);
        suite_add_tcase(s, t);
        return suite_run(s);
}
