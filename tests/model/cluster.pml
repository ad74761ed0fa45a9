/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The cluster protocol of docs/cluster.md for SPIN: 2 controllers, 2 engines. `run` beside this file checks it in several forms.
 *
 * The store: one variable for each thing that it holds, since etcd orders all writes. A coordinator reads, and writes some time
 * later; the write holds only if what it compares is as it was, which is what revisions are for. Here a write that would fail is
 * taken back the moment it becomes so (`pending`). What the coordinator before sent may still arrive after another took over.
 *
 * Messages: a view is what the store said after a write. A node acts on any of the last DELAY + 1 views, at any time, in any
 * order, as often as it likes, or never: so they are lost, delayed, repeated and overtaken without one being modelled. A vote
 * that was sent arrives at any time, or never.
 *
 * Crashes: a node that is down is one that takes no step. What a crash adds is that what was only in memory is gone: `target`
 * and `pending`. Deadlines pass at any time, so a vote of NO is one that never arrives.
 *
 * Steps that would change nothing are not enabled, and what may go wrong is counted. So every run comes to rest, and where
 * nothing moves any more each node must be where it belongs. */

#ifndef OPERATIONS
#define OPERATIONS 1 /* opened in a run */
#endif
#ifndef CHANGES
#define CHANGES 1 /* of the coordinator */
#endif
#ifndef CRASHES
#define CRASHES 2 /* of any node between its journal and its switch */
#endif
#ifndef FAILURES
#define FAILURES 1 /* trials of a controller that do not come up */
#endif
#ifndef MANUAL
#define MANUAL 0 /* controllers that are taken back by hand (install.sh --rollback), while they have promised nothing */
#endif
#ifndef ITSELF
#define ITSELF 0 /* 1: they go back by themselves (rollback.target), which no promise holds up */
#endif
#ifndef THIRD
#define THIRD 0 /* 1: engine 3 joins as a third controller. For runs without an operation */
#endif
#ifndef FEWER
#define FEWER 0 /* 1: there is no engine 3 */
#endif
#ifndef JOINS
#define JOINS 0 /* how often engine 3 may join, and be deleted to join anew; 0: it is a member from the beginning */
#endif
#ifndef LOCAL_ABORTS
#define LOCAL_ABORTS 0 /* abort --local on engine 2 */
#endif
#ifndef DELAY
#define DELAY 2
#endif
#ifndef UPGRADE
#define UPGRADE 0 /* 1: begins on version 1, to be upgraded; 0: begins on version 2, to be rolled back */
#endif
#ifndef TOGETHER
#define TOGETHER 0 /* one instant for all */
#endif
#ifndef VOTERS
#define VOTERS 2 /* whose YES a commit needs: the controllers; 4: all (--strict) */
#endif
#ifndef BREAK
#define BREAK 0
#endif

#define NODES       4
#define CONTROLLERS 2
#define EPOCHS      8
#define NEVER       255 /* joined: no member */

/* The phase of the operation. */
#define IDLE        0
#define PREPARE     1
#define CONTROL     2 /* committed: the controllers' turn */
#define ENGINES     3 /* committed: everybody's turn */
#define TAKE_BACK   4 /* decided anew: everybody's turn */

/* What a coordinator is about to write. */
#define NOTHING     0
#define OPEN        1
#define COMMIT      2
#define ABORT       3
#define GO_ON       4
#define GO_BACK     5
#define FINISH      6
#define FOLLOW      7
#define WRITE_FENCE 8 /* BREAK 3 only */

/* ---- the store ---- */

byte epoch = 1, version = 2 - UPGRADE;           /* the cluster's record … */
byte previous = 1 - UPGRADE, previous_epoch;     /* … the version to go back to, 0: none, and its last epoch: that of the snapshot */
byte fence_from = 1, fence_to;                   /* epochs whose newcomers are refused; none while from > to */
byte operation, phase, from_version, to_version; /* the open operation; 0: none */
byte opened;
byte before_previous, before_from = 1, before_to; /* what GO_BACK restores */
bit formed;                                       /* the controllers have, in the open operation */
bit vote[NODES];
byte status_epoch[CONTROLLERS + THIRD], status_version[CONTROLLERS + THIRD]; /* settled in that epoch, running that version */
byte joined[NODES];                                          /* the epoch in which it became a member */

