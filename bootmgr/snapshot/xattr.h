/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Extended attributes in memory: a list, sorted by name. */
#pragma once

#include "base/util.h"

#define XATTR_ACL_ACCESS  "system.posix_acl_access"
#define XATTR_ACL_DEFAULT "system.posix_acl_default"
#define XATTR_VALUE_MAX   65536 /* the kernel's bound on one value */

struct xattr {
        struct xattr *next;
        const void *value; /* lies behind the name */
        size_t size;
        char name[];
};

/* Copies name and value. A name that is there already is replaced. -ENOMEM. */
int xattr_add(struct xattr **list, const char *name, const void *value, size_t size);
const struct xattr *xattr_find(const struct xattr *list, const char *name);
void xattr_free_all(struct xattr *list);

/* Equal but for what overlayfs keeps for itself. */
bool xattr_same(const struct xattr *a, const struct xattr *b);
/* What overlayfs keeps for itself in an upper directory. */
bool xattr_is_overlay_private(const char *name);
/* What is sealed and carried: all but the file system's own notes (system.*, of which only the ACLs are the
 * user's) and security.evm, an HMAC over the inode number that the kernel makes anew. */
bool xattr_is_wanted(const char *name);
