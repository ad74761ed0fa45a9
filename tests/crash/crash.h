/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The enumeration of power cuts and disk errors (design section 9).
 *
 *      operations.c   every operation, on a machine in an image file      one call of the real code
 *      after.c        what must be there once it has succeeded
 *      record.c       its persistent calls, each an event                 into the models:
 *      raw.c          disk.img: record and roots, sectors of 512 bytes
 *      vfat*.c        esp/: directory entries, FAT and data as sectors
 *      ext4.c         data/, data/root: a journal in order, and each file's content
 *      chance.c       time and random numbers, the same at each run
 *      enumerate.c    every cut, every choice of what had reached the disk
 *      mutate.c       the same without a barrier: the enumeration must find out
 *      order.c        what lies before and behind a barrier in the other order: it must find that out, too
 *      boot.c         what boots then, by the real reader, decision and owner rule
 *      config.c       what the versions make of the configuration
 *      check.c        the invariants
 *      main.c         the command line: tests/crash/run drives it
 *
 * What can change by itself is a cell: a sector, a file's content, the journal. Its versions are numbered; a barrier
 * marks the one that is durable from then on. A state of the disk after event N is one version of each cell, from the
 * durable one to the newest as of N: the cache may have written back any of them. */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "base/file.h"
#include "base/io.h"
#include "base/util.h"
#include "operation/run.h"

#define SECTOR       512
#define LAST_VERSION '4' /* there are roots, kernels and bundles of 1 to this one */

enum volume { RAW, ESP, DATA, SHARED, N_VOLUMES, NO_VOLUME = N_VOLUMES };

struct version {
        unsigned event; /* that made it; 0: it was there */
        uint32_t size;
        uint8_t *data; /* NULL: the journal's, only counted */
};
struct mark {
        unsigned event, version;
};
struct cell {
        enum volume volume;
        uint64_t key;
        struct version *v;
        unsigned n;
        struct mark *m;
        unsigned n_m;
};

struct vfat;
struct ext4;
struct barrier;

/* One recording: the cells of all volumes and the state of the models. */
struct trace {
        struct cell **cells;
        size_t n_cells, *table; /* hash of (volume, key): index + 1 */
        unsigned n_events;
        char **stories; /* of each event, for people */
        struct vfat *vfat;
        struct ext4 *ext4[N_VOLUMES];
        struct barrier *barriers; /* that were passed, in their order */
        size_t n_barriers;
        const char *skip;    /* barrier that does nothing; NULL: none */
        unsigned skipped;    /* event at which it first did; 0: not yet */
        unsigned fail_at;    /* event that fails; 0: none */
        int fail_with;       /* negative errno */
        const char *fail_in; /* the first event whose story begins so fails, and no other; NULL: none */
        bool fail_on;        /* all later ones too */
        bool fail_gone;      /* with what fails first, event or call, the disk is gone: all later calls fail, reads too */
        bool gone;           /* it is */
        bool fail_blind;     /* from the first failing call on nothing can be read, and all can be written */
        bool blind;          /* it is so */
        unsigned n_quiet;    /* calls that can fail and change nothing that lies there: they are no events */
        unsigned quiet_at;   /* which of these fails; 0: none */
};

struct barrier {
        unsigned event;
        const char *site; /* in the source, static; NULL: not known */
};

/* cells.c */
void trace_init(struct trace *t);
void trace_done(struct trace *t);
struct cell *trace_find(struct trace *t, enum volume volume, uint64_t key);
struct cell *trace_cell(struct trace *t, enum volume volume, uint64_t key, const void *initial, size_t size); /* makes it */
void cell_write(struct trace *t, struct cell *c, const void *data, size_t size); /* a new version unless it is the same */
void cell_mark(struct trace *t, struct cell *c, unsigned version);
const struct version *cell_newest(const struct cell *c);
unsigned cell_newest_at(const struct cell *c, unsigned event);
unsigned cell_durable_at(const struct cell *c, unsigned event);

/* chance.c: from here on random numbers are those of `stream`, and the clock begins at the time `when`, counted in steps of
 * a machine's life. */
void chance_begin(uint64_t stream, unsigned when);
struct timespec chance_mtime(void); /* of every file that was there before an operation */
uint64_t mix(uint64_t x);

