/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* bundle create, delta, inspect, verify, sign, keygen. */
#include <sys/stat.h>

#include "base/buf.h"
#include "base/parse.h"
#include "cli/bar.h"
#include "cli/cli.h"
#include "cli/table.h"
#include "cli/verbs.h"
#include "image/bundle.h"
#include "slot/kinds.h"

#define LEVEL_MAX 19 /* beyond it zstd wants more memory for decoding than a machine is to give */

/* The values of an option that may be repeated; at most `max`. */
static int collect(const struct verb_args *args, const char *option, const char **values, size_t max, size_t *n,
                   struct error *e)
{
        for (int i = 0; i < args->n_seen; i++) {
                if (!streq(args->seen[i]->name, option))
                        continue;
                if (*n == max)
                        return fail(e, -E2BIG, &kind_usage, "--%s is given more than %zu times", option, max);
                values[(*n)++] = args->values[i];
        }
        return 0;
}

static int need(const struct verb_args *args, const char *option, const char **ret, struct error *e)
{
        const char *value = verb_value(args, option);

        if (!value) {
                fail(e, -EINVAL, &kind_usage, "--%s is missing", option);
                return fail_hint(e, "'bootmgr help bundle' lists what is needed");
        }
        *ret = value;
        return 0;
}

static int number_option(const struct verb_args *args, const char *option, int (*parse)(const char *s, uint64_t *ret),
                         uint64_t max, uint64_t *ret, struct error *e)
{
        const char *value = verb_value(args, option);
        uint64_t number;

        if (!value)
                return 0;
        if (parse(value, &number) < 0 || number > max)
                return fail(e, -EINVAL, &kind_usage, "--%s=%s is not a number from 0 to %llu", option, value,
                            (unsigned long long)max);
        *ret = number;
        return 0;
}

static int need_keys(const struct verb_args *args, const char **keys, size_t *n, struct error *e)
{
        int r;

        r = collect(args, "key", keys, BUNDLE_MAX_SIGNATURES, n, e);
        if (r >= 0 && *n == 0) {
                fail(e, -EINVAL, &kind_usage, "--key is missing: a bundle without a signature is never installed");
                return fail_hint(e, "'bootmgr bundle keygen PREFIX' makes a pair of keys");
        }
        return r;
}

struct images {
        const char *names[BUNDLE_MAX_IMAGES];
        const char *files[BUNDLE_MAX_IMAGES];
        char *copies[BUNDLE_MAX_IMAGES]; /* owned: the names in NAME=FILE */
        size_t n;
};

static void images_done(struct images *images)
{
        for (size_t i = 0; i < images->n; i++)
                free(images->copies[i]);
}

static int extra_images(const struct verb_args *args, struct images *images, struct error *e)
{
        const char *values[BUNDLE_MAX_IMAGES];
        size_t n = 0;
        int r;

        r = collect(args, "image", values, BUNDLE_MAX_IMAGES - images->n, &n, e);
        for (size_t i = 0; r >= 0 && i < n; i++) {
                const char *equals = strchr(values[i], '=');

                if (!equals || equals == values[i] || !equals[1])
                        return fail(e, -EINVAL, &kind_usage, "--image=%s is not of the form NAME=FILE", values[i]);
                images->copies[images->n] = strndup(values[i], (size_t)(equals - values[i]));
                if (!images->copies[images->n])
                        return -ENOMEM;
                images->names[images->n] = images->copies[images->n];
                images->files[images->n++] = equals + 1;
        }
        return r;
}

/* root, kernel and initrd first; the kernel and initrd may be missing where the loader keeps none. */
static int collect_images(const struct verb_args *args, struct images *images, struct error *e)
{
        static const char *const known[] = { "root", "kernel", "initrd" };
        const char *root;
        int r;

        r = need(args, "root", &root, e);
        if (r < 0)
                return r;
        for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
                const char *file = verb_value(args, known[i]);

                if (!file)
                        continue;
                images->names[images->n] = known[i];
                images->files[images->n++] = file;
        }
        return extra_images(args, images, e);
}

