#include "transport/loop.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "tests/support/run_suite.h"
#include "transport/pause.h"

enum { MS = 1000000 };

static struct loop *loop;
static int kept, closed, keep_fails_at;

static int keep(int fd)
{
    if (fd < 0)
        return fd;
    if (++kept == keep_fails_at) {
        close(fd);
        return -EMFILE;
    }
    return fd;
}

static void give_back(int fd)
{
    closed++;
    close(fd);
}

static const struct loop_calls calls = {keep, give_back};

static bool yes(void *arg)
{
    (void)arg;
    return true;
}

static bool no(void *arg)
{
    (void)arg;
    return false;
}

/* A pipe with a byte in it and what happened to its watch. */
struct source {
    struct watch watch;
    int write_fd;
    int seen;
    struct source *other; /* to be removed by whoever comes first */
    bool detach;
};

static void count(struct watch *watch, uint32_t events)
{
    struct source *s = watch->arg;

    ck_assert_uint_eq(events & EPOLLIN, EPOLLIN);
    s->seen++;
}

static void remove_the_other(struct watch *watch, uint32_t events)
{
    struct source *s = watch->arg;

    count(watch, events);
    if (s->detach)
        loop_detach(loop, &s->other->watch);
    loop_remove(loop, &s->other->watch);
}

static void make_source(struct source *s, bool filled,
                        void (*ready)(struct watch *, uint32_t))
{
    int ends[2];

    ck_assert_int_eq(pipe(ends), 0);
    *s = (struct source){.watch = {.fd = ends[0], .ready = ready, .arg = s},
                         .write_fd = ends[1]};
    if (filled)
        ck_assert_int_eq(write(ends[1], "x", 1), 1);
    ck_assert_int_eq(loop_add(loop, &s->watch, EPOLLIN), 0);
}

static void drop_source(struct source *s)
{
    loop_remove(loop, &s->watch);
    close(s->watch.fd);
    close(s->write_fd);
}

static void start(void)
{
    kept = closed = keep_fails_at = 0;
    ck_assert_int_eq(loop_create(&calls, &loop), 0);
}

static void stop(void)
{
    loop_destroy(loop);
    ck_assert_int_eq(kept, closed);
}

START_TEST(what_is_ready_is_called_and_what_is_not_stays_quiet)
{
    struct source a, b;

    make_source(&a, true, count);
    make_source(&b, false, count);
    loop_turn(loop, no, NULL);
    loop_turn(loop, no, NULL);
    ck_assert_int_eq(a.seen, 2);
    ck_assert_int_eq(b.seen, 0);
    drop_source(&a);
    drop_source(&b);
    loop_turn(loop, no, NULL);
    ck_assert_int_eq(a.seen, 2);
}
END_TEST

START_TEST(a_watch_removed_by_a_callback_is_not_called_any_more)
{
    for (int detach = 0; detach < 2; detach++) {
        struct source a, b;

        make_source(&a, true, remove_the_other);
        make_source(&b, true, remove_the_other);
        a.other = &b;
        b.other = &a;
        a.detach = b.detach = detach;
        loop_turn(loop, no, NULL);
        ck_assert_int_eq(a.seen + b.seen, 1);
        drop_source(&a);
        drop_source(&b);
    }
}
END_TEST

START_TEST(a_callback_may_remove_its_own_watch)
{
    struct source a;

    make_source(&a, true, remove_the_other);
    a.other = &a;
    loop_turn(loop, no, NULL);
    loop_turn(loop, no, NULL);
    ck_assert_int_eq(a.seen, 1);
    loop_remove(loop, &a.watch);
    drop_source(&a);
}
END_TEST

START_TEST(a_descriptor_that_cannot_be_watched_is_an_error)
{
    struct watch bad = {.fd = -1, .ready = count};

    ck_assert_int_eq(loop_add(loop, &bad, EPOLLIN), -EBADF);
    ck_assert(!bad.added);
    loop_remove(loop, &bad);
}
END_TEST

START_TEST(a_moved_watch_follows_the_socket_to_its_new_number)
{
    struct source a;
    int old;

    make_source(&a, false, count);
    old = a.watch.fd;
    loop_move(loop, &a.watch, dup(old));
    ck_assert_int_ne(a.watch.fd, old);
    close(old);
    ck_assert_int_eq(write(a.write_fd, "x", 1), 1);
    loop_turn(loop, no, NULL);
    ck_assert_int_eq(a.seen, 1);
    drop_source(&a);
}
END_TEST

static int expired_n;
static struct timer *to_clear;

static void on_expired(struct timer *t)
{
    expired_n++;
    if (t->arg != NULL)
        loop_timer_set(loop, t, clock_ns() + 3600ull * 1000 * MS);
    if (to_clear != NULL)
        loop_timer_clear(loop, to_clear);
}

