/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image/curl.h"

#include <ctype.h>
#include <fcntl.h>

#include "base/buf.h"
#include "base/file.h"
#include "slot/kinds.h"

#define CONNECT_TIMEOUT 20L
#define REDIRECTIONS    5L
#define RECEIVE_BUFFER  (64 * 1024L)
#define HEADERS_MAX     (64 * 1024)

CURL *curl_handle(const struct fetch_config *config)
{
        const struct {
                CURLoption option;
                long value;
        } numbers[] = {
                { CURLOPT_FOLLOWLOCATION, 1 }, { CURLOPT_MAXREDIRS, REDIRECTIONS },
                { CURLOPT_NOSIGNAL, 1 },       { CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT },
                { CURLOPT_NOPROGRESS, 0 },     { CURLOPT_BUFFERSIZE, RECEIVE_BUFFER },
                { CURLOPT_TCP_KEEPALIVE, 1 },
        };
        const struct {
                CURLoption option;
                const void *value;
        } pointers[] = {
                { CURLOPT_PROTOCOLS_STR, "http,https" },
                { CURLOPT_REDIR_PROTOCOLS_STR, "http,https" },
                { CURLOPT_USERAGENT, "bootmgr/" BOOTMGR_VERSION },
                { CURLOPT_PROXY, config->proxy },
                { CURLOPT_CAINFO, config->ca_certificate },
                { CURLOPT_SSLCERT, config->certificate },
                { CURLOPT_SSLKEY, config->key },
        };
        CURL *easy = curl.easy_init();
        CURLcode r = easy ? CURLE_OK : CURLE_OUT_OF_MEMORY;

        for (size_t i = 0; i < ARRAY_SIZE(numbers) && r == CURLE_OK; i++)
                r = curl.easy_setopt(easy, numbers[i].option, numbers[i].value);
        for (size_t i = 0; i < ARRAY_SIZE(pointers) && r == CURLE_OK; i++)
                if (pointers[i].value) /* without one libcurl's own default stays: the system's certificates, proxies of the
                                          environment */
                        r = curl.easy_setopt(easy, pointers[i].option, pointers[i].value);
        if (r == CURLE_OK)
                return easy;
        if (easy)
                curl.easy_cleanup(easy);
        return NULL;
}

int curl_read_headers(const struct fetch_config *config, struct curl_slist **ret, struct error *e)
{
        _cleanup_free_ char *text = NULL;
        struct curl_slist *list = NULL;
        char *cursor, *line;
        int r;

        *ret = NULL;
        if (!config->header_file)
                return 0;
        r = file_read(AT_FDCWD, config->header_file, HEADERS_MAX, &text, NULL);
        if (r < 0)
                return fail(e, r, &kind_config_invalid, "cannot read HeaderFile=%s: %s", config->header_file, error_text(r));
        cursor = text;
        while ((line = line_next(&cursor))) {
                struct curl_slist *more;
                size_t n = strlen(line);

                if (n > 0 && line[n - 1] == '\r') /* of an editor that ends lines so */
                        line[n - 1] = '\0';
                if (!*line || *line == '#')
                        continue;
                more = strchr(line, ':') ? curl.slist_append(list, line) : NULL;
                if (!more) {
                        curl.slist_free_all(list);
                        return fail(e, -EINVAL, &kind_config_invalid, "%s: a line is not a header, which is Name: value",
                                    config->header_file);
                }
                list = more;
        }
        *ret = list;
        return 0;
}

char *curl_origin(const char *url)
{
        CURLU *u = curl.url();
        char *scheme = NULL, *host = NULL, *port = NULL, *origin = NULL;

        if (u && curl.url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
            curl.url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
            curl.url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
            curl.url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK)
                origin = xasprintf("%s://%s:%s", scheme, host, port);
        for (char *c = origin; c && *c; c++)
                *c = (char)tolower((unsigned char)*c);
        curl.free(scheme);
        curl.free(host);
        curl.free(port);
        curl.url_cleanup(u);
        return origin;
}
