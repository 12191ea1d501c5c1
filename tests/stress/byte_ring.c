/*
 * Two threads move a pattern through rings of several sizes, in pieces of
 * random length, plain and as vectors; every byte is compared. The rings
 * stretch where they may and go back when they are empty. Built with the thread
 * sanitizer, it shows that commit and release order all that they must.
 *
 *     byte_ring          100 MB in all
 *     byte_ring long     1.5 GB
 */
#include "transport/byte_ring.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    PIECE_MOST = 65536,
    PATTERN_PERIOD = 65521,
    SECONDS_MOST = 240,
    STRETCHES = 2
};

static const uint32_t times_its_size[STRETCHES + 1] = {1, 8, 32};

/* One direction; each side keeps its own offsets. */
struct run {
    struct ring_words words;
    struct byte_ring ring, rx; /* of the sender, and as the receiver sees it */
    unsigned so_often;         /* the sender's has stretched */
    unsigned stretched, twice, went_back; /* times */
    const uint8_t *pattern; /* byte at off is pattern[off % PATTERN_PERIOD] */
    uint64_t first, last;   /* offsets of the first byte and behind the last */
    time_t deadline;
    atomic_bool failed;
};

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Mostly short, some long: at most the room, at most a piece. */
static size_t random_length(uint64_t *state, uint64_t room)
{
    uint64_t most = 1ull << next_random(state) % 17;
    size_t len = 1 + (size_t)(next_random(state) >> 20) % most;

    return len < room ? len : (size_t)room;
}

/* Lets the other thread run; false when it must have died. */
static bool wait_a_turn(struct run *r, unsigned *turns)
{
    if (atomic_load_explicit(&r->failed, memory_order_relaxed))
        return false;
    if (++*turns % 16 == 0)
        sched_yield();
    if (*turns % 65536 == 0 && time(NULL) > r->deadline) {
        fprintf(stderr, "ring of %u: no progress in time\n", r->ring.size);
        return false;
    }
    return true;
}

static uint64_t next_place(const struct run *r, uint64_t from)
{
    unsigned to = r->so_often < STRETCHES ? r->so_often + 1 : STRETCHES;

    return ring_stretches_at(from, r->ring.size,
                             r->ring.size * times_its_size[to]);
}

static void set_stretched(struct run *r, unsigned so_often)
{
    r->so_often = so_often;
    ring_set_span(&r->ring, r->ring.size * times_its_size[so_often]);
    atomic_store_explicit(&r->words.stretched, so_often, memory_order_relaxed);
}

/* Whether it stretches is left to chance, and so is when it goes back. */
static void choose_span(struct run *r, uint64_t *state, uint64_t wrote,
                        uint64_t freed, uint64_t *stretch_at)
{
    if (wrote == *stretch_at) {
        if (r->so_often < STRETCHES && next_random(state) & 64) {
            set_stretched(r, r->so_often + 1);
            r->stretched++;
            r->twice += r->so_often == STRETCHES;
        }
        *stretch_at = next_place(r, wrote + 1);
    } else if (r->so_often != 0 && freed == wrote &&
               next_random(state) % 16 == 0) {
        set_stretched(r, 0);
        r->went_back++;
        *stretch_at = next_place(r, wrote + 1);
    }
}

static void *send_all(void *arg)
{
    struct run *r = arg;
    uint64_t state = 88172645463325252, wrote = r->first, freed = wrote;
    uint64_t stretch_at = next_place(r, wrote);
    unsigned turns = 0;

    while (wrote < r->last) {
        uint64_t room = freed + r->ring.size - wrote;
        const uint8_t *from = r->pattern + wrote % PATTERN_PERIOD;
        size_t len;

        if (room > r->last - wrote)
            room = r->last - wrote;
        choose_span(r, &state, wrote, freed, &stretch_at);
        if (room > stretch_at - wrote)
            room = stretch_at - wrote;
        len = random_length(&state, room);
        if (len > 0 && next_random(&state) & 4096) {
            struct iovec iov[2] = {{(void *)from, len / 3},
                                   {(void *)(from + len / 3), len - len / 3}};

            ring_put_iov(&r->ring, wrote, iov, 2, 0, len);
        } else if (len > 0) {
            ring_put(&r->ring, wrote, from, len);
        }
        wrote += len;
        atomic_store_explicit(&r->words.commit, wrote, memory_order_release);
        if (ring_freed(&r->words, freed, wrote, &freed) < 0) {
            fprintf(stderr, "ring of %u: release out of bounds\n",
                    r->ring.size);
            goto fail;
        }
        if (len == 0 && !wait_a_turn(r, &turns))
            goto fail;
    }
    return NULL;

fail:
    atomic_store(&r->failed, true);
    return NULL;
}

