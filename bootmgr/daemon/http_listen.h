/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "base/error.h"

/* "192.0.2.1:8443", "[2001:db8::1]:8443", "*:8443" (IPv6 and IPv4): a listening socket, or -errno. The address need
 * not be there yet; a port that another has is waited for, some seconds. */
int http_listen(const char *where, struct error *e);
