/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How a node goes to a version that it had before: it is activated, or installed anew, or the node is stranded. */
#include "participant-case.h"

/* Rolled back to version 1 in epoch 5, and upgraded to version 2 again in epoch 6, while it slept: slot b has version 2 from
 * before the rollback, and the configuration of then. */
START_TEST(a_version_that_was_left_is_installed_anew)
{
        record.epoch = 6;
        record.previous_epoch = 5;
        in.slot = 0;
        set.previous = SLOT_NONE;
        expect(STANDS_WITHOUT, HEARS_PEACE, PARTICIPANT_FETCH);
        in.operation = &operation;
        operation.kind = OPERATION_UPGRADE;
        operation.phase = PHASE_ENGINES;
        expect(STANDS_WITHOUT, HEARS_TURN, PARTICIPANT_FETCH);
        in.operation = NULL;
        stage(1); /* by an epoch before that, and cut */
        ck_assert(decide().abandon);
        set.operation_state = OPERATION_ABORTED;
        put_slot(1, 2, SLOT_INSTALLED, 0);
        expect(STANDS_BEHIND, HEARS_PEACE, PARTICIPANT_SWITCH);
        put_slot(1, 2, SLOT_CONFIRMED, 8);
        record.epoch = 8; /* it has missed several, and the newest takes a rollback back: to a version that it never had */
        expect(STANDS_WITHOUT, HEARS_PEACE, PARTICIPANT_FETCH);
        journal.reached = 6; /* that it had */
        expect(STANDS_BEHIND, HEARS_PEACE, PARTICIPANT_SWITCH);
        ck_assert(decide().slot == 1 && decide().way_back);
}
END_TEST

/* A rollback, and one by hand, go back to what the version had. */
START_TEST(a_version_that_is_gone_back_to_is_activated)
{
        record.epoch = 9;
        record.previous_epoch = 8;
        record.running = version(1);
        record.previous = (struct version_id){};
        expect(STANDS_BEHIND, HEARS_PEACE, PARTICIPANT_SWITCH);
        /* It has just joined, with an upgrade of its own behind it. */
        record.previous = version(3);
        journal = (struct journal){};
        expect(STANDS_BEHIND, HEARS_PEACE, PARTICIPANT_SWITCH);
        set.previous = SLOT_NONE;
        expect(STANDS_WITHOUT, HEARS_PEACE, PARTICIPANT_FETCH);
}
END_TEST

/* Version 1 was marked bad, or another was written over it: anew it would run on the configuration of version 2. */
START_TEST(a_way_back_that_is_lost_is_not_fetched)
{
        struct participant_decision d;

        in.operation = &operation;
        participant_prepared(&in, &journal);
        in.revision = 60;
        commit(PHASE_ENGINES);
        slot_set_mark_bad(&set, 0, REASON_OPERATOR);
        expect(STANDS_STRANDED, HEARS_TURN, PARTICIPANT_NOTHING);
        d = decide();
        ck_assert(d.release && d.status.settled && d.journal.attempted == 5); /* a person is free to help it */
        ck_assert_str_eq(d.status.message,
                         "no slot has version 1 with its configuration; 'bootmgr slot mark-good' there if it is only "
                         "marked bad, else 'bootmgr node delete' and join anew");
        journal = d.journal;
        in.operation = NULL;
        put_slot(0, 3, SLOT_INSTALLED, 0);
        expect(STANDS_STRANDED, HEARS_PEACE, PARTICIPANT_NOTHING);
        slot_set_mark_bad(&set, 0, REASON_OPERATOR);
        in.operation = &operation; /* it does not hold up the next one */
        operation.id[0]++;
        operation.phase = PHASE_PREPARE;
        in.revision = 61;
        expect(STANDS_STRANDED, HEARS_OPEN, PARTICIPANT_DECLINE);
        in.operation = NULL;
        record.origin = ORIGIN_GO_BACK; /* of an upgrade to version 2 */
        expect(STANDS_STRANDED, HEARS_PEACE, PARTICIPANT_NOTHING);
        record.origin = ORIGIN_FOLLOW; /* by hand: as a rollback, or to one that is newer */
        expect(STANDS_STRANDED, HEARS_PEACE, PARTICIPANT_NOTHING);
        record.running = version(4);
        expect(STANDS_WITHOUT, HEARS_PEACE, PARTICIPANT_FETCH);
        record.running = version(1);
        record.origin = ORIGIN_COMMIT;
        journal.reached = 3; /* version 1 was left twice, and it has missed that */
        expect(STANDS_STRANDED, HEARS_PEACE, PARTICIPANT_NOTHING);
        record.running = version(4); /* it never was in place with what came after that */
        expect(STANDS_WITHOUT, HEARS_PEACE, PARTICIPANT_FETCH);
        record.running = version(1);
        journal = (struct journal){}; /* it has joined anew */
        expect(STANDS_WITHOUT, HEARS_PEACE, PARTICIPANT_FETCH);
        journal.reached = 5;
        record.running = version(2); /* the rollback is taken back, where version 2 was lost */
        record.previous = version(1);
        in.slot = 0;
        set.generation = 9;
        put_slot(0, 1, SLOT_CONFIRMED, 9);
        slot_set_mark_bad(&set, 1, REASON_OPERATOR);
        expect(STANDS_WITHOUT, HEARS_PEACE, PARTICIPANT_FETCH);
}
END_TEST

