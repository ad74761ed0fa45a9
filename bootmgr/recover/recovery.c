/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recover/recovery.h"

#include <sys/mount.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/parse.h"
#include "loader/rescue.h"
#include "recover/console.h"

#define WAITS_MAX     4  /* as long as one wait, all together */
#define AGAIN_SECONDS 10 /* for the second press of a key that needs one */
#define RETRY_SECONDS 300
#define RETRY_MIN     (10 * USEC_PER_SEC) /* it never spins */
#define RETRY_MAX     USEC_PER_DAY

unsigned recovery_retry_seconds(const char *cmdline)
{
        _cleanup_free_ char *word = cmdline_get(cmdline, "bootmgr.retry");
        uint64_t usec;

        if (!word || parse_seconds(word, &usec) < 0)
                return RETRY_SECONDS;
        return (unsigned)(MIN(MAX(usec, RETRY_MIN), RETRY_MAX) / USEC_PER_SEC);
}

static uint64_t esp_generation(const struct recovery *r)
{
        uint64_t highest = 0;

        return loader_highest_generation(r->loader, &highest, NULL) < 0 ? 0 : highest;
}

/* Where no entry could be made, nothing is to follow from the switch that was begun; a cut before that is the same. */
static int try_slot(const struct recovery *r, int slot, struct error *e)
{
        struct slot_set before = r->state->set;
        struct boot_decision d;
        int result;

        boot_decide_try(&before, slot, esp_generation(r), &d);
        result = boot_carry_out(&d, r->disk, r->place, r->state, r->loader, r->extra_cmdline, r->writable_root, e);
        if (result >= 0)
                return 0;
        before.generation = r->state->set.generation;
        r->state->set = before;
        if (state_save(r->place, r->state, NULL) < 0)
                log_warning("the next boot takes the try back");
        return result;
}

static int start_rescue(const struct recovery *r, struct error *e)
{
        struct rescue rescue;
        int result = rescue_find(r->loader, &rescue, e);

        if (result < 0)
                return result;
        /* An initramfs has no reason to mount it otherwise. */
        if (r->loader->efivars && !r->test &&
            mount("efivarfs", r->loader->efivars, "efivarfs", MS_NOSUID | MS_NOEXEC, NULL) < 0)
                log_debug("efivarfs: %s", error_text(-errno));
        return rescue_boot_next(r->loader, &rescue, e);
}

static int carry_out(const struct recovery *r, const struct choice *choice, struct error *e)
{
        switch (choice->kind) {
        case CHOICE_TRY:
                return try_slot(r, choice->slot, e);
        case CHOICE_RESCUE:
                return start_rescue(r, e);
        default:
                return 0;
        }
}

static void make_page(const struct recovery *r, struct page *page)
{
        struct rescue rescue;
        struct page_input in = {
                .set = &r->state->set,
                .slot = r->slot,
                .goes_on = r->goes_on,
                .stuck = r->stuck,
                .can_switch = r->loader->writable && r->loader->ops == &loader_systemd_boot,
                .rescue = rescue_find(r->loader, &rescue, NULL) >= 0 && rescue.usable,
                .seconds = r->seconds,
        };

        page_make(&in, page);
}

/* The choice that a key stands for; -1: none. */
static int number_of(int key, const struct page *page)
{
        int number = key - '1';

        return number >= 0 && number < (int)page->n ? number : -1;
}

/* Nothing comes back from them without a person: a byte of noise is not to be enough. */
static bool is_meant(struct consoles *consoles, const struct choice *choice, int key)
{
        if (choice->kind != CHOICE_POWER_OFF && choice->kind != CHOICE_RESCUE)
                return true;
        consoles_print(consoles, choice->kind == CHOICE_RESCUE ? "\nPress it again to start the rescue system.\n"
                                                               : "\nPress it again to power off.\n");
        return consoles_key(consoles, AGAIN_SECONDS) == key;
}

/* A key that is none of the page's lengthens the wait, but not for ever: a line may be noisy. */
static unsigned seconds_left(const struct recovery *r, uint64_t end)
{
        uint64_t now = now_monotonic();

        return now < end ? (unsigned)MIN((uint64_t)r->seconds, (end - now + USEC_PER_SEC - 1) / USEC_PER_SEC) : 0;
}

static bool choose(const struct recovery *r, struct consoles *consoles, const struct page *page, uint64_t end,
                   enum choice_kind *ret)
{
        _cleanup_error_ struct error e = {};
        int key, number, result;

        key = consoles_key(consoles, r->test && consoles->n == 0 ? 0 : seconds_left(r, end));
        if (key == -EPIPE && !r->test)
                return false; /* the time goes on with nobody there */
        if (key < 0) {
                *ret = CHOICE_AGAIN;
                return true;
        }
        number = number_of(key, page);
        if (number < 0 || !is_meant(consoles, &page->choices[number], key))
                return false;
        result = carry_out(r, &page->choices[number], &e);
        if (result < 0) {
                _cleanup_free_ char *text = xasprintf("\nIt cannot be done: %s%s%s\n", e.message ?: error_text(result),
                                                      e.hint ? ". The way out: " : "", e.hint ?: "");

                consoles_print(consoles, text ?: "\nIt cannot be done\n");
                return false;
        }
        *ret = page->choices[number].kind;
        return true;
}

enum choice_kind recovery_run(const struct recovery *r)
{
        enum choice_kind chosen = CHOICE_AGAIN;
        struct consoles consoles = {};
        uint64_t end = now_monotonic() + (uint64_t)WAITS_MAX * r->seconds * USEC_PER_SEC;
        bool done = false;

        if (!r->test || r->console)
                consoles_open(&consoles, r->console);
        while (!done) {
                _cleanup_page_ struct page page = {};

                make_page(r, &page);
                consoles_print(&consoles, "\n");
                consoles_print(&consoles, page.text ?: "bootmgr: no slot can be booted\n");
                done = choose(r, &consoles, &page, end, &chosen);
        }
        consoles_close(&consoles);
        return chosen;
}