/* Takes len bytes at off into piece; are they the right ones? */
static bool take(struct run *r, uint64_t off, uint8_t *piece, size_t len,
                 bool as_vector)
{
    struct iovec iov[2] = {{piece, len / 2}, {piece + len / 2, len - len / 2}};

    if (as_vector)
        ring_get_iov(&r->rx, off, iov, 2, 0, len);
    else
        ring_get(&r->rx, off, piece, len);
    return memcmp(piece, r->pattern + off % PATTERN_PERIOD, len) == 0;
}

static void *receive_all(void *arg)
{
    struct run *r = arg;
    uint64_t state = 6364136223846793005, took = r->first, landed = took;
    uint8_t *piece = malloc(PIECE_MOST);
    unsigned turns = 0;

    if (!piece)
        goto fail;
    while (took < r->last) {
        size_t len;

        if (ring_landed(&r->words, took, landed, r->ring.size, &landed) < 0) {
            fprintf(stderr, "ring of %u: commit out of bounds\n", r->ring.size);
            goto fail;
        }
        r->rx.span = r->rx.size *
                     times_its_size[atomic_load_explicit(&r->words.stretched,
                                                         memory_order_relaxed)];
        len = random_length(&state, landed - took);
        if (len == 0) {
            if (!wait_a_turn(r, &turns))
                goto fail;
            continue;
        }
        if (!take(r, took, piece, len, next_random(&state) & 4096)) {
            fprintf(stderr, "ring of %u: wrong bytes in %zu at %llu\n",
                    r->ring.size, len, (unsigned long long)took);
            goto fail;
        }
        took += len;
        atomic_store_explicit(&r->words.release, took, memory_order_release);
    }
    free(piece);
    return NULL;

fail:
    atomic_store(&r->failed, true);
    free(piece);
    return NULL;
}

/* 0 when every byte arrived. */
static int run_size(const uint8_t *pattern, uint32_t size, uint64_t first,
                    uint64_t len, unsigned *stretched, unsigned *twice,
                    unsigned *went_back)
{
    struct run r = {
        .words = {.commit = first, .release = first},
        .ring = {malloc(times_its_size[STRETCHES] * (size_t)size), size, size},
        .pattern = pattern,
        .first = first,
        .last = first + len,
        .deadline = time(NULL) + SECONDS_MOST,
    };
    pthread_t sender;

    r.rx = r.ring;
    if (!r.ring.bytes || pthread_create(&sender, NULL, send_all, &r) != 0) {
        fputs("no memory or thread for the test: free some\n", stderr);
        exit(2);
    }
    receive_all(&r);
    pthread_join(sender, NULL);
    free(r.ring.bytes);
    *stretched += r.stretched;
    *twice += r.twice;
    *went_back += r.went_back;
    return atomic_load(&r.failed) ? -1 : 0;
}

int main(int argc, char **argv)
{
    static const struct {
        uint32_t size;
        uint64_t first;
        unsigned mb;
    } runs[] = {
        {64, 0, 2},
        {4096, (1ull << 32) - 1000000, 18},
        {65536, (1ull << 40) + 13, 40},
        {1 << 20, (uint64_t)INT64_MAX - (4ull << 30), 40},
    };
    static uint8_t pattern[PATTERN_PERIOD + PIECE_MOST];
    unsigned times = argc > 1 && strcmp(argv[1], "long") == 0 ? 15 : 1;
    uint64_t state = 1442695040888963407;
    unsigned stretched = 0, twice = 0, went_back = 0;
    int failed = 0;

    for (size_t i = 0; i < sizeof(pattern); i++)
        pattern[i] = i < PATTERN_PERIOD ? (uint8_t)next_random(&state)
                                        : pattern[i - PATTERN_PERIOD];
    for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++)
        failed |= run_size(pattern, runs[i].size, runs[i].first,
                           (uint64_t)runs[i].mb * 1000000 * times, &stretched,
                           &twice, &went_back);
    if (!failed)
        printf("%u MB through rings of 64 bytes to 1 MiB, %u times stretched, "
               "%u times back\n",
               100 * times, stretched, went_back);
    failed |= twice == 0 || went_back == 0;
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
