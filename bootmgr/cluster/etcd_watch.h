/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A watch on etcd, kept up whatever happens to its members. Inside cluster/ only. */
#pragma once

#include "base/clock.h"
#include "cluster/backend.h"
#include "cluster/client.h"

int etcd_watch_begin(struct store_watch *w, struct client *c, struct error *e);
void etcd_watch_stop(struct store_watch *w);

/* A range by the client; `ask` says whom to tell, and may name the endpoint. */
int etcd_start_range(struct client *c, const struct store_range *range, struct client_ask ask, struct client_request **ret,
                     struct error *e);
