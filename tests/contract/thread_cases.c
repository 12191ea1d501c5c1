/*
 * Application threads that sleep and wake while helpers turn their loops: no
 * wake-up is ever lost. Each sleeps as the library's waiters do.
 */
#include "tests/contract/contract.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>

static _Atomic bool over;

static bool may_sleep(void *arg)
{
    (void)arg;
    return !atomic_load(&over);
}

static void *helper(void *arg)
{
    while (!atomic_load(&over))
        loop_turn(((struct side *)arg)->loop, may_sleep, NULL);
    return NULL;
}

struct worker {
    struct link *link;
    struct side *side;
    uint64_t wrote, took, landed, freed;
    uint64_t goal; /* bytes each way */
    uint32_t step;
    uint64_t sleeps;
    const char *failed;
};

static bool readable(struct worker *w)
{
    if (w->landed == w->took &&
        w->link->ops->landed(w->link, w->took, w->landed, &w->landed) < 0)
        w->failed = "what landed broke a bound";
    return w->landed != w->took;
}

static bool writable(struct worker *w)
{
    if (w->link->ops->freed(w->link, w->freed, w->wrote, &w->freed) < 0)
        w->failed = "what is free broke a bound";
    return RING - (w->wrote - w->freed) >= RING / 3;
}

/* Arm, fence, look once more, sleep on the bell and the device. */
static void sleep_until(struct worker *w, bool (*ready)(struct worker *),
                        bool room)
{
    const struct transport_ops *ops = w->link->ops;
    struct pollfd p[2] = {{.fd = w->side->bell, .events = POLLIN}};
    int n = 1;

    if (ops->peer_wake_fd != NULL) {
        p[1].fd = ops->peer_wake_fd(w->link->peer);
        p[1].events = POLLIN;
        n = 2;
    }
    while (!ready(w) && !w->failed) {
        if (room)
            ops->want_room(w->link);
        ops->peer_arm(w->link->peer, WAITER, true);
        full_fence();
        if (!ready(w)) {
            w->sleeps++;
            if (poll(p, (nfds_t)n, (int)(contract->patience_ns / 1000000)) == 0)
                w->failed = room ? "the wake-up of a writer was lost"
                                 : "the wake-up of a reader was lost";
        }
        ops->peer_arm(w->link->peer, WAITER, false);
        bell_drain(w->side->bell);
    }
}

static void put_some(struct worker *w, uint32_t len)
{
    uint8_t bytes[RING];

    for (uint32_t i = 0; i < len; i++)
        bytes[i] = byte_at(w->wrote + i);
    ring_put(&w->link->tx, w->wrote, bytes, len);
    w->wrote += len;
    w->link->ops->commit(w->link, w->wrote);
}

static void take_some(struct worker *w)
{
    uint8_t bytes[RING];
    uint32_t len = (uint32_t)(w->landed - w->took);

    ring_get(&w->link->rx, w->took, bytes, len);
    for (uint32_t i = 0; i < len; i++)
        if (bytes[i] != byte_at(w->took + i))
            w->failed = "a byte is wrong";
    w->took += len;
    w->link->ops->release(w->link, w->took);
}

static void *ask(void *arg)
{
    struct worker *w = arg;

    while (w->wrote < w->goal && !w->failed) {
        put_some(w, w->step);
        while (w->took < w->wrote && !w->failed) {
            sleep_until(w, readable, false);
            take_some(w);
        }
        /* All of it was answered, so all of it has been taken. */
        sleep_until(w, writable, true);
    }
    return NULL;
}

static void *answer(void *arg)
{
    struct worker *w = arg;

    while (w->wrote < w->goal && !w->failed) {
        uint64_t before = w->took;

        sleep_until(w, readable, false);
        take_some(w);
        if (w->took > before)
            put_some(w, (uint32_t)(w->took - before));
    }
    return NULL;
}

static void *write_all(void *arg)
{
    struct worker *w = arg;

    while (w->wrote < w->goal && !w->failed) {
        uint64_t room;

        sleep_until(w, writable, true);
        room = RING - (w->wrote - w->freed);
        if (room > w->goal - w->wrote)
            room = w->goal - w->wrote;
        put_some(w, (uint32_t)room);
    }
    return NULL;
}

static void *read_all(void *arg)
{
    struct worker *w = arg;

    while (w->took < w->goal && !w->failed) {
        sleep_until(w, readable, false);
        take_some(w);
    }
    return NULL;
}

static void run(void *(*one)(void *), void *(*other)(void *), uint64_t goal,
                uint32_t step)
{
    struct worker a = {.side = &here, .goal = goal, .step = step};
    struct worker b = {.side = &there, .goal = goal, .step = step};
    pthread_t thread[4];

    must_meet(0);
    a.link = left[0].link;
    b.link = right[0].link;
    a.link->ops->watch(a.link, WAITER);
    b.link->ops->watch(b.link, WAITER);
    pthread_create(&thread[0], NULL, helper, &here);
    pthread_create(&thread[1], NULL, helper, &there);
    pthread_create(&thread[2], NULL, other, &b);
    pthread_create(&thread[3], NULL, one, &a);
    pthread_join(thread[3], NULL);
    pthread_join(thread[2], NULL);
    atomic_store(&over, true);
    loop_wake(here.loop);
    loop_wake(there.loop);
    pthread_join(thread[0], NULL);
    pthread_join(thread[1], NULL);
    ck_assert_int_eq(left[0].breaks + right[0].breaks, 0);
    ck_assert_msg(a.failed == NULL && b.failed == NULL,
                  "%s; %s; %llu %llu %llu %llu, %llu %llu %llu %llu",
                  a.failed != NULL ? a.failed : "-",
                  b.failed != NULL ? b.failed : "-",
                  (unsigned long long)a.wrote, (unsigned long long)a.freed,
                  (unsigned long long)a.landed, (unsigned long long)a.took,
                  (unsigned long long)b.wrote, (unsigned long long)b.freed,
                  (unsigned long long)b.landed, (unsigned long long)b.took);
    ck_assert_uint_gt(a.sleeps + b.sleeps, 0);
}

START_TEST(question_and_answer_lose_no_wake_up)
{
    run(ask, answer, 200 * 64, 64);
}
END_TEST

START_TEST(questions_as_large_as_half_a_ring_lose_no_wake_up)
{
    run(ask, answer, 100 * (RING / 2), RING / 2);
}
END_TEST

START_TEST(a_stream_that_fills_its_ring_loses_no_wake_up)
{
    run(write_all, read_all, 1 << 20, 0);
}
END_TEST

void add_thread_cases(TCase *tcase)
{
    tcase_add_test(tcase, question_and_answer_lose_no_wake_up);
    tcase_add_test(tcase, questions_as_large_as_half_a_ring_lose_no_wake_up);
    tcase_add_test(tcase, a_stream_that_fills_its_ring_loses_no_wake_up);
}
