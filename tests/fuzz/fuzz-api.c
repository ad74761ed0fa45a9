/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The body of a request to the HTTPS interface, and the header Idempotency-Key. The first byte says what the request may
 * have; up to the next newline is the header. What is accepted is within docs/openapi.json, and what is refused is
 * refused as the asker's fault, with a word. */
#include "fuzz.h"

#include "daemon/api_body.h"
#include "slot/kinds.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct input in = { data, size };
        unsigned members = take_byte(&in) & 0x1f;
        _cleanup_free_ char *key = take_until(&in, '\n');
        size_t n;
        _cleanup_free_ char *text = take_bytes(&in, in.size, false, &n);
        _cleanup_error_ struct error e = {};
        struct api_body b;

        if (api_body_parse(text, n, *key ? key : NULL, members, &b, &e) < 0) {
                must(e.message && *e.message && e.kind == &kind_usage);
                return 0;
        }
        must(b.prechecks_only ? !*b.id
                              : strlen(b.id) == OPERATION_ID_SIZE - 1 && strspn(b.id, "0123456789abcdef") == strlen(b.id) &&
                                        strspn(b.id, "0") < strlen(b.id));
        must(!b.source == !(members & API_SOURCE));
        must(!b.source || *b.source == '/' || strstr(b.source, "://"));
        must((!b.no_reboot || (members & API_NO_REBOOT)) && (!b.automatic || (members & API_AUTOMATIC)) &&
             (!(b.strict || b.one_instant || *b.engines || *b.max_unavailable || *b.prepare_limit || *b.switch_limit ||
                *b.lead) ||
              (members & API_CLUSTER)) &&
             (!b.prechecks_only || (members & API_PRECHECKS_ONLY)));
        api_body_done(&b);
        return 0;
}
