/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Writes that are on their way while their thread prepares the next ones: io_uring(7). Where the kernel does not allow it
 * (ENOSYS, or EPERM by a sysctl or a seccomp filter) there is no queue, and without one these calls are io_pwrite().
 *
 *      io_queue_turn(q)        what was handed in the turn before the last one is written: its buffers are free
 *      io_queue_pwrite(q, …)   from buffers of this turn
 *
 * A queue is one thread's at a time. It is not for what a test's table of I/O (base/io.h) is to see. */
#pragma once

#include "base/util.h"

struct io_queue;

/* NULL with a negative errno: there is none here. */
int io_queue_new(struct io_queue **ret);
/* Waits for what is on its way; how it went is not told. NULL is allowed. */
struct io_queue *io_queue_free(struct io_queue *q);

/* All of it, as io_pwrite(). The error may be that of an earlier one, and that of this one may come later. */
int io_queue_pwrite(struct io_queue *q, int fd, const void *buf, size_t n, uint64_t offset) _warn_unused_;
int io_queue_turn(struct io_queue *q) _warn_unused_;
/* Everything that was handed is written (not flushed). */
int io_queue_finish(struct io_queue *q) _warn_unused_;
/* How many writes the kernel took in this way; 0 without a queue. */
uint64_t io_queue_count(const struct io_queue *q);
