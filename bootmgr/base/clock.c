/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/clock.h"

#include <fcntl.h>
#include <sys/random.h>
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

static int parse_offset(const char *p, int64_t *seconds)
{
        int hours, minutes, n = 0;

        *seconds = 0;
        if (streq(p, "Z") || streq(p, "z"))
                return 0;
        if ((*p != '+' && *p != '-') || strlen(p) != 6 || sscanf(p + 1, "%2d:%2d%n", &hours, &minutes, &n) != 2 || n != 5)
                return -EINVAL;
        if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59)
                return -EINVAL;
        *seconds = (hours * 3600 + minutes * 60) * (*p == '-' ? -1 : 1);
        return 0;
}

int parse_time(const char *text, uint64_t *ret)
{
        struct tm tm = {};
        uint64_t fraction;
        int64_t offset, seconds;
        const char *p = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);

        if (!p)
                return -EINVAL;
        p = parse_fraction(p, &fraction);
        if (!p || parse_offset(p, &offset) < 0)
                return -EINVAL;
        seconds = (int64_t)timegm(&tm) - offset;
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
