/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "snapshot/difference.h"

#include "base/io.h"
#include "base/text.h"
#include "snapshot/path.h"
#include "snapshot/text_diff.h"

void difference_list_done(struct difference_list *l)
{
        for (size_t i = 0; i < l->n; i++) {
                free(l->items[i].path);
                free(l->items[i].text);
        }
        free(l->items);
        *l = (struct difference_list){};
}

const char *change_to_string(enum change c)
{
        static const char *const names[] = {
                [CHANGE_ADDED] = "added",       [CHANGE_REMOVED] = "removed", [CHANGE_CONTENT] = "content",
                [CHANGE_METADATA] = "metadata", [CHANGE_TYPE] = "type",
        };

        return names[c];
}

void side_done(struct side *s)
{
        buf_done(&s->content);
}

int side_load(struct side *s, int fd, uint64_t size)
{
        char *data;

        if (size > TEXT_DIFF_MAX) {
                s->is_long = true;
                return 0;
        }
        data = malloc(size + 1);
        if (!data)
                return -ENOMEM;
        for (size_t done = 0; done < size;) {
                ssize_t n = pread(fd, data + done, size - done, (off_t)done);

                if (n < 0 && errno != EINTR) {
                        free(data);
                        return -errno;
                }
                if (n == 0)
                        size = done; /* it was cut short */
                done += n < 0 ? 0 : (size_t)n;
        }
        buf_append(&s->content, data, size);
        free(data);
        return s->content.failed ? -ENOMEM : 0;
}

bool side_same(const struct side *a, const struct side *b)
{
        return a->content.size == b->content.size &&
               (a->content.size == 0 || memcmp(a->content.data, b->content.data, a->content.size) == 0);
}

static bool is_text(const struct side *s)
{
        return !s->is_long && text_is_printable(s->content.data ?: "", s->content.size);
}

int difference_add(struct difference_list *l, const char *path, enum change change, bool carried, const struct side *old,
                   const struct side *new)
{
        struct difference *grown = reallocarray(l->items, l->n + 1, sizeof(*grown)), *d;
        _cleanup_free_ char *printable = text_escape(path);

        if (!grown)
                return -ENOMEM;
        l->items = grown;
        if (!printable)
                return -ENOMEM;
        d = &grown[l->n];
        *d = (struct difference){ .path = xasprintf("/%s", printable), .change = change, .carried = carried };
        if (!d->path)
                return -ENOMEM;
        l->n++;
        if (!old || !new || !is_text(old) || !is_text(new))
                return 0;
        d->text = text_diff(d->path, old->content.data ?: "", old->content.size, new->content.data ?: "", new->content.size);
        return d->text ? 0 : -ENOMEM;
}

static int compare(const void *a, const void *b)
{
        const struct difference *x = a, *y = b;

        return strcmp(x->path, y->path);
}

void difference_sort(struct difference_list *l)
{
        if (l->n > 1)
                qsort(l->items, l->n, sizeof(*l->items), compare);
}
