/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A transfer by libcurl, as the configuration wants it. Inside image/ only. */
#pragma once

#include "base/curl.h"
#include "slot/config.h"

/* A handle with everything that is the same for all transfers. NULL: no memory, or libcurl lacks what is asked for. */
CURL *curl_handle(const struct fetch_config *config);

/* HeaderFile=: one header a line; blank lines and those that begin with # are left out. NULL without any. */
int curl_read_headers(const struct fetch_config *config, struct curl_slist **ret, struct error *e);

/* SCHEME://HOST:PORT of a URL, as libcurl reads it: equal for URLs of the same origin. Owned by the caller; NULL: it has
 * none, or no memory. */
char *curl_origin(const char *url);
