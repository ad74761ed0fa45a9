/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/verb.h"

#include "base/buf.h"

#define WORDS_MAX 256

/* One call on its way through the parser. */
struct parse {
        const struct verb *verb;
        const struct verb_option *global;
        const char *positional[WORDS_MAX];
        int n_positional;
        const struct verb_option *seen[WORDS_MAX];
        const char *values[WORDS_MAX];
        int n_seen;
};

/* How many changes of one letter make `a` into `b`; at most 32 letters are looked at. */
static unsigned edit_distance(const char *a, const char *b)
{
        unsigned row[33];
        size_t n = MIN(strlen(b), (size_t)32);

        for (size_t j = 0; j <= n; j++)
                row[j] = (unsigned)j;
        for (size_t i = 0; i < MIN(strlen(a), (size_t)32); i++) {
                unsigned diagonal = row[0];

                row[0] = (unsigned)i + 1;
                for (size_t j = 1; j <= n; j++) {
                        unsigned above = row[j];

                        row[j] = MIN(MIN(above, row[j - 1]) + 1, diagonal + (a[i] != b[j - 1]));
                        diagonal = above;
                }
        }
        return row[n];
}

static size_t count_words(const char *words)
{
        size_t n = 0;

        for (const char *p = words; *p; p += strspn(p, " ")) {
                p += strcspn(p, " ");
                n++;
        }
        return n;
}

/* How many of the verb's words the given ones start with, in order. */
static size_t matching_words(const char *words, const char *const *given, int n_given)
{
        size_t n = 0;

        for (const char *p = words; *p && (int)n < n_given; n++) {
                size_t length = strcspn(p, " ");

                if (strlen(given[n]) != length || strncmp(given[n], p, length) != 0)
                        break;
                p += length;
                p += strspn(p, " ");
        }
        return n;
}

static const struct verb *find_verb(const struct verb *verbs, size_t n, const char *const *given, int n_given)
{
        const struct verb *best = NULL;

        for (size_t i = 0; i < n; i++)
                if (matching_words(verbs[i].words, given, n_given) == count_words(verbs[i].words) &&
                    (!best || count_words(verbs[i].words) > count_words(best->words)))
                        best = &verbs[i];
        return best;
}

/* How far the given words are from the verb's, as far as both go: arguments may follow, words may be missing.
 * UINT32_MAX when too much differs to be a slip of the finger. */
static unsigned verb_distance(const struct verb *verb, const char *const *given, int n_given)
{
        _cleanup_buf_ struct buf mine = {}, theirs = {};
        const char *p = verb->words;
        unsigned distance;

        for (int i = 0; i < n_given && *p; i++) {
                size_t length = strcspn(p, " ");

                buf_printf(&mine, "%s%.*s", i ? " " : "", (int)length, p);
                buf_printf(&theirs, "%s%s", i ? " " : "", given[i]);
                p += length;
                p += strspn(p, " ");
        }
        if (!mine.data || mine.failed || theirs.failed)
                return UINT32_MAX;
        distance = edit_distance(theirs.data, mine.data);
        return distance <= MAX(mine.size / 3, (size_t)2) ? distance : UINT32_MAX;
}

static int fail_verb(const struct verb *verbs, size_t n, const char *const *given, int n_given, struct error *e)
{
        _cleanup_buf_ struct buf text = {};
        const struct verb *nearest = NULL;
        unsigned best = UINT32_MAX;

        for (int i = 0; i < n_given; i++)
                buf_printf(&text, "%s%s", i ? " " : "", given[i]);
        for (size_t i = 0; i < n; i++) {
                unsigned distance = verb_distance(&verbs[i], given, n_given);

                if (!verbs[i].hidden && distance < best) {
                        best = distance;
                        nearest = &verbs[i];
                }
        }
        if (n_given == 0)
                fail(e, -EINVAL, &kind_usage, "a verb is missing");
        else
                fail(e, -EINVAL, &kind_usage, "'%s' is not a verb", text.data ?: "");
        if (nearest)
                return fail_hint(e, "did you mean '%s'? 'help' lists all verbs", nearest->words);
        return fail_hint(e, "'help' lists all verbs");
}

