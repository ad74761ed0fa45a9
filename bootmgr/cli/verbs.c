/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/verbs.h"

#include "base/buf.h"
#include "slot/kinds.h"

/* An option without a help text is understood, but not shown: for units and bootmgrd. */
static const struct verb_option options_shown[] = {
        /* By main() and as the only word: behind `bundle create` it is another option, with a value. */
        { "version", NULL, "show the version" },
        { "disk", "DEVICE|IMAGE", "work on this disk, or on an image file" },
        { "esp", "DIR", "the directory that holds the ESP's files" },
        { "data", "DIR", "the data directory" },
        { "config", "FILE", "read this configuration file only" },
        { "cmdline", "WORDS", "take this as the kernel command line" },
        { "efivars", "DIR", "the EFI variables, as efivarfs shows them (default for an image: none)" },
        { "json", NULL, "print JSON" },
        { "quiet", NULL, "print errors and warnings only", 'q' },
        { "verbose", NULL, "print what is done in detail", 'v' },
        { "help", NULL, "show help", 'h' },
        { "worker", NULL, NULL },
        {},
};
const struct verb_option *const cli_global_options = options_shown + 1;

static const struct verb_option init_options[] = {
        { "esp-size", "SIZE", "size of the ESP (default 512M)" },
        { "root-size", "SIZE", "size of each root partition (default a third of the rest, at most 16G)" },
        { "slots", "N", "number of slots (default 2)" },
        { "sector-size", "BYTES", "512 or 4096, for images (default 512)" },
        { "image-size", "SIZE", "make the image file with this size" },
        { "force", NULL, "also when the disk holds something" },
        { "dry-run", NULL, "say what would be done, change nothing" },
        {},
};

/* Of an operation of the whole cluster. */
#define CLUSTER_OPTIONS                                                                                                     \
        { "strict", NULL, "in a cluster: an engine that says no, or nothing, ends it before anything is switched" },        \
                { "engines", "MODE", "in a cluster: together (default), or rolling, one after the other" },                 \
                { "max-unavailable", "N", "with --engines rolling: so many engines at a time (default 1)" },                \
                { "one-instant", NULL, "in a cluster: controllers and engines switch at the same instant" },                \
                { "prepare-limit", "TIME", "in a cluster: for every node's answer (default 30min, of a rollback 1min)" },   \
                { "switch-limit", "TIME", "in a cluster: for the controllers to form again (default 10min)" },              \
        {                                                                                                                   \
                "lead", "TIME", "in a cluster: from the order to the instant of the reboot (default 15s)"                   \
        }

static const struct verb_option upgrade_options[] = {
        { "no-reboot", NULL, "prepare it; it goes on at the next shutdown" },
        { "yes", NULL, "do not ask", 'y' },
        { "automatic", NULL, "an updater asks, not a person (recorded)" },
        { "no-read-back", NULL, "do not read the image back from the device (quicker, and what it lost is found later)" },
        { "full-speed", NULL, "do not leave the disk to others first" },
        CLUSTER_OPTIONS,
        { "id", "ID", NULL },
        {},
};

static const struct verb_option rollback_options[] = {
        { "dry-run", NULL, "show every check and what would be given up, change nothing" },
        { "no-reboot", NULL, "prepare it; it goes on at the next shutdown" },
        { "local", NULL, "without daemon and version gate: the local procedure" },
        { "without-snapshot", NULL, "restore nothing: the previous version takes the configuration over as it is" },
        CLUSTER_OPTIONS,
        { "automatic", NULL, NULL },
        { "corrupt", NULL, NULL },
        { "reason", "TEXT", NULL },
        { "id", "ID", NULL },
        {},
};

/* The id that whoever asks has made for it: asked for again, it is not done again. */
static const struct verb_option id_options[] = {
        { "id", "ID", NULL },
        {},
};

static const struct verb_option abort_options[] = {
        { "local", NULL, "on a node that is cut off for ever: free it from what it is prepared for" },
        { "id", "ID", NULL },
        {},
};

