/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/clock.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/timex.h>
#include <time.h>

#include "base/buf.h"
#include "base/file.h"

static uint64_t now(clockid_t clock)
{
        struct timespec ts;

        clock_gettime(clock, &ts);
        return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t now_realtime(void)
{
        return now(CLOCK_REALTIME);
}

uint64_t now_monotonic(void)
{
        return now(CLOCK_MONOTONIC);
}

bool clock_is_synchronised(void)
{
        struct timex t = { .modes = 0 };

        return adjtimex(&t) >= 0 && !(t.status & STA_UNSYNC);
}

void format_time(uint64_t usec, char text[static TIME_TEXT_SIZE])
{
        time_t seconds = (time_t)(usec / USEC_PER_SEC);
        struct tm tm;
        size_t n;

        gmtime_r(&seconds, &tm);
        n = strftime(text, TIME_TEXT_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
        snprintf(text + n, TIME_TEXT_SIZE - n, ".%03uZ", (unsigned)(usec % USEC_PER_SEC / USEC_PER_MSEC));
}

/* ".123456" to microseconds; more digits are cut off. */
static const char *parse_fraction(const char *p, uint64_t *usec)
{
        uint64_t unit = USEC_PER_SEC / 10;

        *usec = 0;
        if (*p != '.')
                return p;
        if (p[1] < '0' || p[1] > '9')
                return NULL;
        for (p++; *p >= '0' && *p <= '9'; p++, unit /= 10)
                *usec += (uint64_t)(*p - '0') * unit;
        return p;
}

/* Whether `text` begins as `form` says, where a 9 stands for any digit. */
static bool has_form(const char *text, const char *form)
{
        for (; *form; text++, form++)
                if (*form == '9' ? *text < '0' || *text > '9' : *text != *form)
                        return false;
        return true;
}

static int parse_offset(const char *p, int64_t *seconds)
{
        int hours, minutes;

        *seconds = 0;
        if (streq(p, "Z") || streq(p, "z"))
                return 0;
        if ((*p != '+' && *p != '-') || !has_form(p + 1, "99:99") || p[6])
                return -EINVAL;
        hours = (p[1] - '0') * 10 + p[2] - '0';
        minutes = (p[4] - '0') * 10 + p[5] - '0';
        if (hours > 23 || minutes > 59)
                return -EINVAL;
        *seconds = (hours * 3600 + minutes * 60) * (*p == '-' ? -1 : 1);
        return 0;
}

/* "2026-11-23T08:09:29" as UTC. strptime(3) alone would take blanks, short fields and the 31st of February. */
static const char *parse_date(const char *text, int64_t *seconds)
{
        struct tm tm = {};
        const char *end;
        int day, second;

        if (!has_form(text, "9999-99-99T99:99:99"))
                return NULL;
        end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
        if (!end || tm.tm_sec > 60)
                return NULL;
        day = tm.tm_mday;
        second = TAKE(tm.tm_sec, 0); /* 60, a leap second, is the next minute */
        *seconds = (int64_t)timegm(&tm) + second;
        return tm.tm_mday == day ? end : NULL;
}

int parse_time(const char *text, uint64_t *ret)
{
        uint64_t fraction;
        int64_t offset, seconds;
        const char *p = parse_date(text, &seconds);

        if (!p)
                return -EINVAL;
        p = parse_fraction(p, &fraction);
        if (!p || parse_offset(p, &offset) < 0)
                return -EINVAL;
        seconds -= offset;
        if (seconds < 0)
                return -EINVAL;
        *ret = (uint64_t)seconds * USEC_PER_SEC + fraction;
        return 0;
}

int random_id(uint8_t id[static 16])
{
        return getrandom(id, 16, 0) == 16 ? 0 : -EIO;
}

int boot_id(uint8_t id[static 16])
{
        _cleanup_free_ char *text = NULL;
        char hex[33];
        size_t n = 0;
        int r;

        r = file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &text, NULL);
        if (r < 0)
                return r;
        for (const char *p = text; *p && n < sizeof(hex) - 1; p++)
                if (*p != '-' && *p != '\n')
                        hex[n++] = *p;
        hex[n] = '\0';
        return hex_decode(hex, id, 16);
}
