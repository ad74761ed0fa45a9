/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The data model: read this file first.
 *
 *      disk                                   what boots it
 *      ┌─────────────┐
 *      │ ESP         │  loader/entries/bootmgr-7-a.conf        confirmed: the fallback
 *      │             │  loader/entries/bootmgr-8-b+3-0.conf    on trial: 3 tries left
 *      ├─────────────┤
 *      │ state       │  struct slot_set, twice (slot/store.h)
 *      ├─────────────┤
 *      │ root-a      │  slot 0 ─┐
 *      ├─────────────┤          ├─ one slot is one bootable system
 *      │ root-b      │  slot 1 ─┘
 *      ├─────────────┤
 *      │ data        │  /etc overlays, snapshots, steps, shared configuration
 *      └─────────────┘
 *
 * The life of a slot:
 *
 *      EMPTY ──write──▶ INCOMPLETE ──written──▶ INSTALLED ──switch──▶ TRIAL ──confirm──▶ CONFIRMED
 *        ▲                  ▲                                         │  ▲                │     │
 *        │                  └──────── write again (any state) ────────┼──┼────────────────┘     │
 *       init                                                          │  └──── switch back ─────┘
 *                                                                     ▼
 *                                                             BAD (with a reason)
 *
 * Nothing here does I/O: the functions decide over plain structs. Loading and saving is
 * slot/store.h; what the ESP says is loader/loader.h; who decides at boot is operation/boot.h.
 */
#pragma once

#include "base/error.h"
#include "slot/verity.h"

#define SLOT_MAX             8
#define SLOT_NONE            (-1)
#define GENERATION_MAX       (UINT64_C(1) << 62) /* far above what is ever given out; far below where one more is 0 */
#define GENERATION_LEAP      (UINT64_C(1) << 48) /* so far above the known ones it is a name that nobody of ours gave */
#define SLOT_VERSION_SIZE    64                  /* with the NUL */
#define SLOT_DEFAULT_TRIES   3
#define SLOT_MAX_TRIES       9  /* single digits: a counted name never changes its length */
#define DIGEST_SIZE          32 /* SHA-256 */
#define BOOT_FILE_ID_SIZE    16 /* the name of a kernel or initrd on the ESP (loader/entry.h) */
#define AUTO_ROLLBACK_MEMORY 4

enum slot_state {
        SLOT_EMPTY,
        SLOT_INCOMPLETE, /* a write began and has not ended */
        SLOT_INSTALLED,  /* written and verified, never switched to since */
        SLOT_TRIAL,      /* switched to, not confirmed: tries are counted */
        SLOT_CONFIRMED,
        SLOT_BAD,
        _SLOT_STATE_MAX,
};

/* Why a slot is in its state; stable numbers, they are on disk. */
enum slot_reason {
        REASON_NONE,
        REASON_WRITING,         /* INCOMPLETE: a write is at work or was interrupted */
        REASON_CONTENT,         /* what was written did not match its digest */
        REASON_TRIES_EXHAUSTED, /* did not come up in any of its tries */
        REASON_ROOT_MOUNT,      /* its root could not be mounted */
        REASON_INIT,            /* its init is missing or died */
        REASON_MIGRATION,       /* a migration hook failed */
        REASON_HEALTH,          /* a required health check failed */
        REASON_DEADLINE,        /* was not healthy in time */
        REASON_TRIGGER,         /* rollback.target was started on it */
        REASON_OPERATOR,        /* slot mark-bad */
        REASON_BOOT_FILES,      /* its kernel or initrd on the ESP is missing or damaged */
        REASON_NOT_STARTED,     /* neither the bootloader nor the firmware could start it, on trial or confirmed */
        REASON_CORRUPT,         /* its root is not what was installed any more: dm-verity found it out */
        REASON_NOT_UP,          /* confirmed, but several boots in a row did not come up */
        _REASON_MAX,
};

/* Where a switch stands. On disk. */
enum switch_phase {
        SWITCH_NONE,      /* no switch since the last confirm */
        SWITCH_SWITCHING, /* an entry is about to be made: the next boot finishes or drops it */
        SWITCH_SWITCHED,  /* the entry is durable: the target is on trial */
        _SWITCH_PHASE_MAX,
};

enum operation_kind { OPERATION_NONE, OPERATION_UPGRADE, OPERATION_ROLLBACK, OPERATION_ACTIVATE, _OPERATION_KIND_MAX };

/* How the operation stands, as far as the record alone must know it. On disk. */
enum operation_state {
        OPERATION_IDLE,
        OPERATION_STAGED, /* prepared: the next shutdown seals and switches */
        OPERATION_RUNNING,
        OPERATION_DONE,
        OPERATION_FAILED,
        OPERATION_ABORTED,
        _OPERATION_STATE_MAX,
};

