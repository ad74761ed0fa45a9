/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* bootmgr.conf(5), found as UAPI.6 says: /etc/bootmgr/bootmgr.conf, or without it
 * /usr/lib/bootmgr/bootmgr.conf; then the *.conf files of bootmgr.conf.d beside both, in the order of
 * their names, where one in /etc replaces its namesake. A later value replaces an earlier one. libeconf
 * parses each file. Unknown keys are warned about, bad values are errors that name file, key and value. */
#pragma once

#include "slot/slot.h"

#define FETCH_CONNECTIONS_MAX 16
#define CONFIG_DATA           "/data/bootmgr" /* the only one that the initramfs knows (recover/mount.c) */
#define CONFIG_CERTIFICATE    "/data/bootmgr/cluster/node.pem"
#define CONFIG_KEY            "/data/bootmgr/cluster/node.key"

struct fetch_config {
        char **mirrors;       /* Mirrors=: URLs of directories that hold the same files, NULL-terminated; NULL: none */
        unsigned connections; /* Connections=1..16; 0: as many as the parts that are wanted need */
        uint64_t rate_limit;  /* RateLimit=: bytes per second; 0: none */
        uint64_t retry;       /* RetrySec=, default 300 s: given up when nothing arrived for so long, µs */
        char *proxy;          /* Proxy=; NULL: as the environment says */
        char *ca_certificate; /* CaCertificate=: PEM; NULL: those of the system */
        char *certificate;    /* ClientCertificate=: PEM */
        char *key;            /* ClientKey=: PEM */
        char *header_file;    /* HeaderFile=: further headers, one a line */
        const volatile bool *cancelled; /* no key: set by a signal handler, everything that fetches is to end; NULL: never */
};
#define FETCH_DEFAULTS                                                                                                      \
        {                                                                                                                   \
                .retry = UINT64_C(300000000)                                                                                \
        }

struct config {
        /* [System] */
        char *compatible;           /* Compatible=: what bundles must say; NULL: anything */
        char *rollback_min_version; /* RollbackMinVersion=; NULL: no gate */
        /* [Storage] */
        char *disk;                  /* Disk=; NULL: found */
        char *esp;                   /* Esp=: a device or a mounted directory; NULL: found */
        char *state[2];              /* State=: one device, or two preallocated files; NULL: found */
        char *data;                  /* DataDirectory=, default /data/bootmgr */
        char *slot_device[SLOT_MAX]; /* Slots=a:/dev/… b:/dev/…; NULL: found by label or type */
        bool etc_overlay;            /* EtcOverlay=, default yes */
        /* [Boot] */
        char *loader;   /* Loader=systemd-boot|none, default systemd-boot */
        char *cmdline;  /* KernelCommandLine=: appended to our own words; "" by default */
        unsigned tries; /* Tries=1..9, default 3 */
        /* [Configuration] */
        char **carried;        /* CarriedPaths=, default /etc; NULL-terminated, absolute */
        char **shared;         /* SharedPaths=, default none */
        uint64_t hook_timeout; /* HookTimeoutSec=, default 60 s, µs */
        /* [Fetch] */
        struct fetch_config fetch;
        /* [Trust] */
        char *trust_directory;    /* Directory=, default /etc/bootmgr/trust.d */
        unsigned trust_threshold; /* Threshold=, default 1 */
        /* [Health] */
        uint64_t health_deadline; /* DeadlineSec=, default 300 s: from boot to confirmed, µs */
        uint64_t health_timeout;  /* CheckTimeoutSec=, default 60 s: each check, µs */
        /* [API] */
        char *api_listen;             /* Listen=ADDRESS:PORT; NULL: there is no HTTPS interface */
        char *api_certificate;        /* Certificate=, default /data/bootmgr/cluster/node.pem */
        char *api_key;                /* Key=, default /data/bootmgr/cluster/node.key */
        char *api_client_ca;          /* ClientCA=; NULL: no client certificates */
        char *api_tokens;             /* Tokens=, default /etc/bootmgr/tokens */
        unsigned api_max_connections; /* MaxConnections=, default 24576: two for each of CLUSTER_MEMBERS_MAX, and room */
        /* [Rollback] */
        unsigned max_auto_rollbacks; /* MaxAutomaticPerDay=, default 3 */
        /* [Cluster] */
        char *cluster_role; /* Role=standalone|controller|engine, default standalone */
        char *cluster_name; /* Name= of this node; NULL: the host name */
        char **controllers; /* Controllers=HOST[:PORT] …, NULL-terminated; default none */
};

/* `file`: read this one file instead of the usual places (tests, factories); NULL: the usual places. */
int config_load(const char *file, struct config *ret, struct error *e);
/* The usual places, with other directories for the vendor's and the system's files. */
int config_load_from(const char *vendor, const char *system, struct config *ret, struct error *e);
void config_done(struct config *c);
#define _cleanup_config_ _cleanup_(config_done)
