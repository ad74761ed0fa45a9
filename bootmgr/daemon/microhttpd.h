/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libmicrohttpd and the part of GnuTLS that it does not wrap, loaded when [API] Listen= says so: most machines never
 * listen, and the two would double what bootmgrd needs of memory. */
#pragma once

#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <microhttpd.h>

#include "base/error.h"

/* clang-format off */
#define MHD_FUNCTIONS(X)                                                                                               \
        X(add_response_header) X(create_response_from_buffer) X(create_response_from_callback)                         \
        X(create_response_from_fd_at_offset64) X(destroy_response)                                                     \
        X(get_connection_info) X(get_daemon_info) X(get_timeout) X(lookup_connection_value) X(queue_response)          \
        X(resume_connection) X(run) X(start_daemon) X(stop_daemon) X(suspend_connection)
#define GNUTLS_FUNCTIONS(X)                                                                                            \
        X(certificate_get_peers) X(certificate_verify_peers) X(hash_fast) X(memcmp) X(x509_crt_deinit)                 \
        X(x509_crt_get_dn_by_oid) X(x509_crt_get_key_id) X(x509_crt_import) X(x509_crt_init)
/* clang-format on */

struct microhttpd {
#define X(name) typeof(MHD_##name) *name;
        MHD_FUNCTIONS(X)
#undef X
};
struct gnutls {
#define X(name) typeof(gnutls_##name) *name;
        GNUTLS_FUNCTIONS(X)
#undef X
};
extern struct microhttpd mhd;
extern struct gnutls gnutls;

int microhttpd_load(struct error *e);