static int parse_chunking(const struct verb_args *args, struct bundle_spec *spec, struct error *e)
{
        const char *value = verb_value(args, "chunking");

        if (!value)
                return 0;
        if (!streq(value, "fixed") && !streq(value, "content"))
                return fail(e, -EINVAL, &kind_usage, "--chunking=%s is neither fixed nor content", value);
        spec->chunking = streq(value, "fixed") ? CHUNKING_FIXED : CHUNKING_CONTENT;
        return 0;
}

static int parse_spec(struct verb_args *args, struct bundle_spec *spec, struct error *e)
{
        uint64_t chunk_size = 0, level = 0;
        int r;

        r = need(args, "version", &spec->version, e);
        if (r >= 0)
                r = need(args, "compatible", &spec->compatible, e);
        if (r >= 0)
                r = number_option(args, "security-version", parse_u64, UINT64_MAX, &spec->security_version, e);
        if (r >= 0)
                r = parse_chunking(args, spec, e);
        if (r >= 0)
                r = number_option(args, "chunk-size", parse_size, UINT32_MAX, &chunk_size, e);
        if (r >= 0)
                r = number_option(args, "level", parse_u64, LEVEL_MAX, &level, e);
        if (r >= 0 && verb_has(args, "level") && level == 0)
                r = fail(e, -ERANGE, &kind_usage, "--level 0: it is 1 to %d", LEVEL_MAX);
        if (r < 0)
                return r;
        spec->verity = verb_has(args, "verity");
        spec->chunk_size = (uint32_t)chunk_size;
        spec->level = (int)level;
        spec->min_bootmgr = verb_value(args, "min-bootmgr");
        spec->build_id = verb_value(args, "build-id");
        spec->etcd = verb_value(args, "etcd");
        return 0;
}

static int load_config(struct verb_args *args, struct config *config, struct error *e)
{
        int r = config_load(verb_value(args, "config"), config, e);

        config->fetch.cancelled = cli_cancelled();
        return r;
}

/* null for zeros: an image whose content is known by its chunks only. */
static json_t *hex_json(const uint8_t digest[static DIGEST_SIZE])
{
        char hex[2 * DIGEST_SIZE + 1];

        hex_encode(digest, DIGEST_SIZE, hex);
        return is_all_zero(digest, DIGEST_SIZE) ? json_null() : json_string(hex);
}

static json_t *verity_json(const struct verity *v)
{
        return verity_is_set(v)
                       ? json_pack("{s:I, s:o}", "blocks", (json_int_t)v->blocks, "root_hash", hex_json(v->root_hash))
                       : json_null();
}

static json_t *image_to_json(const struct bundle_image *image)
{
        return json_pack("{s:s, s:I, s:o, s:I, s:I, s:o, s:o}", "name", image->name, "size", (json_int_t)image->size,
                         "digest", hex_json(image->digest), "chunk_size", (json_int_t)image->chunk_size, "chunks",
                         (json_int_t)image->n_chunks, "index_digest", hex_json(image->index_digest), "verity",
                         verity_json(&image->verity));
}

static json_t *delta_json(const struct bundle_delta *delta)
{
        if (!delta)
                return json_null();
        return json_pack("{s:s, s:o, s:I, s:o}", "version", delta->version, "digest", hex_json(delta->digest), "root_size",
                         (json_int_t)delta->size, "url", json_string_or_null(delta->url));
}

