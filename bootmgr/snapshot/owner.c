/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "snapshot/owner.h"

#include <fcntl.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/io.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/version.h"
#include "slot/kinds.h"
#include "snapshot/hooks.h"
#include "snapshot/path.h"
#include "snapshot/unpack.h"

#define OWNER     "owner"
#define OWNER_MAX 4096

static const char *const phases[] = {
        [OWNER_OWNED] = "owned",
        [OWNER_RESTORING] = "restoring",
        [OWNER_MIGRATING] = "migrating",
};

static int parse_phase(const char *value, enum owner_phase *ret)
{
        for (size_t i = OWNER_OWNED; i < ARRAY_SIZE(phases); i++)
                if (streq(value, phases[i])) {
                        *ret = (enum owner_phase)i;
                        return 0;
                }
        return -EINVAL;
}

static int parse_slot(const char *value, int *ret)
{
        *ret = slot_from_name(value);
        return *ret == SLOT_NONE ? -EINVAL : 0;
}

static int parse_version(const char *value, char ret[static SLOT_VERSION_SIZE])
{
        if (!version_valid(value))
                return -EINVAL;
        snprintf(ret, SLOT_VERSION_SIZE, "%s", value);
        return 0;
}

/* Keys that a newer program wrote are passed over. */
static int parse_pair(const char *key, const char *value, struct owner *o)
{
        if (streq(key, "phase"))
                return parse_phase(value, &o->phase);
        if (streq(key, "slot"))
                return parse_slot(value, &o->slot);
        if (streq(key, "version"))
                return parse_version(value, o->version);
        if (streq(key, "generation"))
                return parse_u64(value, &o->generation);
        if (streq(key, "from-slot"))
                return parse_slot(value, &o->from_slot);
        if (streq(key, "from-version"))
                return parse_version(value, o->from_version);
        if (streq(key, "from-snapshot"))
                return hex_decode(value, o->from_snapshot, DIGEST_SIZE);
        return 0;
}

static int parse_owner(char *text, struct owner *ret, struct error *e)
{
        struct owner o = { .slot = SLOT_NONE, .from_slot = SLOT_NONE };
        char *line;

        while ((line = line_next(&text))) {
                char *value = strchr(line, '=');

                if (value)
                        *value++ = '\0';
                if (!value || parse_pair(line, value, &o) < 0)
                        return fail(e, -EBADMSG, &kind_state_unreadable, "the owner marker is damaged: %s=%s", line,
                                    value ?: "");
        }
        if (o.phase == OWNER_NONE || o.slot == SLOT_NONE || !o.version[0] ||
            (o.from_slot != SLOT_NONE) != !!o.from_version[0])
                return fail(e, -EBADMSG, &kind_state_unreadable, "the owner marker is incomplete");
        *ret = o;
        return 0;
}

int owner_read(int data, struct owner *ret, struct error *e)
{
        _cleanup_free_ char *text = NULL;
        int r = file_read(data, OWNER, OWNER_MAX, &text, NULL);

        if (r == -ENOENT) {
                *ret = (struct owner){ .phase = OWNER_NONE, .slot = SLOT_NONE, .from_slot = SLOT_NONE };
                return 0;
        }
        if (r < 0)
                return fail_errno(e, r, "cannot read the owner marker");
        r = parse_owner(text, ret, e);
        if (r < 0)
                fail_hint(e, "look at the shared configuration; when it is the running version's, remove '" OWNER
                             "' in the data directory");
        return r;
}

int owner_write(int data, const struct owner *o, struct error *e)
{
        _cleanup_buf_ struct buf b = {};
        char digest[2 * DIGEST_SIZE + 1];
        int r;

        buf_printf(&b, "phase=%s\nslot=%c\nversion=%s\ngeneration=%llu\n", phases[o->phase], slot_name(o->slot), o->version,
                   (unsigned long long)o->generation);
        if (o->phase != OWNER_OWNED && o->from_slot != SLOT_NONE) {
                hex_encode(o->from_snapshot, DIGEST_SIZE, digest);
                buf_printf(&b, "from-slot=%c\nfrom-version=%s\nfrom-snapshot=%s\n", slot_name(o->from_slot), o->from_version,
                           digest);
        }
        if (b.failed)
                return -ENOMEM;
        r = file_replace(data, OWNER, b.data, b.size, 0644);
        return r < 0 ? fail_write(e, r, "cannot write the owner marker") : 0;
}

