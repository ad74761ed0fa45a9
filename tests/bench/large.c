/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An image without zeros, of which zstd keeps a half:
 *
 *      large write|check FILE MIB VERSION
 *
 * Each block of 4096 bytes begins with 2048 pseudo-random ones, keyed by its number, which follow once more. With VERSION 2
 * one run of 16 blocks in 64 has another key. So nothing needs to be kept to know what it must be. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK 4096
#define PIECE (1 << 20)

static uint64_t next(uint64_t *state)
{
        uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */

        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        return z ^ (z >> 31);
}

static void fill(uint64_t *piece, uint64_t block, int version)
{
        for (unsigned i = 0; i < PIECE / BLOCK; i++, block++, piece += BLOCK / 8) {
                uint64_t changed = version > 1 && block / 16 % 64 == 0, state = block << 1 | changed;

                state = next(&state);
                for (unsigned j = 0; j < BLOCK / 16; j++)
                        piece[j] = next(&state);
                memcpy(piece + BLOCK / 16, piece, BLOCK / 2);
        }
}

int main(int argc, char **argv)
{
        uint64_t *want, *have;
        int fd, write_it;

        if (argc != 5)
                return 2;
        write_it = strcmp(argv[1], "write") == 0;
        fd = open(argv[2], (write_it ? O_WRONLY | O_CREAT : O_RDONLY) | O_DIRECT | O_CLOEXEC, 0644);
        want = aligned_alloc(BLOCK, PIECE);
        have = aligned_alloc(BLOCK, PIECE);
        if (fd < 0 || !want || !have) {
                perror(argv[2]);
                return 1;
        }
        for (long i = 0, n = atol(argv[3]); i < n; i++) {
                fill(want, (uint64_t)i * (PIECE / BLOCK), atoi(argv[4]));
                if (write_it ? write(fd, want, PIECE) != PIECE
                             : read(fd, have, PIECE) != PIECE || memcmp(want, have, PIECE) != 0) {
                        fprintf(stderr, "%s: MiB %ld is not written, or another\n", argv[2], i);
                        return 1;
                }
        }
        return fsync(fd) < 0 && write_it;
}
