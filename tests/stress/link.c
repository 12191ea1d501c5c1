/*
 * Two threads move a seeded pattern over the two ends of a real link, in
 * pieces of random length, and sleep on their doorbells as docs/handover.md,
 * section 9, says: arm, fence, look once more, sleep. A sleep of ten seconds
 * is a wake-up that was lost.
 *
 *     link          48 MB in all, both ways at once
 *     link long     1 GB
 */
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport/backend/shm.h"
#include "transport/bell.h"
#include "transport/loop.h"
#include "transport/pause.h"

enum {
    PIECE_MOST = 16384,
    PATTERN_PERIOD = 65521,
    WAITER = 3,
    LOST_MS = 10000
};

/* One process, as far as the transport is concerned. */
struct end {
    const char *name;
    struct loop *loop;
    struct backend *shm;
    struct meeting meeting;
    struct link *link;
    int bell, ringer;
    uint64_t token, seed;
    uint64_t last; /* offset behind the last byte, each way */
    bool by_turns; /* a question, an answer: nothing hides a lost wake-up */
    unsigned lead; /* bytes: how far we may then be ahead of the other */
    uint64_t wrote, freed, took, landed;
    uint64_t sleeps;
    bool failed;
};

static uint8_t pattern[PATTERN_PERIOD + PIECE_MOST];

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static size_t random_length(uint64_t *state, uint64_t most)
{
    uint64_t len =
        1 + (next_random(state) >> 20) % (1ull << next_random(state) % 15);

    return (size_t)(len < most ? len : most);
}

/* ---- meeting ---- */

static int keep(int fd)
{
    return fd;
}

static void give_back(int fd)
{
    close(fd);
}

static bool never(void *arg)
{
    (void)arg;
    return false;
}

static void on_message(void *owner, const struct control_message *message)
{
    (void)owner;
    (void)message;
}

static void on_death(void *owner)
{
    (void)owner;
}

static bool counts(void *owner, uint64_t *wrote, uint64_t *took)
{
    (void)owner;
    *wrote = *took = 0;
    return true;
}

static void on_done(struct meeting *meeting, struct link *link, enum reason why)
{
    struct end *e = meeting->owner;

    e->link = link;
    if (link == NULL)
        fprintf(stderr, "%s did not meet the other end: %s\n", e->name,
                reason_token(why));
}

static bool end_open(struct end *e, bool initiator, uint32_t ring_size)
{
    static const struct loop_calls calls = {keep, give_back};
    static const struct link_events events = {.message = on_message,
                                              .channel_dead = on_death};
    uint32_t pid = (uint32_t)getpid();
    struct backend_config config = {
        .max_memory = 1 << 30, .max_links = 16, .meet_ns = 2000000000};

    e->token = (uint64_t)(initiator + 1) << 48 | pid;
    e->ringer = bell_ringer_open();
    e->bell = bell_open(e->token, WAITER);
    config.bell_token = e->token;
    config.ringer = e->ringer;
    if (e->ringer < 0 || e->bell < 0 || loop_create(&calls, &e->loop) < 0 ||
        fastsock_backend_shm.create(e->loop, &config, &events, &e->shm) < 0) {
        fputs("no descriptors or memory for the test: free some\n", stderr);
        return false;
    }
    e->meeting = (struct meeting){
        .name = {.family = 4,
                 .server = {127, pid >> 16 & 255, pid >> 8 & 255, pid & 255},
                 .client = {127, 0, 0, 2},
                 .server_port = 9,
                 .client_port = 9},
        .initiator = initiator,
        .ring_size = ring_size,
        .owner = e,
        .counts = counts,
        .done = on_done,
    };
    fastsock_backend_shm.meeting_start(e->shm, &e->meeting);
    return true;
}

static void end_close(struct end *e)
{
    if (e->link != NULL)
        e->link->ops->free(e->link);
    fastsock_backend_shm.destroy(e->shm);
    loop_destroy(e->loop);
    close(e->bell);
    close(e->ringer);
}

static bool meet(struct end *a, struct end *b)
{
    uint64_t limit = clock_ns() + 5000000000;

    while ((a->link == NULL || b->link == NULL) && clock_ns() < limit) {
        loop_turn(a->loop, never, NULL);
        loop_turn(b->loop, never, NULL);
    }
    return a->link != NULL && b->link != NULL;
}

/* ---- moving bytes ---- */

static bool fail(struct end *e, const char *what)
{
    fprintf(stderr,
            "%s: %s (wrote %llu freed %llu took %llu landed %llu of %llu)\n",
            e->name, what, (unsigned long long)e->wrote,
            (unsigned long long)e->freed, (unsigned long long)e->took,
            (unsigned long long)e->landed, (unsigned long long)e->last);
    e->failed = true;
    return false;
}

/* How far we may write now. */
static uint64_t goal(const struct end *e)
{
    uint64_t turn = e->took + e->lead;

    return e->by_turns && turn < e->last ? turn : e->last;
}

/* A third of the ring, or what is left to write. */
static bool room_enough(const struct end *e)
{
    uint64_t room = e->freed + e->link->tx.size - e->wrote;

    return room >= e->link->tx.size / 3 || room >= goal(e) - e->wrote;
}

