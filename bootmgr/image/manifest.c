/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/json.h"
#include "base/sha256.h"
#include "base/version.h"
#include "image/format.h"
#include "slot/kinds.h"

static bool valid_name(const char *s)
{
        return *s && strlen(s) < 32 && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(s);
}

static int invalid(struct error *e, const char *what, const char *value)
{
        return fail(e, -EBADMSG, &kind_bundle_invalid, "the manifest's %s '%s' is not valid", what, value);
}

static int parse_digest(const json_t *j, const char *name, uint8_t digest[static DIGEST_SIZE], bool needed, struct error *e)
{
        const char *hex = NULL;
        int r;

        r = needed ? json_get_string(j, name, &hex, e) : json_opt_string(j, name, &hex, e);
        if (r < 0 || !hex)
                return r;
        return hex_decode(hex, digest, DIGEST_SIZE) < 0 ? invalid(e, name, hex) : 0;
}

/* How many chunks there are follows from their length, where that is one. */
static int parse_chunks(const json_t *j, struct bundle_image *image, unsigned format, struct error *e)
{
        int r;

        image->entry_size = (uint32_t)index_entry_size(format);
        if (format == BUNDLE_FIXED) {
                image->n_chunks = (image->size + image->chunk_size - 1) / image->chunk_size;
                return 0;
        }
        r = json_get_u64(j, "chunks", &image->n_chunks, e);
        if (r >= 0 && (image->n_chunks == 0 || image->n_chunks > image->size))
                return invalid(e, "number of chunks of image", image->name);
        return r;
}

/* Nothing of it is taken as it stands there: what goes on a command line is made again from the two numbers. */
static int parse_verity(const json_t *j, struct bundle_image *image, struct error *e)
{
        static const char *const known[] = { "blocks", "root_hash", NULL };
        struct verity v = {};
        json_t *verity;
        int r;

        if (!json_object_get(j, "verity"))
                return 0;
        r = json_get_object(j, "verity", &verity, e);
        if (r >= 0)
                r = json_check_members(verity, known, "the hash tree of an image of the manifest", e);
        if (r >= 0)
                r = json_get_u64(verity, "blocks", &v.blocks, e);
        if (r >= 0)
                r = parse_digest(verity, "root_hash", v.root_hash, true, e);
        if (r < 0)
                return r;
        if (!streq(image->name, "root") || v.blocks == 0 || v.blocks > VERITY_MAX || image->size != verity_size(v.blocks))
                return invalid(e, "hash tree of image", image->name);
        image->verity = v;
        return 0;
}

static int parse_image(const json_t *j, struct bundle_image *image, unsigned format, struct error *e)
{
        static const char *const fixed[] = { "name", "size", "chunk_size", "index_digest", "sha256", NULL };
        static const char *const cut[] = { "name", "size", "chunk_size", "chunks", "index_digest", "sha256", NULL };
        static const char *const verity[] = { "name",         "size",   "chunk_size", "chunks",
                                              "index_digest", "sha256", "verity",     NULL };
        const char *const *known = format == BUNDLE_FIXED ? fixed : format == BUNDLE_CUT ? cut : verity;
        const char *name = "";
        uint64_t chunk = 0;
        bool boot_file;
        int r;

        if (!json_is_object(j))
                return invalid(e, "image", "?");
        r = json_check_members(j, known, "an image of the manifest", e);
        if (r >= 0)
                r = json_get_string(j, "name", &name, e);
        if (r >= 0 && !valid_name(name))
                return invalid(e, "image name", name);
        if (r >= 0)
                r = json_get_u64(j, "size", &image->size, e);
        if (r >= 0)
                r = json_get_u64(j, "chunk_size", &chunk, e);
        if (r < 0)
                return r;
        strcpy(image->name, name);
        if (chunk < CHUNK_MIN || chunk > CHUNK_MAX || (chunk & (chunk - 1)) || image->size == 0 || image->size > IMAGE_MAX)
                return invalid(e, "size or chunk size of image", name);
        image->chunk_size = (uint32_t)chunk;
        r = parse_chunks(j, image, format, e);
        if (r >= 0)
                r = parse_verity(j, image, e);
        if (r >= 0)
                r = parse_digest(j, "index_digest", image->index_digest, true, e);
        boot_file = streq(name, "kernel") || streq(name, "initrd");
        return r < 0 ? r : parse_digest(j, "sha256", image->digest, boot_file, e);
}

static int parse_images(const json_t *j, struct manifest *m, struct error *e)
{
        json_t *images;
        uint64_t chunks = 0;
        int r;

        r = json_get_array(j, "images", &images, e);
        if (r < 0)
                return r;
        if (json_array_size(images) == 0 || json_array_size(images) > BUNDLE_MAX_IMAGES)
                return fail(e, -EBADMSG, &kind_bundle_invalid, "the manifest names %zu images", json_array_size(images));
        for (size_t i = 0; i < json_array_size(images); i++) {
                struct bundle_image *image = &m->images[i];

                r = parse_image(json_array_get(images, i), image, m->format, e);
                if (r < 0)
                        return r;
                if (manifest_image(m, image->name))
                        return invalid(e, "image, named twice,", image->name);
                m->n_images++;
                chunks += MIN(image->n_chunks, INDEX_MAX);
                if (chunks > INDEX_MAX / image->entry_size)
                        return invalid(e, "number of chunks, up to image", image->name);
        }
        return 0;
}

