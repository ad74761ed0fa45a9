/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The consoles of the machine, all at once: what is shown is shown on each, and a key counts wherever it is pressed. */
#pragma once

#include <termios.h>

#include "base/util.h"

#define CONSOLE_MAX 8

struct console {
        int fd;
        bool restore; /* it is a terminal: its settings come back when it is closed */
        struct termios before;
};

struct consoles {
        struct console each[CONSOLE_MAX];
        size_t n;
};

/* All that the kernel writes to, and the screen; with `path` that one alone. None is no error: then nobody sees or presses.
 */
void consoles_open(struct consoles *c, const char *path);
void consoles_close(struct consoles *c);

void consoles_print(const struct consoles *c, const char *text);

/* Waits for a key: its byte; -ETIMEDOUT; -EPIPE when the last console has just hung up. One that has is not asked again. */
int consoles_key(struct consoles *c, unsigned seconds);
