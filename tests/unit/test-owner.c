/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whose the shared configuration is: the rule at boot, restoring cut at every write, and migration hooks. */
#include "base/clock.h"
#include "slot/config.h"
#include "slot/kinds.h"
#include "snapshot/owner.h"
#include "tree.h"
#include "suite.h"

#define HOOKS "hooks"

static char *shared[] = { (char *)"/data/app", (char *)"/data/gone", NULL };
static struct slot_set set;
static struct config config;
static char hooks[PATH_MAX + 16];

static void begin(void)
{
        machine_begin();
        slot_set_init(&set, 2);
        strcpy(set.slots[0].version, "1");
        strcpy(set.slots[1].version, "2");
        config = (struct config){ .shared = shared, .hook_timeout = 10 * USEC_PER_SEC };
        snprintf(hooks, sizeof(hooks), "%s/" HOOKS, dir);
        sh("mkdir " HOOKS "; echo one >root/data/app/setting");
}

static enum owner_action apply(int slot, uint64_t generation)
{
        enum owner_action done = OWNER_NOTHING;

        ck_ok(owner_apply(&place, &config, &set, slot, generation, hooks, NULL, &done, e));
        return done;
}

static struct owner owner(void)
{
        struct owner o = {};

        ck_ok(owner_read(place.data, &o, e));
        return o;
}

/* Seals what is there as what `slot` was left with. */
static void seal(int slot, uint64_t generation)
{
        _cleanup_snapshot_ struct snapshot s = {};

        ck_ok(snapshot_take(&place, shared, slot, set.slots[slot].version, generation, NULL, &s, e));
        memcpy(set.slots[slot].snapshot, s.digest, DIGEST_SIZE);
}

static void ck_setting(const char *expected)
{
        char *now = sh_output("cat root/data/app/setting");

        ck_assert_str_eq(now, expected);
        free(now);
}

static const struct {
        enum owner_phase phase;
        int slot;
        const char *version;
        bool sealed;
        enum owner_action action;
} rule[] = {
        { OWNER_NONE, SLOT_NONE, "", false, OWNER_ADOPT },
        { OWNER_NONE, SLOT_NONE, "", true, OWNER_ADOPT },
        { OWNER_OWNED, 1, "2", false, OWNER_NOTHING },
        { OWNER_OWNED, 1, "2", true, OWNER_NOTHING },
        { OWNER_OWNED, 0, "1", false, OWNER_MIGRATE },
        { OWNER_OWNED, 0, "1", true, OWNER_RESTORE },
        { OWNER_OWNED, 0, "2", false, OWNER_MIGRATE }, /* the same version in another slot is another owner */
        { OWNER_OWNED, 0, "2", true, OWNER_RESTORE },
        { OWNER_OWNED, 1, "1", false, OWNER_MIGRATE }, /* and so is another one in the same slot */
        { OWNER_OWNED, 1, "1", true, OWNER_RESTORE },
        { OWNER_RESTORING, 1, "2", false, OWNER_RESTORE_AND_MIGRATE },
        { OWNER_RESTORING, 1, "2", true, OWNER_RESTORE },
        { OWNER_RESTORING, 0, "1", false, OWNER_RESTORE_AND_MIGRATE },
        { OWNER_RESTORING, 0, "1", true, OWNER_RESTORE },
        { OWNER_MIGRATING, 1, "2", false, OWNER_RESTORE_AND_MIGRATE },
        { OWNER_MIGRATING, 1, "2", true, OWNER_RESTORE },
        { OWNER_MIGRATING, 0, "1", false, OWNER_RESTORE_AND_MIGRATE },
        { OWNER_MIGRATING, 0, "1", true, OWNER_RESTORE },
};

START_TEST(test_rule)
{
        struct owner o = { .phase = rule[_i].phase, .slot = rule[_i].slot };

        strcpy(o.version, rule[_i].version);
        memset(set.slots[1].snapshot, rule[_i].sealed, DIGEST_SIZE);
        ck_assert_int_eq(owner_decide(&o, &set.slots[1], 1), rule[_i].action);
}
END_TEST

START_TEST(test_marker)
{
        struct owner o = { .phase = OWNER_MIGRATING,
                           .slot = 1,
                           .version = "2",
                           .generation = 7,
                           .from_slot = 0,
                           .from_version = "1",
                           .from_snapshot = { 1, 2, 3 } },
                     back;

        ck_assert_int_eq(owner().phase, OWNER_NONE);
        ck_ok(owner_write(place.data, &o, e));
        back = owner();
        ck_assert_int_eq(back.phase, OWNER_MIGRATING);
        ck_assert_int_eq(back.slot, 1);
        ck_assert_str_eq(back.version, "2");
        ck_assert_uint_eq(back.generation, 7);
        ck_assert_int_eq(back.from_slot, 0);
        ck_assert_str_eq(back.from_version, "1");
        ck_assert_mem_eq(back.from_snapshot, o.from_snapshot, DIGEST_SIZE);
        /* A newer program may write more. */
        sh("echo weather=fine >>root/data/bootmgr/owner");
        ck_assert_uint_eq(owner().generation, 7);
}
END_TEST

