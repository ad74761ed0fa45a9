/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image/hash_tree.h"

#include <fcntl.h>
#include <libcryptsetup.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/library.h"
#include "slot/kinds.h"

#define FUNCTIONS(X) X(init) X(free) X(format) X(volume_key_get) X(set_log_callback)

static struct {
#define X(name) typeof(crypt_##name) *name;
        FUNCTIONS(X)
#undef X
} cryptsetup;

/* Of the superblock: it says nothing, and is the same in each, so that the same image gives the same bytes. */
#define SUPERBLOCK_UUID "2b06f112-73d8-42cc-8743-3f5c14e7d3b8"

static int load(struct error *e)
{
        static const struct library_function functions[] = {
#define X(n) { "crypt_" #n, (void **)&cryptsetup.n },
                FUNCTIONS(X)
#undef X
        };

        return library_load("cryptsetup", 12, functions, ARRAY_SIZE(functions), NULL, e);
}

/* What it says of a failure; its line end goes. */
static void take_message(int level, const char *message, void *userdata)
{
        if (level == CRYPT_LOG_ERROR)
                fail(userdata, -EIO, NULL, "libcryptsetup: %.*s", (int)strcspn(message, "\n"), message);
}

/* Without salt: blocks that stay what they were keep their hashes, so that an update brings only what changed of the tree.
 * Finding a second block for a hash of SHA-256 is no easier without. */
static int make_tree(const char *path, uint64_t blocks, struct verity *ret, struct error *e)
{
        struct crypt_params_verity params = {
                .hash_name = "sha256",
                .data_device = path,
                .salt = "",
                .hash_type = 1,
                .data_block_size = VERITY_BLOCK,
                .hash_block_size = VERITY_BLOCK,
                .data_size = blocks,
                .hash_area_offset = blocks * VERITY_BLOCK,
                .flags = CRYPT_VERITY_CREATE_HASH,
        };
        size_t size = VERITY_HASH_SIZE;
        struct crypt_device *device;
        int r;

        r = cryptsetup.init(&device, path);
        if (r < 0)
                return r;
        cryptsetup.set_log_callback(device, take_message, e);
        r = cryptsetup.format(device, CRYPT_VERITY, NULL, NULL, SUPERBLOCK_UUID, NULL, 0, &params);
        if (r >= 0)
                r = cryptsetup.volume_key_get(device, CRYPT_ANY_SLOT, (char *)ret->root_hash, &size, NULL, 0);
        if (r >= 0 && size != VERITY_HASH_SIZE)
                r = -EIO;
        cryptsetup.free(device);
        ret->blocks = blocks;
        return MIN(r, 0);
}

int open_unnamed_beside(const char *path)
{
        const char *slash = strrchr(path, '/');
        _cleanup_free_ char *directory = slash ? strndup(path, (size_t)(slash - path + 1)) : strdup(".");

        return directory ? io_open(AT_FDCWD, directory, O_TMPFILE | O_RDWR, 0600) : -ENOMEM;
}

/* Its holes stay holes. */
static int copy_image(int from, int to, uint64_t size)
{
        uint64_t at = 0;
        int r = 0;

        while (r >= 0 && at < size) {
                off_t data = lseek(from, (off_t)at, SEEK_DATA), hole;

                if (data < 0 || (uint64_t)data >= size)
                        return data < 0 && errno != ENXIO ? -errno : 0;
                hole = lseek(from, data, SEEK_HOLE);
                if (hole < 0)
                        return -errno;
                at = MIN((uint64_t)hole, size);
                r = io_copy(from, (uint64_t)data, to, (uint64_t)data, at - (uint64_t)data);
        }
        return r;
}

#define EXT_SUPERBLOCK 1024
#define EXT_LOG_BLOCK  24 /* u32: 0 is 1024 bytes */
#define EXT_MAGIC      56 /* u16 */

/* The verified device has blocks of 4096 bytes: an ext filesystem of smaller ones, which mke2fs makes below 512 MiB, is not
 * mounted from it. squashfs and erofs do not mind. */
static int check_filesystem(int fd, uint64_t size, struct error *e)
{
        uint8_t head[64];
        int r;

        if (size < EXT_SUPERBLOCK + sizeof(head))
                return 0;
        r = io_pread(fd, head, sizeof(head), EXT_SUPERBLOCK);
        if (r < 0)
                return fail_errno(e, r, "cannot read the root");
        if (get_le16(head + EXT_MAGIC) != 0xef53 || get_le32(head + EXT_LOG_BLOCK) >= 2)
                return 0;
        fail(e, -EINVAL, &kind_usage, "the filesystem of the root has blocks of %u bytes, dm-verity has %d",
             1024U << get_le32(head + EXT_LOG_BLOCK), VERITY_BLOCK);
        return fail_hint(e, "make it with 'mke2fs -b %d'", VERITY_BLOCK);
}

int hash_tree_append(int fd, uint64_t size, const char *path, struct verity *ret, struct error *e)
{
        uint64_t blocks = (size + VERITY_BLOCK - 1) / VERITY_BLOCK;
        _cleanup_close_ int to = -1;
        struct verity verity = {};
        char name[32];
        int r;

        r = check_filesystem(fd, size, e);
        if (r >= 0)
                r = load(e);
        if (r < 0)
                return r;
        to = open_unnamed_beside(path);
        if (to < 0)
                return fail_errno(e, to, "cannot make a file beside %s", path);
        r = copy_image(fd, to, size);
        if (r >= 0) /* its end is where the superblock is looked for */
                r = io_truncate(to, verity_size(blocks));
        snprintf(name, sizeof(name), "/proc/self/fd/%d", to);
        if (r >= 0)
                r = make_tree(name, blocks, &verity, e);
        if (r < 0)
                return fail_errno(e, r, "cannot make the hash tree");
        *ret = verity;
        return TAKE_FD(to);
}
