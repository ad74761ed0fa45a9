/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/queue.h"

#include <liburing.h>

#include "base/io.h"

#define DEPTH 64 /* of a turn there is one, but of one that writes only what differs */
#define TURNS 2

struct request {
        struct request *next; /* that is free */
        int fd;
        const uint8_t *data;
        size_t n;
        uint64_t offset;
        unsigned turn;
};

struct io_queue {
        struct io_uring ring;
        struct request requests[DEPTH], *free;
        unsigned turn, pending[TURNS]; /* this one; how many of each are on their way */
        uint64_t queued;
        bool refused; /* the kernel takes no more */
        int error;    /* the first one */
};

int io_queue_new(struct io_queue **ret)
{
        struct io_queue *q = calloc(1, sizeof(*q));
        int r = q ? io_uring_queue_init(DEPTH, &q->ring, 0) : -ENOMEM;

        *ret = NULL;
        if (r < 0) {
                free(q);
                return r;
        }
        for (unsigned i = 0; i < DEPTH; i++) {
                q->requests[i].next = q->free;
                q->free = &q->requests[i];
        }
        *ret = q;
        return 0;
}

static void release(struct io_queue *q, struct request *request)
{
        q->pending[request->turn]--;
        request->next = q->free;
        q->free = request;
}

/* What the kernel wrote less of than it was asked to, or did not write, is written at once. Both are rare; a ring may also
 * know no such operation (before 5.6) or may not use it, and then the ordinary call says what is true of the device. */
static void complete(struct io_queue *q, struct request *request, int result)
{
        unsigned done = (unsigned)MAX(result, 0);
        int r = io_pwrite(request->fd, request->data + done, request->n - done, request->offset + done);

        if (r < 0 && q->error >= 0)
                q->error = r;
        q->queued += result > 0;
        release(q, request);
}

/* One that is on its way. */
static int wait_one(struct io_queue *q)
{
        struct io_uring_cqe *cqe;
        int r;

        do
                r = io_uring_wait_cqe(&q->ring, &cqe);
        while (r == -EINTR);
        if (r < 0)
                return r;
        complete(q, io_uring_cqe_get_data(cqe), cqe->res);
        io_uring_cqe_seen(&q->ring, cqe);
        return 0;
}

static int wait_turn(struct io_queue *q, unsigned turn)
{
        while (q->pending[turn] > 0) {
                int r = wait_one(q);

                if (r < 0)
                        return r;
        }
        return q->error;
}

int io_queue_turn(struct io_queue *q)
{
        if (!q)
                return 0;
        q->turn = (q->turn + 1) % TURNS;
        return wait_turn(q, q->turn);
}

int io_queue_finish(struct io_queue *q)
{
        int r = 0;

        for (unsigned i = 0; q && i < TURNS; i++)
                r = MIN(r, wait_turn(q, i));
        return r;
}

int io_queue_pwrite(struct io_queue *q, int fd, const void *buf, size_t n, uint64_t offset)
{
        struct io_uring_sqe *sqe;
        struct request *request;
        int r;

        if (!q || q->refused)
                return q && q->error < 0 ? q->error : io_pwrite(fd, buf, n, offset);
        if (q->error < 0)
                return q->error;
        while (!q->free) {
                r = wait_one(q);
                if (r < 0)
                        return r;
        }
        sqe = io_uring_get_sqe(&q->ring);
        if (!sqe)
                return io_pwrite(fd, buf, n, offset);
        request = q->free;
        q->free = request->next;
        *request = (struct request){ .fd = fd, .data = buf, .n = n, .offset = offset, .turn = q->turn };
        io_uring_prep_write(sqe, fd, buf, (unsigned)n, offset);
        io_uring_sqe_set_data(sqe, request);
        q->pending[q->turn]++;
        do
                r = io_uring_submit(&q->ring);
        while (r == -EINTR);
        if (r >= 0)
                return q->error;
        q->refused = true; /* it stays in the ring, which nobody hands to the kernel any more */
        release(q, request);
        return io_pwrite(fd, buf, n, offset);
}

uint64_t io_queue_count(const struct io_queue *q)
{
        return q ? q->queued : 0;
}

struct io_queue *io_queue_free(struct io_queue *q)
{
        if (!q)
                return NULL;
        (void)!io_queue_finish(q);
        io_uring_queue_exit(&q->ring);
        free(q);
        return NULL;
}
