/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Time and chance, linked in place of the system's (--wrap): the same seed gives the same states. Otherwise how often
 * progress is written would depend on how busy the machine is, and the order of a directory on what a temporary file is
 * called. */
#include "crash.h"

#include <sched.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define START    INT64_C(1767225600) /* 2026-01-01 */
#define CALL_NS  UINT64_C(1000000)   /* so long takes what is between two looks at the clock */
#define STEP_SEC 60                  /* between a machine's past, its operation, and the boots after a cut */

static uint64_t random_state, ns;
static int64_t begin;

ssize_t __wrap_getrandom(void *buffer, size_t n, unsigned flags);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret);
int __wrap_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set);

void chance_begin(uint64_t stream, unsigned when)
{
        random_state = mix(stream + 1) ^ when;
        begin = START + (int64_t)when * STEP_SEC;
        ns = 0;
}

struct timespec chance_mtime(void)
{
        return (struct timespec){ .tv_sec = START };
}

uint64_t mix(uint64_t x)
{
        x ^= x >> 31;
        x *= UINT64_C(0x7fb5d329728ea185);
        x ^= x >> 27;
        x *= UINT64_C(0x81dadef4bc2dd44d);
        return x ^ x >> 33;
}

ssize_t __wrap_getrandom(void *buffer, size_t n, unsigned flags)
{
        uint8_t *p = buffer;

        for (size_t i = 0; i < n; i++)
                p[i] = (uint8_t)(mix(random_state += UINT64_C(0x9e3779b97f4a7c15)) >> 24);
        return (ssize_t)n;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret)
{
        uint64_t now = __atomic_add_fetch(&ns, CALL_NS, __ATOMIC_RELAXED);

        ret->tv_sec = (clock == CLOCK_REALTIME ? begin : 1000) + (int64_t)(now / 1000000000);
        ret->tv_nsec = (int64_t)(now % 1000000000);
        return 0;
}

/* One thread for each processor would read the root back, and only one of them reports. */
int __wrap_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set)
{
        memset(set, 0, size);
        CPU_SET_S(0, size, set);
        return 0;
}
