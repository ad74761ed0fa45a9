/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/http_peer.h"

#include <netinet/in.h>

#include "base/buf.h"
#include "base/clock.h"

#define ADDRESSES_MAX 4096 /* that are remembered without a connection */
#define FULL          ((uint64_t)PEER_BURST * USEC_PER_SEC)

struct http_peer {
        struct http_peer *next;
        uint8_t address[16];
        unsigned n, n_known; /* connections */
        uint64_t share;      /* of requests, in µs * requests a second: at most FULL */
        uint64_t last;       /* when it was that */
};

/* An IPv6 network of 64 bits is one address: who has one has all of them. */
static void address_key(const struct sockaddr *address, uint8_t key[static 16])
{
        memset(key, 0, 16);
        if (address->sa_family == AF_INET)
                memcpy(key + 12, &((const struct sockaddr_in *)address)->sin_addr, 4);
        if (address->sa_family != AF_INET6)
                return;
        memcpy(key, &((const struct sockaddr_in6 *)address)->sin6_addr, 16);
        if (IN6_IS_ADDR_V4MAPPED(&((const struct sockaddr_in6 *)address)->sin6_addr))
                memset(key, 0, 12);
        else
                memset(key + 8, 0, 8);
}

static void refill(struct http_peer *peer, uint64_t now)
{
        peer->share = MIN(FULL, peer->share + (now - peer->last) * PEER_RATE);
        peer->last = now;
}

/* Whoever has used up its share and goes is remembered until it has it again: coming back is no way to get more. */
static void forget_addresses(struct http_peers *p, uint64_t now, bool all)
{
        for (size_t i = 0; i < PEER_BUCKETS; i++)
                for (struct http_peer **at = &p->buckets[i]; *at;) {
                        struct http_peer *peer = *at;

                        refill(peer, now);
                        if (peer->n > 0 || (!all && peer->share < FULL)) {
                                at = &peer->next;
                                continue;
                        }
                        *at = peer->next;
                        free(peer);
                        p->n_addresses--;
                }
}

static struct http_peer *find_peer(struct http_peers *p, const struct sockaddr *address, uint64_t now)
{
        struct http_peer *peer, **bucket;
        uint8_t key[16];

        address_key(address, key);
        bucket = &p->buckets[crc32c(0, key, sizeof(key)) % PEER_BUCKETS];
        for (peer = *bucket; peer; peer = peer->next)
                if (memcmp(peer->address, key, sizeof(key)) == 0)
                        return peer;
        if (p->n_addresses - p->n_connected >= ADDRESSES_MAX)
                forget_addresses(p, now, true);
        peer = calloc(1, sizeof(*peer));
        if (!peer)
                return NULL;
        *peer = (struct http_peer){ .next = *bucket, .share = FULL, .last = now };
        memcpy(peer->address, key, sizeof(key));
        *bucket = peer;
        p->n_addresses++;
        return peer;
}

static void end(struct http_connection *c)
{
        c->ended = true;
        shutdown(c->fd, SHUT_RDWR);
}

static unsigned n_unknown(const struct http_peer *peer)
{
        return peer->n - peer->n_known;
}

/* The address that has most. NULL: none has any. */
static const struct http_peer *most_unknown(const struct http_peers *p)
{
        const struct http_peer *peer = NULL;

        for (const struct http_connection *c = p->unknown.oldest; c; c = c->newer)
                if (!c->ended && (!peer || n_unknown(c->peer) > n_unknown(peer)))
                        peer = c->peer;
        return peer;
}

static bool is_young(const struct http_connection *c, uint64_t now)
{
        return c->deadline > now + (PEER_PATIENCE_SEC - PEER_YOUNG_SEC) * USEC_PER_SEC;
}

/* The oldest of an address. false: there is none that may go. */
static bool evict(struct http_peers *p, const struct http_peer *peer, uint64_t now, bool young_too)
{
        for (struct http_connection *c = p->unknown.oldest; peer && c; c = c->newer)
                if (c->peer == peer && !c->ended) {
                        if (!young_too && is_young(c, now))
                                return false;
                        end(c);
                        p->evicted++;
                        return true;
                }
        return false;
}

/* Before one more of `peer` is there. false: there is no room for it. */
static bool make_room(struct http_peers *p, const struct http_peer *peer, uint64_t now)
{
        unsigned wanted = MIN(p->max, (unsigned)PEER_UNKNOWN_MAX), most = MIN(p->max, (unsigned)PEER_CROWD_MAX);
        unsigned strangers = p->n - p->n_known;
        bool room = true;

        if (n_unknown(peer) >= most / 2)
                room = evict(p, peer, now, true);
        else if (n_unknown(peer) >= wanted / 2)
                evict(p, peer, now, false);
        if (p->n >= p->max || strangers >= most)
                return evict(p, most_unknown(p), now, true) && room;
        if (strangers >= wanted)
                evict(p, most_unknown(p), now, false);
        return room;
}

static void append(struct http_connections *list, struct http_connection *c)
{
        c->older = list->newest;
        c->newer = NULL;
        *(list->newest ? &list->newest->newer : &list->oldest) = c;
        list->newest = c;
}

static void take_out(struct http_connections *list, struct http_connection *c)
{
        *(c->older ? &c->older->newer : &list->oldest) = c->newer;
        *(c->newer ? &c->newer->older : &list->newest) = c->older;
}

struct http_connection *http_peers_add(struct http_peers *p, int fd, const struct sockaddr *address, uint64_t now)
{
        struct http_peer *peer = find_peer(p, address, now);
        struct http_connection *c = peer ? calloc(1, sizeof(*c)) : NULL;
        if (!c)
                return NULL;
        *c = (struct http_connection){ .peer = peer, .fd = fd, .deadline = now + PEER_PATIENCE_SEC * USEC_PER_SEC };
        if (!make_room(p, peer, now)) {
                end(c);
                p->refused++;
        }
        append(&p->unknown, c);
        p->n++;
        p->n_connected += peer->n++ == 0;
        return c;
}

void http_peers_remove(struct http_peers *p, struct http_connection *c)
{
        take_out(c->known ? &p->known : &p->unknown, c);
        p->n--;
        p->n_known -= c->known;
        p->n_connected -= --c->peer->n == 0;
        c->peer->n_known -= c->known;
        free(c);
}

void http_peers_know(struct http_peers *p, struct http_connection *c)
{
        c->deadline = UINT64_MAX;
        if (TAKE(c->known, true))
                return;
        take_out(&p->unknown, c);
        append(&p->known, c);
        p->n_known++;
        c->peer->n_known++;
}

bool http_peers_take(struct http_peers *p, struct http_connection *c, uint64_t now)
{
        refill(c->peer, now);
        if (c->peer->share < USEC_PER_SEC) {
                p->too_many++;
                return false;
        }
        c->peer->share -= USEC_PER_SEC;
        return true;
}

void http_peers_give(struct http_connection *c)
{
        c->peer->share = MIN(FULL, c->peer->share + USEC_PER_SEC);
}

static void end_late(struct http_peers *p, const struct http_connections *list, uint64_t now)
{
        for (struct http_connection *c = list->oldest; c; c = c->newer)
                if (c->deadline <= now && !c->ended) {
                        end(c);
                        p->late++;
                }
}

void http_peers_sweep(struct http_peers *p, uint64_t now)
{
        end_late(p, &p->unknown, now);
        end_late(p, &p->known, now);
        forget_addresses(p, now, false);
}

void http_peers_done(struct http_peers *p)
{
        forget_addresses(p, 0, true);
}