/* record.c: `work` is the absolute directory that holds disk.img, esp and data. */
extern char work[PATH_MAX];
void record_place(const char *path); /* sets it; before any thread */
void record_begin(struct trace *t);
void record_undo_begin(struct trace *t); /* so that raw_restore() can take back what is written */
void record_end(void);
const char *volume_path(enum volume v); /* absolute */

/* A state: the version of each cell, by its number. */
typedef const unsigned *choice;

/* The models. Paths are relative to the volume, "" its root; event numbers come from the trace. */
void raw_open(void); /* after the work directory was made anew */
bool raw_is_image(int fd);
void raw_write(struct trace *t, const void *data, size_t n, uint64_t offset); /* before it is done */
void raw_flush(struct trace *t);
void raw_foreign(struct trace *t); /* takes over what another program wrote */
void raw_put(struct trace *t, choice c);
void raw_restore(struct trace *t); /* the image as it was before the recording */

extern bool vfat_by_firmware; /* which writes the new entry of a rename as a whole */
void vfat_import(struct trace *t);
void vfat_free(struct vfat *f);
void vfat_create(struct trace *t, const char *path, bool directory);
void vfat_write(struct trace *t, const char *path, const void *data, size_t n, uint64_t offset);
void vfat_truncate(struct trace *t, const char *path, uint64_t size);
void vfat_rename(struct trace *t, const char *from, const char *to);
void vfat_unlink(struct trace *t, const char *path);
bool vfat_is_stale(struct trace *t, const char *path);
void vfat_write_back(struct trace *t, const char *path);
void vfat_flush(struct trace *t, const char *path);
void vfat_put(struct trace *t, choice c);

void ext4_import(struct trace *t);
void ext4_free(struct ext4 *x);
void ext4_create(struct trace *t, enum volume v, const char *path, mode_t mode, const char *target);
void ext4_write(struct trace *t, enum volume v, const char *path, const void *data, size_t n, uint64_t offset);
void ext4_truncate(struct trace *t, enum volume v, const char *path, uint64_t size);
void ext4_rename(struct trace *t, enum volume v, const char *from, const char *to, bool exchange);
void ext4_link(struct trace *t, enum volume v, const char *from, const char *to);
void ext4_unlink(struct trace *t, enum volume v, const char *path);
void ext4_attribute(struct trace *t, enum volume v, const char *path);
void ext4_flush(struct trace *t, enum volume v, const char *path);
/* The content of what has no name in this state makes no difference: version 0. */
void ext4_forget_unnamed(struct trace *t, unsigned *versions);
void ext4_put(struct trace *t, choice c);
/* The changes of metadata [from, from + n) come behind the m that follow them. False, and nothing changes, where those
 * cannot be made without them. */
bool ext4_exchange(struct trace *t, enum volume v, unsigned from, unsigned n, unsigned m);
bool ext4_is_journal(const struct cell *c);

/* Puts the state into the work directory; `c` of all cells of `t`. */
void state_put(struct trace *t, choice c);

/* What is expected of the machine that comes up. */
struct expectation {
        char allowed[8];     /* versions that may run afterwards, "12" */
        char completed;      /* the one that must, when the operation had succeeded; 0: any of them */
        uint64_t generation; /* given out before */
        bool record_lost;    /* both copies may be invalid */
        bool damaged;        /* a root was, before */
        bool kernel_damaged; /* that of slot a was, before */
        int (*after)(struct machine *m, struct error *e); /* what must hold besides, then; may be NULL */
};

/* boot.c */
/* One attempt to boot. 1: up; 0: it starts again; negative: not as it should be, with `e`. */
int boot_once(struct error *e);
/* The same by something else than the loader's choice: the newest entry of that slot, with a word on its command line. */
int boot_slot(int slot, const char *word, struct error *e);
/* That a version whose starts are counted and which does not come up any more is left: starts it until it is. */
int check_counter(struct error *e);
extern int page_key; /* that a person presses on the recovery page, whenever it is shown; 0: nobody is there */
int open_machine(struct machine *m, const char *cmdline, struct error *e);
char *running_cmdline(void);    /* of the entry that boots next; malloc'ed */
char running_version(void);     /* that came up last */
bool ran_without_record(void);  /* it could not read it, and left it as it is */
const char *running_with(void); /* its kernel command line */
bool is_file(const char *path, const char *content, size_t size);
bool has_first_block(const struct disk *disk, int slot);
char version_of_root(const struct disk *disk, int slot); /* that lies in the slot as a whole; 0: none */
char version_of_kernel(const char *path);
char *entry_value(const char *name, const char *key); /* of a line of a boot entry; malloc'ed, NULL: there is none */

