/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An operation as JSON, of a file on data or of bootmgrd, and what a worker prints line by line. Read, written and read
 * again it is the same; and lines are the same however the pipe cuts them. Input: the first byte is how much arrives at a
 * time, 0: one operation. */
#include "fuzz.h"

#include "daemon/task.c"
#include "operation/operation.h"

static void check_bounds(const struct operation *op)
{
        must(op->n_steps <= OPERATION_MAX_STEPS && operation_progress(op) <= 100);
        must(op->kind > OPERATION_NONE && op->kind < _OPERATION_KIND_MAX && op->result < _RESULT_MAX);
        must(op->from_slot < SLOT_MAX && op->to_slot < SLOT_MAX);
        /* It becomes part of a file's name. */
        must(strlen(op->id) == OPERATION_ID_SIZE - 1 && strspn(op->id, "0123456789abcdef") == OPERATION_ID_SIZE - 1);
        for (size_t i = 0; i < op->n_steps; i++)
                must(op->steps[i].progress <= 100 && op->steps[i].state < _STEP_STATE_MAX);
}

static void check_operation(const json_t *j)
{
        _cleanup_operation_ struct operation a = {}, b = {};
        _cleanup_json_ json_t *first = NULL, *second = NULL;
        _cleanup_error_ struct error e = {};

        if (operation_from_json(j, &a, &e) < 0) {
                must(e.message);
                return;
        }
        check_bounds(&a);
        first = operation_to_json(&a);
        must(first && operation_from_json(first, &b, NULL) >= 0);
        second = operation_to_json(&b);
        must(second && json_equal(first, second));
}

struct lines {
        size_t n;
        uint32_t crc;
};

static void on_line(const json_t *line, void *userdata)
{
        char *text = json_dumps(line, JSON_COMPACT | JSON_ENCODE_ANY);
        struct lines *l = userdata;

        must(text);
        l->n++;
        l->crc = crc32c(l->crc, text, strlen(text));
        free(text);
        check_operation(line);
}

static struct lines read_lines(const char *text, size_t size, size_t step)
{
        struct lines lines = {};
        struct task t = { .spec = { .kind = TASK_WORK, .line = on_line, .userdata = &lines } };

        for (size_t at = 0; at < size; at += step) {
                buf_append(&t.output, text + at, MIN(step, size - at));
                take_lines(&t);
        }
        must(!t.output.data || !memchr(t.output.data, '\n', t.output.size));
        buf_done(&t.output);
        json_decref(t.last);
        return lines;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct input in = { data, size };
        size_t step = take_byte(&in), n;
        _cleanup_free_ char *text = take_bytes(&in, in.size, false, &n);
        _cleanup_json_ json_t *j = NULL;

        if (step > 0) {
                struct lines whole = read_lines(text, n, SIZE_MAX), parts = read_lines(text, n, step);

                must(whole.n == parts.n && whole.crc == parts.crc);
        } else if (json_parse_strict(text, n, "input", &j, NULL) >= 0) {
                check_operation(j);
        }
        return 0;
}
