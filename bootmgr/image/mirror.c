/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image/mirror.h"

#include "base/clock.h"

#define WAIT_MAX_DOUBLINGS 5 /* 32 s */
#define SLOWER             4

static bool is_usable(const struct mirror *m, uint64_t now)
{
        return !m->dead && m->again <= now;
}

/* Whether a is to be asked rather than b. */
static bool is_better(const struct mirror *a, const struct mirror *b)
{
        bool a_new = a->speed == 0 && a->users == 0, b_new = b->speed == 0 && b->users == 0;

        if (a->failures != b->failures)
                return a->failures < b->failures;
        return a_new != b_new ? a_new : a->speed > b->speed;
}

int mirror_pick(const struct mirror *m, size_t n, uint64_t now, uint64_t *ret_wait)
{
        uint64_t wait = UINT64_MAX;
        bool right = false;
        int best = -ENOENT;

        for (size_t i = 0; i < n; i++)
                right |= !m[i].dead && !m[i].wrong;
        for (size_t i = 0; i < n; i++) {
                if (right && m[i].wrong)
                        continue;
                if (!m[i].dead && m[i].again > now)
                        wait = MIN(wait, m[i].again - now);
                if (is_usable(&m[i], now) && (best < 0 || is_better(&m[i], &m[best])))
                        best = (int)i;
        }
        if (best >= 0 || wait == UINT64_MAX)
                return best;
        *ret_wait = wait;
        return -EAGAIN;
}

void mirror_measured(struct mirror *m, uint64_t bytes, uint64_t usec)
{
        uint64_t speed = bytes * USEC_PER_SEC / MAX(usec, UINT64_C(1));

        m->speed = MAX(m->speed ? (m->speed + speed) / 2 : speed, UINT64_C(1));
        m->failures = 0;
        m->again = 0;
}

void mirror_failed(struct mirror *m, bool progress, uint64_t now)
{
        if (progress)
                m->failures = 0;
        m->again = m->failures == 0 ? now : now + (USEC_PER_SEC << MIN(m->failures - 1, (unsigned)WAIT_MAX_DOUBLINGS));
        m->failures++;
        m->failed = now;
}

bool mirror_fails_anew(const struct mirror *m, uint64_t started)
{
        return m->failures == 0 || started > m->failed;
}

void mirror_rests(struct mirror *m, uint64_t usec, uint64_t now)
{
        m->again = MAX(m->again, now + usec);
        m->promised = true;
}

bool mirror_is_there(const struct mirror *m, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (!m[i].dead && (m[i].seen || m[i].promised))
                        return true;
        return false;
}

bool mirror_is_slow(const struct mirror *m, size_t n, size_t which, uint64_t rate, uint64_t now)
{
        for (size_t i = 0; i < n; i++)
                if (i != which && !m[i].wrong && is_usable(&m[i], now) && m[i].failures == 0 && m[i].speed / SLOWER > rate)
                        return true;
        return false;
}

bool mirror_has_other(const struct mirror *m, size_t n, size_t which, uint64_t now)
{
        for (size_t i = 0; i < n; i++)
                if (i != which && !m[i].wrong && is_usable(&m[i], now) && m[i].failures <= m[which].failures)
                        return true;
        return false;
}