/* The same version in another slot is another owner: each slot is sealed and restored for itself. */
static bool is_for(const struct owner *o, const struct slot *booted, int booted_slot)
{
        return o->slot == booted_slot && streq(o->version, booted->version);
}

enum owner_action owner_decide(const struct owner *o, const struct slot *booted, int booted_slot)
{
        switch (o->phase) {
        case OWNER_NONE:
                return OWNER_ADOPT;
        case OWNER_OWNED:
                if (is_for(o, booted, booted_slot))
                        return OWNER_NOTHING;
                return slot_has_snapshot(booted) ? OWNER_RESTORE : OWNER_MIGRATE;
        case OWNER_RESTORING:
        case OWNER_MIGRATING:
                /* What is there may be a mixture, whoever it is being changed for: it is made anew from a seal. */
                return slot_has_snapshot(booted) ? OWNER_RESTORE : OWNER_RESTORE_AND_MIGRATE;
        }
        return OWNER_ADOPT;
}

/* One call of owner_apply(). */
struct change_of_owner {
        const struct snapshot_place *place;
        const struct config *config;
        const struct slot_set *set;
        const char *hook_directory;
        struct progress *progress;
        struct owner before, next;
};

static int mark(struct change_of_owner *c, enum owner_phase phase, struct error *e)
{
        c->next.phase = phase;
        return owner_write(c->place->data, &c->next, e);
}

/* Who had the configuration last as a whole, and the seal of it. */
static void note_former(struct change_of_owner *c)
{
        const struct owner *o = &c->before;

        if (o->phase != OWNER_OWNED) {
                c->next.from_slot = o->from_slot;
                memcpy(c->next.from_version, o->from_version, SLOT_VERSION_SIZE);
                memcpy(c->next.from_snapshot, o->from_snapshot, DIGEST_SIZE);
                return;
        }
        c->next.from_slot = o->slot;
        memcpy(c->next.from_version, o->version, SLOT_VERSION_SIZE);
        if (o->slot < c->set->n_slots && streq(c->set->slots[o->slot].version, o->version))
                memcpy(c->next.from_snapshot, c->set->slots[o->slot].snapshot, DIGEST_SIZE);
}

/* Nothing was exchanged yet: whose it was, it is still, whole. A marker that cannot be written stays, and what it says is
 * then true of no more than it had to be. */
static void take_back(struct change_of_owner *c)
{
        if (owner_write(c->place->data, &c->before, NULL) < 0)
                log_warning("the owner marker says that a restore has begun, and none has");
}

static int restore(struct change_of_owner *c, const uint8_t digest[static DIGEST_SIZE], struct error *e)
{
        _cleanup_snapshot_ struct snapshot s = {};
        bool begun = false;
        int r = snapshot_find(c->place, digest, &s, e);

        if (r >= 0)
                r = mark(c, OWNER_RESTORING, e);
        if (r < 0)
                return r;
        r = snapshot_restore(c->place, &s, c->next.generation, c->progress, &begun, e);
        if (r < 0 && !begun && c->before.phase == OWNER_OWNED)
                take_back(c);
        return r;
}

/* Hooks need not flush what they write; the marker must not say more than the disk holds. */
static int flush_shared(struct change_of_owner *c, struct error *e)
{
        int r = 0;

        for (char **p = c->config->shared; r >= 0 && p && *p; p++) {
                const char *name;
                _cleanup_close_ int parent = path_open_parent(c->place->root, *p, false, &name);

                if (parent == -ENOENT)
                        continue;
                r = parent < 0 ? parent : tree_flush(parent, name, e);
                if (r == -ENOENT)
                        r = 0;
                if (r >= 0)
                        r = io_fsync(parent);
                if (r < 0)
                        return fail_write(e, r, "cannot flush %s", *p);
        }
        return r;
}

