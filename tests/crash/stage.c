/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the machines are made of: versions, the keys that sign them, and a machine that an operation begins on. */
#include "crash.h"

#define ROOT_SIZE   (3 * 4096 + 100)
#define KERNEL_SIZE 1100

const char *content_of(char version, bool kernel, size_t *ret_size)
{
        static char contents[LAST_VERSION - '0'][2][ROOT_SIZE];
        char *content = contents[version - '1'][kernel];
        uint32_t x = (uint32_t)version * 7919 + kernel;

        *ret_size = kernel ? KERNEL_SIZE : ROOT_SIZE;
        if (content[0])
                return content;
        for (size_t i = 0; i < *ret_size; i++)
                content[i] = (char)((x = x * 1103515245 + 12345) >> 16 | 1);
        return content;
}

void sh(const char *fmt, ...)
{
        char command[8192], *text;
        va_list ap;

        va_start(ap, fmt);
        if (vasprintf(&text, fmt, ap) < 0)
                die("no memory");
        va_end(ap);
        snprintf(command, sizeof(command), "set -e; cd '%.*s'; %s", (int)(strlen(work) - strlen("/work")), work, text);
        if (system(command) != 0)
                die("failed: %s", text);
        free(text);
}

void bundle_of(char version, char path[static PATH_MAX + 32])
{
        snprintf(path, PATH_MAX + 32, "%.*s/%c.bundle", (int)(strlen(work) - strlen("/work")), work, version);
}

static int no_flush(int fd)
{
        return 0;
}

static int no_write_back(int fd)
{
        return 0;
}

void stage_enter(const char *name)
{
        static struct io_ops ops;

        ops = io_system_ops;
        ops.fsync = no_flush;
        ops.write_back = no_write_back;
        io_set_ops(&ops);
        page_key = 0;
        sh("rm -rf work; cp -a --sparse=always stages/%s work", name);
        raw_open();
}

void versions_make(void)
{
        static const char versions[] = { '1', '2', '3', LAST_VERSION, '\0' };

        sh("mkdir -p stages trust; \"$BOOTMGR\" bundle keygen release -q; cp release.pem trust/; printf "
           "'[System]\\nCompatible=box\\n[Configuration]\\nSharedPaths=/cfg /single "
           "/late /early\\n[Trust]\\nDirectory=%%s/trust\\n' "
           "\"$PWD\" >conf");
        for (const char *v = versions; *v; v++) {
                for (int kernel = 0; kernel < 2; kernel++) {
                        char path[PATH_MAX + 32];
                        size_t size;
                        const char *content = content_of(*v, kernel, &size);
                        FILE *f;

                        snprintf(path, sizeof(path), "%.*s/%s-%c", (int)(strlen(work) - strlen("/work")), work,
                                 kernel ? "kernel" : "root", *v);
                        f = fopen(path, "w");
                        if (!f || fwrite(content, 1, size, f) != size || fclose(f) != 0)
                                die("cannot write %s", path);
                }
                sh("\"$BOOTMGR\" bundle create -q --version %c --security-version 1 --compatible box --root root-%c "
                   "--kernel "
                   "kernel-%c --chunk-size 4096 --key release.key %c.bundle",
                   *v, *v, *v, *v);
        }
}
