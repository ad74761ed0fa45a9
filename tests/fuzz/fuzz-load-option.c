/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A boot option of the firmware (BootXXXX), as anybody may have left it: what is taken says the same when it is written and
 * read again. As text: a partition's UUID. */
#include "fuzz.h"

#include "loader/load_option.h"

static void check_text(const char *text)
{
        for (; text && *text; text++)
                must(*text >= ' ' && *text <= '~');
}

static bool is_same_text(const char *a, const char *b)
{
        return streq(a ?: "", b ?: "");
}

static void check_again(const struct load_option *o)
{
        _cleanup_load_option_ struct load_option again = {};
        _cleanup_buf_ struct buf first = {}, second = {};
        int r = load_option_format(o, &first);

        if (r == -E2BIG) { /* what is written leaves some room */
                must(strlen(o->description) + strlen(o->path) + strlen(o->arguments ?: "") > (LOAD_OPTION_MAX - 128) / 2);
                return;
        }
        must(r == 0 && first.size <= LOAD_OPTION_MAX);
        must(load_option_parse(first.data, first.size, &again) == 0);
        must(again.attributes == o->attributes && again.partition == o->partition && again.start == o->start &&
             again.size == o->size && memcmp(again.guid, o->guid, sizeof(o->guid)) == 0);
        must(streq(again.description, o->description) && streq(again.path, o->path) &&
             is_same_text(again.arguments, o->arguments));
        must(load_option_format(&again, &second) == 0);
        must(first.size == second.size && memcmp(first.data, second.data, first.size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct input in = { data, size }, as_text = in;
        _cleanup_free_ char *copy = take_bytes(&in, size, false, NULL), *text = take_bytes(&as_text, size, true, NULL);
        _cleanup_load_option_ struct load_option o = {};
        uint8_t guid[16];
        int r = load_option_parse(copy, size, &o);

        must(r == 0 || r == -EINVAL || r == -ENOTSUP);
        if (r == 0) {
                must(o.description && o.path);
                check_text(o.description);
                check_text(o.path);
                check_text(o.arguments);
                check_again(&o);
        } else {
                must(!o.description && !o.path && !o.arguments);
        }
        r = efi_guid_parse(text, guid);
        must(r == 0 || r == -EINVAL);
        must(r < 0 || strlen(text) == 36);
        return 0;
}
