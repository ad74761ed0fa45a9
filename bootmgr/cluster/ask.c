/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/ask.h"

#include "base/buf.h"
#include "base/curl.h"
#include "base/file.h"
#include "base/text.h"
#include "cluster/home.h"
#include "slot/kinds.h"

#define CONNECT_MSEC 5000L
#define ANSWER_MSEC  40000L
#define NODES_MAX    MIB(16) /* of the largest answer: all members */

struct answer {
        struct buf body;
        size_t max;
        bool too_large;
        long status;
        char message[CURL_ERROR_SIZE];
};

static size_t on_write(char *data, size_t size, size_t n, void *userdata)
{
        struct answer *a = userdata;

        n *= size;
        a->too_large = a->body.size + n > a->max;
        if (a->too_large)
                return 0;
        buf_append(&a->body, data, n);
        return a->body.failed ? 0 : n;
}

static CURLcode set_blob(CURL *easy, CURLoption option, const char *pem)
{
        struct curl_blob blob = { .data = (void *)pem, .len = strlen(pem), .flags = CURL_BLOB_COPY };

        return curl.easy_setopt(easy, option, &blob);
}

static int on_progress(void *userdata, curl_off_t to_come, curl_off_t come, curl_off_t to_go, curl_off_t gone)
{
        const struct ask *ask = userdata;

        return *ask->cancelled;
}

static CURLcode configure(CURL *easy, const struct ask *ask, const char *url, struct curl_slist *headers, struct answer *a)
{
        const struct curl_number numbers[] = {
                { CURLOPT_NOSIGNAL, 1 },
                { CURLOPT_NOPROGRESS, ask->cancelled ? 0 : 1 },
                { CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1 },
                { CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MSEC },
                { CURLOPT_TIMEOUT_MS, ask->patience_msec ?: ANSWER_MSEC },
                { CURLOPT_SSL_VERIFYPEER, ask->ca ? 1 : 0 },
                { CURLOPT_SSL_VERIFYHOST, ask->ca ? 2 : 0 },
        };
        const struct curl_pointer pointers[] = {
                { CURLOPT_URL, url },
                { CURLOPT_PROTOCOLS_STR, "https" },
                { CURLOPT_PROXY, "" }, /* whatever the environment says */
                { CURLOPT_USERAGENT, "bootmgr/" BOOTMGR_VERSION },
                { CURLOPT_HTTPHEADER, headers },
                { CURLOPT_ERRORBUFFER, a->message },
                { CURLOPT_WRITEDATA, a },
                { CURLOPT_XFERINFODATA, ask },
        };
        CURLcode r = curl.easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_write);

        if (r == CURLE_OK)
                r = curl_set(easy, numbers, ARRAY_SIZE(numbers), pointers, ARRAY_SIZE(pointers));
        if (r == CURLE_OK && ask->cancelled)
                r = curl.easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
        if (r == CURLE_OK && ask->body)
                r = curl.easy_setopt(easy, CURLOPT_POSTFIELDS, ask->body);
        if (r == CURLE_OK && ask->ca)
                r = set_blob(easy, CURLOPT_CAINFO_BLOB, ask->ca);
        if (r == CURLE_OK && ask->certificate)
                r = set_blob(easy, CURLOPT_SSLCERT_BLOB, ask->certificate);
        if (r == CURLE_OK && ask->key)
                r = set_blob(easy, CURLOPT_SSLKEY_BLOB, ask->key);
        return r;
}

/* {"kind","message","hint"}: as if it had happened here. What is not for people to read is not shown. */
static int take_error(const struct ask *ask, const char *url, const struct answer *a, struct error *e)
{
        _cleanup_json_ json_t *o = NULL;
        const char *kind, *message, *hint;

        if (json_parse_strict(a->body.data ?: "", a->body.size, "the answer", &o, NULL) < 0)
                return fail(e, -EPROTO, ask->kind, "%s answers %ld", url, a->status);
        kind = json_string_value(json_object_get(o, "kind"));
        message = json_string_value(json_object_get(o, "message"));
        hint = json_string_value(json_object_get(o, "hint"));
        if (!message || !text_is_printable(message, strlen(message)))
                return fail(e, -EPROTO, ask->kind, "%s answers %ld", url, a->status);
        fail(e, -EREMOTEIO, kind ? error_kind_find(kind) : ask->kind, "%.1000s", message);
        return hint && text_is_printable(hint, strlen(hint)) ? fail_hint(e, "%.1000s", hint) : -EREMOTEIO;
}

