/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "snapshot/acl.h"

#include <archive.h>
#include <archive_entry.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>

#include "base/buf.h"

#define HEADER_SIZE 4
#define ENTRY_SIZE  8 /* tag, permissions: 16 bits each; id: 32 bits */
#define ENTRIES_MAX ((XATTR_VALUE_MAX - HEADER_SIZE) / ENTRY_SIZE)
#define PERMISSIONS (ACL_READ | ACL_WRITE | ACL_EXECUTE) /* libarchive's have the same values */

/* In the order that the kernel demands. */
static const struct {
        uint16_t tag;
        int archive_tag;
        bool has_id;
} tags[] = {
        { ACL_USER_OBJ, ARCHIVE_ENTRY_ACL_USER_OBJ, false },   { ACL_USER, ARCHIVE_ENTRY_ACL_USER, true },
        { ACL_GROUP_OBJ, ARCHIVE_ENTRY_ACL_GROUP_OBJ, false }, { ACL_GROUP, ARCHIVE_ENTRY_ACL_GROUP, true },
        { ACL_MASK, ARCHIVE_ENTRY_ACL_MASK, false },           { ACL_OTHER, ARCHIVE_ENTRY_ACL_OTHER, false },
};

int acl_to_entry(const struct xattr *x, int type, struct archive_entry *entry)
{
        const uint8_t *p = x->value, *end = p + x->size;

        if (x->size < HEADER_SIZE || (x->size - HEADER_SIZE) % ENTRY_SIZE != 0 || get_le32(p) != POSIX_ACL_XATTR_VERSION)
                return -EBADMSG;
        for (p += HEADER_SIZE; p < end; p += ENTRY_SIZE) {
                uint16_t tag = get_le16(p), permissions = get_le16(p + 2);
                size_t t = 0;

                while (t < ARRAY_SIZE(tags) && tags[t].tag != tag)
                        t++;
                if (t == ARRAY_SIZE(tags) || (permissions & ~PERMISSIONS))
                        return -EBADMSG;
                if (archive_entry_acl_add_entry(entry, type, permissions, tags[t].archive_tag,
                                                tags[t].has_id ? (int)get_le32(p + 4) : -1, NULL) != ARCHIVE_OK)
                        return -ENOMEM;
        }
        return 0;
}

/* All entries with one tag, in their order. */
static int append_tag(struct archive_entry *entry, int type, size_t t, struct buf *b, mode_t *mode)
{
        int got_type, permissions, tag, id;
        const char *name;

        archive_entry_acl_reset(entry, type);
        while (archive_entry_acl_next(entry, type, &got_type, &permissions, &tag, &id, &name) == ARCHIVE_OK) {
                uint8_t bytes[ENTRY_SIZE];

                if (tag != tags[t].archive_tag)
                        continue;
                if ((permissions & ~PERMISSIONS) || b->size >= HEADER_SIZE + ENTRIES_MAX * ENTRY_SIZE)
                        return -EBADMSG;
                put_le16(bytes, tags[t].tag);
                put_le16(bytes + 2, (uint16_t)permissions);
                put_le32(bytes + 4, tags[t].has_id ? (uint32_t)id : (uint32_t)ACL_UNDEFINED_ID);
                buf_append(b, bytes, sizeof(bytes));
                if (tags[t].tag == ACL_MASK && type == ARCHIVE_ENTRY_ACL_TYPE_ACCESS)
                        *mode = (*mode & ~(mode_t)S_IRWXG) | (mode_t)permissions << 3;
        }
        return 0;
}

static int add_type(struct archive_entry *entry, int type, const char *xattr, struct node *n)
{
        _cleanup_buf_ struct buf b = {};
        uint8_t header[HEADER_SIZE];

        /* Three entries say no more than the mode does. */
        if (archive_entry_acl_reset(entry, type) <= (type == ARCHIVE_ENTRY_ACL_TYPE_ACCESS ? 3 : 0))
                return 0;
        put_le32(header, POSIX_ACL_XATTR_VERSION);
        buf_append(&b, header, sizeof(header));
        for (size_t t = 0; t < ARRAY_SIZE(tags); t++) {
                int r = append_tag(entry, type, t, &b, &n->mode);

                if (r < 0)
                        return r;
        }
        return b.failed ? -ENOMEM : xattr_add(&n->xattrs, xattr, b.data, b.size);
}

int acl_from_entry(struct archive_entry *entry, struct node *n)
{
        int r = add_type(entry, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, XATTR_ACL_ACCESS, n);

        return r < 0 ? r : add_type(entry, ARCHIVE_ENTRY_ACL_TYPE_DEFAULT, XATTR_ACL_DEFAULT, n);
}