/* The last views, newest first, and how many there ever were. */
byte views, view_epoch[3], view_version[3], view_operation[3], view_phase[3], view_from[3], view_to[3];
byte view_until[3]; /* who joined later is not asked for a vote: the rollback would fence it */

/* ---- coordinators ---- */

byte lead, changes;
byte pending[CONTROLLERS];
bit joining;

/* ---- nodes ---- */

byte running[NODES];
byte prepared[NODES], prepared_view[NODES]; /* journal: voted YES in this operation, having seen that many views */
byte over[NODES];                           /* journal: this operation and those before are over, or given up by abort --local */
byte attempted[NODES];                      /* journal: began to switch in this epoch */
byte reached[NODES];                        /* journal: ran the record's version in this epoch */
byte failed[NODES];                         /* record of the slots: the switch of this epoch was made and came back */
byte sent[NODES];                           /* its vote for this operation is on its way */
byte target[NODES];                         /* memory: about to switch to; 0: not */

byte crashes, failures, locals, joins;
bit by_hand[CONTROLLERS];

/* ---- what only the properties look at ---- */

byte committed[EPOCHS]; /* the version of each epoch */
bit decided;            /* the open operation */
bit outsider[NODES];    /* joined after the snapshot that the cluster went back to … */
byte outsider_view;     /* … which views say from this one on */

#define FENCED(n)       (joined[n] >= fence_from && joined[n] <= fence_to)
#define SETTLED(n)      (reached[n] == epoch || failed[n] == epoch)
#define HAS_REACHED(c)  (status_epoch[c] == epoch && status_version[c] == version)
#define HAS_LEFT(c)     (status_epoch[c] == epoch && status_version[c] != version)
/* A third controller counts, and decides, as long as it is a member and not fenced. It has the last status. There are two versions:
 * all that have left the record's have left for the same. */
#define THIRD_COUNTS    (THIRD && joined[3] != NEVER && !FENCED(3))
#define MAJORITY(a, b, c) (2 * ((a) + (b) + (THIRD_COUNTS && (c))) > CONTROLLERS + THIRD_COUNTS)
#define MAJORITY_LEFT   MAJORITY(HAS_LEFT(0), HAS_LEFT(1), HAS_LEFT(CONTROLLERS + THIRD - 1))
#define IS_LATER(n)     (to_version == previous && joined[n] > previous_epoch)
#define ALL_YES         (vote[0] && vote[1] && (VOTERS < 3 || (vote[2] && (vote[3] || joined[3] == NEVER || FENCED(3) || IS_LATER(3)))))

/* A write of record or operation: every write that compares them fails from now on. */
inline publish()
{
        views++;
        view_epoch[2] = view_epoch[1]; view_version[2] = view_version[1]; view_operation[2] = view_operation[1];
        view_phase[2] = view_phase[1]; view_from[2] = view_from[1]; view_to[2] = view_to[1]; view_until[2] = view_until[1];
        view_epoch[1] = view_epoch[0]; view_version[1] = view_version[0]; view_operation[1] = view_operation[0];
        view_phase[1] = view_phase[0]; view_from[1] = view_from[0]; view_to[1] = view_to[0]; view_until[1] = view_until[0];
        view_epoch[0] = epoch; view_version[0] = version; view_operation[0] = operation;
        view_phase[0] = phase; view_from[0] = fence_from; view_to[0] = fence_to;
        view_until[0] = (BREAK != 7 && phase == PREPARE && to_version == previous -> previous_epoch : NEVER - 1);
        joining = 0;
        if
        :: BREAK != 1 -> pending[0] = NOTHING; pending[1] = NOTHING
        :: else
        fi
}

/* A write of a vote or of a controller's status: the same for those that compare these. */
inline votes_changed()
{
        if
        :: pending[0] == COMMIT || pending[0] == FOLLOW -> pending[0] = NOTHING
        :: else
        fi;
        if
        :: pending[1] == COMMIT || pending[1] == FOLLOW -> pending[1] = NOTHING
        :: else
        fi
}

/* Somebody joined, or was deleted: the same for those that compare who is a member. */
inline members_changed()
{
        if
        :: pending[0] == OPEN || pending[0] == COMMIT || pending[0] == FOLLOW -> pending[0] = NOTHING
        :: else
        fi;
        if
        :: pending[1] == OPEN || pending[1] == COMMIT || pending[1] == FOLLOW -> pending[1] = NOTHING
        :: else
        fi
}

