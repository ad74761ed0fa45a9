/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* init: makes the reference layout. */
#include "base/parse.h"
#include "cli/cli.h"
#include "cli/table.h"
#include "cli/verbs.h"
#include "storage/table.h"

static int size_option(const struct verb_args *args, const char *option, uint64_t *ret, struct error *e)
{
        const char *value = verb_value(args, option);

        /* 0 stands for the default in the specification: said, it is a mistake. */
        if (!value || (parse_size(value, ret) >= 0 && *ret > 0))
                return 0;
        fail(e, -EINVAL, &kind_usage, "--%s=%s is not a size", option, value);
        return fail_hint(e, "write it like 512M, 2G or 4096");
}

static int parse_layout(const struct verb_args *args, struct layout_spec *spec, struct error *e)
{
        const char *slots = verb_value(args, "slots"), *sector = verb_value(args, "sector-size");
        uint32_t number = 0;
        int r;

        r = size_option(args, "esp-size", &spec->esp_size, e);
        if (r >= 0)
                r = size_option(args, "root-size", &spec->root_size, e);
        if (r >= 0)
                r = size_option(args, "image-size", &spec->image_size, e);
        if (r < 0)
                return r;
        if (slots && (parse_u32(slots, &number) < 0 || number < 2 || number > SLOT_MAX))
                return fail(e, -EINVAL, &kind_usage, "--slots=%s is not a number from 2 to %d", slots, SLOT_MAX);
        spec->n_slots = (int)number;
        number = 0;
        if (sector && (parse_u32(sector, &number) < 0 || (number != 512 && number != 4096)))
                return fail(e, -EINVAL, &kind_usage, "--sector-size=%s is neither 512 nor 4096", sector);
        spec->sector_size = number;
        spec->force = verb_has(args, "force");
        spec->dry_run = verb_has(args, "dry-run");
        spec->cancelled = cli_cancelled();
        return 0;
}

static json_t *layout_to_json(const struct layout *l, bool dry_run)
{
        json_t *parts = json_array();

        for (size_t i = 0; i < l->n_parts; i++) {
                const struct layout_part *p = &l->parts[i];

                json_array_append_new(parts,
                                      json_pack("{s:s, s:s, s:s, s:I, s:I}", "what", p->what, "label", p->label, "type",
                                                p->type, "offset", (json_int_t)p->offset, "size", (json_int_t)p->size));
        }
        return json_pack("{s:s, s:I, s:I, s:o, s:o}", "result", dry_run ? "dry-run" : "done", "disk_size",
                         (json_int_t)l->disk_size, "sector_size", (json_int_t)l->sector_size, "found",
                         json_string_or_null(l->found), "partitions", parts);
}

static int print_layout(const struct layout *l, const char *path, bool dry_run)
{
        static const struct column columns[] = {
                { "PARTITION" }, { "LABEL" }, { "OFFSET", COLUMN_RIGHT }, { "SIZE", COLUMN_RIGHT }, { "TYPE" }
        };
        _cleanup_table_ struct table *t = table_new(columns, ARRAY_SIZE(columns));
        char size[SIZE_TEXT];

        if (!t)
                return -ENOMEM;
        format_size(l->disk_size, size);
        printf("%s: %s, sectors of %u bytes\n", path, size, l->sector_size);
        if (l->found)
                printf(dry_run ? "it holds %s, which would be lost\n" : "it held %s\n", l->found);
        putchar('\n');
        for (size_t i = 0; i < l->n_parts; i++) {
                const struct layout_part *p = &l->parts[i];

                format_size(p->size, size);
                table_row(t);
                table_set(t, 0, p->what);
                table_set(t, 1, p->label);
                table_setf(t, 2, "%llu", (unsigned long long)p->offset);
                table_set(t, 3, size);
                table_set(t, 4, p->type);
        }
        if (dry_run)
                puts("This would be made; nothing was changed:");
        return table_print(t);
}

int verb_init(struct verb_args *args, struct error *e)
{
        struct cli *cli = cli_from(args);
        const char *path = args->positional[0];
        _cleanup_(layout_done) struct layout layout = {};
        struct layout_spec spec = {};
        int r;

        r = parse_layout(args, &spec, e);
        if (r >= 0)
                r = layout_make(path, &spec, &layout, e);
        if (r < 0)
                return r;
        if (cli->json)
                return cli_print_json(cli, layout_to_json(&layout, spec.dry_run));
        return cli->quiet ? 0 : print_layout(&layout, path, spec.dry_run);
}