struct slot {
        char version[SLOT_VERSION_SIZE];
        uint64_t security_version;
        uint8_t digest[DIGEST_SIZE];   /* SHA-256 of the manifest it was installed from */
        uint8_t snapshot[DIGEST_SIZE]; /* of its sealed configuration; zeros: none */
        uint8_t kernel[BOOT_FILE_ID_SIZE];
        uint8_t initrd[BOOT_FILE_ID_SIZE];
        struct verity verity;  /* of its root; on the command line of its entries */
        uint8_t last_boot[16]; /* boot id whose attempt was counted last */
        uint64_t generation;   /* of its newest entry; 0: it has none */
        enum slot_state state;
        enum slot_reason reason;
        uint8_t tries;    /* granted at the switch */
        uint8_t attempts; /* boots counted since the switch */
};

/* Everything the state record holds. */
struct slot_set {
        struct slot slots[SLOT_MAX];
        int n_slots;         /* 2 in the reference layout */
        uint64_t generation; /* the highest ever given out */
        int previous;        /* slot to go back to, or SLOT_NONE */
        enum switch_phase phase;
        int target; /* of the switch, or SLOT_NONE */
        uint64_t target_generation;
        bool once; /* a person at the console tries the target: it gets this one boot and is bad again unless it is confirmed
                    */
        uint8_t operation_id[16];
        enum operation_kind operation;
        enum operation_state operation_state;
        enum slot_reason operation_reason;
        bool operation_automatic;                      /* nobody asked for it: rollback.target, deadline, loader */
        int operation_from, operation_to;              /* slots, or SLOT_NONE */
        bool finalized;                                /* the way back was given up: previous stays for automatic recovery */
        uint64_t floor;                                /* lowest security version that may boot */
        uint64_t auto_rollbacks[AUTO_ROLLBACK_MEMORY]; /* realtime µs of the newest automatic rollbacks, newest first */
        uint8_t refused[DIGEST_SIZE];                  /* manifest an automatic updater may not install again; zeros: none */
};

/* Sets the state of a disk on which nothing was installed. */
void slot_set_init(struct slot_set *set, int n_slots);

/* Names: slot 0 is "a". */
static inline char slot_name(int slot)
{
        return (char)('a' + slot);
}
int slot_from_name(const char *name);                       /* SLOT_NONE unless it is one letter a-h */
const char *slot_state_to_string(enum slot_state state);    /* "empty", … as in the JSON */
const char *slot_reason_to_string(enum slot_reason reason); /* a phrase for people; "" for NONE */
const char *slot_reason_to_name(enum slot_reason reason);   /* "tries-exhausted": stable, for JSON and logs */
const char *switch_phase_to_string(enum switch_phase phase);
const char *operation_kind_to_string(enum operation_kind kind); /* "UPGRADE" … */

/* Predicates. */
bool slot_has_system(const struct slot *slot);    /* a whole system lies in it */
bool slot_is_selectable(const struct slot *slot); /* INSTALLED, CONFIRMED, or TRIAL with tries left */
bool slot_has_snapshot(const struct slot *slot);
/* Attempts left by the record: 0 unless on trial. */
int slot_tries_left(const struct slot *slot);
int slot_set_selectable(const struct slot_set *set); /* how many */

/* The slot an upgrade writes: not `running`, by preference empty, bad or incomplete, else the one
 * with the lowest generation. SLOT_NONE when there is none. */
int slot_set_upgrade_target(const struct slot_set *set, int running);

/* Transitions. They assert nothing and refuse nothing: checks come before (operation/check.h). */
void slot_set_begin_write(struct slot_set *set, int slot); /* INCOMPLETE; forgets previous and snapshot if they were its */
void slot_set_end_write(struct slot_set *set, int slot);   /* INSTALLED; identity is filled in by the caller before */
/* Whether a generation that only a name on the ESP knows can have been given out, `known` being the highest that is known.
 * What names can add at once is bounded, so that nobody uses up all that there are. */
bool generation_is_credible(uint64_t generation, uint64_t known);
/* SWITCHING to `slot` with generation max(record, esp_generation) + 1, which is returned. */
uint64_t slot_set_begin_switch(struct slot_set *set, int slot, uint64_t esp_generation);
/* SWITCHED: target is on trial with `tries`; tries 0: confirmed at once (the first system on a disk). */
void slot_set_end_switch(struct slot_set *set, int tries);
void slot_set_drop_switch(struct slot_set *set); /* as if it had not begun; the generation stays used */
/* Counts this boot once per boot id; true when the record changed. */
bool slot_set_count_attempt(struct slot_set *set, int slot, const uint8_t boot[static 16]);
void slot_set_confirm(struct slot_set *set, int slot);
void slot_set_mark_bad(struct slot_set *set, int slot, enum slot_reason reason);
void slot_set_note_auto_rollback(struct slot_set *set, uint64_t now);
/* Automatic rollbacks within the day before `now`. */
int slot_set_auto_rollbacks(const struct slot_set *set, uint64_t now);
/* For a time that is known to be right: what lies more than a day ahead of `now` was noted by a clock that was wrong, and
 * would count until then. It becomes `instead`; 0: it is forgotten. True when the record changed. */
bool slot_set_correct_auto_rollbacks(struct slot_set *set, uint64_t now, uint64_t instead);

/* The invariants of the design's section 3. 0, or -EINVAL with the broken one in `e`. */
int slot_set_check(const struct slot_set *set, struct error *e);
