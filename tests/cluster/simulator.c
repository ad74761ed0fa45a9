/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One process that stands for many engines of a cluster (engine.h): simulator --engines N --home DIRECTORY --to PORT …
 * DIRECTORY is `cluster/` of a controller: its CA issues their certificates. Words on standard input say what to do, lines
 * of JSON on standard output what has happened:
 *
 *      connect     500 of them a second            {"event":"told"}       everyone listens
 *      laggards    shows some that are not settled
 *      report      how they have switched          {"event":"settled"}    everyone has nothing more to do in this epoch
 *                                                  {"event":"opened"}, {"event":"committed"}, {"event":"over"}  an operation
 *      an end      goes
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <getopt.h>
#include <openssl/pem.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/parse.h"
#include "cluster/ca.h"
#include "engine.h"

#define STARTS_A_SECOND 500

struct options {
        unsigned engines, port, seed;
        unsigned offset_ms, drift_ppm, delay_ms, jitter_ms, spike_ms, boot_ms;
        const char *home, *address;
};

static struct {
        struct simulation s;
        bool was_open;
        uint64_t told_epoch, settled_epoch; /* of which it was said */
        bool all_told;
} of;

static void say(const char *event)
{
        printf("{\"event\":\"%s\",\"usec\":%llu,\"epoch\":%llu}\n", event, (unsigned long long)now_realtime(),
               (unsigned long long)of.s.epoch);
        fflush(stdout);
}

static void on_changed(struct simulation *s)
{
        if (s->open && !of.was_open)
                say("opened");
        if (s->epoch > of.told_epoch)
                say("committed");
        of.told_epoch = s->epoch;
        if (!of.all_told && s->n_told == s->n)
                say("told");
        of.all_told = s->n_told == s->n;
        if (s->n_settled == s->n && of.settled_epoch < s->epoch) {
                of.settled_epoch = s->epoch;
                say("settled");
        }
        if (of.was_open && !s->open)
                say("over");
        of.was_open = s->open;
}

/* ---- making them ---- */

static X509 *parse_certificate(const char *pem)
{
        BIO *bio = BIO_new_mem_buf(pem, -1);
        X509 *x = PEM_read_bio_X509(bio, NULL, NULL, NULL);

        BIO_free(bio);
        return x;
}

static EVP_PKEY *parse_key(const char *pem)
{
        BIO *bio = BIO_new_mem_buf(pem, -1);
        EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);

        BIO_free(bio);
        return key;
}

/* As `node join` has it: a key, a request, a certificate of the cluster's CA. */
static int certify(struct engine *e, const char *ca_key, const char *ca, struct error *why)
{
        _cleanup_pem_ char *key = NULL;
        _cleanup_free_ char *csr = NULL, *certificate = NULL;
        int r = key_make(&key, why);

        if (r >= 0)
                r = csr_make(key, e->name, &csr, why);
        if (r >= 0)
                r = ca_issue(ca_key, ca, csr, e->name, ROLE_ENGINE, NULL, now_realtime(), &certificate, why);
        if (r >= 0)
                r = certificate_key_digest(certificate, e->key_digest, why);
        if (r < 0)
                return r;
        e->stream.certificate = e->post.certificate = parse_certificate(certificate);
        e->stream.key = e->post.key = parse_key(key);
        return e->stream.certificate && e->stream.key ? 0 : -ENOMEM;
}

static int64_t draw_around_zero(struct engine *e, unsigned most)
{
        return (int64_t)simulation_random(e, 2 * (uint64_t)most + 1) - (int64_t)most;
}

/* The machine: its clock is off and drifts, and its way there is not as long as its way back. */
static void make_engine(struct engine *e, const struct options *o, size_t i)
{
        *e = (struct engine){ .of = &of.s, .random = (i + 1) * UINT64_C(0x9E3779B97F4A7C15) ^ o->seed, .slot = 0 };
        snprintf(e->name, sizeof(e->name), "e%05zu", i + 1);
        for (int k = 0; k < 8; k++)
                simulation_random(e, 0);
        e->ahead = 1000 * draw_around_zero(e, o->offset_ms);
        e->drift = (double)draw_around_zero(e, 1000 * o->drift_ppm) / 1e9;
        e->delay_out = simulation_random(e, 1000 * o->delay_ms + 1);
        e->delay_in = simulation_random(e, 1000 * o->delay_ms + 1);
        e->stream.net = e->post.net = &of.s.net;
        e->stream.from.s_addr = e->post.from.s_addr = htonl((uint32_t)(0x7f800001 + i));
        slot_set_init(&e->set, 2);
}