static const struct verb_option *find_in(const struct verb_option *options, const char *name, size_t length, char letter)
{
        for (; options && options->name; options++)
                if (letter ? options->letter == letter
                           : name && strlen(options->name) == length && strncmp(options->name, name, length) == 0)
                        return options;
        return NULL;
}

/* Any option of that name in the whole table: so that values are told from words before the verb is known. */
static const struct verb_option *find_anywhere(const struct verb *verbs, size_t n, const struct verb_option *global,
                                               const char *name, size_t length, char letter)
{
        const struct verb_option *o = find_in(global, name, length, letter);

        for (size_t i = 0; !o && i < n; i++)
                o = find_in(verbs[i].options, name, length, letter);
        return o;
}

static const char *nearest_option(const struct verb *verb, const struct verb_option *global, const char *name, size_t length)
{
        const struct verb_option *tables[] = { global, verb ? verb->options : NULL };
        _cleanup_free_ char *given = strndup(name, length);
        const char *nearest = NULL;
        unsigned best = (unsigned)MIN(length / 2 + 1, (size_t)4); /* of a short word everything is near */

        for (size_t t = 0; given && t < ARRAY_SIZE(tables); t++)
                for (const struct verb_option *o = tables[t]; o && o->name; o++)
                        if (edit_distance(given, o->name) < best) {
                                best = edit_distance(given, o->name);
                                nearest = o->name;
                        }
        return nearest;
}

static int fail_option(const struct verb *verb, const struct verb_option *global, const char *arg, size_t length,
                       struct error *e)
{
        const char *nearest = nearest_option(verb, global, arg + 2, length > 2 ? length - 2 : 0);

        fail(e, -EINVAL, &kind_usage, "the option %.*s is not known%s%s", (int)length, arg, verb ? " to " : "",
             verb ? verb->words : "");
        if (nearest)
                return fail_hint(e, "did you mean --%s?", nearest);
        return fail_hint(e, "'help%s%s' lists the options", verb ? " " : "", verb ? verb->words : "");
}

/* Whether the next word belongs to this one. */
static bool takes_value(const struct verb *verbs, size_t n, const struct verb_option *global, const char *word)
{
        const struct verb_option *o;

        if (word[0] != '-' || !word[1] || strchr(word, '='))
                return false;
        o = word[1] == '-' ? find_anywhere(verbs, n, global, word + 2, strlen(word + 2), 0)
                           : find_anywhere(verbs, n, global, NULL, 0, word[1]);
        return o && o->value;
}

/* First pass: which arguments are words (not options, not their values)? */
static int collect_words(const struct verb *verbs, size_t n, const struct verb_option *global, int argc, char **argv,
                         const char **words)
{
        int n_words = 0;

        for (int i = 1; i < argc && n_words < WORDS_MAX; i++) {
                if (streq(argv[i], "--")) {
                        while (++i < argc && n_words < WORDS_MAX)
                                words[n_words++] = argv[i];
                        break;
                }
                if (argv[i][0] != '-' || !argv[i][1]) {
                        words[n_words++] = argv[i];
                        continue;
                }
                i += i + 1 < argc && takes_value(verbs, n, global, argv[i]) && !startswith(argv[i + 1], "--");
        }
        return n_words;
}

size_t verb_words(const struct verb *verbs, size_t n, const struct verb_option *global, int argc, char **argv,
                  const char **words)
{
        const char *found[WORDS_MAX];
        size_t n_words = (size_t)collect_words(verbs, n, global, argc, argv, found);

        memcpy(words, found, n_words * sizeof(*words));
        return n_words;
}

static int add_option(struct parse *p, const struct verb_option *o, const char *value, struct error *e)
{
        if (p->n_seen == WORDS_MAX)
                return fail(e, -E2BIG, &kind_usage, "more than %d options", WORDS_MAX);
        p->seen[p->n_seen] = o;
        p->values[p->n_seen++] = value;
        return 0;
}