inline close_operation()
{
        operation = 0; phase = IDLE; from_version = 0; to_version = 0; decided = 0; formed = 0;
        before_previous = 0; before_from = 1; before_to = 0;
        vote[0] = 0; vote[1] = 0; vote[2] = 0; vote[3] = 0;
        sent[0] = 0; sent[1] = 0; sent[2] = 0; sent[3] = 0
}

/* Going back to the previous version: who joined after its last epoch is not part of its snapshot. */
inline fence_newcomers()
{
        outsider_view = views + 1;
        outsider[2] = outsider[2] || (joined[2] != NEVER && joined[2] > previous_epoch);
        outsider[3] = outsider[3] || (joined[3] != NEVER && joined[3] > previous_epoch);
        if
        :: BREAK != 3 -> fence_from = previous_epoch + 1; fence_to = epoch
        :: else
        fi
}

inline new_epoch(v)
{
        epoch++;
        assert(epoch < EPOCHS);
        version = v;
        committed[epoch] = v
}

/* ---- what coordinators write; the names are those of docs/cluster.md and cluster/coordinator.h ---- */

inline open()
{
        opened++;
        operation = opened; phase = PREPARE; from_version = version; to_version = 3 - version;
        publish()
}

inline commit()
{
        assert(!decided && operation);
        decided = 1;
        before_previous = previous; before_from = fence_from; before_to = fence_to;
        if
        :: to_version == previous -> fence_newcomers(); previous = 0
        :: else -> previous = version; previous_epoch = epoch
        fi;
        new_epoch(to_version);
        phase = (TOGETHER -> ENGINES : CONTROL);
        publish()
}

inline abort()
{
        assert(!decided && operation);
        close_operation();
        publish()
}

inline go_on()
{
        phase = ENGINES; formed = 1;
        publish()
}

inline go_back()
{
        assert(!formed);
        /* What an upgrade has overwritten is no way back any more. */
        previous = (to_version == 2 -> 0 : before_previous);
        fence_from = before_from; fence_to = before_to;
        outsider[2] = 0; outsider[3] = 0;
        new_epoch(from_version);
        phase = TAKE_BACK;
        publish()
}

inline finish()
{
        close_operation();
        publish()
}

inline follow()
{
        v = (HAS_LEFT(0) -> status_version[0] : status_version[1]);
        assert(MAJORITY(running[0] == v, running[1] == v, running[3] == v));
        if
        :: v == previous -> fence_newcomers()
        :: else
        fi;
        previous = 0;
        new_epoch(v);
        v = 0;
        publish()
}

/* The second coordinator is that of the third controller, where there is one: fenced, or no member, it decides nothing. */
#define LEADS(c) (THIRD && !THIRD_COUNTS -> c == 0 : lead == c)
#define READS(c, condition, what) :: d_step { LEADS(c) && pending[c] == NOTHING && (condition) -> pending[c] = what }

proctype coordinator(byte c)
{
        byte v;
end:
        do
        READS(c, phase == IDLE && opened < OPERATIONS && HAS_REACHED(0) && HAS_REACHED(1) && (version == 1 || previous), OPEN)
        READS(c, phase == PREPARE && ALL_YES, COMMIT)
        READS(c, phase == PREPARE, ABORT) /* a veto, the deadline, an operator */
        READS(c, (phase == CONTROL || (TOGETHER && phase == ENGINES && !formed)) && HAS_REACHED(0) && HAS_REACHED(1), GO_ON)
        READS(c, phase == CONTROL || (TOGETHER && phase == ENGINES && !formed), GO_BACK)
        READS(c, phase == ENGINES || phase == TAKE_BACK, FINISH)
        READS(c, phase == IDLE && (MAJORITY_LEFT || (BREAK == 6 && (HAS_LEFT(0) || HAS_LEFT(1)))), FOLLOW)
#if BREAK == 3
        READS(c, (outsider[2] || outsider[3]) && fence_to == 0, WRITE_FENCE)
        :: d_step { pending[c] == WRITE_FENCE -> fence_from = previous_epoch + 1; fence_to = epoch - 1; pending[c] = 0; publish() }
#endif
        :: d_step { pending[c] == OPEN -> pending[c] = NOTHING; open() }
        :: d_step { pending[c] == COMMIT -> pending[c] = NOTHING; commit() }
        :: d_step { pending[c] == ABORT -> pending[c] = NOTHING; abort() }
        :: d_step { pending[c] == GO_ON -> pending[c] = NOTHING; go_on() }
        :: d_step { pending[c] == GO_BACK -> pending[c] = NOTHING; go_back() }
        :: d_step { pending[c] == FINISH -> pending[c] = NOTHING; finish() }
        :: d_step { pending[c] == FOLLOW -> pending[c] = NOTHING; follow() }
        :: d_step { pending[c] && !LEADS(c) -> pending[c] = NOTHING } /* lost */
        od
}

