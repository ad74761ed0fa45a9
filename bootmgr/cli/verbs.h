/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The verb table: dispatch, help and completion are made from it. */
#pragma once

#include "base/verb.h"

extern const struct verb cli_verbs[];
extern const size_t n_cli_verbs;
extern const struct verb_option *const cli_global_options;

int verb_init(struct verb_args *args, struct error *e);
int verb_status(struct verb_args *args, struct error *e);
int verb_upgrade_system(struct verb_args *args, struct error *e);
int verb_upgrade_clear(struct verb_args *args, struct error *e);
int verb_rollback_system(struct verb_args *args, struct error *e);
int verb_finalize(struct verb_args *args, struct error *e);
int verb_abort(struct verb_args *args, struct error *e);
int verb_show_status(struct verb_args *args, struct error *e);
int verb_show_history(struct verb_args *args, struct error *e);
int verb_slot_list(struct verb_args *args, struct error *e);
int verb_slot_activate(struct verb_args *args, struct error *e);
int verb_slot_mark_good(struct verb_args *args, struct error *e);
int verb_slot_mark_bad(struct verb_args *args, struct error *e);
int verb_slot_verify(struct verb_args *args, struct error *e);
int verb_snapshot_list(struct verb_args *args, struct error *e);
int verb_snapshot_diff(struct verb_args *args, struct error *e);
int verb_snapshot_verify(struct verb_args *args, struct error *e);
int verb_snapshot_export(struct verb_args *args, struct error *e);
int verb_bundle_create(struct verb_args *args, struct error *e);
int verb_bundle_delta(struct verb_args *args, struct error *e);
int verb_bundle_inspect(struct verb_args *args, struct error *e);
int verb_bundle_verify(struct verb_args *args, struct error *e);
int verb_bundle_sign(struct verb_args *args, struct error *e);
int verb_bundle_keygen(struct verb_args *args, struct error *e);
int verb_rescue_install(struct verb_args *args, struct error *e);
int verb_rescue_remove(struct verb_args *args, struct error *e);
int verb_cluster_init(struct verb_args *args, struct error *e);
int verb_cluster_token(struct verb_args *args, struct error *e);
int verb_cluster_found(struct verb_args *args, struct error *e);
int verb_cluster_step(struct verb_args *args, struct error *e);
int verb_node_join(struct verb_args *args, struct error *e);
int verb_node_renew(struct verb_args *args, struct error *e);
int verb_node_delete(struct verb_args *args, struct error *e);
int verb_show_nodes(struct verb_args *args, struct error *e);
int verb_shell(struct verb_args *args, struct error *e);
int verb_show_help(struct verb_args *args, struct error *e);
int verb_completion_bash(struct verb_args *args, struct error *e);
int verb_completion_words(struct verb_args *args, struct error *e);
/* for units */
int verb_boot_config(struct verb_args *args, struct error *e);
int verb_switch_at_shutdown(struct verb_args *args, struct error *e);
int verb_carry_config(struct verb_args *args, struct error *e);
int verb_check_health(struct verb_args *args, struct error *e);
int verb_wait_confirmed(struct verb_args *args, struct error *e);
int verb_cluster_admit(struct verb_args *args, struct error *e);
int verb_cluster_renew(struct verb_args *args, struct error *e);
int verb_cluster_promote(struct verb_args *args, struct error *e);
int verb_confirm(struct verb_args *args, struct error *e);

/* Prints the help of the verbs that start with these words (none: of all). kind_usage when there is none. */
int print_help(const char *const *words, size_t n, FILE *f, struct error *e);