static json_t *bundle_to_json(const struct bundle *b, bool judged)
{
        const struct manifest *m = bundle_manifest(b);
        json_t *images = json_array(), *signatures = json_array();
        const struct bundle_signature *s;
        size_t n;

        for (size_t i = 0; i < m->n_images; i++)
                json_array_append_new(images, image_to_json(&m->images[i]));
        s = bundle_signatures(b, &n);
        for (size_t i = 0; i < n; i++)
                json_array_append_new(signatures, json_pack("{s:o, s:o, s:o}", "key_id", hex_json(s[i].key_id), "key",
                                                            json_string_or_null(s[i].key_name), "valid",
                                                            judged ? json_boolean(s[i].valid) : json_null()));
        return json_pack("{s:I, s:s, s:s, s:I, s:o, s:s, s:o, s:o, s:o, s:o, s:o}", "format", (json_int_t)m->format,
                         "compatible", m->compatible, "version", m->version, "security_version",
                         (json_int_t)m->security_version, "min_bootmgr",
                         json_string_or_null(*m->min_bootmgr ? m->min_bootmgr : NULL), "build_id", m->build_id, "etcd",
                         json_string_or_null(*m->etcd ? m->etcd : NULL), "digest", hex_json(m->digest), "images", images,
                         "signatures", signatures, "delta", delta_json(bundle_delta(b)));
}

static int print_images(const struct manifest *m)
{
        static const struct column columns[] = {
                { "IMAGE" }, { "SIZE", COLUMN_RIGHT }, { "CHUNKS", COLUMN_RIGHT }, { "SHA-256" }
        };
        _cleanup_table_ struct table *t = table_new(columns, ARRAY_SIZE(columns));
        char hex[2 * DIGEST_SIZE + 1], size[SIZE_TEXT];

        if (!t)
                return -ENOMEM;
        for (size_t i = 0; i < m->n_images; i++) {
                hex_encode(m->images[i].digest, DIGEST_SIZE, hex);
                format_size(m->images[i].size, size);
                table_row(t);
                table_set(t, 0, m->images[i].name);
                table_set(t, 1, size);
                table_setf(t, 2, "%llu", (unsigned long long)m->images[i].n_chunks);
                if (!is_all_zero(m->images[i].digest, DIGEST_SIZE))
                        table_set(t, 3, hex);
        }
        return table_print(t);
}

static int print_bundle(const struct bundle *b, bool judged)
{
        const struct bundle_delta *delta = bundle_delta(b);
        const struct manifest *m = bundle_manifest(b);
        const struct bundle_image *root;
        const struct bundle_signature *s;
        char hex[2 * DIGEST_SIZE + 1];
        size_t n;

        printf("Version           %s\n", m->version);
        printf("Compatible        %s\n", m->compatible);
        printf("Security version  %llu\n", (unsigned long long)m->security_version);
        if (*m->min_bootmgr)
                printf("Needs bootmgr     %s\n", m->min_bootmgr);
        printf("Build             %s\n", m->build_id);
        if (*m->etcd)
                printf("etcd in it        %s\n", m->etcd);
        hex_encode(m->digest, DIGEST_SIZE, hex);
        printf("Digest            %s\n", hex);
        if (delta) {
                hex_encode(delta->digest, DIGEST_SIZE, hex);
                printf("Delta to version  %s (%s)\n", delta->version, hex);
                printf("Full bundle       %s\n", delta->url ?: "no URL is named");
        }
        root = manifest_image(m, "root");
        if (root && verity_is_set(&root->verity)) {
                hex_encode(root->verity.root_hash, VERITY_HASH_SIZE, hex);
                printf("Root hash         %s (dm-verity, %llu blocks)\n", hex, (unsigned long long)root->verity.blocks);
        }
        s = bundle_signatures(b, &n);
        for (size_t i = 0; i < n; i++) {
                hex_encode(s[i].key_id, DIGEST_SIZE, hex);
                printf("Signature         %.16s%s%s, %s\n", hex, s[i].key_name ? " " : "", s[i].key_name ?: "",
                       !judged      ? "not checked"
                       : s[i].valid ? "valid"
                                    : "not trusted");
        }
        putchar('\n');
        return print_images(m);
}

static json_t *made_to_json(const struct bundle *b, uint64_t size)
{
        const struct manifest *m = bundle_manifest(b);
        json_t *images = json_array();

        for (size_t i = 0; i < m->n_images; i++) {
                const struct bundle_sizes sizes = bundle_image_sizes(b, i);
                json_t *image = image_to_json(&m->images[i]);

                json_object_set_new(image, "zeros", json_integer((json_int_t)sizes.zeros));
                json_object_set_new(image, "stored", json_integer((json_int_t)sizes.stored));
                json_array_append_new(images, image);
        }
        return json_pack("{s:s, s:I, s:o}", "result", "done", "size", (json_int_t)size, "images", images);
}

