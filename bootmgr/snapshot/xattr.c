/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "snapshot/xattr.h"

int xattr_add(struct xattr **list, const char *name, const void *value, size_t size)
{
        size_t name_size = strlen(name) + 1;
        struct xattr **at = list, *x = malloc(sizeof(*x) + name_size + size);

        if (!x)
                return -ENOMEM;
        memcpy(x->name, name, name_size);
        if (size > 0)
                memcpy(x->name + name_size, value, size);
        x->value = x->name + name_size;
        x->size = size;
        while (*at && strcmp((*at)->name, name) < 0)
                at = &(*at)->next;
        x->next = *at;
        if (*at && streq((*at)->name, name)) {
                x->next = (*at)->next;
                free(*at);
        }
        *at = x;
        return 0;
}

const struct xattr *xattr_find(const struct xattr *list, const char *name)
{
        while (list && !streq(list->name, name))
                list = list->next;
        return list;
}

void xattr_free_all(struct xattr *list)
{
        while (list) {
                struct xattr *next = list->next;

                free(list);
                list = next;
        }
}

bool xattr_is_overlay_private(const char *name)
{
        return startswith(name, "trusted.overlay.") || startswith(name, "user.overlay.");
}

bool xattr_is_wanted(const char *name)
{
        if (startswith(name, "system."))
                return streq(name, XATTR_ACL_ACCESS) || streq(name, XATTR_ACL_DEFAULT);
        return !streq(name, "security.evm");
}

/* The first attribute from `x` on that is not overlayfs's own. */
static const struct xattr *skip_private(const struct xattr *x)
{
        while (x && xattr_is_overlay_private(x->name))
                x = x->next;
        return x;
}

bool xattr_same(const struct xattr *a, const struct xattr *b)
{
        a = skip_private(a);
        b = skip_private(b);
        while (a && b && streq(a->name, b->name) && a->size == b->size && memcmp(a->value, b->value, a->size) == 0) {
                a = skip_private(a->next);
                b = skip_private(b->next);
        }
        return !a && !b;
}