static const struct verb_option watch_options[] = {
        { "watch", NULL, "until it has ended", 'w' },
        {},
};

static const struct verb_option activate_options[] = {
        { "no-reboot", NULL, "prepare it; it goes on at the next shutdown" },
        {},
};

static const struct verb_option slot_verify_options[] = {
        { "background", NULL, NULL }, /* the root only, and nothing while an operation is at work */
        {},
};

static const struct verb_option diff_options[] = {
        { "no-text", NULL, "only the names of what differs" },
        {},
};

static const struct verb_option create_options[] = {
        { "version", "VERSION", "version of the system" },
        { "compatible", "NAME", "the kind of machine it is for" },
        { "root", "FILE", "image of the root filesystem" },
        { "kernel", "FILE", "kernel" },
        { "initrd", "FILE", "initial RAM disk" },
        { "image", "NAME=FILE", "a further image; may be repeated" },
        { "key", "FILE", "private key to sign with (PEM); may be repeated" },
        { "security-version", "N", "the number that the floor is compared with (default 0)" },
        { "min-bootmgr", "VERSION", "lowest bootmgr that may install it" },
        { "etcd", "MAJOR.MINOR", "of the etcd in it: a controller that runs another refuses it" },
        { "build-id", "ID", "names the build (default: from the content)" },
        { "chunking", "HOW", "content (the default), or fixed, which programs before content-defined chunks read, too" },
        { "chunk-size", "SIZE", "bytes in a chunk, by content on average" },
        { "verity", NULL, "a hash tree behind the root: the machine boots it by dm-verity" },
        { "level", "N", "of zstd, 1 to 19" },
        {},
};

static const struct verb_option delta_options[] = {
        { "from", "FILE|URL", "the bundle that machines have installed" },
        { "url", "URL", "of the full bundle, for machines where the delta is not enough" },
        {},
};

static const struct verb_option verify_options[] = {
        { "trust", "DIR", "public keys (*.pem) to trust (default: as configured)" },
        { "threshold", "N", "valid signatures that are needed (default: as configured)" },
        {},
};

static const struct verb_option sign_options[] = {
        { "key", "FILE", "private key to sign with (PEM); may be repeated" },
        {},
};

static const struct verb_option rescue_options[] = {
        { "kernel", "FILE", "its kernel" },
        { "initrd", "FILE", "its initial RAM disk, as bootmgr-rescue-image makes it" },
        { "append", "WORDS", "behind our own words on its kernel command line (default: KernelCommandLine=)" },
        {},
};

static const struct verb_option cluster_init_options[] = {
        { "address", "HOST|IP", "where other nodes reach this one; may be repeated, the first is what they are told" },
        { "name", "NAME", "of this node (default: its host name)" },
        {},
};

static const struct verb_option token_options[] = {
        { "role", "ROLE", "engine (default) or controller" },
        { "ttl", "TIME", "how long it can be used (default 24h, at most 30 days)" },
        {},
};

static const struct verb_option step_options[] = {
        { "offset", "USEC", NULL },      /* what the controllers' clock is ahead of ours */
        { "clock-error", "USEC", NULL }, /* by how many that may be wrong */
        {},
};

static const struct verb_option join_options[] = {
        { "token-file", "FILE|-", "read the token from there: on the command line others could see it" },
        { "name", "NAME", "of this node (default: its host name)" },
        { "address", "HOST|IP", "of a controller: where other nodes reach it; may be repeated" },
        {},
};

static const struct verb_option renew_options[] = {
        { "force", NULL, "also when it is not due" },
        {},
};

