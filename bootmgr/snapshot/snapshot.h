/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The configuration of a slot, sealed.
 *
 *      DATA/owner                              whose configuration the shared paths hold
 *      DATA/snapshots/<id>.tar.zst  <id>.json  sealed archives, id = first 16 hex digits of the digest
 *      DATA/discarded/<generation>.tar.zst     what a restore replaced
 *      DATA/restore.journal                    a restore has begun to exchange (restore.c)
 *      DATA/etc/<slot>/{upper,work}            the slot's own /etc (carried paths), an overlay
 *
 * The archive is a pax tar in a zstd frame: `tar --zstd -xf` unpacks it (archive.h). Mode 0600, named in the
 * state record by its SHA-256, which covers every file and which paths there were and were not: the same
 * content under the same paths gives the same digest. What is sealed are the shared paths, always with services
 * stopped. Functions that take a path list take NULL for an empty one.
 */
#pragma once

#include "base/json.h"
#include "base/progress.h"
#include "slot/slot.h"

struct snapshot {
        char id[17];
        int slot; /* SLOT_NONE for what was discarded */
        char version[SLOT_VERSION_SIZE];
        uint64_t generation; /* of the slot when it was left */
        uint8_t digest[DIGEST_SIZE];
        uint64_t created;      /* realtime µs */
        uint64_t files, bytes; /* regular files and the sum of their sizes */
        uint64_t skipped;      /* sockets and devices, left out with a word in the log */
        uint64_t nodes;        /* files of every type */
        uint64_t size;         /* of the archive */
        char **paths;          /* the shared paths it holds, NULL-terminated */
        char **absent;         /* those that did not exist: a restore removes them */
};
void snapshot_done(struct snapshot *s);
#define _cleanup_snapshot_ _cleanup_(snapshot_done)

/* The place of all this: an open DATA directory and the root below which the shared paths lie ("/"
 * on a running machine; a directory in tests and with --data on images). */
struct snapshot_place {
        int data;
        int root;
};

/* Checks the configured paths before anything depends on them (kind_config_path): absolute, normalised, not nested
 * in one another (by symbolic links neither), no symbolic link themselves, no mount point and none below, neither
 * inside DATA nor around it, not in /etc (which belongs to a slot). */
int snapshot_check_paths(const struct snapshot_place *place, char *const *shared, struct error *e);

/* Seals the shared paths; durable on return. Paths that do not exist are recorded as absent, so that a
 * restore removes them. `ret` filled in. One with the same digest is the same snapshot: it then names the slot, version and
 * generation that it was sealed for last. kind_no_space, and whatever was there is as it was. */
int snapshot_take(const struct snapshot_place *place, char *const *shared, int slot, const char *version,
                  uint64_t generation, struct progress *progress, struct snapshot *ret, struct error *e);

/* Bytes a seal of these paths would need at most; for the reservation by the upgrade. */
int snapshot_estimate(const struct snapshot_place *place, char *const *shared, uint64_t *ret_bytes, struct error *e);

/* Size and digest that the archive would have: all of it is compressed, and nothing written. Services may run; -EAGAIN: a
 * file was cut short while it was read. */
int snapshot_measure(const struct snapshot_place *place, char *const *shared, uint64_t *ret_size,
                     uint8_t digest[static DIGEST_SIZE], struct error *e);

/* Finds the metadata by digest: kind_snapshot_missing. */
int snapshot_find(const struct snapshot_place *place, const uint8_t digest[static DIGEST_SIZE], struct snapshot *ret,
                  struct error *e);
/* Reads the whole archive: digest (kind_snapshot_altered) and structure. */
int snapshot_verify(const struct snapshot_place *place, const struct snapshot *s, struct error *e);
/* Bytes of content that a restore would write, holes not among them. */
int snapshot_content(const struct snapshot_place *place, const struct snapshot *s, uint64_t *ret_bytes, struct error *e);
/* All, newest first; *ret malloc'ed with its elements to be snapshot_done(). */
int snapshot_list(const struct snapshot_place *place, struct snapshot **ret, size_t *ret_n, struct error *e);
/* Removes archives whose digest is not among `keep`, and discarded ones but the newest 3. */
int snapshot_prune(const struct snapshot_place *place, const uint8_t (*keep)[DIGEST_SIZE], size_t n, struct error *e);

/* Puts the configuration of `s` in place of what is there: verifies, seals what is there as
 * discarded/<generation> (or <generation>-2 … where that holds something else), unpacks every path beside itself,
 * flushes, journals, then exchanges path by path (RENAME_EXCHANGE); resumes an interrupted one. Until
 * the first exchange every failure (kind_no_space, kind_snapshot_altered, kind_config_path) leaves what
 * is there as it was, and *ret_begun (may be NULL) unset; else it is set. Idempotent. The caller keeps the owner marker. */
int snapshot_restore(const struct snapshot_place *place, const struct snapshot *s, uint64_t generation,
                     struct progress *progress, bool *ret_begun, struct error *e);

/* Copies an archive to a file descriptor after verifying it. */
int snapshot_export(const struct snapshot_place *place, const struct snapshot *s, int fd, struct error *e);

/* What differs between a snapshot and what is there now. */
enum change { CHANGE_ADDED, CHANGE_REMOVED, CHANGE_CONTENT, CHANGE_METADATA, CHANGE_TYPE };
struct difference {
        char *path;         /* absolute; bytes that are not printable UTF-8, and backslashes, as \xNN */
        enum change change; /* seen from the snapshot to now: ADDED = a rollback removes it */
        bool carried;       /* in the slot's own /etc, not in the shared paths */
        char *text;         /* unified diff for text of at most 64 KiB a side, NULL otherwise */
};
struct difference_list {
        struct difference *items;
        size_t n;
};
void difference_list_done(struct difference_list *l);
const char *change_to_string(enum change c); /* "added" … */

/* Times alone are no difference. Sorted by path. with_text: fill in ->text. Appends to `ret`. */
int snapshot_diff(const struct snapshot_place *place, const struct snapshot *s, bool with_text, struct difference_list *ret,
                  struct error *e);
/* The carried paths: from the /etc of slot `from` (the way back) to that of slot `to` (now), by their overlays' upper
 * directories (whiteouts and opaque directories understood). Where one of them has no file, it shows the file of its
 * root: looked up for both below the /etc of place->root, without what is mounted there. So copied-up files
 * that did not change are no difference. Files that the system itself rewrites are left out (carried_diff.c). */
int carried_diff(const struct snapshot_place *place, char *const *carried, int from, int to, bool with_text,
                 struct difference_list *ret, struct error *e);

/* CARRY_CONFIG: the carried paths of slot `from`'s /etc become those of slot `to`'s: its upper directory
 * is made anew beside the old one and exchanged, whiteouts, opaque marks, owners, modes, xattrs and
 * ACLs included; durable on return. `from`'s stays untouched. */
int carry_config(const struct snapshot_place *place, char *const *carried, int from, int to, struct progress *progress,
                 struct error *e);

/* Copies one tree (or file) to the new name `to` in to_dir with everything that an archive would hold, and whiteouts; of
 * overlayfs's own attributes only those that change what is seen. Flushed on return but for the name itself. */
int tree_copy(int from_dir, const char *from, int to_dir, const char *to, struct error *e);
