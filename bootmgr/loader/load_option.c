/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "loader/load_option.h"

/* Device path nodes: type, subtype, length (2), then what is theirs. */
#define NODE_HEADER  4
#define TYPE_MEDIA   4
#define MEDIA_DISK   1 /* a partition: HD(…) */
#define MEDIA_FILE   4
#define TYPE_END     0x7f
#define END_ENTIRE   0xff
#define DISK_SIZE    42 /* of the whole node */
#define DISK_IS_GPT  2
#define SIGNED_BY_ID 2
#define HEADER       6 /* attributes and size of the path */

void load_option_done(struct load_option *o)
{
        free(o->description);
        free(o->path);
        free(o->arguments);
        *o = (struct load_option){};
}

static bool is_plain(const char *text)
{
        for (; *text; text++)
                if (*text < ' ' || *text > '~')
                        return false;
        return true;
}

static void append_utf16(struct buf *b, const char *text)
{
        size_t n = strlen(text) + 1; /* its NUL, too */

        for (size_t i = 0; i < n; i++)
                buf_append(b, (uint8_t[]){ (uint8_t)text[i], 0 }, 2);
}

static void append_node(struct buf *b, uint8_t type, uint8_t subtype, size_t length)
{
        uint8_t header[NODE_HEADER] = { type, subtype };

        put_le16(header + 2, (uint16_t)length);
        buf_append(b, header, sizeof(header));
}

static void append_path(struct buf *b, const struct load_option *o)
{
        uint8_t disk[DISK_SIZE - NODE_HEADER] = {};

        put_le32(disk, o->partition);
        put_le64(disk + 4, o->start);
        put_le64(disk + 12, o->size);
        memcpy(disk + 20, o->guid, 16);
        disk[36] = DISK_IS_GPT;
        disk[37] = SIGNED_BY_ID;
        append_node(b, TYPE_MEDIA, MEDIA_DISK, DISK_SIZE);
        buf_append(b, disk, sizeof(disk));
        append_node(b, TYPE_MEDIA, MEDIA_FILE, NODE_HEADER + 2 * (strlen(o->path) + 1));
        append_utf16(b, o->path);
        append_node(b, TYPE_END, END_ENTIRE, NODE_HEADER);
}

int load_option_format(const struct load_option *o, struct buf *ret)
{
        _cleanup_buf_ struct buf path = {};
        uint8_t header[HEADER];

        if (!is_plain(o->description) || !is_plain(o->path) || !is_plain(o->arguments ?: ""))
                return -EINVAL;
        if (strlen(o->description) + strlen(o->path) + strlen(o->arguments ?: "") > (LOAD_OPTION_MAX - 128) / 2)
                return -E2BIG;
        append_path(&path, o);
        put_le32(header, o->attributes);
        put_le16(header + 4, (uint16_t)path.size);
        buf_append(ret, header, sizeof(header));
        append_utf16(ret, o->description);
        buf_append(ret, path.data, path.size);
        if (o->arguments)
                append_utf16(ret, o->arguments);
        return path.failed || ret->failed ? -ENOMEM : 0;
}

/* UTF-16 up to its NUL or to `size`; *ret_used counts the NUL. */
static int parse_utf16(const uint8_t *data, size_t size, bool ends, char **ret, size_t *ret_used)
{
        _cleanup_free_ char *text = calloc(1, size / 2 + 1);
        size_t i;

        if (!text)
                return -ENOMEM;
        for (i = 0; i + 1 < size; i += 2) {
                uint16_t c = get_le16(data + i);

                if (c == 0)
                        break;
                if (c < ' ' || c > '~')
                        return -ENOTSUP;
                text[i / 2] = (char)c;
        }
        if (ends && i + 1 >= size)
                return -EINVAL;
        *ret_used = MIN(i + 2, size);
        *ret = TAKE_PTR(text);
        return 0;
}

static int parse_disk(const uint8_t *node, size_t length, struct load_option *o)
{
        if (length != DISK_SIZE || node[40] != DISK_IS_GPT || node[41] != SIGNED_BY_ID)
                return -ENOTSUP;
        o->partition = get_le32(node + 4);
        o->start = get_le64(node + 8);
        o->size = get_le64(node + 16);
        memcpy(o->guid, node + 24, 16);
        return 0;
}

/* HD(…), File(…), End: what boots from a partition, and what we write. */
static int parse_path(const uint8_t *path, size_t size, struct load_option *o)
{
        size_t at = 0, used;

        for (int i = 0; at + NODE_HEADER <= size; i++) {
                const uint8_t *node = path + at;
                size_t length = get_le16(node + 2);
                int r = -ENOTSUP;

                if (length < NODE_HEADER || length > size - at)
                        return -EINVAL;
                if (i == 2 && node[0] == TYPE_END && node[1] == END_ENTIRE)
                        return 0;
                if (i == 0 && node[0] == TYPE_MEDIA && node[1] == MEDIA_DISK)
                        r = parse_disk(node, length, o);
                else if (i == 1 && node[0] == TYPE_MEDIA && node[1] == MEDIA_FILE)
                        r = parse_utf16(node + NODE_HEADER, length - NODE_HEADER, true, &o->path, &used);
                if (r < 0)
                        return r;
                at += length;
        }
        return -EINVAL;
}

int load_option_parse(const void *data, size_t size, struct load_option *ret)
{
        _cleanup_load_option_ struct load_option o = {};
        const uint8_t *p = data;
        size_t at = HEADER, used, path_size;
        int r;

        if (size < HEADER || size > LOAD_OPTION_MAX)
                return -EINVAL;
        o.attributes = get_le32(p);
        path_size = get_le16(p + 4);
        r = parse_utf16(p + at, size - at, true, &o.description, &used);
        if (r < 0)
                return r;
        at += used;
        if (path_size > size - at)
                return -EINVAL;
        r = parse_path(p + at, path_size, &o);
        at += path_size;
        if (r >= 0 && at < size)
                r = parse_utf16(p + at, size - at, false, &o.arguments, &used);
        if (r < 0)
                return r;
        *ret = TAKE(o, (struct load_option){});
        return 0;
}

int efi_guid_parse(const char *text, uint8_t ret[static 16])
{
        static const uint8_t order[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };
        char hex[33];
        uint8_t plain[16];
        size_t n = 0;

        if (strlen(text) != 36)
                return -EINVAL;
        for (size_t i = 0; i < 36; i++) {
                bool dash = i == 8 || i == 13 || i == 18 || i == 23;

                if (dash != (text[i] == '-'))
                        return -EINVAL;
                if (!dash)
                        hex[n++] = text[i];
        }
        hex[n] = '\0';
        if (hex_decode(hex, plain, sizeof(plain)) < 0)
                return -EINVAL;
        for (size_t i = 0; i < 16; i++)
                ret[i] = plain[order[i]];
        return 0;
}