const struct verb cli_verbs[] = {
        { "status", NULL, 0, 0, NULL, "what runs, what boots next, what can be gone back to", .run = verb_status },
        { "upgrade system", "FILE|URL", 1, 1, upgrade_options, "install a bundle into the other slot and boot it on trial",
          .run = verb_upgrade_system },
        { "upgrade clear", NULL, 0, 0, NULL, "allow again the version that was rolled back from",
          .run = verb_upgrade_clear },
        { "rollback system", NULL, 0, 0, rollback_options, "go back to the previous version and its configuration",
          .run = verb_rollback_system },
        { "show upgrade status", NULL, 0, 0, watch_options, "the steps of the newest operation", .run = verb_show_status },
        { "show upgrade history", NULL, 0, 0, NULL, "all recorded operations, newest first", .run = verb_show_history },
        { "show nodes", NULL, 0, 0, NULL, "the nodes of the cluster", .run = verb_show_nodes },
        { "finalize", NULL, 0, 0, id_options, "give up the way back and raise the security floor", .run = verb_finalize },
        { "abort", NULL, 0, 0, abort_options, "give up an operation that is prepared", .run = verb_abort },
        { "slot list", NULL, 0, 0, NULL, "the slots", .run = verb_slot_list },
        { "slot activate", "SLOT", 1, 1, activate_options, "boot another slot; its configuration comes with it",
          .run = verb_slot_activate },
        { "slot mark-good", "SLOT", 1, 1, NULL, "confirm a slot, or take back that it is bad", .run = verb_slot_mark_good },
        { "slot mark-bad", "SLOT", 1, 1, NULL, "never boot a slot again until it is written anew",
          .run = verb_slot_mark_bad },
        { "slot verify", "[SLOT]", 0, 1, slot_verify_options,
          "read a slot (default: the previous) and compare it with what was installed", .run = verb_slot_verify },
        { "snapshot list", NULL, 0, 0, NULL, "the sealed configurations", .run = verb_snapshot_list },
        { "snapshot diff", "[ID]", 0, 1, diff_options, "what differs from a snapshot (default: of the previous slot)",
          .run = verb_snapshot_diff },
        { "snapshot verify", "[ID]", 0, 1, NULL, "read a snapshot (default: all) and check its seal",
          .run = verb_snapshot_verify },
        { "snapshot export", "ID FILE|-", 2, 2, NULL, "copy a snapshot's archive (tar.zst)", .run = verb_snapshot_export },
        { "bundle create", "FILE", 1, 1, create_options, "make a bundle", .run = verb_bundle_create },
        { "bundle delta", "BUNDLE FILE", 2, 2, delta_options, "make a smaller bundle for machines that run another version",
          .run = verb_bundle_delta },
        { "bundle inspect", "FILE|URL", 1, 1, NULL, "show what a bundle says of itself, unverified",
          .run = verb_bundle_inspect },
        { "bundle verify", "FILE|URL", 1, 1, verify_options, "check signatures and the whole content",
          .run = verb_bundle_verify },
        { "bundle sign", "FILE", 1, 1, sign_options, "add signatures", .run = verb_bundle_sign },
        { "bundle keygen", "PREFIX", 1, 1, NULL, "make a pair of keys: PREFIX.key and PREFIX.pem",
          .run = verb_bundle_keygen },
        { "init", "DISK|IMAGE", 1, 1, init_options, "make the partitions of the reference layout", .run = verb_init },
        { "rescue install", NULL, 0, 0, rescue_options, "put the rescue system on the ESP, for when no slot can boot",
          .run = verb_rescue_install },
        { "rescue remove", NULL, 0, 0, NULL, "take it away", .run = verb_rescue_remove },
        { "cluster init", "[CLUSTER]", 0, 1, cluster_init_options, "make this machine the first controller of a cluster",
          .run = verb_cluster_init },
        { "cluster token", NULL, 0, 0, token_options, "make a token with which one machine may join",
          .run = verb_cluster_token },
        { "node join", "[URL]... [TOKEN]", 0, -1, join_options, "make this machine a node of a cluster",
          .run = verb_node_join },
        { "node delete", "NAME", 1, 1, id_options, "take a node out of the cluster, on a controller",
          .run = verb_node_delete },
        { "node renew", NULL, 0, 0, renew_options, "renew this node's certificate, when it is due", .run = verb_node_renew },
        { "shell", NULL, 0, 0, NULL, "a prompt for the same words", .run = verb_shell },
        { "completion bash", NULL, 0, 0, NULL, "print the completion for bash", .run = verb_completion_bash },
        { "help", "[WORD]...", 0, -1, NULL, "show help", .run = verb_show_help },
        /* for units and for the completion */
        { "completion words", "LINE", 1, 1, NULL, "candidates for the next word", true, verb_completion_words },
        { "boot-config", NULL, 0, 0, NULL, "what is due early at boot", true, verb_boot_config },
        { "carry-config", NULL, 0, 0, NULL, "prepare the /etc of the slot that is installed", true, verb_carry_config },
        { "switch-at-shutdown", NULL, 0, 0, NULL, "carry on what is prepared", true, verb_switch_at_shutdown },
        { "check-health", NULL, 0, 0, NULL, "run the health checks", true, verb_check_health },
        { "wait-confirmed", NULL, 0, 0, NULL, "wait for the confirmation, else roll back", true, verb_wait_confirmed },
        { "cluster admit", NULL, 0, 0, NULL, "let a machine in that asks on standard input", true, verb_cluster_admit },
        { "cluster renew", NULL, 0, 0, NULL, "renew the certificate of the node on standard input", true,
          verb_cluster_renew },
        { "cluster promote", NULL, 0, 0, NULL, "let this controller's etcd count", true, verb_cluster_promote },
        { "confirm", NULL, 0, 0, NULL, "confirm the running slot", true, verb_confirm },
        { "cluster found", NULL, 0, 0, NULL, "write the first record of a cluster", true, verb_cluster_found },
        { "cluster step", NULL, 0, 0, step_options, "do what the cluster asks of this node", true, verb_cluster_step },
};
const size_t n_cli_verbs = ARRAY_SIZE(cli_verbs);

