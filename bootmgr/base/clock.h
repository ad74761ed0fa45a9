/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Time and the identity of this boot. Microseconds since 1970 (realtime) unless a name says other. */
#pragma once

#include "base/util.h"

#define USEC_PER_SEC   UINT64_C(1000000)
#define USEC_PER_MSEC  UINT64_C(1000)
#define USEC_PER_DAY   (UINT64_C(86400) * USEC_PER_SEC)
#define TIME_TEXT_SIZE 32

uint64_t now_realtime(void);
uint64_t now_monotonic(void);
/* Whether the kernel was told that the realtime clock is right, e.g. by systemd-timesyncd. False says nothing. */
bool clock_is_synchronised(void);

/* RFC 3339 in UTC with milliseconds, "2026-11-23T08:09:29.123Z". */
void format_time(uint64_t usec, char text[static TIME_TEXT_SIZE]);
/* The reverse; offsets other than Z are accepted. -EINVAL. */
int parse_time(const char *text, uint64_t *ret);

/* 128 random bits. */
int random_id(uint8_t id[static 16]);
/* /proc/sys/kernel/random/boot_id as 16 bytes. */
int boot_id(uint8_t id[static 16]);