static int print_sizes(const struct bundle *b)
{
        static const struct column columns[] = { { "IMAGE" },
                                                 { "SIZE", COLUMN_RIGHT },
                                                 { "ZEROS", COLUMN_RIGHT },
                                                 { "STORED", COLUMN_RIGHT },
                                                 { "CHUNKS", COLUMN_RIGHT } };
        _cleanup_table_ struct table *t = table_new(columns, ARRAY_SIZE(columns));
        const struct manifest *m = bundle_manifest(b);

        if (!t)
                return -ENOMEM;
        for (size_t i = 0; i < m->n_images; i++) {
                const struct bundle_sizes found = bundle_image_sizes(b, i);
                const uint64_t sizes[] = { m->images[i].size, found.zeros, found.stored };
                char text[SIZE_TEXT];

                table_row(t);
                table_set(t, 0, m->images[i].name);
                for (size_t n = 0; n < ARRAY_SIZE(sizes); n++) {
                        format_size(sizes[n], text);
                        table_set(t, n + 1, text);
                }
                table_setf(t, ARRAY_SIZE(sizes) + 1, "%llu", (unsigned long long)m->images[i].n_chunks);
        }
        return table_print(t);
}

/* Of what has just been made, as it lies there. */
static int say_sizes(struct cli *cli, const char *path, const char *sentence, struct error *e)
{
        const struct fetch_config config = {};
        const struct trust trust = { .threshold = 1 };
        _cleanup_bundle_ struct bundle *bundle = NULL;
        char size[SIZE_TEXT];
        struct stat st;
        int r = sentence ? bundle_open_from(path, &config, &trust, &bundle, e) : -ENOMEM;

        if (r >= 0)
                r = bundle_read_index(bundle, e);
        if (r >= 0 && stat(path, &st) < 0)
                r = fail_errno(e, -errno, "cannot look at %s", path);
        if (r < 0)
                return r;
        if (cli->json)
                return cli_print_json(cli, made_to_json(bundle, (uint64_t)st.st_size));
        if (cli->quiet)
                return 0;
        format_size((uint64_t)st.st_size, size);
        printf("%s: %s, %s\n\n", path, sentence, size);
        return print_sizes(bundle);
}

int verb_bundle_create(struct verb_args *args, struct error *e)
{
        struct cli *cli = cli_from(args);
        const char *path = args->positional[0], *keys[BUNDLE_MAX_SIGNATURES];
        _cleanup_(images_done) struct images images = {};
        struct bundle_spec spec = { .key_files = keys, .image_names = images.names, .image_files = images.files };
        _cleanup_bar_ struct bar bar;
        _cleanup_free_ char *sentence = NULL;
        int r;

        bar_init(&bar, cli);
        r = parse_spec(args, &spec, e);
        if (r >= 0)
                r = collect_images(args, &images, e);
        if (r >= 0)
                r = need_keys(args, keys, &spec.n_keys, e);
        if (r < 0)
                return r;
        spec.n_images = images.n;
        r = bundle_create(path, &spec, bar_labelled(&bar, "Packing"), e);
        bar_done(&bar);
        if (r < 0)
                return r;
        sentence = xasprintf("version %s for %s, signed by %zu key%s", spec.version, spec.compatible, spec.n_keys,
                             spec.n_keys == 1 ? "" : "s");
        return say_sizes(cli, path, sentence, e);
}