static int make_engines(const struct options *o, struct error *why)
{
        _cleanup_close_ int home = open(o->home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _cleanup_pem_ char *ca_key = NULL;
        _cleanup_free_ char *ca = NULL;
        char digest[2 * DIGEST_SIZE + 1];
        int r = home < 0 ? -errno : file_read(home, "ca.key", PEM_MAX, &ca_key, NULL);

        if (r >= 0)
                r = file_read(home, "ca.pem", PEM_MAX, &ca, NULL);
        of.s.engines = calloc(o->engines, sizeof(*of.s.engines));
        if (r >= 0 && !of.s.engines)
                r = -ENOMEM;
        for (size_t i = 0; r >= 0 && i < o->engines; i++) {
                make_engine(&of.s.engines[i], o, i);
                r = certify(&of.s.engines[i], ca_key, ca, why);
                hex_encode(of.s.engines[i].key_digest, DIGEST_SIZE, digest);
                if (r >= 0)
                        printf("{\"member\":\"%s\",\"key\":\"%s\"}\n", of.s.engines[i].name, digest);
        }
        of.s.n = o->engines;
        return r;
}

static int make_net(const struct options *o)
{
        _cleanup_free_ char *ca = xasprintf("%s/ca.pem", o->home);
        struct wire_net *net = &of.s.net;

        net->to = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)o->port) };
        net->tls = SSL_CTX_new(TLS_client_method());
        if (!net->tls || !ca || inet_pton(AF_INET, o->address, &net->to.sin_addr) != 1 ||
            SSL_CTX_load_verify_file(net->tls, ca) != 1)
                return -EINVAL;
        SSL_CTX_set_verify(net->tls, SSL_VERIFY_PEER, NULL);
        SSL_CTX_set_mode(net->tls,
                         SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        SSL_CTX_set_session_cache_mode(net->tls, SSL_SESS_CACHE_OFF); /* as libcurl has it for a new handle */
        return 0;
}

/* ---- what is asked ---- */

static void report(void)
{
        struct simulation *s = &of.s;
        const char *comma = "";

        printf("{\"event\":\"report\",\"told\":%zu,\"settled\":%zu,\"switched\":%zu,\"connects\":%llu,\"posts\":%llu,"
               "\"refused\":%llu,\"lines\":%llu,\"failed_connects\":%llu,\"times\":%llu,\"times_refused\":%llu,\"switches\":"
               "[",
               s->n_told, s->n_settled, s->n_switched, (unsigned long long)s->net.statistics.connects,
               (unsigned long long)s->posts, (unsigned long long)s->refused, (unsigned long long)s->lines,
               (unsigned long long)s->net.statistics.failed, (unsigned long long)s->times,
               (unsigned long long)s->times_refused);
        for (size_t i = 0; i < s->n; i++) {
                struct engine *e = &s->engines[i];

                if (!e->switched)
                        continue;
                printf("%s[%llu,%llu,%lld]", comma, (unsigned long long)e->ordered, (unsigned long long)e->switched,
                       (long long)MIN(e->error, (uint64_t)INT64_MAX));
                comma = ",";
                e->switched = 0;
        }
        printf("]}\n");
        fflush(stdout);
        s->n_switched = s->posts = s->refused = s->lines = s->times = s->times_refused = 0;
        s->net.statistics = (struct wire_statistics){};
}

/* Who has something to do in this epoch, for whoever looks for the reason. */
static void show_laggards(void)
{
        unsigned shown = 0;

        for (size_t i = 0; i < of.s.n && shown < 20; i++) {
                const struct engine *e = &of.s.engines[i];

                if (e->settled)
                        continue;
                shown++;
                fprintf(stderr,
                        "%s: %s epoch %llu, phase %d, voted %d, slot %d, attempted %llu, reached %llu,%s%s%s stream %d, "
                        "heard from %llu ms ago (%zu bytes left), post %d, from %s\n",
                        e->name, e->is_told ? "told of" : "not told; last of", (unsigned long long)e->told.record.epoch,
                        e->told.open ? (int)e->told.operation.phase : -1, e->told.voted, e->slot,
                        (unsigned long long)e->journal.attempted, (unsigned long long)e->journal.reached,
                        e->leaving ? " leaving," : "", e->stepping ? " stepping," : "", e->held ? " holding," : "",
                        e->stream.state, (unsigned long long)(now_monotonic() - e->stream.heard) / 1000, e->stream.in.size,
                        e->post.state, inet_ntoa(e->stream.from));
        }
}