static int copy_text(const char *text, char *to, size_t size, const char *what, struct error *e)
{
        for (const char *p = text; *p; p++)
                if ((unsigned char)*p < 0x20 || (unsigned char)*p > 0x7e)
                        return invalid(e, what, "(unprintable)");
        if (strlen(text) >= size)
                return invalid(e, what, text);
        strcpy(to, text);
        return 0;
}

bool etcd_minor_valid(const char *text)
{
        static const char digits[] = "0123456789";
        size_t major = strspn(text, digits), minor = text[major] == '.' ? strspn(text + major + 1, digits) : 0;

        return major > 0 && minor > 0 && !text[major + 1 + minor] && strlen(text) < ETCD_MINOR_SIZE;
}

static int parse_fields(const json_t *j, struct manifest *m, struct error *e)
{
        static const char *const known[] = { "format",           "compatible",  "version",
                                             "security_version", "min_bootmgr", "build_id",
                                             "images",           "etcd",        NULL };
        const char *compatible = "", *version = "", *min = "", *build = "", *etcd = "";
        uint64_t format = 0;
        int r;

        r = json_check_members(j, known, "the manifest", e);
        if (r >= 0)
                r = json_get_u64(j, "format", &format, e);
        if (r >= 0 && !format_is_known(format))
                return fail(e, -EPROTONOSUPPORT, &kind_bundle_incompatible,
                            "the manifest has format %llu, this bootmgr knows %d to %d", (unsigned long long)format,
                            BUNDLE_FIXED, BUNDLE_VERITY);
        if (r >= 0)
                r = json_get_string(j, "compatible", &compatible, e);
        if (r >= 0)
                r = json_get_string(j, "version", &version, e);
        if (r >= 0)
                r = json_get_u64(j, "security_version", &m->security_version, e);
        if (r >= 0)
                r = json_get_string(j, "min_bootmgr", &min, e);
        if (r >= 0)
                r = json_get_string(j, "build_id", &build, e);
        if (r >= 0 && json_object_get(j, "etcd"))
                r = json_get_string(j, "etcd", &etcd, e);
        if (r < 0)
                return r;
        m->format = (unsigned)format;
        if (!version_valid(version))
                return invalid(e, "version", version);
        if (*min && !version_valid(min))
                return invalid(e, "min_bootmgr", min);
        if (json_object_get(j, "etcd") && !etcd_minor_valid(etcd))
                return invalid(e, "etcd", etcd);
        strcpy(m->version, version);
        strcpy(m->etcd, etcd);
        strcpy(m->min_bootmgr, min);
        r = copy_text(compatible, m->compatible, sizeof(m->compatible), "compatible string", e);
        return r < 0 ? r : copy_text(build, m->build_id, sizeof(m->build_id), "build id", e);
}

int manifest_parse(const char *text, size_t size, struct manifest *ret, struct error *e)
{
        _cleanup_json_ json_t *j = NULL;
        struct error why = {};
        struct manifest m = {};
        int r;

        r = json_parse_strict(text, size, "the manifest", &j, &why);
        if (r >= 0 && !json_is_object(j))
                r = fail(&why, -EBADMSG, NULL, "the manifest is not a JSON object");
        if (r >= 0)
                r = parse_fields(j, &m, &why);
        if (r >= 0)
                r = parse_images(j, &m, &why);
        if (r >= 0)
                r = sha256_data(text, size, m.digest);
        if (r < 0)
                fail(e, r, why.kind && why.kind != &kind_failed ? why.kind : &kind_bundle_invalid, "%s",
                     why.message ?: error_text(r));
        else
                *ret = m;
        error_done(&why);
        return r;
}

const struct bundle_image *manifest_image(const struct manifest *m, const char *name)
{
        for (size_t i = 0; i < m->n_images; i++)
                if (streq(m->images[i].name, name))
                        return &m->images[i];
        return NULL;
}

static json_t *hex_json(const uint8_t digest[static DIGEST_SIZE])
{
        char hex[2 * DIGEST_SIZE + 1];

        hex_encode(digest, DIGEST_SIZE, hex);
        return json_string(hex);
}

char *manifest_format(const struct manifest *m)
{
        _cleanup_json_ json_t *j = NULL;
        json_t *images = json_array();

        for (size_t i = 0; i < m->n_images; i++) {
                const struct bundle_image *image = &m->images[i];
                json_t *one = json_pack("{s:s, s:I, s:I, s:o}", "name", image->name, "size", (json_int_t)image->size,
                                        "chunk_size", (json_int_t)image->chunk_size, "index_digest",
                                        hex_json(image->index_digest));

                if (m->format != BUNDLE_FIXED)
                        json_object_set_new(one, "chunks", json_integer((json_int_t)image->n_chunks));
                if (verity_is_set(&image->verity))
                        json_object_set_new(one, "verity",
                                            json_pack("{s:I, s:o}", "blocks", (json_int_t)image->verity.blocks, "root_hash",
                                                      hex_json(image->verity.root_hash)));
                if (!is_all_zero(image->digest, DIGEST_SIZE))
                        json_object_set_new(one, "sha256", hex_json(image->digest));
                json_array_append_new(images, one);
        }
        j = json_pack("{s:i, s:s, s:s, s:I, s:s, s:s, s:o}", "format", (int)m->format, "compatible", m->compatible,
                      "version", m->version, "security_version", (json_int_t)m->security_version, "min_bootmgr",
                      m->min_bootmgr, "build_id", m->build_id, "images", images);
        if (j && *m->etcd)
                json_object_set_new(j, "etcd", json_string(m->etcd));
        return j ? json_dumps(j, JSON_INDENT(1)) : NULL;
}