/* config.c */
int service_migrates(char version, struct error *e);
char whose_config(void); /* whose is there, whole: '1' …; '!': a mixture or damage */
int check_etc(int slot, bool carried, struct error *e);

/* check.c */
int check_disk(const struct expectation *x, struct error *e); /* before anything boots from it */
/* Boots until it is up, confirms, and checks everything. Negative with `e` for what is wrong. */
int boot_and_check(const struct expectation *x, bool completed, bool thorough, struct error *e);

/* after.c: expectations' `after`, and init's check */
int after_install(struct machine *m, struct error *e);
int after_staged(struct machine *m, struct error *e);
int after_confirm(struct machine *m, struct error *e);
int after_finalize(struct machine *m, struct error *e);
int after_mark_bad(struct machine *m, struct error *e);
int after_mark_good(struct machine *m, struct error *e);
int after_abort(struct machine *m, struct error *e);
int after_clear(struct machine *m, struct error *e);
int after_record(struct machine *m, struct error *e);
int after_carry(struct machine *m, struct error *e);
int after_rescue(struct machine *m, struct error *e);
int after_refused(struct machine *m, struct error *e);
int after_rebuild(struct machine *m, struct error *e);
int check_init(const struct expectation *x, bool completed, struct error *e);
int check_bundle(const struct expectation *x, bool completed, struct error *e);

/* prepare.c */
int damage_root_b(struct error *e);
int lose_record(struct error *e);
int exhaust(struct error *e);
int have_counted(struct error *e);
int damage_kernel_a(struct error *e);
int have_former_etc(struct error *e);
int lose_entry(struct error *e);
int have_loader(struct error *e);
int leave_bad(struct error *e);
int have_page(struct error *e);
int stop_in_switch(struct error *e);

/* operations.c */
struct operation_test {
        const char *name;
        const char *stage;               /* the machine it begins on */
        int (*prepare)(struct error *e); /* not recorded; may be NULL */
        int (*run)(struct error *e);     /* recorded */
        struct expectation expected;
        int (*check)(const struct expectation *x, bool completed, struct error *e); /* instead of booting; may be NULL */
        const char *fails; /* it does, with the error of the first write whose story begins so */
};
extern const struct operation_test operation_tests[];
extern const size_t n_operation_tests;
void stages_make(void);

/* stage.c */
void sh(const char *fmt, ...) _printf_(1, 2); /* beside the machine's directory; must succeed */
void versions_make(void);
void stage_enter(const char *name);
const char *content_of(char version, bool kernel, size_t *ret_size);
void bundle_of(char version, char path[static PATH_MAX + 32]);

/* enumerate.c */
struct limits {
        unsigned bits;    /* exhaustive up to 2^bits combinations at a cut */
        unsigned samples; /* seeded ones beyond that */
        unsigned nested;  /* every n-th state: cuts inside its recovery too; 0: none */
        unsigned errors;  /* every n-th event fails, and some of the reads; 0: none */
        unsigned seed;
        const char *only; /* run this state alone, as a failure printed it */
        bool stop;        /* at the first failure */
};
struct figures {
        unsigned long states, failures, cuts, nested, errors, mutations, caught;
};
int enumerate(const struct operation_test *op, const struct limits *limits, struct figures *f);

/* mutate.c: the operation again and again, each time without one of the barriers that it passes (`only`: that one; NULL:
 * all), and each time with what one of them keeps apart in the other order. Prints which ones the enumeration finds out;
 * those that an earlier operation has found out are passed over. */
void mutate(const struct operation_test *op, const struct limits *limits, const char *only, struct figures *f);
_Noreturn void die(const char *fmt, ...) _printf_(1, 2);