static int fail_value(const struct verb_option *o, const char *next, struct error *e)
{
        if (next)
                fail(e, -EINVAL, &kind_usage, "the option --%s needs a value, not the option %s", o->name, next);
        else
                fail(e, -EINVAL, &kind_usage, "the option --%s needs a value", o->name);
        if (next && next[2])
                return fail_hint(e, "a value that begins with dashes is written --%s=%s", o->name, next);
        return fail_hint(e, "--%s %s: %s", o->name, o->value, o->help ?: "");
}

/* "--name", "--name=value", "--name value", "-x", "-x value". *i moves over a value that stands apart: it cannot begin with
 * "--", for that is an option whose neighbour was forgotten. */
static int parse_option(struct parse *p, int argc, char **argv, int *i, struct error *e)
{
        const char *arg = argv[*i], *equals = strchr(arg, '=');
        bool is_long = arg[1] == '-';
        size_t length = is_long && equals ? (size_t)(equals - arg) : strlen(arg);
        const struct verb_option *o;

        if (!is_long && arg[2])
                return fail_option(p->verb, p->global, arg, length, e);
        o = find_in(p->verb->options, arg + 2, length - 2, is_long ? 0 : arg[1]);
        if (!o)
                o = find_in(p->global, arg + 2, length - 2, is_long ? 0 : arg[1]);
        if (!o)
                return fail_option(p->verb, p->global, arg, length, e);
        if (!o->value && equals)
                return fail(e, -EINVAL, &kind_usage, "the option --%s takes no value", o->name);
        if (!o->value)
                return add_option(p, o, NULL, e);
        if (equals)
                return add_option(p, o, equals + 1, e);
        if (*i + 1 >= argc || startswith(argv[*i + 1], "--"))
                return fail_value(o, *i + 1 < argc ? argv[*i + 1] : NULL, e);
        return add_option(p, o, argv[++*i], e);
}

static int parse_all(struct parse *p, int argc, char **argv, struct error *e)
{
        size_t skip = count_words(p->verb->words);
        bool options = true;

        for (int i = 1; i < argc; i++) {
                int r = 0;

                if (options && streq(argv[i], "--"))
                        options = false;
                else if (options && argv[i][0] == '-' && argv[i][1])
                        r = parse_option(p, argc, argv, &i, e);
                else if (skip > 0)
                        skip--;
                else if (p->n_positional == WORDS_MAX - 1)
                        r = fail(e, -E2BIG, &kind_usage, "more than %d arguments", WORDS_MAX - 1);
                else
                        p->positional[p->n_positional++] = argv[i];
                if (r < 0)
                        return r;
        }
        return 0;
}

static int check_count(const struct parse *p, struct error *e)
{
        const struct verb *v = p->verb;

        if (p->n_positional < v->min_positional)
                fail(e, -EINVAL, &kind_usage, "%s needs %s", v->words, v->positional ?: "more arguments");
        else if (v->max_positional >= 0 && p->n_positional > v->max_positional)
                fail(e, -EINVAL, &kind_usage, "%s does not take '%s'", v->words, p->positional[v->max_positional]);
        else
                return 0;
        return fail_hint(e, "usage: %s%s%s", v->words, v->positional ? " " : "", v->positional ?: "");
}

int verb_dispatch(const struct verb *verbs, size_t n, const struct verb_option *global, int argc, char **argv, void *context,
                  struct error *e)
{
        _cleanup_free_ struct parse *p = calloc(1, sizeof(*p));
        const char *words[WORDS_MAX];
        struct verb_args args;
        int n_words, r;

        if (!p)
                return -ENOMEM;
        n_words = collect_words(verbs, n, global, argc, argv, words);
        p->global = global;
        p->verb = find_verb(verbs, n, words, n_words);
        if (!p->verb)
                return fail_verb(verbs, n, words, n_words, e);
        r = parse_all(p, argc, argv, e);
        if (r >= 0)
                r = check_count(p, e);
        if (r < 0)
                return r;
        args = (struct verb_args){
                .positional = p->positional,
                .n_positional = p->n_positional,
                .seen = p->seen,
                .values = p->values,
                .n_seen = p->n_seen,
                .context = context,
        };
        return p->verb->run(&args, e);
}

bool verb_has(const struct verb_args *args, const char *option)
{
        for (int i = 0; i < args->n_seen; i++)
                if (streq(args->seen[i]->name, option))
                        return true;
        return false;
}

