/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/log.h"

#include <stdarg.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>

#include "base/buf.h"

#define FIELDS_MAX     16
#define JOURNAL_SOCKET "/run/systemd/journal/socket"

static enum log_level max_level;
static bool level_set;
static const char *name = "bootmgr";

/* systemd tells a service which stream goes to the journal: then we talk to the journal itself. */
static bool stderr_is_journal(void)
{
        static int known = -1;
        const char *stream = getenv("JOURNAL_STREAM");
        unsigned long long device, inode;
        struct stat st;

        if (known < 0)
                known = stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
                        st.st_dev == device && st.st_ino == inode;
        return known > 0;
}

void log_set_max_level(enum log_level level)
{
        max_level = level;
        level_set = true;
}

void log_set_name(const char *new_name)
{
        name = new_name;
}

static bool wanted(enum log_level level)
{
        return level <= (level_set ? max_level : stderr_is_journal() ? LOG_LEVEL_INFO : LOG_LEVEL_NOTICE);
}

void log_message(enum log_level level, const char *fmt, ...)
{
        _cleanup_free_ char *text = NULL;
        va_list ap;
        int n;

        if (!wanted(level))
                return;
        va_start(ap, fmt);
        n = vasprintf(&text, fmt, ap);
        va_end(ap);
        if (n < 0) {
                text = NULL;
                return;
        }
        if (stderr_is_journal())
                sd_journal_send("MESSAGE=%s", text, "PRIORITY=%i", level, "SYSLOG_IDENTIFIER=%s", name, NULL);
        else
                fprintf(stderr, "%s: %s\n", name, text);
}

static void add_field(struct iovec *fields, int *n, const char *text)
{
        fields[(*n)++] = (struct iovec){ .iov_base = (char *)text, .iov_len = strlen(text) };
}

void log_event(const char *message_id, const char *const *fields, const char *fmt, ...)
{
        _cleanup_free_ char *text = NULL, *message = NULL, *id = NULL, *identifier = NULL;
        struct iovec iov[FIELDS_MAX];
        va_list ap;
        int n;

        va_start(ap, fmt);
        n = vasprintf(&text, fmt, ap);
        va_end(ap);
        if (n < 0) {
                text = NULL;
                return;
        }
        message = xasprintf("MESSAGE=%s", text);
        id = xasprintf("MESSAGE_ID=%s", message_id);
        identifier = xasprintf("SYSLOG_IDENTIFIER=%s", name);
        if (!message || !id || !identifier || access(JOURNAL_SOCKET, F_OK) < 0) {
                log_message(LOG_LEVEL_INFO, "%s", text);
                return;
        }
        n = 0;
        add_field(iov, &n, message);
        add_field(iov, &n, id);
        add_field(iov, &n, identifier);
        add_field(iov, &n, "PRIORITY=5");
        for (; fields && *fields && n < FIELDS_MAX; fields++)
                add_field(iov, &n, *fields);
        sd_journal_sendv(iov, n);
}