static int migrate(struct change_of_owner *c, struct error *e)
{
        char link[32], data[PATH_MAX] = "";
        _cleanup_free_ char *from = xasprintf("BOOTMGR_FROM_VERSION=%s", c->next.from_version);
        _cleanup_free_ char *to = xasprintf("BOOTMGR_TO_VERSION=%s", c->next.version);
        _cleanup_free_ char *slot = xasprintf("BOOTMGR_SLOT=%c", slot_name(c->next.slot));
        _cleanup_free_ char *directory = NULL;
        int r = mark(c, OWNER_MIGRATING, e);

        if (r < 0)
                return r;
        snprintf(link, sizeof(link), "/proc/self/fd/%d", c->place->data);
        if (readlink(link, data, sizeof(data) - 1) < 0)
                return fail_errno(e, -errno, "cannot tell where the data directory is");
        directory = xasprintf("BOOTMGR_DATA=%s", data);
        if (!from || !to || !slot || !directory)
                return -ENOMEM;
        r = hooks_run(c->hook_directory, (const char *const[]){ from, to, slot, directory, NULL }, c->config->hook_timeout,
                      e);
        return r < 0 ? r : flush_shared(c, e);
}

/* Hooks that fail half-way leave a mixture: there must be a seal to begin from again. Mostly there is, from when the
 * former owner was left. */
static int ensure_seal(struct change_of_owner *c, struct error *e)
{
        _cleanup_snapshot_ struct snapshot s = {};
        _cleanup_error_ struct error why = {};
        int r;

        if (!is_all_zero(c->next.from_snapshot, DIGEST_SIZE) &&
            snapshot_find(c->place, c->next.from_snapshot, &s, &why) >= 0 && snapshot_verify(c->place, &s, &why) >= 0)
                return 0;
        if (why.message)
                log_warning("%s: what is there is sealed instead", why.message);
        snapshot_done(&s);
        r = snapshot_take(c->place, c->config->shared, c->before.slot, c->before.version, c->before.generation, c->progress,
                          &s, e);
        if (r >= 0)
                memcpy(c->next.from_snapshot, s.digest, DIGEST_SIZE);
        return r;
}

static int restore_former(struct change_of_owner *c, struct error *e)
{
        if (!is_all_zero(c->next.from_snapshot, DIGEST_SIZE))
                return restore(c, c->next.from_snapshot, e);
        fail(e, -ENOENT, &kind_snapshot_missing,
             "a change of the configuration was interrupted, and there is no seal to begin from again");
        fail_hint(e,
                  "look into discarded/ in the data directory, put the shared paths right, then remove '" OWNER "' there");
        return -ENOENT;
}

/* Under a new generation, e.g. once its entry was made again. Nobody takes the older one for another's: slot and version say
 * whose it is. A partition that is full, or can only be read, keeps no version from its own configuration. */
static void renew_marker(struct change_of_owner *c)
{
        _cleanup_error_ struct error why = {};

        if (mark(c, OWNER_OWNED, &why) < 0)
                log_warning("the owner marker goes on naming generation %llu: %s", (unsigned long long)c->before.generation,
                            why.message ?: "it cannot be written");
}

static int carry_out(struct change_of_owner *c, enum owner_action action, struct error *e)
{
        int r = 0;

        note_former(c);
        switch (action) {
        case OWNER_NOTHING:
                if (c->before.generation != c->next.generation)
                        renew_marker(c);
                return 0;
        case OWNER_ADOPT:
                break;
        case OWNER_RESTORE:
                r = restore(c, c->set->slots[c->next.slot].snapshot, e);
                break;
        case OWNER_MIGRATE:
                r = ensure_seal(c, e);
                if (r >= 0)
                        r = migrate(c, e);
                break;
        case OWNER_RESTORE_AND_MIGRATE:
                r = restore_former(c, e);
                if (r >= 0)
                        r = migrate(c, e);
                break;
        }
        return r < 0 ? r : mark(c, OWNER_OWNED, e);
}

int owner_apply(const struct snapshot_place *place, const struct config *config, const struct slot_set *set, int booted_slot,
                uint64_t generation, const char *hook_directory, struct progress *progress, enum owner_action *done,
                struct error *e)
{
        struct change_of_owner c = {
                .place = place,
                .config = config,
                .set = set,
                .hook_directory = hook_directory,
                .progress = progress,
                .next = { .slot = booted_slot, .generation = generation },
        };
        enum owner_action action;
        int r;

        memcpy(c.next.version, set->slots[booted_slot].version, SLOT_VERSION_SIZE);
        r = owner_read(place->data, &c.before, e);
        if (r < 0)
                return r;
        action = owner_decide(&c.before, &set->slots[booted_slot], booted_slot);
        r = carry_out(&c, action, e);
        if (r < 0)
                return r;
        *done = action;
        return 0;
}