int verb_bundle_delta(struct verb_args *args, struct error *e)
{
        struct cli *cli = cli_from(args);
        const char *path = args->positional[1];
        struct delta_spec spec = { .bundle = args->positional[0], .url = verb_value(args, "url") };
        _cleanup_config_ struct config config = {};
        _cleanup_bar_ struct bar bar;
        _cleanup_free_ char *sentence = NULL;
        int r;

        bar_init(&bar, cli);
        r = need(args, "from", &spec.from, e);
        if (r >= 0)
                r = load_config(args, &config, e);
        spec.config = &config.fetch;
        if (r >= 0)
                r = bundle_make_delta(path, &spec, bar_labelled(&bar, "Comparing"), e);
        bar_done(&bar);
        if (r < 0)
                return r;
        sentence = xasprintf("%s as a delta to %s", spec.bundle, spec.from);
        return say_sizes(cli, path, sentence, e);
}

int verb_bundle_inspect(struct verb_args *args, struct error *e)
{
        struct cli *cli = cli_from(args);
        struct trust trust = { .threshold = 1 };
        _cleanup_config_ struct config config = {};
        _cleanup_bundle_ struct bundle *bundle = NULL;
        int r;

        r = load_config(args, &config, e);
        if (r >= 0)
                r = bundle_open_from(args->positional[0], &config.fetch, &trust, &bundle, e);
        if (r < 0)
                return r;
        return cli->json ? cli_print_json(cli, bundle_to_json(bundle, false)) : print_bundle(bundle, false);
}

static int verify(const char *where, const struct config *config, const struct trust *trust, struct bar *bar,
                  struct bundle **ret, struct error *e)
{
        struct chunk_sink *const sinks[BUNDLE_MAX_IMAGES] = {};
        _cleanup_bundle_ struct bundle *bundle = NULL;
        int r;

        r = bundle_open_from(where, &config->fetch, trust, &bundle, e);
        if (r >= 0)
                r = bundle_extract(bundle, sinks, bar_labelled(bar, "Verifying"), e);
        bar_done(bar);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(bundle);
        return 0;
}

int verb_bundle_verify(struct verb_args *args, struct error *e)
{
        struct cli *cli = cli_from(args);
        _cleanup_config_ struct config config = {};
        _cleanup_bundle_ struct bundle *bundle = NULL;
        _cleanup_bar_ struct bar bar;
        struct trust trust;
        uint64_t threshold;
        int r;

        bar_init(&bar, cli);
        r = load_config(args, &config, e);
        if (r < 0)
                return r;
        threshold = config.trust_threshold;
        r = number_option(args, "threshold", parse_u64, BUNDLE_MAX_SIGNATURES, &threshold, e);
        if (r < 0)
                return r;
        trust = (struct trust){ .directory = verb_value(args, "trust") ?: config.trust_directory,
                                .threshold = (unsigned)threshold };
        if (threshold == 0)
                return fail(e, -EINVAL, &kind_usage, "--threshold=0 would trust anybody: at least 1 is needed");
        r = verify(args->positional[0], &config, &trust, &bar, &bundle, e);
        if (r < 0)
                return r;
        if (cli->json)
                return cli_print_json(cli, bundle_to_json(bundle, true));
        if (cli->quiet)
                return 0;
        r = print_bundle(bundle, true);
        cli_say(cli,
                bundle_delta(bundle) ? "\n%s: signatures and what is stored are right; the rest is checked where the base is"
                                     : "\n%s: signatures and the whole content are right",
                args->positional[0]);
        return r;
}

int verb_bundle_sign(struct verb_args *args, struct error *e)
{
        struct cli *cli = cli_from(args);
        const char *keys[BUNDLE_MAX_SIGNATURES];
        size_t n = 0;
        int r;

        r = need_keys(args, keys, &n, e);
        if (r >= 0)
                r = bundle_sign(args->positional[0], keys, n, e);
        return r < 0 ? r : cli_done(cli, "%s: signed by %zu key%s more", args->positional[0], n, n == 1 ? "" : "s");
}

int verb_bundle_keygen(struct verb_args *args, struct error *e)
{
        struct cli *cli = cli_from(args);
        const char *prefix = args->positional[0];
        int r;

        r = bundle_keygen(prefix, e);
        if (r < 0)
                return r;
        return cli_done(cli, "%s.key signs and stays secret; %s.pem goes to /etc/bootmgr/trust.d of the machines", prefix,
                        prefix);
}
