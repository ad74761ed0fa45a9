/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Logging: to stderr for a command, to the journal when stderr is connected to it (JOURNAL_STREAM),
 * with MESSAGE_ID and fields. bootmgr-recover writes to /dev/kmsg instead (it has no libsystemd):
 * it links another implementation of the same functions. */
#pragma once

#include "base/util.h"

enum log_level { LOG_LEVEL_ERROR = 3, LOG_LEVEL_WARNING = 4, LOG_LEVEL_NOTICE = 5, LOG_LEVEL_INFO = 6, LOG_LEVEL_DEBUG = 7 };

void log_set_max_level(enum log_level level); /* default LOG_LEVEL_NOTICE on stderr, INFO in the journal */
/* "bootmgr: " and the like, before lines on stderr; a static string. */
void log_set_name(const char *name);

void log_message(enum log_level level, const char *fmt, ...) _printf_(2, 3);
#define log_error(...)   log_message(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_message(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...)  log_message(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...)    log_message(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_message(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* A change to the machine, for the journal: `message_id` is 32 hexadecimal digits (see
 * units/bootmgr.catalog), `fields` a NULL-terminated list of "KEY=value" (may be NULL). Falls back
 * to log_message(LOG_LEVEL_INFO) without a journal. */
void log_event(const char *message_id, const char *const *fields, const char *fmt, ...) _printf_(3, 4);