static const char *const damaged[] = {
        "phase=asleep\\nslot=a\\nversion=1\\n",
        "phase=owned\\nslot=z\\nversion=1\\n",
        "phase=owned\\nslot=a\\nversion=\\n",
        "phase=owned\\nslot=a\\n",
        "phase=owned\\nversion=1\\n",
        "slot=a\\nversion=1\\n",
        "phase=owned\\nnonsense\\n",
        "phase=owned\\ngeneration=-1\\n",
        "phase=owned\\nfrom-snapshot=12\\n",
        "phase=restoring\\nslot=a\\nversion=1\\nfrom-slot=b\\n", /* could not be written again */
        "phase=restoring\\nslot=a\\nversion=1\\nfrom-version=2\\n",
        "",
};

/* What is there is not touched on a guess. */
START_TEST(test_damaged_marker)
{
        enum owner_action done;

        sh("printf '%s' >root/data/bootmgr/owner", damaged[_i]);
        ck_refused(owner_apply(&place, &config, &set, 1, 2, hooks, NULL, &done, e), kind_state_unreadable);
        ck_setting("one");
}
END_TEST

START_TEST(test_life)
{
        ck_assert_int_eq(apply(0, 1), OWNER_ADOPT);
        ck_assert_str_eq(owner().version, "1");
        ck_assert_int_eq(apply(0, 1), OWNER_NOTHING);
        ck_assert_int_eq(apply(0, 3), OWNER_NOTHING);
        ck_assert_uint_eq(owner().generation, 3);

        /* Forward, with a hook, and hooks that are none. */
        seal(0, 3);
        sh("cd " HOOKS "; w='echo \"${0##*/} $BOOTMGR_FROM_VERSION $BOOTMGR_TO_VERSION $BOOTMGR_SLOT\"';"
           "for n in 20-last 10-first .hidden backup~ text; do printf '#!/bin/sh\\n%%s "
           ">>\"$BOOTMGR_DATA/../app/setting\"\\n' "
           "\"$w\" >$n; chmod +x $n; done; chmod -x text; mkdir 30-directory");
        ck_assert_int_eq(apply(1, 4), OWNER_MIGRATE);
        ck_setting("one\n10-first 1 2 b\n20-last 1 2 b");
        ck_assert_int_eq(owner().phase, OWNER_OWNED);

        /* Back, with what came up since removed; and forward to what 2 had. */
        sh("mkdir root/data/gone; echo new >root/data/gone/file; echo more >>root/data/app/setting");
        seal(1, 4);
        ck_assert_int_eq(apply(0, 5), OWNER_RESTORE);
        ck_setting("one");
        sh("[ ! -e root/data/gone ]; ls root/data/bootmgr/discarded | grep -q '^5'");
        ck_assert_int_eq(apply(1, 6), OWNER_RESTORE);
        ck_setting("one\n10-first 1 2 b\n20-last 1 2 b\nmore");
        sh("[ \"$(cat root/data/gone/file)\" = new ]; [ ! -e root/data/bootmgr/restore.journal ]");
}
END_TEST

static const struct {
        const char *script, *says;
} failing[] = {
        { "echo half >root/data/app/setting; echo no such table; exit 7", "status 7: no such table" },
        { "echo half >root/data/app/setting; exec sleep 30", "did not end within 1 s" },
        { "printf 'x%0.s' $(seq 3000); echo; printf 'line 1\\nline\\t2\\n\\n'; exit 1", "status 1: line 1; line 2" },
        { "kill -9 $$", "status" },
};

/* The next boot begins again from the seal, not from the mixture. */
START_TEST(test_failing_hook)
{
        _cleanup_error_ struct error e = {};
        enum owner_action done;

        apply(0, 1);
        seal(0, 1);
        config.hook_timeout = USEC_PER_SEC;
        sh("printf '#!/bin/sh\\ncd %s\\n' >" HOOKS "/10-convert; cat >>" HOOKS "/10-convert <<'END'\n%s\nEND\n"
           "chmod +x " HOOKS "/10-convert",
           dir, failing[_i].script);
        sh("printf '#!/bin/sh\\necho >%s/ran\\n' >" HOOKS "/20-next; chmod +x " HOOKS "/20-next", dir);
        ck_assert_int_lt(owner_apply(&place, &config, &set, 1, 2, hooks, NULL, &done, &e), 0);
        ck_assert_ptr_eq(e.kind, &kind_hook);
        ck_assert_msg(strstr(e.message, failing[_i].says) && strstr(e.message, "10-convert"), "%s", e.message);
        sh("[ ! -e ran ]");
        ck_assert_int_eq(owner().phase, OWNER_MIGRATING);

        sh("printf '#!/bin/sh\\necho two >>%s/root/data/app/setting\\n' >" HOOKS "/10-convert", dir);
        ck_assert_int_eq(apply(1, 2), OWNER_RESTORE_AND_MIGRATE);
        ck_setting("one\ntwo");
        ck_assert_int_eq(owner().phase, OWNER_OWNED);
}
END_TEST

