/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

struct api;

/* GET /metrics: the Prometheus text format, version 0.0.4, of what is known. malloc'ed; NULL: no memory. */
char *metrics_text(const struct api *api);
