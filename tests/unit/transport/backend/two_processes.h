/*
 * Two struct shm in one process, as two processes on one host would have
 * them, and their loops turned by hand.
 */
#ifndef TESTS_UNIT_TRANSPORT_BACKEND_TWO_PROCESSES_H
#define TESTS_UNIT_TRANSPORT_BACKEND_TWO_PROCESSES_H

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "transport/backend/shm_private.h"
#include "transport/bell.h"
#include "transport/pause.h"

enum { RING = 4096, WAITER = 5, MANY = 600 };

/* One end of one connection. */
struct party {
    struct meeting meeting;
    uint64_t wrote, took;
    bool uncounted;
    struct link *link;
    enum reason why;
    int done, messages, deaths;
    struct control_message last;
    void (*heard)(struct party *party);
};

struct side {
    struct loop *loop;
    struct shm *shm;
    struct backend_config config;
};

static struct side here, there;
static struct party left[MANY], right[MANY];

static int side_keep(int fd)
{
    return fd;
}

static void side_close(int fd)
{
    close(fd);
}

static void on_message(void *owner, const struct control_message *message)
{
    struct party *p = owner;

    p->messages++;
    p->last = *message;
    if (p->heard != NULL)
        p->heard(p);
}

static void on_death(void *owner)
{
    ((struct party *)owner)->deaths++;
}

static bool party_counts(void *owner, uint64_t *wrote, uint64_t *took)
{
    struct party *p = owner;

    *wrote = p->wrote;
    *took = p->took;
    return !p->uncounted;
}

static void on_done(struct meeting *meeting, struct link *link, enum reason why)
{
    struct party *p = meeting->owner;

    p->done++;
    p->link = link;
    p->why = why;
}

static void side_start(struct side *s, uint64_t token)
{
    static const struct loop_calls calls = {side_keep, side_close};
    static const struct link_events events = {.message = on_message,
                                              .channel_dead = on_death};
    struct backend *backend;

    s->config = (struct backend_config){
        .bell_token = token << 32 | (uint32_t)getpid(),
        .ringer = bell_ringer_open(),
        .max_memory = 1 << 30,
        .max_links = 4096,
        .meet_ns = 2000000000,
    };
    ck_assert_int_eq(loop_create(&calls, &s->loop), 0);
    ck_assert_int_eq(
        fastsock_backend_shm.create(s->loop, &s->config, &events, &backend), 0);
    s->shm = (struct shm *)backend;
}

static void side_stop(struct side *s)
{
    fastsock_backend_shm.destroy(&s->shm->backend);
    loop_destroy(s->loop);
    close(s->config.ringer);
    *s = (struct side){0};
}

static bool never_sleep(void *arg)
{
    (void)arg;
    return false;
}

static void turn(int times)
{
    for (int i = 0; i < times; i++) {
        if (here.loop != NULL)
            loop_turn(here.loop, never_sleep, NULL);
        if (there.loop != NULL)
            loop_turn(there.loop, never_sleep, NULL);
    }
}

/* Connection number n of this run: no other run has its name. */
static void party_start(struct party *p, struct side *s, bool initiator,
                        unsigned n)
{
    uint32_t pid = (uint32_t)getpid();

    p->meeting = (struct meeting){
        .name = {.family = 4,
                 .server = {127, pid >> 16 & 255, pid >> 8 & 255, pid & 255},
                 .client = {127, 0, 0, 1},
                 .server_port = 7,
                 .client_port = (uint16_t)(1000 + n)},
        .initiator = initiator,
        .ring_size = RING,
        .owner = p,
        .counts = party_counts,
        .done = on_done,
    };
    p->done = 0;
    p->link = NULL;
    p->deaths = p->messages = 0;
    meeting_start(&s->shm->backend, &p->meeting);
}

static void turn_until_done(struct party *p)
{
    uint64_t limit = clock_ns() + 5000000000;

    while (p->done == 0 && clock_ns() < limit)
        turn(1);
    ck_assert_int_eq(p->done, 1);
}

/* left[n] here connects to right[n] there. */
static inline void meet(unsigned n)
{
    party_start(&right[n], &there, false, n);
    party_start(&left[n], &here, true, n);
    turn_until_done(&left[n]);
    turn_until_done(&right[n]);
}

static inline void must_meet(unsigned n)
{
    meet(n);
    ck_assert_uint_eq(left[n].why, REASON_NONE);
    ck_assert_uint_eq(right[n].why, REASON_NONE);
    ck_assert_ptr_nonnull(left[n].link);
    ck_assert_ptr_nonnull(right[n].link);
}

static void drop(struct party *p)
{
    if (p->link != NULL)
        p->link->ops->free(p->link);
    p->link = NULL;
}

static void start(void)
{
    alarm(20);
    memset(left, 0, sizeof(left));
    memset(right, 0, sizeof(right));
    side_start(&here, 1);
    side_start(&there, 2);
}

static void stop(void)
{
    for (unsigned i = 0; i < MANY; i++) {
        drop(&left[i]);
        drop(&right[i]);
    }
    turn(2 + MANY / 64); /* that many BYEs are read in a turn */
    ck_assert_uint_eq(here.shm != NULL ? here.shm->links : 0, 0);
    ck_assert_uint_eq(there.shm != NULL ? there.shm->memory : 0, 0);
    if (here.shm != NULL)
        side_stop(&here);
    if (there.shm != NULL)
        side_stop(&there);
}

static inline struct shm_link *shm_link_of(struct party *p)
{
    return (struct shm_link *)p->link;
}

static inline unsigned n_channels(const struct side *s)
{
    unsigned n = 0;

    for (struct channel *c = s->shm->channels; c != NULL; c = c->next)
        n++;
    return n;
}

#endif