START_TEST(timers_expire_once_and_only_when_their_time_has_come)
{
    struct timer soon = {.expired = on_expired}, late = {.expired = on_expired},
                 again = {.expired = on_expired, .arg = &again};
    uint64_t began = clock_ns();

    expired_n = 0;
    loop_timer_set(loop, &soon, began + 5 * MS);
    loop_timer_set(loop, &late, began + 3600ull * 1000 * MS);
    loop_timer_set(loop, &again, 1);
    loop_turn(loop, no, NULL);
    ck_assert_int_eq(expired_n, 1);
    ck_assert(again.added);
    while (expired_n < 2 && clock_ns() < began + 5000ull * MS)
        loop_turn(loop, yes, NULL);
    ck_assert_uint_ge(clock_ns(), began + 5 * MS);
    ck_assert_int_eq(expired_n, 2);
    loop_timer_clear(loop, &late);
    loop_timer_clear(loop, &again);
    loop_timer_clear(loop, &soon);
    loop_turn(loop, no, NULL);
    ck_assert_int_eq(expired_n, 2);
}
END_TEST

START_TEST(a_timer_cleared_by_another_ones_callback_does_not_expire)
{
    struct timer a = {.expired = on_expired}, b = {.expired = on_expired};

    for (int first = 0; first < 2; first++) {
        expired_n = 0;
        loop_timer_set(loop, &a, first ? 1 : 2);
        loop_timer_set(loop, &b, first ? 2 : 1);
        to_clear = first ? &b : &a;
        loop_turn(loop, no, NULL);
        ck_assert_int_eq(expired_n, 1);
        ck_assert(!a.added && !b.added);
    }
    to_clear = NULL;
}
END_TEST

START_TEST(a_timer_set_again_moves_instead_of_doubling)
{
    struct timer a = {.expired = on_expired};

    expired_n = 0;
    loop_timer_set(loop, &a, clock_ns() + 3600ull * 1000 * MS);
    loop_timer_set(loop, &a, 0);
    loop_turn(loop, yes, NULL);
    ck_assert_int_eq(expired_n, 1);
    loop_timer_clear(loop, &a);
}
END_TEST

/* What another thread does: news first, then the wake. */
static _Atomic int news, handled;

static bool nothing_new(void *arg)
{
    (void)arg;
    return atomic_load(&news) == atomic_load(&handled);
}

static void *send_news(void *arg)
{
    (void)arg;
    for (int i = 1; i <= 2000; i++) {
        atomic_store(&news, i);
        loop_wake(loop);
        for (int k = 0; atomic_load(&handled) < i; k++)
            if (k > 100)
                sched_yield();
    }
    return NULL;
}

START_TEST(no_wake_is_lost_however_it_falls)
{
    pthread_t thread;

    alarm(10);
    atomic_store(&news, 0);
    atomic_store(&handled, 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, send_news, NULL), 0);
    while (atomic_load(&handled) < 2000) {
        loop_turn(loop, nothing_new, NULL);
        atomic_store(&handled, atomic_load(&news));
    }
    pthread_join(thread, NULL);
}
END_TEST

START_TEST(a_wake_while_nobody_sleeps_leaves_nothing_behind)
{
    struct timer a = {.expired = on_expired};
    uint64_t began;

    loop_wake(loop);
    loop_wake(loop);
    began = clock_ns();
    expired_n = 0;
    loop_timer_set(loop, &a, began + 3 * MS);
    loop_turn(loop, yes, NULL);
    ck_assert_uint_ge(clock_ns(), began + 3 * MS);
    ck_assert_int_eq(expired_n, 1);
}
END_TEST

START_TEST(a_creation_that_fails_gives_back_what_it_had)
{
    for (int at = 1; at <= 2; at++) {
        struct loop *out = NULL;
        int before = kept - closed;

        keep_fails_at = kept + at;
        ck_assert_int_eq(loop_create(&calls, &out), -EMFILE);
        ck_assert_ptr_null(out);
        ck_assert_int_eq(kept - closed, before + 1); /* the one that failed */
        closed++;
    }
    loop_destroy(NULL);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("loop");
    TCase *t = tcase_create("loop");

    tcase_add_checked_fixture(t, start, stop);
    tcase_add_test(t, what_is_ready_is_called_and_what_is_not_stays_quiet);
    tcase_add_test(t, a_watch_removed_by_a_callback_is_not_called_any_more);
    tcase_add_test(t, a_callback_may_remove_its_own_watch);
    tcase_add_test(t, a_descriptor_that_cannot_be_watched_is_an_error);
    tcase_add_test(t, a_moved_watch_follows_the_socket_to_its_new_number);
    tcase_add_test(t, timers_expire_once_and_only_when_their_time_has_come);
    tcase_add_test(t, a_timer_cleared_by_another_ones_callback_does_not_expire);
    tcase_add_test(t, a_timer_set_again_moves_instead_of_doubling);
    tcase_add_test(t, no_wake_is_lost_however_it_falls);
    tcase_add_test(t, a_wake_while_nobody_sleeps_leaves_nothing_behind);
    tcase_add_test(t, a_creation_that_fails_gives_back_what_it_had);
    suite_add_tcase(s, t);
    return run_suite(s);
}
