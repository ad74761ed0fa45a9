/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image/cut.h"

#include "base/buf.h"

#define WINDOW 64 /* bytes that a hash of 64 bits remembers */

/* splitmix64 from a fixed seed. Another table gives other cuts, and nothing of what is installed would be found again. */
static void fill_gear(uint64_t gear[static 256])
{
        uint64_t state = 1;

        for (size_t i = 0; i < 256; i++) {
                uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);

                z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
                z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
                gear[i] = z ^ (z >> 31);
        }
}

void cut_init(struct cut *c, uint32_t average)
{
        *c = (struct cut){ .min = average / 4, .average = average, .max = 4 * average };
        c->low = UINT64_MAX / average / 2;
        c->high = UINT64_MAX / average * 2;
        fill_gear(c->gear);
}

/* How far `data` is zeros, in whole blocks or up to the end, if that is a run. What ends before CUT_ZEROS could begin there
 * is the end of the image. */
static size_t zeros_at(const uint8_t *data, size_t size)
{
        size_t n = 0;

        while (n < size && is_all_zero(data + n, MIN(size - n, (size_t)CUT_BLOCK)))
                n += MIN(size - n, (size_t)CUT_BLOCK);
        return n >= CUT_ZEROS || n == size ? n : 0;
}

static size_t cut_content(const struct cut *c, const uint8_t *data, size_t size)
{
        size_t end = MIN(size, (size_t)c->max), middle = MIN(end, (size_t)c->average), i = c->min - WINDOW;
        uint64_t hash = 0;

        if (size <= c->min)
                return size;
        for (; i < c->min; i++)
                hash = (hash << 1) + c->gear[data[i]];
        for (; i < middle; i++) {
                hash = (hash << 1) + c->gear[data[i]];
                if (hash < c->low)
                        return i + 1;
        }
        for (; i < end; i++) {
                hash = (hash << 1) + c->gear[data[i]];
                if (hash < c->high)
                        return i + 1;
        }
        return end;
}

size_t cut_next(const struct cut *c, const uint8_t *data, size_t size, uint64_t offset, bool *zeros)
{
        size_t first = (CUT_BLOCK - offset % CUT_BLOCK) % CUT_BLOCK, n = first == 0 ? zeros_at(data, size) : 0;

        *zeros = n > 0;
        if (n > 0)
                return n;
        n = cut_content(c, data, size);
        for (size_t i = first ?: CUT_BLOCK; i < n; i += CUT_BLOCK)
                if (zeros_at(data + i, size - i) > 0)
                        return i;
        return n;
}