/* Going back after a migration that failed needs no hook. */
START_TEST(test_back_from_failed_hook)
{
        enum owner_action done;

        apply(0, 1);
        seal(0, 1);
        sh("printf '#!/bin/sh\\necho half >%s/root/data/app/setting; exit 1\\n' >" HOOKS "/x; chmod +x " HOOKS "/x", dir);
        ck_refused(owner_apply(&place, &config, &set, 1, 2, hooks, NULL, &done, e), kind_hook);
        ck_setting("half");
        ck_assert_int_eq(apply(0, 3), OWNER_RESTORE);
        ck_setting("one");
}
END_TEST

START_TEST(test_nothing_to_begin_from)
{
        struct owner o = { .phase = OWNER_RESTORING, .slot = 0, .version = "1", .from_slot = SLOT_NONE };
        enum owner_action done;

        ck_ok(owner_write(place.data, &o, e));
        ck_refused(owner_apply(&place, &config, &set, 1, 2, hooks, NULL, &done, e), kind_snapshot_missing);
        ck_setting("one");
}
END_TEST

/* Cut before every write, as a failure and as a power cut: the next try ends it, and nothing lies about. */
START_TEST(test_restore_cut_anywhere)
{
        char *of_one, *of_two;
        unsigned calls = 1;

        sh("mkdir root/data/app/d; seq 2000 >root/data/app/d/numbers; ln root/data/app/setting root/data/app/hard");
        apply(0, 1);
        seal(0, 1);
        of_one = listing("root/data/app");
        sh("rm -r root/data/app/d; echo two >root/data/app/setting; mkdir root/data/gone; echo x >root/data/gone/x");
        seal(1, 2);
        of_two = listing("root/data/app");
        for (unsigned n = 1; n <= 2 * calls; n++) {
                enum owner_action done;
                _cleanup_error_ struct error why = {};
                int r;

                ck_ok(owner_write(place.data,
                                  &(struct owner){ .phase = OWNER_OWNED, .slot = 1, .version = "2", .from_slot = SLOT_NONE },
                                  e));
                ck_same_tree("root/data/app", of_two);
                faults_begin((n + 1) / 2, n % 3 ? -EIO : -ENOSPC, n % 2);
                r = owner_apply(&place, &config, &set, 0, 3, hooks, NULL, &done, &why);
                calls = MAX(calls, faults_end());
                ck_assert_msg(r >= 0 || why.message, "%s, and no message", error_text(r));
                if (owner().phase != OWNER_OWNED || owner().slot != 0)
                        ck_assert_int_eq(apply(0, 3), OWNER_RESTORE);
                ck_same_tree("root/data/app", of_one);
                sh("[ ! -e root/data/gone ]; [ ! -e root/data/bootmgr/restore.journal ]; ! ls -A root/data | grep "
                   "bootmgr-new");
                ck_assert_int_eq(apply(1, 4), OWNER_RESTORE);
        }
        free(of_one);
        free(of_two);
}
END_TEST

/* A restore that another one replaces leaves nothing of itself; a damaged journal is none. */
START_TEST(test_other_restore_takes_over)
{
        apply(0, 1);
        seal(0, 1);
        sh("echo two >root/data/app/setting");
        seal(1, 2);
        sh("mkdir root/data/other root/data/.bootmgr-new.other\n"
           "printf '{\"generation\":9,\"digest\":\"%%064d\",\"paths\":[\"/data/other\"]}' 0 "
           ">root/data/bootmgr/restore.journal");
        ck_assert_int_eq(apply(1, 3), OWNER_RESTORE);
        sh("[ ! -e root/data/.bootmgr-new.other ]; [ -e root/data/other ]; [ ! -e root/data/bootmgr/restore.journal ]\n"
           "echo '{\"generation\":3' >root/data/bootmgr/restore.journal");
        ck_assert_int_eq(apply(0, 4), OWNER_RESTORE);
        ck_setting("one");
}
END_TEST

int main(void)
{
        Suite *s = suite_create("owner");
        TCase *t = tcase_create("all");

        tcase_add_checked_fixture(t, begin, machine_end);
        tcase_set_timeout(t, 120);
        tcase_add_loop_test(t, test_rule, 0, ARRAY_SIZE(rule));
        tcase_add_test(t, test_marker);
        tcase_add_loop_test(t, test_damaged_marker, 0, ARRAY_SIZE(damaged));
        tcase_add_test(t, test_life);
        tcase_add_loop_test(t, test_failing_hook, 0, ARRAY_SIZE(failing));
        tcase_add_test(t, test_back_from_failed_hook);
        tcase_add_test(t, test_nothing_to_begin_from);
        tcase_add_test(t, test_restore_cut_anywhere);
        tcase_add_test(t, test_other_restore_takes_over);
        suite_add_tcase(s, t);
        return suite_run(s);
}