/* -EAGAIN: another controller may know. */
static int judge(const struct ask *ask, const char *url, CURLcode code, const struct answer *a, struct error *e)
{
        bool refused = code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE ||
                       code == CURLE_SSL_CERTPROBLEM || code == CURLE_SSL_CONNECT_ERROR;

        if (a->too_large)
                return fail(e, -EFBIG, ask->kind, "%s answers with more than %zu bytes", url, a->max);
        if (code != CURLE_OK) {
                fail(e, -EAGAIN, refused ? &kind_certificate : ask->kind, "%s: %s", url,
                     *a->message ? a->message : curl.easy_strerror(code));
                return -EAGAIN;
        }
        if (a->status >= 200 && a->status < 300)
                return 0;
        take_error(ask, url, a, e);
        return a->status >= 500 || a->status == 429 ? -EAGAIN : -EREMOTEIO;
}

static int ask_one(const struct ask *ask, const char *url, struct answer *a, struct error *e)
{
        _cleanup_free_ char *whole = xasprintf("%s%s", url, ask->path);
        struct curl_slist *headers = curl.slist_append(NULL, "Content-Type: application/json");
        CURL *easy = curl.easy_init();
        CURLcode code = CURLE_OUT_OF_MEMORY;

        if (whole && headers && easy)
                code = configure(easy, ask, whole, headers, a);
        if (code == CURLE_OK)
                code = curl.easy_perform(easy);
        if (code == CURLE_OK)
                curl.easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &a->status);
        curl.easy_cleanup(easy);
        curl.slist_free_all(headers);
        return judge(ask, url, code, a, e);
}

/* One that does not know who asks may be alone with that, such as one that was taken out. What a node may not do is the same
 * everywhere. */
static bool may_another_know(int result, const struct answer *a)
{
        return result == -EAGAIN || (result < 0 && a->status == 401);
}

static int ask_all(const struct ask *ask, char **ret, struct error *e)
{
        int r = fail(NULL, -EDESTADDRREQ, NULL, "no server");

        for (size_t i = 0; ask->urls[i]; i++) {
                struct answer a = { .max = ask->max };

                error_done(e);
                r = ask_one(ask, ask->urls[i], &a, e);
                *ret = r >= 0 ? buf_take(&a.body) : NULL;
                buf_done(&a.body);
                if (!may_another_know(r, &a) || (ask->cancelled && *ask->cancelled))
                        break;
        }
        if (r >= 0)
                return *ret ? 0 : -ENOMEM;
        return r == -EDESTADDRREQ ? fail(e, r, &kind_usage, "no server is named") : r;
}

int ask_text(const struct ask *ask, char **ret, struct error *e)
{
        struct ask with_kind = *ask;
        struct error why = {};
        int r = curl_load(&kind_fetch, e);

        if (r < 0)
                return fail_hint(e, "install it (Debian: libcurl4)");
        with_kind.kind = ask->kind ?: &kind_fetch;
        r = ask_all(&with_kind, ret, &why);
        if (e && !e->code)
                *e = TAKE(why, (struct error){});
        error_done(&why);
        return r;
}

int ask_json(const struct ask *ask, json_t **ret, struct error *e)
{
        _cleanup_free_ char *text = NULL;
        int r = ask_text(ask, &text, e);

        if (r < 0 || !text)
                return r;
        r = json_parse_strict(text, strlen(text), "the answer of a controller", ret, e);
        if (r >= 0 && !json_is_object(*ret)) {
                json_decref(TAKE_PTR(*ret));
                r = fail(e, -EBADMSG, &kind_fetch, "the answer of a controller is no JSON object");
        }
        return r;
}

void ask_lines(char *text, const char *urls[static ASK_URLS + 1])
{
        char *line;
        size_t n = 0;

        while (n < ASK_URLS && (line = line_next(&text)))
                if (*line)
                        urls[n++] = line;
        urls[n] = NULL;
}

int ask_as_node(int home, const struct ask *ask, json_t **ret, struct error *e)
{
        _cleanup_free_ char *ca = NULL, *certificate = NULL, *controllers = NULL;
        _cleanup_pem_ char *key = NULL;
        const char *known[ASK_URLS + 1] = {};
        struct ask whole = *ask;
        int r = cluster_get(home, "ca.pem", &ca, e);

        if (r >= 0)
                r = cluster_get(home, "node.pem", &certificate, e);
        if (r >= 0)
                r = cluster_get(home, "node.key", &key, e);
        if (r >= 0 && !ask->urls)
                r = cluster_get(home, "controllers", &controllers, e);
        if (r < 0)
                return r;
        if (controllers)
                ask_lines(controllers, known);
        whole.urls = ask->urls ?: known;
        whole.ca = ca;
        whole.certificate = certificate;
        whole.key = key;
        whole.max = NODES_MAX;
        return ask_json(&whole, ret, e);
}
