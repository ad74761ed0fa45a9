/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* This machine's part in its cluster (docs/cluster.md), by what lies in its data directory (cluster/home.h); a machine that
 * stands alone has none.
 *
 *      controller   store ──watch──▶ replica ──▶ view ─┬─▶ coordinator_decide() ──▶ store     cluster_control.c, _batch.c
 *                                                      ├─▶ streams ──HTTPS──▶ nodes           cluster_nodes.c
 *                                                      └─▶ told ─┐        ◀── vote, status
 *      engine       controllers ──HTTPS──▶ told ────────────────┐│                            cluster_link.c
 *                                                               ▼▼
 *      both         `bootmgr cluster step`, forked for each change ──▶ vote, status ──▶ store, or a controller
 *
 * Nothing here waits, and what a node does is done by `bootmgr`, as everything that bootmgrd has done. */
#pragma once

#include "cluster/coordinator.h"
#include "cluster/home.h"
#include "cluster/replica.h"
#include "cluster/told.h"
#include "daemon/http_stream.h"
#include "daemon/manager.h"
#include "daemon/pace.h"
#include "slot/config.h"

#define LISTENER_BUCKETS 1024
#define WORD_MAX         KIB(4) /* bytes of a vote or a status, as the store keeps it */

struct cluster_commit;
struct cluster_link;
struct cluster_post;
struct cluster_word;
struct listener;

struct cluster {
        struct manager *manager;
        const struct config *config;
        enum node_role role; /* STANDALONE: nothing of this is used */
        char name[NODE_NAME_SIZE];
        sd_event_source *self; /* until it is looked whether that is so still … */
        unsigned another;      /* … which so many looks have denied */

        /* the step */
        char *told;             /* the newest; owned; NULL: nothing was */
        int64_t offset;         /* µs that the controllers' clock is ahead … */
        uint64_t clock_error;   /* … and by how many that may be wrong, or CLOCK_ERROR_UNKNOWN */
        bool stepping, pending; /* one is at work; another one is due */
        bool ended;             /* the one at work was told to end */
        bool outdated;          /* the last one was told of an epoch before one that this node knows */
        pid_t step;             /* the one at work */
        uint64_t wait;          /* µs until the next try of what did not work */
        sd_event_source *again;
        /* Sends what a step has answered: {"operation","vote","status"}. */
        void (*say)(struct cluster *c, const json_t *answer);

        /* of a controller */
        struct store *store;
        struct store_watch *watch;
        struct replica replica;
        struct cluster_view view; /* revision 0: not known */
        uint64_t news;            /* of the view, when nodes were told last */
        char *of_all;             /* told_of_all() of it, once somebody has asked; owned */
        struct told_mark mark;    /* of what we were told last */
        struct cluster_commit *commits;
        struct cluster_word *words, **words_end, *writing; /* of nodes: that wait for the store, and that it has; owned */
        uint64_t written; /* revision of what was written last; the view may not have it yet */
        sd_event_source *changed, *deadline, *look;
        uint64_t heard; /* when the watch was last seen to be live, monotonic µs */
        bool lost;      /* that is too long ago: nodes are not served */
        bool deciding, founding;
        struct phase_watch watched; /* the open operation */
        struct cluster_post *posts; /* that wait for the store */
        struct pace pace;           /* of what they ask to be written */
        void (*members_changed)(struct cluster *c,
                                void *userdata); /* who is admitted may be another one now; NULL: nobody asks */
        void (*progressed)(struct cluster *c, void *userdata); /* nodes have said something in an open operation; or NULL */
        void *members_userdata;                                /* of both */
        struct http_streams nodes;
        struct listener *listeners[LISTENER_BUCKETS]; /* of them, by name */

        struct cluster_link *link; /* of an engine */
};

/* `config` must live as long. Not being a member is success. When the machine becomes another node, or one at all, the loop
 * ends with EXIT_AGAIN. */
int cluster_start(struct cluster *c, struct manager *m, const struct config *config, struct error *e);
void cluster_done(struct cluster *c);

/* What a controller told, or would tell: a step follows. Takes the line. */
void cluster_tell(struct cluster *c, char *line);
/* A step, soon: something of this machine changed, or what was said did not arrive. */
void cluster_step(struct cluster *c);
void cluster_step_later(struct cluster *c);

/* cluster_control.c */
int control_start(struct cluster *c, struct error *e);
void control_done(struct cluster *c);
/* What this node is told now: malloc'ed, NULL: no memory. */
char *control_line(struct cluster *c, const struct cluster_node *n);
/* Makes the transaction and answers `done` once: 0, or why not; -EAGAIN: something changed meanwhile. Takes the plan. */
typedef void (*control_made)(struct cluster *c, int result, const struct error *e, void *userdata);
void control_commit(struct cluster *c, struct plan *plan, control_made made, void *userdata);

/* cluster_batch.c: the same for what nodes say, which goes into the store together with what others say. */
void control_commit_together(struct cluster *c, struct plan *plan, control_made made, void *userdata);
bool control_is_writing(const struct cluster *c);
void batch_done(struct cluster *c);

/* cluster_nodes.c: the paths for nodes, below /api/cluster/node/. */
void nodes_start(struct cluster *c, struct http *http);
void nodes_stop(struct cluster *c);
void nodes_changed(struct cluster *c);
void nodes_end(struct cluster *c); /* of all who listen */
/* Of who shows a node's certificate to a controller: whether that node is a member, and not fenced, as the record is now. Of
 * anybody else, and on another machine: 0. */
int nodes_admit(struct cluster *c, const struct identity *who, struct error *e);
void nodes_handle_view(struct cluster *c, struct http_request *r);
void nodes_handle_vote(struct cluster *c, struct http_request *r);
void nodes_handle_status(struct cluster *c, struct http_request *r);
/* Nothing but our clock. */
void nodes_handle_time(struct cluster *c, struct http_request *r);
/* Who listens to this controller. */
void nodes_handle_connected(struct cluster *c, struct http_request *r);
/* A bundle that this controller keeps (cluster/bundles.h); Range: one. */
void nodes_handle_bundle(struct cluster *c, struct http_request *r);
void nodes_forget(struct cluster *c, struct http_request *r);

/* What a node sends of itself, into a plan; success with an empty plan: it is known already. */
typedef int (*plan_said)(struct cluster *c, const char *name, const json_t *o, struct plan *plan, struct error *e);
int plan_vote(struct cluster *c, const char *name, const json_t *o, struct plan *plan, struct error *e);
int plan_status(struct cluster *c, const char *name, const json_t *o, struct plan *plan, struct error *e);

/* cluster_link.c */
int link_start(struct cluster *c, struct error *e);
void link_done(struct cluster *c);
/* Where the machine has joined anew since the controllers were asked, or is about to: what they told is not for the node
 * that it is now. It is forgotten, and they are asked anew. */
void link_check_key(struct cluster *c);