/* Version 2 was rolled back from, and version 1.1 came after version 1, while it slept: the configuration of version 1,
 * which the others took to it, is in slot a. */
START_TEST(what_a_rollback_has_left_does_not_go_forward)
{
        record.epoch = 7;
        record.running = version(3);
        strcpy(record.running.version, "1.1");
        record.previous = version(1);
        record.previous_epoch = 6;
        expect(STANDS_STRANDED, HEARS_PEACE, PARTICIPANT_NOTHING);
        ck_assert_str_eq(decide().status.message,
                         "it has missed a rollback to version 1; 'bootmgr rollback system --local' there, and it goes on "
                         "to version 1.1");
        in.slot = 0; /* a person has taken it back: from there it goes on as they did */
        set.generation = 9;
        put_slot(0, 1, SLOT_CONFIRMED, 9);
        expect(STANDS_WITHOUT, HEARS_PEACE, PARTICIPANT_FETCH);
        in.slot = 1;
        record.previous = version(2); /* an upgrade to an older version is one all the same */
        expect(STANDS_WITHOUT, HEARS_PEACE, PARTICIPANT_FETCH);
        record.previous = version(1);
        journal = (struct journal){}; /* it has joined anew */
        expect(STANDS_WITHOUT, HEARS_PEACE, PARTICIPANT_FETCH);
        journal.reached = 5;
        record.running = version(4); /* which carries over what version 2 has, too */
        expect(STANDS_WITHOUT, HEARS_PEACE, PARTICIPANT_FETCH);
}
END_TEST

/* The last epoch of the previous version is out of date where an upgrade was taken back, or that record was finalized, after
 * the controllers had gone elsewhere by hand; or where the first record of all was gone back to. */
START_TEST(who_is_older_than_a_version_without_previous_goes_forward)
{
        static const enum record_origin origins[] = { ORIGIN_FOLLOW, ORIGIN_FINALIZE, ORIGIN_GO_BACK };

        /* Rolled back to version 1 in epoch 5; version 2, which failed here once, is what the controllers were taken to. */
        record.previous = (struct version_id){};
        record.previous_epoch = 1;
        record.epoch = 8;
        record.origin = origins[_i];
        in.slot = 0;
        slot_set_mark_bad(&set, 1, REASON_OPERATOR);
        expect(STANDS_WITHOUT, HEARS_PEACE, PARTICIPANT_FETCH);
        /* The first version; it fell back to what it had before. */
        record.previous_epoch = 0;
        journal.reached = 1;
        expect(STANDS_WITHOUT, HEARS_PEACE, PARTICIPANT_FETCH);
        record.origin = ORIGIN_COMMIT; /* a rollback is one, whatever the versions are called */
        expect(STANDS_STRANDED, HEARS_PEACE, PARTICIPANT_NOTHING);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("way-back");
        TCase *t = tcase_create("way-back");

        tcase_add_checked_fixture(t, setup, NULL);
        tcase_add_test(t, a_version_that_was_left_is_installed_anew);
        tcase_add_test(t, a_version_that_is_gone_back_to_is_activated);
        tcase_add_test(t, a_way_back_that_is_lost_is_not_fetched);
        tcase_add_test(t, what_a_rollback_has_left_does_not_go_forward);
        tcase_add_loop_test(t, who_is_older_than_a_version_without_previous_goes_forward, 0, 3);
        suite_add_tcase(s, t);
        return suite_run(s);
}