/* ---- nodes; the names are those of cluster/participant.h ---- */

/* View k is older than what this node has acted on, or it is refused. */
#define TAKES(n, k)                                                                                                         \
        (joined[n] != NEVER && views >= k && !(prepared[n] && views - k < prepared_view[n]) && view_epoch[k] >= attempted[n] && \
         view_epoch[k] >= reached[n] && !(joined[n] >= view_from[k] && joined[n] <= view_to[k]))
#define MAY_PREPARE(n, k)                                                                                                   \
        (view_phase[k] == PREPARE && !prepared[n] && over[n] < view_operation[k] && view_epoch[k] == reached[n] &&          \
         running[n] == view_version[k] && joined[n] <= view_until[k])
/* It has not gone where it is to go, nor tried to: until then its slots are what it has promised. */
#define TO_GO(n, k)                                                                                                         \
        (target[n] || (running[n] != view_version[k] && reached[n] != view_epoch[k] && failed[n] != view_epoch[k]))
#define MAY_RELEASE(n, k)                                                                                                   \
        (prepared[n] && (view_operation[k] != prepared[n] || (view_phase[k] != PREPARE && !TO_GO(n, k))))
#define MY_TURN(n, k)     (view_phase[k] == IDLE || view_phase[k] >= ENGINES || (view_phase[k] == CONTROL && n < CONTROLLERS))
#define MAY_SWITCH(n, k)                                                                                                    \
        (MY_TURN(n, k) && !target[n] && view_epoch[k] > reached[n] && running[n] != view_version[k] &&                      \
         failed[n] != view_epoch[k] && (BREAK != 5 || attempted[n] != view_epoch[k]))
#define MAY_REACH(n, k) (!target[n] && view_epoch[k] > reached[n] && running[n] == view_version[k])
#define GETS_IN(n, k)   assert(!(outsider[n] && views - k >= outsider_view))

#define NODE_STEPS(n, k)                                                                                                    \
        :: d_step { TAKES(n, k) && MAY_PREPARE(n, k) ->                                                                     \
                GETS_IN(n, k);                                                                                              \
                prepared[n] = view_operation[k];                                                                            \
                prepared_view[n] = views - k;                                                                               \
                sent[n] = (n < VOTERS && prepared[n] == operation -> operation : 0) }                                                    \
        :: d_step { TAKES(n, k) && MAY_RELEASE(n, k) ->                                                                     \
                GETS_IN(n, k);                                                                                              \
                over[n] = prepared[n];                                                                                      \
                prepared[n] = 0;                                                                                            \
                prepared_view[n] = 0 }                                                                                      \
        :: d_step { TAKES(n, k) && MAY_SWITCH(n, k) ->                                                                      \
                GETS_IN(n, k);                                                                                              \
                attempted[n] = view_epoch[k];                                                                               \
                target[n] = view_version[k] }                                                                               \
        :: d_step { TAKES(n, k) && MAY_REACH(n, k) -> GETS_IN(n, k); reached[n] = view_epoch[k] }