static bool look(struct end *e)
{
    const struct transport_ops *ops = e->link->ops;

    if (ops->freed(e->link, e->freed, e->wrote, &e->freed) < 0)
        return fail(e, "release out of bounds");
    if (ops->landed(e->link, e->took, e->landed, &e->landed) < 0)
        return fail(e, "commit out of bounds");
    return true;
}

static bool has_work(const struct end *e)
{
    return e->landed > e->took || (e->wrote < goal(e) && room_enough(e));
}

static bool finished(const struct end *e)
{
    return e->wrote == e->last && e->took == e->last;
}

static bool write_some(struct end *e)
{
    uint64_t room = e->freed + e->link->tx.size - e->wrote;
    size_t len;

    if (room > goal(e) - e->wrote)
        room = goal(e) - e->wrote;
    if (room == 0)
        return true;
    len = random_length(&e->seed, room);
    ring_put(&e->link->tx, e->wrote, pattern + e->wrote % PATTERN_PERIOD, len);
    e->wrote += len;
    e->link->ops->commit(e->link, e->wrote);
    return true;
}

static bool read_some(struct end *e)
{
    uint8_t piece[PIECE_MOST];
    size_t len;

    if (e->landed == e->took)
        return true;
    len = random_length(&e->seed, e->landed - e->took);
    ring_get(&e->link->rx, e->took, piece, len);
    if (memcmp(piece, pattern + e->took % PATTERN_PERIOD, len) != 0)
        return fail(e, "wrong bytes");
    e->took += len;
    e->link->ops->release(e->link, e->took);
    return true;
}

/* Arm, fence, look once more, sleep; never drain in between. */
static bool sleep_until_rung(struct end *e)
{
    const struct transport_ops *ops = e->link->ops;
    struct pollfd p = {.fd = e->bell, .events = POLLIN};
    int n = 1;

    if (e->wrote < goal(e))
        ops->want_room(e->link);
    ops->peer_arm(e->link->peer, WAITER, true);
    full_fence();
    if (!look(e))
        return false;
    if (!has_work(e)) {
        e->sleeps++;
        n = poll(&p, 1, LOST_MS);
    }
    ops->peer_arm(e->link->peer, WAITER, false);
    if (n == 0)
        return fail(e, "a wake-up was lost");
    bell_drain(e->bell);
    return true;
}

static void *move(void *arg)
{
    struct end *e = arg;

    while (!finished(e)) {
        bool ok = look(e);

        if (ok && !has_work(e))
            ok = sleep_until_rung(e);
        else if (ok)
            ok = (next_random(&e->seed) & 1024 ? write_some(e) : read_some(e));
        if (!ok)
            break;
    }
    return NULL;
}

static int run(uint32_t ring_size, uint64_t first, uint64_t len, bool by_turns,
               uint64_t *sleeps)
{
    struct end a = {.name = "initiator", .seed = 88172645463325252},
               b = {.name = "acceptor", .seed = 6364136223846793005};
    pthread_t thread;
    int rc = -1;

    a.wrote = a.freed = a.took = a.landed = first;
    b.wrote = b.freed = b.took = b.landed = first;
    a.last = b.last = first + len;
    a.by_turns = b.by_turns = by_turns;
    a.lead = 8; /* the other one only answers */
    if (!end_open(&b, false, ring_size) || !end_open(&a, true, ring_size))
        return -1;
    if (!meet(&a, &b))
        goto close_ends;
    a.link->ops->start(a.link, 1, first, first);
    b.link->ops->start(b.link, 1, first, first);
    a.link->ops->watch(a.link, WAITER);
    b.link->ops->watch(b.link, WAITER);
    if (pthread_create(&thread, NULL, move, &a) != 0) {
        fputs("no thread for the test: free some memory\n", stderr);
        goto close_ends;
    }
    move(&b);
    pthread_join(thread, NULL);
    *sleeps += a.sleeps + b.sleeps;
    rc = a.failed || b.failed ? -1 : 0;

close_ends:
    end_close(&a);
    end_close(&b);
    return rc;
}

int main(int argc, char **argv)
{
    static const struct {
        uint32_t size;
        uint64_t first;
        unsigned kb;
        bool by_turns;
    } runs[] = {
        {4096, 0, 4000, false},
        {16384, (1ull << 32) - 1000000, 8000, false},
        {1 << 18, (1ull << 40) + 13, 12000, false},
        {4096, 77, 300, true},
    };
    unsigned times = argc > 1 && strcmp(argv[1], "long") == 0 ? 21 : 1;
    uint64_t state = 1442695040888963407, sleeps = 0;
    int failed = 0;

    for (size_t i = 0; i < sizeof(pattern); i++)
        pattern[i] = i < PATTERN_PERIOD ? (uint8_t)next_random(&state)
                                        : pattern[i - PATTERN_PERIOD];
    for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++)
        failed |=
            run(runs[i].size, runs[i].first,
                (uint64_t)runs[i].kb * 1000 * times, runs[i].by_turns, &sleeps);
    if (!failed)
        printf("%u MB both ways over links, %llu sleeps\n", 48 * times,
               (unsigned long long)sleeps);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
