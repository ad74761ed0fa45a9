/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "operation/content.h"

#include <fcntl.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/parse.h"
#include "image/install.h"
#include "operation/messages.h"
#include "slot/kinds.h"
#include "storage/written.h"

#define NOTE       "/run/bootmgr/verified-" /* of a slot: what was found in this boot */
#define NOTE_MAX   512
#define REUSED_FOR USEC_PER_DAY /* a disk may also lose what nobody writes */

static int check_boot_files(struct machine *m, int slot, struct error *e)
{
        struct error why = {};
        struct loader loader;
        int r;

        r = machine_open_loader(m, true, &loader, e);
        if (r < 0)
                return r;
        r = loader_check_slot(&loader, &m->state.set.slots[slot], &why);
        loader_close(&loader);
        if (r < 0)
                fail(e, r, &kind_previous_altered, "the boot files of slot %c are not what was installed: %s",
                     slot_name(slot), why.message ?: error_text(r));
        error_done(&why);
        return r;
}

static void note_text(struct buf *b, const struct slot *s, const struct written *w)
{
        char digest[2 * DIGEST_SIZE + 1];

        hex_encode(s->digest, DIGEST_SIZE, digest);
        buf_printf(b, "%s %llu %llu %llu ", digest, (unsigned long long)w->disk_sequence, (unsigned long long)w->partition,
                   (unsigned long long)w->elsewhere);
}

static void note_path(int slot, char path[static 64])
{
        snprintf(path, 64, NOTE "%c", slot_name(slot));
}

static void write_note(const struct machine *m, int slot, const struct written *w)
{
        _cleanup_buf_ struct buf b = {};
        char path[64];
        int r;

        note_text(&b, &m->state.set.slots[slot], w);
        buf_printf(&b, "%llu\n", (unsigned long long)now_realtime());
        note_path(slot, path);
        r = b.failed ? -ENOMEM : file_replace_volatile(AT_FDCWD, path, b.data, b.size, 0600);
        if (r < 0)
                log_debug("what was found of slot %c is not kept: %s", slot_name(slot), error_text(r));
}

/* When the same content, never written to since, was read. */
static bool read_note(const struct machine *m, int slot, const struct written *w, uint64_t *ret_time)
{
        _cleanup_free_ char *text = NULL;
        _cleanup_buf_ struct buf b = {};
        uint64_t now = now_realtime();
        const char *time;
        char path[64];

        note_path(slot, path);
        if (file_read(AT_FDCWD, path, NOTE_MAX, &text, NULL) < 0)
                return false;
        text[strcspn(text, "\n")] = 0;
        note_text(&b, &m->state.set.slots[slot], w);
        time = b.failed ? NULL : startswith(text, b.data);
        return time && parse_u64(time, ret_time) >= 0 && *ret_time <= now && now - *ret_time <= REUSED_FOR;
}

static int read_root(struct machine *m, int slot, struct error *e)
{
        struct range root;
        int r;

        r = range_open(&m->disk, &m->disk.slots[slot], O_RDONLY, &root, e);
        if (r < 0)
                return r;
        r = install_check_slot(&root, m->snapshots.data, slot, m->state.set.slots[slot].digest, NULL, e);
        range_close(&root);
        return r;
}

static int check_root(struct machine *m, int slot, enum content_mode mode, struct buf *good, struct error *e)
{
        struct written before;
        uint64_t time;
        bool counted;
        int r;

        if (!m->config.etc_overlay) {
                buf_puts(good, "the root is writable and cannot be checked");
                return 0;
        }
        /* Before the root is read: what is written meanwhile counts as written since. */
        counted = !m->offline && written_look(&m->disk, &m->disk.slots[slot], &before) >= 0;
        if (mode == CONTENT_REUSE && counted && read_note(m, slot, &before, &time)) {
                char when[TIME_TEXT_SIZE];

                format_time(time, when);
                buf_printf(good, "the root is what was installed (read at %s, not written to since)", when);
                return 0;
        }
        r = read_root(m, slot, e);
        if (r < 0)
                return r;
        if (counted)
                write_note(m, slot, &before);
        buf_puts(good, "the root is what was installed");
        return 0;
}

int content_check(struct machine *m, int slot, enum content_mode mode, struct buf *good, struct error *e)
{
        int r = 0;

        if (mode != CONTENT_ROOT) {
                r = check_boot_files(m, slot, e);
                if (r >= 0)
                        buf_puts(good, "kernel and initrd are what was installed, ");
        }
        return r < 0 ? r : check_root(m, slot, mode, good, e);
}

static int refuse_while_busy(struct machine *m, int slot, struct error *e)
{
        if (!machine_is_locked_by_other(m))
                return 0;
        fail(e, -EBUSY, &kind_busy, "slot %c cannot be verified while an operation is at work", slot_name(slot));
        return fail_hint(e, "'bootmgr show upgrade status' shows it");
}

/* What is read while it is being written differs: that says nothing of the slot. */
static bool was_changed(const struct machine *m, int slot)
{
        _cleanup_machine_ struct machine now = MACHINE_CLOSED;
        const struct slot *was = &m->state.set.slots[slot], *is;

        if (machine_open(&m->options, &now, NULL) < 0)
                return false;
        is = &now.state.set.slots[slot];
        return machine_is_locked_by_other(&now) || is->state != was->state ||
               memcmp(is->digest, was->digest, DIGEST_SIZE) != 0;
}

int content_verify(struct machine *m, int slot, enum content_mode mode, struct buf *good, struct error *e)
{
        struct error why = {};
        const struct slot *s;
        int r;

        if (slot < 0 || slot >= m->state.set.n_slots || !m->disk.slots[slot].present)
                return fail(e, -ENOENT, &kind_usage, "%s has no slot %c", m->disk.path, slot_name(slot));
        s = &m->state.set.slots[slot];
        if (s->state == SLOT_EMPTY || s->state == SLOT_INCOMPLETE) {
                fail(e, -ENOEXEC, &kind_slot_not_bootable, "slot %c is %s: no whole system lies in it", slot_name(slot),
                     slot_state_to_string(s->state));
                return fail_hint(e, "install a version with 'bootmgr upgrade system'");
        }
        r = refuse_while_busy(m, slot, e);
        if (r >= 0)
                r = machine_need_data(m, e); /* without it nothing is known of what was installed */
        if (r < 0)
                return r;
        r = content_check(m, slot, mode, good, &why);
        if (r < 0 && was_changed(m, slot)) {
                error_done(&why);
                fail(e, -EBUSY, &kind_busy, "slot %c was written to meanwhile, by an operation", slot_name(slot));
                return fail_hint(e, "'bootmgr show upgrade status' shows it");
        }
        if (r >= 0)
                return 0;
        if (slot == m->state.set.previous)
                log_event(MESSAGE_SLOT_ALTERED, NULL, "the way back is gone: %s", why.message ?: error_text(r));
        if (e)
                *e = why;
        else
                error_done(&why);
        return fail_hint(e, "install a version with 'bootmgr upgrade system'");
}