/* How many of `words` the verb's words begin with: all of them, or 0. */
static bool verb_starts_with(const struct verb *verb, const char *const *words, size_t n)
{
        const char *rest = verb->words;

        for (size_t i = 0; i < n; i++) {
                rest = startswith(rest, words[i]);
                if (!rest || (*rest && *rest != ' '))
                        return false;
                rest += *rest == ' ';
        }
        return true;
}

int print_help(const char *const *words, size_t n, FILE *f, struct error *e)
{
        struct verb matching[ARRAY_SIZE(cli_verbs)];
        size_t n_matching = 0;

        /* Words behind a verb (`upgrade system FILE --help`) say nothing about which one is meant. */
        for (; n_matching == 0; n--) {
                for (size_t i = 0; i < n_cli_verbs; i++)
                        if (verb_starts_with(&cli_verbs[i], words, n) && (n > 0 || !cli_verbs[i].hidden))
                                matching[n_matching++] = cli_verbs[i];
                if (n <= 1)
                        break;
        }
        if (n_matching == 0) {
                fail(e, -EINVAL, &kind_usage, "there is no verb '%s'", words[0]);
                return fail_hint(e, "'bootmgr help' lists them");
        }
        verb_help(matching, n_matching, options_shown, "bootmgr", f);
        return 0;
}

int verb_show_help(struct verb_args *args, struct error *e)
{
        return print_help(args->positional, (size_t)args->n_positional, stdout, e);
}

/* The candidates come from the program itself, so that they never differ from what it understands. */
int verb_completion_bash(struct verb_args *args, struct error *e)
{
        fputs("# bash completion for bootmgr(1), made by 'bootmgr completion bash'\n"
              "_bootmgr()\n"
              "{\n"
              "        local line=${COMP_LINE:0:COMP_POINT}\n"
              "\n"
              "        mapfile -t COMPREPLY < <(\"$1\" completion words -- \"${line#*[[:blank:]]}\" 2>/dev/null)\n"
              "}\n"
              "complete -o bashdefault -o default -F _bootmgr bootmgr\n",
              stdout);
        return 0;
}

int verb_completion_words(struct verb_args *args, struct error *e)
{
        char **words = verb_complete(cli_verbs, n_cli_verbs, cli_global_options, args->positional[0]);

        if (!words)
                return -ENOMEM;
        for (char **word = words; *word; word++) {
                puts(*word);
                free(*word);
        }
        free(words);
        return 0;
}
