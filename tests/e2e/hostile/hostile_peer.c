/*
 * usage: hostile_peer PORT SEED ATTACK
 *
 * A client that speaks the rendezvous by itself, so that it can break every
 * rule of it: "honest" shows that it can also keep them, "normal" is a client
 * that knows nothing of it. Exit 0 when the attack could be made; what became
 * of the server is for others to see.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/e2e/hostile/rendezvous.h"
#include "tests/e2e/support/plain.h"
#include "transport/bell.h"

static void propose(struct control_message *answer)
{
    struct control_message m = {.type = MESSAGE_PROPOSE,
                                .epoch = 1,
                                .link = p.link,
                                .stream = 1,
                                .tag = p.tag_in = next_random(&p.chance)};
    int fd;

    do {
        say(&m, NULL, -1);
        if (!hear(answer, NULL, &fd))
            die("no answer to PROPOSE");
        m.epoch++;
    } while (answer->type != MESSAGE_ACCEPT && m.epoch < 100);
    if (answer->type != MESSAGE_ACCEPT)
        die("never accepted");
    p.tag_out = answer->tag;
}

static void record(uint8_t type, uint32_t epoch, uint32_t sequence,
                   uint64_t offset, uint64_t count)
{
    struct control_record r = {.tag = p.tag_out,
                               .type = type,
                               .epoch = epoch,
                               .sequence = sequence,
                               .offset = offset,
                               .count = count};
    uint8_t bytes[RECORD_SIZE];

    record_encode(&r, bytes);
    send(p.tcp, bytes, sizeof(bytes), MSG_NOSIGNAL);
}

/* On the link, ready to write; returns the epoch. */
static uint32_t go_up(void)
{
    struct control_message accept;
    uint8_t theirs[RECORD_SIZE];

    meet();
    propose(&accept);
    atomic_store(&p.words->direction[1].commit, 0);
    atomic_store(&p.words->direction[0].release, 0);
    atomic_store(&p.words->side[1].watchers, 1);
    record(RECORD_SWITCH, accept.epoch, 0, 0, 0);
    if (recv(p.tcp, theirs, sizeof(theirs), MSG_WAITALL) != sizeof(theirs))
        die("no SWITCH came back");
    return accept.epoch;
}

static void ring_all(void)
{
    int ringer = bell_ringer_open();

    for (unsigned id = 1; id < 8; id++)
        bell_ring(ringer, p.bell, id);
    close(ringer);
}

static void commit(uint64_t upto)
{
    atomic_store(&p.words->direction[1].commit, upto);
    ring_all();
}

/* ---- attacks ---- */

static void honest(void)
{
    uint64_t until = now_ms() + 3000;

    go_up();
    memcpy(p.out_ring, "hello", 5);
    commit(5);
    while (atomic_load(&p.words->direction[0].commit) < 5) {
        if (now_ms() > until)
            die("no echo over the link");
        usleep(200);
    }
    if (memcmp(p.in_ring, "hello", 5) != 0)
        die("the echo is wrong");
}

static void scribble(void)
{
    uint64_t *words = (uint64_t *)p.arena, until;
    size_t n = sizeof(struct shm_header) + 2 * shm_waiters_size();
    size_t link = (size_t)((uint8_t *)p.words - p.arena);

    go_up();
    link = (size_t)((uint8_t *)p.words - p.arena);
    words = (uint64_t *)p.arena;
    until = now_ms() + 150;
    while (now_ms() < until) {
        uint64_t v = next_random(&p.chance);

        v = random_below(&p.chance, 3) == 0 ? v % 70000 : v;
        words[random_below(&p.chance, n / 8)] = v;
        words[(link + random_below(&p.chance, 512)) / 8] = v;
        if (random_below(&p.chance, 64) == 0)
            ring_all();
    }
}

static void bound(void)
{
    bool in = random_below(&p.chance, 2);
    uint64_t v = next_random(&p.chance);

    go_up();
    commit(random_below(&p.chance, 100));
    v = random_below(&p.chance, 2) ? v : p.ring_size + 1 + v % 10;
    if (in)
        commit(v);
    else
        atomic_store(&p.words->direction[0].release, v);
    ring_all();
    sleep_ms(10);
    commit(1);
    sleep_ms(10);
}

/* A ring that stretches where it must not, and to what there is not. */
static void stretches(void)
{
    uint64_t until = now_ms() + 150, upto = 0;

    go_up();
    while (now_ms() < until) {
        uint32_t v = (uint32_t)random_below(&p.chance, 3);
        uint64_t took = atomic_load(&p.words->direction[1].release);

        if (random_below(&p.chance, 10000) == 0)
            v = (uint32_t)next_random(&p.chance);
        atomic_store(&p.words->direction[1].stretched, v);
        upto += random_below(&p.chance, took + p.ring_size - upto + 1);
        commit(upto);
        /* Its answers are taken, so that it goes on reading. */
        atomic_store(&p.words->direction[0].release,
                     atomic_load(&p.words->direction[0].commit));
    }
}

static void bells(void)
{
    uint64_t until = now_ms() + 150;

    go_up();
    while (now_ms() < until)
        ring_all();
}

static void channel_garbage(void)
{
    uint8_t bytes[HELLO_SIZE + 20];
    struct control_message m = {.type = MESSAGE_HELLO, .number = 1};
    size_t len = random_below(&p.chance, sizeof(bytes));

    if (random_below(&p.chance, 2))
        meet();
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)next_random(&p.chance);
    if (random_below(&p.chance, 2)) {
        m.type = (enum message_type)(1 + random_below(&p.chance, 14));
        m.epoch = (uint32_t)next_random(&p.chance);
        m.link = (uint32_t)next_random(&p.chance);
        m.offset = next_random(&p.chance) >> 1;
        m.stream = (uint32_t)random_below(&p.chance, 3);
        message_encode(&m, bytes);
        if (random_below(&p.chance, 2))
            len = MESSAGE_SIZE;
    }
    send(p.channel, bytes, len, MSG_NOSIGNAL);
    sleep_ms(5);
}

