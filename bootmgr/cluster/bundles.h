/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The bundles that controllers hold for their cluster, by the digest of the manifest (cluster/home.h). So one
 * download serves all: the controller that is asked for an upgrade keeps it, every other node has it from a controller. */
#pragma once

#include "cluster/record.h"
#include "operation/machine.h"

#define BUNDLES_PATH "/api/cluster/bundles/"

/* What a bundle (path or URL) holds, once its signatures are checked. kind_bundle_incompatible: no cluster takes it (a
 * delta), or not this controller (another minor version of etcd). */
int bundles_identify(struct machine *m, const char *source, struct version_id *ret, struct error *e);

/* Nobody else keeps or removes bundles here until *ret is closed. -EBUSY: somebody does already. */
int bundles_lock(struct machine *m, int *ret, struct error *e);

/* Under that lock, with `keep` as it was read under it: copies a bundle (path or URL), all of which is checked, and says
 * what it holds. Those of no version in `keep` are removed before. What is there already is not copied again. */
int bundles_keep(struct machine *m, const char *source, const struct version_id *keep, size_t n_keep, struct version_id *ret,
                 struct error *e);

/* That what was read is not what was signed: another copy may be. */
bool bundles_is_damage(const struct error *why);

/* What is not there is success. */
int bundles_drop(struct machine *m, const uint8_t digest[static DIGEST_SIZE], struct error *e);

/* Where to have a version from: the own copy, else the URLs of all controllers, asked with this node's certificate: the
 * machine's configuration is changed so. malloc'ed. -EHOSTUNREACH: no controller is known. */
int bundles_find(struct machine *m, const uint8_t digest[static DIGEST_SIZE], char **ret, struct error *e);
