/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Boot Loader Specification type 1 entries: pure codecs for file names and contents, and the order
 * in which systemd-boot sorts them. */
#pragma once

#include "slot/slot.h"

#define ENTRY_NAME_MAX 256   /* with the NUL: what readdir(3) can give */
#define ENTRY_SIZE_MAX 512   /* of ours: one sector */
#define ENTRY_READ_MAX 65536 /* of foreign ones */

/* This machine, as systemd-boot and the UEFI specification write it: in `architecture`, in BOOTX64.EFI. */
#if defined(__aarch64__)
#define EFI_MACHINE "aa64"
#elif defined(__i386__)
#define EFI_MACHINE "ia32"
#elif defined(__arm__)
#define EFI_MACHINE "arm"
#elif defined(__riscv)
#define EFI_MACHINE "riscv64"
#elif defined(__loongarch64)
#define EFI_MACHINE "loongarch64"
#else
#define EFI_MACHINE "x64"
#endif

/* A file name below loader/entries (or EFI/Linux), taken apart: "bootmgr-8-b+2-1.conf". */
struct entry_name {
        char file[ENTRY_NAME_MAX]; /* as it lies there */
        char id[ENTRY_NAME_MAX];   /* without counter and suffix: "bootmgr-8-b" */
        bool counted;
        int left, done; /* of the counter */
        bool ours;      /* our pattern; then also: */
        uint64_t generation;
        int slot;
};

/* -EINVAL unless it ends in .conf, or in .efi as a unified kernel image does. Counters as the specification and
 * systemd-boot 252 read them. */
int entry_name_parse(const char *file, struct entry_name *ret);
/* Our name for these; left < 0: without a counter. */
void entry_name_format(uint64_t generation, int slot, int left, int done, char name[static ENTRY_NAME_MAX]);

/* A line of ours, which systemd-boot skips: "bootmgr-confirmed yes". */
#define CONFIRMED_KEY "bootmgr-confirmed"

/* What we look at in an entry's content. Strings are owned, NULL where missing. Paths are made absolute, with single
 * slashes, as systemd-boot opens them. */
struct entry {
        struct entry_name name;
        char *title, *version, *machine_id, *sort_key, *options, *architecture;
        char *linux_, *efi; /* at most one of them: the last line wins */
        char **initrds;     /* NULL-terminated */
        bool usable; /* systemd-boot shows it: for this machine, with a file that can be opened (the reader fills it in) */
        bool confirmed; /* CONFIRMED_KEY: its counter counts the starts of a version that has proved itself */
        bool automatic; /* "auto-windows" and its like: behind all others, started only when a pin names it */
};

/* The next "key value" line as systemd-boot reads entries, loader.conf (separators " \t") and os-release ("="): comments
 * and lines without a value are skipped, one pair of quotes goes. Changes the text; *cursor starts at it. */
bool entry_line(char **cursor, const char *separators, char **key, char **value);

/* Parses content as systemd-boot does: unknown keys are skipped, `options` lines joined. */
int entry_parse(const char *file, const char *text, size_t size, struct entry *ret);
void entry_done(struct entry *e);

/* Whether the entry's `architecture` is this machine's, or it names none. */
bool entry_is_for_machine(const struct entry *e);

/* What we write. All strings are borrowed. */
struct entry_spec {
        uint64_t generation;
        int slot;
        const char *version; /* of the system, for the title */
        const char *root_partuuid;
        const uint8_t *kernel, *initrd; /* BOOT_FILE_ID_SIZE; initrd NULL: none */
        bool writable_root;
        const struct verity *verity; /* NULL or without a tree: the partition itself is the root */
        const char *extra_cmdline;   /* config's KernelCommandLine */
        bool rollback;               /* the menu's "previous version": starting it is a rollback */
};

/* On the command line of a boot that is more than a boot (operation/boot.h). */
#define ROLLBACK_WORD "bootmgr.rollback=1" /* a person chose the previous version in the menu */
#define FALLBACK_WORD "bootmgr.fallback=1" /* the firmware's last boot option of ours: all before it failed */
/* The whole text, at most ENTRY_SIZE_MAX (-E2BIG names what is too long). *ret is malloc'ed. */
int entry_format(const struct entry_spec *spec, char **ret, struct error *e);

/* The id of a boot file: the first 15 bytes of its SHA-256, and whose it is. No two slots share a file, nor does the rescue
 * system, also where the content is the same: a sector that goes bad takes one of them. */
#define BOOT_FILE_OF_RESCUE 0xff /* as `slot` */
void boot_file_make_id(const uint8_t digest[static DIGEST_SIZE], int slot, uint8_t id[static BOOT_FILE_ID_SIZE]);
bool boot_file_is_of(const uint8_t id[static BOOT_FILE_ID_SIZE], int slot); /* false for SLOT_NONE */
/* Whether the id is that of a file with this digest, whoever's. */
bool boot_file_has_digest(const uint8_t id[static BOOT_FILE_ID_SIZE], const uint8_t digest[static DIGEST_SIZE]);

/* Where a boot file lies on the ESP: "bootmgr/<32 hex>". */
#define BOOT_FILE_DIRECTORY "bootmgr"
#define BOOT_FILE_PATH_SIZE (sizeof(BOOT_FILE_DIRECTORY) + 2 * BOOT_FILE_ID_SIZE + 1)
void boot_file_path(const uint8_t id[static BOOT_FILE_ID_SIZE], char path[static BOOT_FILE_PATH_SIZE]);
/* The id in the path of a boot file of ours ("/bootmgr/<32 hex>"); false for any other path, and for NULL. */
bool boot_file_id(const char *path, uint8_t id[static BOOT_FILE_ID_SIZE]);

/* systemd-boot 252's order: <0 when a is shown before b. */
int entry_compare(const struct entry *a, const struct entry *b);

/* loader.conf and the EFI variables that override the order; NULL where not set. */
struct loader_pins {
        char *conf_default; /* loader.conf: default (a glob) */
        char *efi_default;  /* LoaderEntryDefault */
        char *efi_saved;    /* LoaderEntryLastBooted: what "@saved" in either default stands for */
        char *efi_oneshot;  /* LoaderEntryOneShot */
        bool efi_readable;  /* false: no EFI variables here (an image, or no EFI) */
        bool no_automatic;  /* loader.conf: auto-entries no */
};
int loader_conf_parse(const char *text, size_t size, struct loader_pins *ret);
void loader_pins_done(struct loader_pins *p);

/* What systemd-boot would start: index into entries, or -1 when there is none. *why (may be NULL)
 * becomes a static phrase: "first of the sorted list", "pinned by loader.conf", …  Pure. */
int entry_choose(const struct entry *entries, size_t n, const struct loader_pins *pins, const char **why);