/* Messages without end, and nothing is read. */
static void channel_flood(void)
{
    uint64_t until = now_ms() + 150;
    uint32_t epoch = 2;

    go_up();
    while (now_ms() < until) {
        struct control_message m = {.type = random_below(&p.chance, 2)
                                                ? MESSAGE_PROPOSE
                                                : MESSAGE_HELLO,
                                    .epoch = epoch,
                                    .link = p.link,
                                    .stream = 1,
                                    .tag = 5,
                                    .number = epoch};

        epoch++;

        if (m.type == MESSAGE_HELLO)
            hello();
        else
            say(&m, NULL, -1);
    }
}

static void wrong_memory(void)
{
    struct control_message m = {
        .type = MESSAGE_RINGS, .number = 65536, .link = 7u << 16};
    uint64_t kind = random_below(&p.chance, 6);
    int fds[2] = {-1, -1};

    meet();
    if (kind == 0) {
        fds[0] = memfd_create("x", MFD_CLOEXEC);
        (void)!ftruncate(fds[0], (off_t)shm_arena_size(65536));
    } else if (kind == 1) {
        fds[0] = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        (void)!ftruncate(fds[0], 4096);
        fcntl(fds[0], F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    } else if (kind == 2) {
        (void)!pipe2(fds, O_CLOEXEC);
    } else if (kind == 3) {
        fds[0] = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        (void)!ftruncate(fds[0], (off_t)shm_arena_size(65536));
        fcntl(fds[0], F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    } else if (kind == 4) {
        fds[0] = open("/dev/zero", O_RDWR | O_CLOEXEC);
    }
    say(&m, NULL, fds[0]);
    sleep_ms(10);
}

static void bad_records(void)
{
    uint32_t epoch = go_up();
    uint8_t bytes[100];
    uint64_t kind = random_below(&p.chance, 7);

    commit(10);
    if (kind == 0)
        record(RECORD_HAVE, epoch, 1, next_random(&p.chance) >> 2, 0);
    else if (kind == 1)
        record(RECORD_RAW, epoch, 1, random_below(&p.chance, 20), 1000000);
    else if (kind == 2)
        record(RECORD_SWITCH, epoch, 0, 0, 0);
    else if (kind == 3)
        record(RECORD_BELL, epoch + 1, 1, 0, 0);
    else if (kind == 4)
        record(RECORD_END, epoch, 1, random_below(&p.chance, 10), 0);
    else if (kind == 5)
        record(RECORD_BELL, epoch, 5, 0, 0);
    if (kind == 6) {
        for (size_t i = 0; i < sizeof(bytes); i++)
            bytes[i] = (uint8_t)next_random(&p.chance);
        send(p.tcp, bytes, 1 + random_below(&p.chance, 99), MSG_NOSIGNAL);
    }
    sleep_ms(10);
}

/* Stops in the middle of going up: the server may not wait for ever. */
static void goes_silent(void)
{
    struct control_message accept;
    char buf[16] = "";

    meet();
    if (random_below(&p.chance, 2) == 0) {
        propose(&accept);
        if (random_below(&p.chance, 2) == 0)
            record(RECORD_SWITCH, accept.epoch, 0, 0, 0);
    }
    (void)!recv(p.tcp, buf, sizeof(buf), MSG_DONTWAIT);
    sleep_ms(300);
}

/* 0xff and 'A' bytes of a client that knows nothing, echoed. */
static void normal(void)
{
    uint8_t buf[1000], back[1000];

    for (int i = 0; i < 100; i++) {
        pattern_fill(3, (uint64_t)i * 1000, buf, sizeof(buf));
        if (send(p.tcp, buf, sizeof(buf), MSG_NOSIGNAL) != sizeof(buf) ||
            recv(p.tcp, back, sizeof(back), MSG_WAITALL) != sizeof(back) ||
            memcmp(buf, back, sizeof(buf)) != 0)
            die("the echo %d is not right", i);
        if (i == 50)
            sleep_ms(10);
    }
}

static const struct {
    const char *name;
    void (*run)(void);
    bool channel;
} attacks[] = {
    {"honest", honest, true},
    {"scribble", scribble, true},
    {"bound", bound, true},
    {"stretches", stretches, true},
    {"bells", bells, true},
    {"channel_garbage", channel_garbage, true},
    {"channel_flood", channel_flood, true},
    {"wrong_memory", wrong_memory, true},
    {"bad_records", bad_records, true},
    {"goes_silent", goes_silent, true},
    {"callers", callers, false},
    {"huge", huge, true},
    {"no_bye", no_bye, true},
    {"normal", normal, false},
};

int main(int argc, char **argv)
{
    uint16_t port;

    if (argc < 4)
        die("usage: hostile_peer PORT SEED ATTACK");
    time_limit(10);
    port = (uint16_t)atoi(argv[1]);
    p.chance = strtoull(argv[2], NULL, 10);
    p.tcp = tcp_connect("4", port);
    set_name(port);
    for (size_t i = 0; i < sizeof(attacks) / sizeof(attacks[0]); i++) {
        if (strcmp(attacks[i].name, argv[3]) != 0)
            continue;
        if (attacks[i].channel)
            open_channel();
        attacks[i].run();
        return 0;
    }
    die("no such attack: %s", argv[3]);
}
