/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/crew.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

struct job {
        bool finished;
        int result;
        struct error error;
};

struct worker {
        struct crew *crew;
        unsigned number;
        pthread_t thread;
};

struct crew {
        const struct crew_ops *ops;
        void *userdata;
        pthread_mutex_t lock;
        pthread_cond_t handed_one, finished_one;
        uint64_t handed, taken, retired; /* slots, counted; retired <= taken <= handed <= retired + n_slots */
        bool stop;                       /* nothing is taken any more */
        unsigned n_slots, n_workers;
        struct job *jobs;
        struct worker *workers;
};

unsigned crew_processors(unsigned max)
{
        cpu_set_t set;
        int n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;

        return MIN((unsigned)MAX(n, 1), max);
}

static void work(struct crew *c, unsigned worker, uint64_t number)
{
        unsigned slot = (unsigned)(number % c->n_slots);

        c->jobs[slot].result = c->ops->work(c->userdata, worker, slot, &c->jobs[slot].error);
}

static void *worker_main(void *userdata)
{
        struct worker *w = userdata;
        struct crew *c = w->crew;

        pthread_mutex_lock(&c->lock);
        for (;;) {
                uint64_t number;

                while (!c->stop && c->taken == c->handed)
                        pthread_cond_wait(&c->handed_one, &c->lock);
                if (c->stop)
                        break;
                number = c->taken++;
                pthread_mutex_unlock(&c->lock);
                work(c, w->number, number);
                pthread_mutex_lock(&c->lock);
                /* All that was handed before it has been taken: the caller finds the first failure in order. */
                c->stop |= c->jobs[number % c->n_slots].result < 0;
                c->jobs[number % c->n_slots].finished = true;
                pthread_cond_signal(&c->finished_one);
        }
        pthread_mutex_unlock(&c->lock);
        return NULL;
}

static void start_workers(struct crew *c, unsigned threads)
{
        sigset_t all, before;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        while (c->n_workers < threads) {
                struct worker *w = &c->workers[c->n_workers];

                *w = (struct worker){ .crew = c, .number = c->n_workers };
                if (pthread_create(&w->thread, NULL, worker_main, w) != 0)
                        break; /* with fewer, or with none, it takes longer */
                c->n_workers++;
        }
        pthread_sigmask(SIG_SETMASK, &before, NULL);
}

int crew_new(const struct crew_ops *ops, void *userdata, unsigned threads, unsigned slots, struct crew **ret)
{
        struct crew *c = calloc(1, sizeof(*c));

        if (!c)
                return -ENOMEM;
        *c = (struct crew){ .ops = ops, .userdata = userdata, .n_slots = slots };
        pthread_mutex_init(&c->lock, NULL);
        pthread_cond_init(&c->handed_one, NULL);
        pthread_cond_init(&c->finished_one, NULL);
        c->jobs = calloc(slots, sizeof(*c->jobs));
        c->workers = calloc(MAX(threads, 1U), sizeof(*c->workers));
        if (!c->jobs || !c->workers) {
                crew_free(c);
                return -ENOMEM;
        }
        start_workers(c, threads);
        *ret = c;
        return 0;
}

struct crew *crew_free(struct crew *c)
{
        if (!c)
                return NULL;
        pthread_mutex_lock(&c->lock);
        c->stop = true;
        pthread_cond_broadcast(&c->handed_one);
        pthread_mutex_unlock(&c->lock);
        for (unsigned i = 0; i < c->n_workers; i++)
                pthread_join(c->workers[i].thread, NULL);
        for (unsigned i = 0; c->jobs && i < c->n_slots; i++)
                error_done(&c->jobs[i].error);
        pthread_cond_destroy(&c->finished_one);
        pthread_cond_destroy(&c->handed_one);
        pthread_mutex_destroy(&c->lock);
        free(c->workers);
        free(c->jobs);
        free(c);
        return NULL;
}

/* The oldest that was handed; it is finished. */
static int retire(struct crew *c, struct error *e)
{
        unsigned slot = (unsigned)(c->retired++ % c->n_slots);
        struct job *job = &c->jobs[slot];

        job->finished = false;
        if (job->result < 0) {
                if (e && !e->code)
                        *e = TAKE(job->error, ((struct error){}));
                return job->result;
        }
        return c->ops->done ? c->ops->done(c->userdata, slot, e) : 0;
}

/* Whether the oldest is to be retired: it is finished, or waited for. */
static bool oldest_finished(struct crew *c, bool wait)
{
        struct job *job = &c->jobs[c->retired % c->n_slots];
        bool finished;

        if (c->retired == c->handed)
                return false;
        pthread_mutex_lock(&c->lock);
        while (wait && !job->finished)
                pthread_cond_wait(&c->finished_one, &c->lock);
        finished = job->finished;
        pthread_mutex_unlock(&c->lock);
        return finished;
}

int crew_next(struct crew *c, unsigned *ret_slot, struct error *e)
{
        while (oldest_finished(c, c->handed - c->retired == c->n_slots)) {
                int r = retire(c, e);

                if (r < 0)
                        return r;
        }
        *ret_slot = (unsigned)(c->handed % c->n_slots);
        return 0;
}

int crew_hand(struct crew *c, struct error *e)
{
        if (c->n_workers == 0) {
                work(c, 0, c->handed++);
                return retire(c, e);
        }
        pthread_mutex_lock(&c->lock);
        c->handed++;
        pthread_cond_signal(&c->handed_one);
        pthread_mutex_unlock(&c->lock);
        return 0;
}

int crew_finish(struct crew *c, struct error *e)
{
        while (oldest_finished(c, true)) {
                int r = retire(c, e);

                if (r < 0)
                        return r;
        }
        return 0;
}
