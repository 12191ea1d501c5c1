/*
 * The limit: two pinned threads pass one cache line to and fro, spinning.
 * Each line carries 56 bytes of payload and a sequence number; the number is
 * stored last, with release, and awaited with acquire. Nothing that moves 64
 * bytes there and back between these two processors is faster.
 */
#include <getopt.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/support/histogram.h"
#include "bench/support/program.h"

enum { PAYLOAD = 56 };

struct line {
    alignas(128) char payload[PAYLOAD]; /* apart: neighbours are prefetched */
    _Atomic uint64_t sequence;
};

struct game {
    struct line ping; /* written by main */
    struct line pong; /* written by the echo thread */
    alignas(128) atomic_bool over;
    int echo_cpu;
};

static inline void pause_spin(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void put(struct line *line, const char *payload, uint64_t sequence)
{
    memcpy(line->payload, payload, PAYLOAD);
    atomic_store_explicit(&line->sequence, sequence, memory_order_release);
}

/* Spins until the line carries sequence; false when the game is over. */
static bool await(struct game *g, struct line *line, char *payload,
                  uint64_t sequence)
{
    unsigned looks = 0;

    while (atomic_load_explicit(&line->sequence, memory_order_acquire) !=
           sequence) {
        if (++looks % 1024 == 0 &&
            atomic_load_explicit(&g->over, memory_order_relaxed))
            return false;
        pause_spin();
    }
    memcpy(payload, line->payload, PAYLOAD);
    return true;
}

static void *echo(void *arg)
{
    struct game *g = arg;
    char payload[PAYLOAD];

    program_pin(g->echo_cpu);
    for (uint64_t n = 1; await(g, &g->ping, payload, n); n++)
        put(&g->pong, payload, n);
    return NULL;
}

static void play(struct game *g, struct histogram *h, double seconds)
{
    char sent[PAYLOAD] = "as long as what is measured, to be copied";
    char got[PAYLOAD];
    uint64_t now = program_now_ns();
    uint64_t warm = now + (uint64_t)(seconds * 0.2e9);
    uint64_t end = now + (uint64_t)(seconds * 1e9);
    bool measuring = false;

    for (uint64_t n = 1; now < end; n++) {
        uint64_t before = now;

        put(&g->ping, sent, n);
        await(g, &g->pong, got, n);
        now = program_now_ns();
        if (memcmp(sent, got, PAYLOAD) != 0)
            program_die("a cache line came back changed");
        if (!measuring && now > warm) {
            measuring = true;
            histogram_clear(h);
        } else {
            histogram_add(h, now - before, 1);
        }
        sent[n % PAYLOAD]++;
    }
    atomic_store(&g->over, true);
}

int main(int argc, char **argv)
{
    static struct game game;
    static struct histogram latency;
    int option, cpus[2] = {1, 2};
    double seconds = 0.3;
    bool json = false;
    pthread_t thread;

    while ((option = getopt(argc, argv, "S:C:s:j")) >= 0) {
        if (option == 'S' || option == 'C')
            cpus[option == 'C'] =
                (int)program_number((char)option, optarg, 0, 1023);
        else if (option == 's')
            seconds = program_seconds('s', optarg, 0.05, 60);
        else if (option == 'j')
            json = true;
        else
            program_die("usage: ring [-S cpu] [-C cpu] [-s seconds] [-j]");
    }
    if (cpus[0] == cpus[1])
        program_die("two spinning threads need two CPUs: -S and -C are both "
                    "%d",
                    cpus[0]);
    game.echo_cpu = cpus[0];
    program_pin(cpus[1]);
    if (pthread_create(&thread, NULL, echo, &game) != 0)
        program_die("cannot start a thread");
    play(&game, &latency, seconds);
    pthread_join(thread, NULL);
    if (latency.n == 0)
        program_die("measured nothing: longer (-s)");
    const struct figure figures[] = {
        {"round_trips", (double)latency.n},
        {"p50_ns", histogram_quantile(&latency, 0.5)},
        {"p99_ns", histogram_quantile(&latency, 0.99)},
        {"max_ns", (double)latency.max},
    };
    program_print(figures, 4, json);
    return 0;
}