const char *verb_value(const struct verb_args *args, const char *option)
{
        for (int i = args->n_seen - 1; i >= 0; i--)
                if (streq(args->seen[i]->name, option))
                        return args->values[i];
        return NULL;
}

static void help_option(const struct verb_option *o, FILE *f)
{
        _cleanup_free_ char *left = !o->help ? NULL
                                             : xasprintf("%s%c%s--%s%s%s", o->letter ? "-" : "", o->letter ? o->letter : ' ',
                                                         o->letter ? ", " : "   ", o->name, o->value ? " " : "",
                                                         o->value ?: "");

        if (o->help)
                fprintf(f, "      %-32s %s\n", left ?: o->name, o->help);
}

void verb_help(const struct verb *verbs, size_t n, const struct verb_option *global, const char *program, FILE *f)
{
        fprintf(f, "Usage: %s [OPTIONS] VERB ...\n\nVerbs:\n", program);
        for (size_t i = 0; i < n; i++) {
                _cleanup_free_ char *left = NULL;

                if (verbs[i].hidden)
                        continue;
                left = xasprintf("%s%s%s", verbs[i].words, verbs[i].positional ? " " : "", verbs[i].positional ?: "");
                fprintf(f, "  %-36s %s\n", left ?: verbs[i].words, verbs[i].help);
                for (const struct verb_option *o = verbs[i].options; o && o->name; o++)
                        help_option(o, f);
        }
        fprintf(f, "\nOptions for every verb:\n");
        for (const struct verb_option *o = global; o && o->name; o++)
                help_option(o, f);
}

static int add_candidate(char ***list, size_t *n, const char *text, size_t length)
{
        char **grown, *copy;

        for (size_t i = 0; i < *n; i++)
                if (strlen((*list)[i]) == length && strncmp((*list)[i], text, length) == 0)
                        return 0;
        grown = reallocarray(*list, *n + 2, sizeof(char *));
        if (!grown)
                return -ENOMEM;
        *list = grown;
        copy = strndup(text, length);
        grown[*n] = copy;
        if (!copy)
                return -ENOMEM;
        grown[++*n] = NULL;
        return 0;
}

static void add_options(char ***list, size_t *n, const struct verb_option *o, const char *prefix)
{
        for (; o && o->name; o++) {
                _cleanup_free_ char *text = xasprintf("--%s", o->name);

                if (o->help && text && startswith(text, prefix))
                        add_candidate(list, n, text, strlen(text));
        }
}

char **verb_complete(const struct verb *verbs, size_t n, const struct verb_option *global, const char *line)
{
        _cleanup_free_ char *copy = strdup(line);
        const char *words[WORDS_MAX], *prefix = "";
        char **list = NULL, *cursor = copy, *word;
        size_t n_list = 0;
        int n_words = 0;
        bool value = false; /* the word is an option's value */

        while (cursor && (word = strsep(&cursor, " ")) && n_words < WORDS_MAX - 1) {
                if (!cursor && value)
                        return calloc(1, sizeof(char *)); /* a file or a number: nothing that we know */
                if (!cursor)
                        prefix = word; /* the word that is being typed, maybe empty */
                else if (*word && *word != '-' && !value)
                        words[n_words++] = word;
                if (*word)
                        value = takes_value(verbs, n, global, word);
        }
        for (size_t i = 0; copy && i < n; i++) {
                size_t total = count_words(verbs[i].words), matched = matching_words(verbs[i].words, words, n_words);
                const char *p = verbs[i].words;

                if (verbs[i].hidden)
                        continue;
                if (matched == total && *prefix == '-')
                        add_options(&list, &n_list, verbs[i].options, prefix);
                if (matched != (size_t)n_words || matched == total || *prefix == '-')
                        continue;
                for (size_t w = 0; w < matched; w++) {
                        p += strcspn(p, " ");
                        p += strspn(p, " ");
                }
                if (strncmp(p, prefix, strlen(prefix)) == 0)
                        add_candidate(&list, &n_list, p, strcspn(p, " "));
        }
        if (copy && *prefix == '-')
                add_options(&list, &n_list, global, prefix);
        return list ?: calloc(1, sizeof(char *));
}
