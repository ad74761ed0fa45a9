/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/bar.h"

#include <langinfo.h>

#include "base/clock.h"
#include "cli/cli.h"

#define BAR_WIDTH     32
#define DRAW_INTERVAL (100 * USEC_PER_MSEC)
#define LINE_INTERVAL (5 * USEC_PER_SEC) /* between plain lines about one step */

void bar_render(char *text, size_t size, unsigned percent, unsigned width, bool utf8)
{
        unsigned full = MIN(percent, 100U) * width / 100;
        size_t n = 0;

        n += (size_t)snprintf(text + n, size - n, "[");
        for (unsigned i = 0; i < width && n + 8 < size; i++)
                n += (size_t)snprintf(text + n, size - n, "%s", i < full ? (utf8 ? "█" : "#") : (utf8 ? "░" : "."));
        snprintf(text + n, size - n, "] %3u %%", MIN(percent, 100U));
}

static bool is_silent(const struct bar *b)
{
        return b->cli->json || b->cli->quiet;
}

static void clear(struct bar *b)
{
        if (b->drawn)
                fputs("\r\033[K", stdout);
        b->drawn = false;
}

/* The running work: drawn over itself, or a line now and then. */
static void show_running(struct bar *b, const char *name, unsigned percent, const char *message)
{
        uint64_t now = now_monotonic();
        char text[4 * BAR_WIDTH + 16];

        if (now - b->last < (b->terminal ? DRAW_INTERVAL : LINE_INTERVAL))
                return;
        if (b->terminal) {
                bar_render(text, sizeof(text), percent, BAR_WIDTH, b->utf8);
                /* No wrapping: a message that does not fit is cut by the terminal. */
                printf("\r\033[?7l%-18s  %s  %s\033[K\033[?7h", name, text, message ?: "");
                b->drawn = true;
        } else if (b->last > 0) {
                printf("%-18s  %u %%%s%s\n", name, percent, message ? "  " : "", message ?: "");
        }
        b->last = now;
        fflush(stdout);
}

static void show_ended(struct bar *b, const struct step_record *s)
{
        static const char *const words[_STEP_STATE_MAX] = {
                [STEP_DONE] = "done", [STEP_FAILED] = "FAILED", [STEP_SKIPPED] = "skipped"
        };
        char seconds[32] = "";

        clear(b);
        if (s->state == STEP_DONE && s->end > s->start)
                snprintf(seconds, sizeof(seconds), "%.2f s", (double)(s->end - s->start) / USEC_PER_SEC);
        /* Why it failed is said once, by who ends the work. */
        printf("%-18s  %-7s  %9s  %s\n", s->name, words[s->state], seconds, s->state == STEP_FAILED ? "" : s->message ?: "");
        b->last = b->terminal ? 0 : now_monotonic();
        fflush(stdout);
}

void bar_show(struct bar *b, const struct operation *op)
{
        if (b->cli->worker) {
                cli_print_json(b->cli, operation_to_json(op));
                return;
        }
        if (is_silent(b))
                return;
        if (!streq(b->id, op->id)) {
                /* The id comes with the first step that is recorded: what was shown before belongs to it. */
                if (*b->id)
                        b->shown = 0;
                strcpy(b->id, op->id);
        }
        for (; b->shown < op->n_steps; b->shown++) {
                const struct step_record *s = &op->steps[b->shown];

                if (s->state == STEP_WAITING)
                        break;
                if (s->state == STEP_RUNNING) {
                        show_running(b, s->name, s->progress, s->message);
                        break;
                }
                if (s->start > 0 && s->end >= b->since) /* else it was never begun: the operation ended before */
                        show_ended(b, s);
        }
}

static void observe(struct observer *o, const struct operation *op)
{
        bar_show(o->userdata, op);
}

static int report(struct progress *p, uint64_t done, uint64_t total, const char *message)
{
        struct bar *b = p->userdata;

        if (*cli_cancelled())
                return -ECANCELED;
        if (!is_silent(b) && total > 0)
                show_running(b, b->label, (unsigned)((double)MIN(done, total) * 100 / (double)total), message);
        return 0;
}

void bar_init(struct bar *b, const struct cli *cli)
{
        *b = (struct bar){
                .observer = { .changed = observe, .cancelled = cli_cancelled() },
                .progress = { .report = report },
                .cli = cli,
                .label = "",
                .since = now_realtime(),
                .terminal = isatty(STDOUT_FILENO) == 1,
                .utf8 = streq(nl_langinfo(CODESET), "UTF-8"),
        };
        b->observer.userdata = b;
        b->progress.userdata = b;
}

struct progress *bar_labelled(struct bar *b, const char *label)
{
        b->label = label;
        b->last = b->terminal ? 0 : now_monotonic();
        return &b->progress;
}

void bar_done(struct bar *b)
{
        clear(b);
        fflush(stdout);
}