static int on_word(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        char text[256];
        ssize_t n = read(fd, text, sizeof(text) - 1);

        if (n <= 0) {
                sd_event_exit(of.s.net.event, 0);
                return 0;
        }
        text[n] = '\0';
        if (startswith(text, "connect"))
                for (size_t i = 0; i < of.s.n; i++)
                        engine_start(&of.s.engines[i], i * USEC_PER_SEC / STARTS_A_SECOND);
        if (startswith(text, "report"))
                report();
        if (startswith(text, "laggards"))
                show_laggards();
        return 0;
}

static int parse_options(int argc, char **argv, struct options *o)
{
        static const struct option names[] = { { "engines", 1, NULL, 'n' },   { "home", 1, NULL, 'h' },
                                               { "address", 1, NULL, 'a' },   { "port", 1, NULL, 'p' },
                                               { "seed", 1, NULL, 's' },      { "offset-ms", 1, NULL, 'o' },
                                               { "drift-ppm", 1, NULL, 'd' }, { "delay-ms", 1, NULL, 'l' },
                                               { "jitter-ms", 1, NULL, 'j' }, { "spike-ms", 1, NULL, 'k' },
                                               { "boot-ms", 1, NULL, 'b' },   {} };
        const struct {
                int name;
                unsigned *value;
        } numbers[] = { { 'n', &o->engines },   { 'p', &o->port },      { 's', &o->seed },
                        { 'o', &o->offset_ms }, { 'd', &o->drift_ppm }, { 'l', &o->delay_ms },
                        { 'j', &o->jitter_ms }, { 'k', &o->spike_ms },  { 'b', &o->boot_ms } };
        int c;

        while ((c = getopt_long(argc, argv, "", names, NULL)) >= 0) {
                uint32_t n;

                if (c == 'h')
                        o->home = optarg;
                if (c == 'a')
                        o->address = optarg;
                for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
                        if (numbers[i].name == c && parse_u32(optarg, &n) >= 0)
                                *numbers[i].value = n;
        }
        return o->home && o->port && o->engines ? 0 : -EINVAL;
}

int main(int argc, char **argv)
{
        struct options o = { .seed = 1,
                             .offset_ms = 500,
                             .drift_ppm = 100,
                             .delay_ms = 10,
                             .jitter_ms = 2,
                             .spike_ms = 200,
                             .boot_ms = 1000,
                             .address = "127.0.0.1" };
        _cleanup_error_ struct error why = {};
        struct rlimit files;
        int r = parse_options(argc, argv, &o);

        if (r < 0) {
                fprintf(stderr,
                        "usage: simulator --engines N --home DIRECTORY --port PORT [--address A] [--seed N]\n"
                        "                 [--offset-ms N] [--drift-ppm N] [--delay-ms N] [--jitter-ms N] [--spike-ms N]\n");
                return 2;
        }
        signal(SIGPIPE, SIG_IGN);
        getrlimit(RLIMIT_NOFILE, &files);
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
        of.s = (struct simulation){ .began = now_realtime(),
                                    .jitter = o.jitter_ms * USEC_PER_MSEC,
                                    .spike = o.spike_ms * USEC_PER_MSEC,
                                    .boot = o.boot_ms * USEC_PER_MSEC,
                                    .changed = on_changed };
        r = sd_event_default(&of.s.net.event);
        if (r >= 0)
                r = make_net(&o);
        if (r >= 0)
                r = make_engines(&o, &why);
        if (r >= 0)
                r = sd_event_add_io(of.s.net.event, NULL, STDIN_FILENO, EPOLLIN, on_word, NULL);
        if (r < 0) {
                log_error("%s", why.message ?: error_text(r));
                return 1;
        }
        say("ready");
        r = sd_event_loop(of.s.net.event);
        for (size_t i = 0; i < of.s.n; i++)
                engine_done(&of.s.engines[i]);
        return r < 0;
}