proctype node(byte n)
{
end:
        do
        NODE_STEPS(n, 0)
#if DELAY >= 1
        NODE_STEPS(n, 1)
#endif
#if DELAY >= 2
        NODE_STEPS(n, 2)
#endif
        /* The switch and the reboot into it; or the trial fails, and the node is back where it was. */
        :: atomic { target[n] ->
                assert(target[n] == committed[attempted[n]]);
                if
                :: running[n] = target[n]
                :: n < CONTROLLERS && failures < FAILURES -> failures++; failed[n] = attempted[n]
                fi;
                target[n] = 0 }
        :: d_step { target[n] && crashes < CRASHES -> crashes++; target[n] = 0 }
        /* Its vote arrives. The store takes those of members that are let in, for the operation that is open. */
        :: d_step { n < VOTERS && sent[n] && sent[n] == operation && phase == PREPARE && !FENCED(n) && !vote[n] ->
                vote[n] = 1; votes_changed() }
        :: d_step { n < CONTROLLERS && !target[n] && SETTLED(n) && (status_epoch[n] != epoch || status_version[n] != running[n]) ->
                status_epoch[n] = epoch; status_version[n] = running[n]; votes_changed() }
#if THIRD
        :: d_step { n == 3 && THIRD_COUNTS && !target[n] && SETTLED(n) && (status_epoch[2] != epoch || status_version[2] != running[n]) ->
                status_epoch[2] = epoch; status_version[2] = running[n]; votes_changed() }
#endif
#if BREAK == 2
        /* It believes the controller that it is connected to. */
        :: d_step { n >= CONTROLLERS && !target[n] && phase == IDLE && running[0] != running[n] ->
                attempted[n] = epoch; target[n] = running[0] }
#endif
#if BREAK == 4
        /* It takes its own vote for the decision. */
        :: d_step { prepared[n] && prepared[n] == operation && phase == PREPARE && !target[n] && running[n] != to_version ->
                attempted[n] = epoch; target[n] = to_version }
#endif
        od
}

/* ---- what people do, and who coordinates ---- */

proctype people()
{
end:
        do
        :: d_step { changes < CHANGES -> changes++; lead = 1 - lead }
#if MANUAL >= 1
        :: d_step { !by_hand[0] && !target[0] && running[0] == 2 && (ITSELF || !prepared[0]) -> by_hand[0] = 1; running[0] = 1 }
#endif
#if MANUAL >= 2
        :: d_step { !by_hand[1] && !target[1] && running[1] == 2 && (ITSELF || !prepared[1]) -> by_hand[1] = 1; running[1] = 1 }
#endif
#if LOCAL_ABORTS
        :: d_step { locals < LOCAL_ABORTS && prepared[2] -> locals++; over[2] = prepared[2]; prepared[2] = 0; prepared_view[2] = 0 }
#endif
#if JOINS
        /* A controller reads, then writes the new member: only if record and operation are as they were. */
        :: d_step { !joining && joined[3] == NEVER && joins < JOINS && phase == IDLE -> joining = 1 }
        :: d_step { joining -> joining = 0; joins++; joined[3] = epoch; running[3] = version; members_changed() }
        :: d_step { joined[3] != NEVER && FENCED(3) && phase == IDLE && joins < JOINS && !target[3] ->
                joined[3] = NEVER; outsider[3] = 0; prepared[3] = 0; prepared_view[3] = 0; over[3] = 0; reached[3] = 0;
                attempted[3] = 0; status_epoch[CONTROLLERS + THIRD - 1] = (THIRD -> 0 : status_epoch[CONTROLLERS + THIRD - 1]);
                members_changed() }
#endif
        od
}

/* ---- where everything has come to rest ---- */

/* Who is excused: who is no member or refused; a controller that was taken back by hand, until there is a new record; and
 * where the one trial of an epoch did not come up. */
#define EXCUSED(n)                                                                                                          \
        (joined[n] == NEVER || FENCED(n) || (n < CONTROLLERS && by_hand[n] && reached[n] == epoch) || failed[n] == epoch)
#define IN_PLACE(n) (EXCUSED(n) || (running[n] == version && reached[n] == epoch && !prepared[n]))

proctype rest()
{
        timeout;
        assert(phase == IDLE && !pending[0] && !pending[1]);
        assert(IN_PLACE(0));
        assert(IN_PLACE(1));
        assert(IN_PLACE(2));
        assert(IN_PLACE(3));
        assert(!FENCED(3) || !prepared[3]); /* nobody would let it out of that */
        assert(!MAJORITY_LEFT)
}

init
{
        atomic {
                committed[1] = version; view_epoch[0] = 1; view_version[0] = version; view_from[0] = 1; view_from[1] = 1; view_from[2] = 1;
                running[0] = version; running[1] = version; running[2] = version; running[3] = version;
                reached[0] = 1; reached[1] = 1; reached[2] = 1; reached[3] = (JOINS -> 0 : 1);
                status_epoch[0] = 1; status_epoch[1] = 1; status_version[0] = version; status_version[1] = version;
                joined[3] = (JOINS || FEWER -> NEVER : 0);
                run coordinator(0); run coordinator(1);
                run node(0); run node(1); run node(2);
#if !FEWER
                run node(3);
#endif
                run people(); run rest()
        }
}
