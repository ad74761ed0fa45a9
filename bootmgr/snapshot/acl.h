/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* POSIX ACLs between the kernel's form (struct posix_acl_xattr_header, linux/posix_acl_xattr.h) and an entry of
 * libarchive; for archive.c alone. */
#pragma once

#include "snapshot/node.h"

struct archive_entry;

/* `type`: ARCHIVE_ENTRY_ACL_TYPE_ACCESS or _DEFAULT. -EBADMSG when the value is malformed. */
int acl_to_entry(const struct xattr *x, int type, struct archive_entry *entry);
/* Adds the attributes of both types that the entry has, and sets the group bits of the mode to the
 * mask, as the kernel shows them. */
int acl_from_entry(struct archive_entry *entry, struct node *n);
