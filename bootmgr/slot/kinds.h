/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The fixed set of error kinds that scripts, D-Bus and the API decide on; listed in bootmgr(1). */
#pragma once

#include "base/error.h"

/*      identifier              name                          exit status */
#define ERROR_KINDS(X)                                                                                                      \
        X(no_previous, "no-previous-version", 3) /* nothing to go back to */                                                \
        X(previous_not_bootable, "previous-not-bootable", 3)                                                                \
        X(previous_altered, "previous-altered", 3) /* no longer what was installed */                                       \
        X(snapshot_missing, "snapshot-missing", 3)                                                                          \
        X(snapshot_altered, "snapshot-altered", 3)                                                                          \
        X(below_floor, "below-floor", 3) /* security version */                                                             \
        X(finalized, "finalized", 3)                                                                                        \
        X(busy, "operation-in-progress", 3)                                                                                 \
        X(previous_too_old, "previous-version-too-old", 3) /* RollbackMinVersion */                                         \
        X(refused_version, "version-refused", 3)           /* rolled back from, not cleared */                              \
        X(too_many_rollbacks, "too-many-rollbacks", 3)                                                                      \
        X(not_on_trial, "not-on-trial", 3)                                                                                  \
        X(slot_in_use, "slot-in-use", 3) /* running, or the only fallback */                                                \
        X(slot_not_bootable, "slot-not-bootable", 3)                                                                        \
        X(loader_pinned, "loader-would-not-choose", 3)   /* a pin or foreign entry wins */                                  \
        X(bundle_invalid, "bundle-invalid", 3)           /* not a bundle, damaged */                                        \
        X(bundle_untrusted, "bundle-untrusted", 3)       /* signatures */                                                   \
        X(bundle_incompatible, "bundle-incompatible", 3) /* compatible, minimum versions, size */                           \
        X(disk_not_empty, "disk-not-empty", 3)                                                                              \
        X(not_authorized, "not-authorized", 3)                                                                              \
        X(config_path, "configuration-path", 3) /* e.g. a mount point */                                                    \
        X(config_invalid, "configuration-invalid", 1)                                                                       \
        X(no_space, "no-space", 3)                                                                                          \
        X(no_machine, "no-bootmgr-machine", 1) /* no slots found */                                                         \
        X(state_unreadable, "state-unreadable", 1)                                                                          \
        X(esp_unusable, "esp-unusable", 3) /* missing, full, read-only, corrupt */                                          \
        X(fetch, "fetch-failed", 1)                                                                                         \
        X(content, "content-mismatch", 1) /* a chunk or a read-back differs */                                              \
        X(hook, "hook-failed", 1)                                                                                           \
        X(unhealthy, "unhealthy", 1)                                                                                        \
        X(not_authenticated, "not-authenticated", 3) /* the API: no certificate or token that is valid */                   \
        X(not_found, "not-found", 2)                                                                                        \
        X(method_not_allowed, "method-not-allowed", 2)                                                                      \
        X(too_large, "too-large", 2)                                                                                        \
        X(too_many_requests, "too-many-requests", 3)                                                                        \
        X(id_reused, "id-reused", 3) /* an operation id that was used for something else */                                 \
        X(interrupted, "interrupted", 1)                                                                                    \
        X(store, "store-failed", 1)              /* the cluster's store: unreachable, refused, or of unknown outcome */     \
        X(certificate, "certificate-refused", 3) /* not of this cluster, expired */                                         \
        X(token, "token-refused", 3)             /* join token: used, expired, unknown */                                   \
        X(joined_after_snapshot, "joined-after-snapshot", 3) /* a node that is no part of what was gone back to */          \
        X(degraded, "degraded", 1)

/* By its name; kind_failed for one that there is not. */
const struct error_kind *error_kind_find(const char *name);

#define DECLARE_KIND(id, name, status) extern const struct error_kind kind_##id;
ERROR_KINDS(DECLARE_KIND)
#undef DECLARE_KIND
