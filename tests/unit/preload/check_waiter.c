#include "preload/waiter.h"

#include <check.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "preload/fd_table.h"
#include "preload/process.h"
#include "tests/support/run_suite.h"
#include "transport/bell.h"
#include "transport/pause.h"
#include "transport/transport.h"

enum { LIMIT = 800000 }; /* ns */

static struct waiter *made[WAITERS_MAX];

/* In place of libc's: a scheduler that gives the CPU to others for so long. */
static uint64_t slice_ns;
static unsigned yields;

int sched_yield(void)
{
    uint64_t until = clock_ns() + slice_ns;

    yields++;
    while (clock_ns() < until)
        cpu_pause();
    return 0;
}

static void start(void)
{
    alarm(20);
    process.bell_token = UINT64_C(0xdad) << 40 | (uint32_t)getpid();
    process.ringer = bell_ringer_open();
    process.cpus = 4;
    atomic_store(&process.spinners, 0);
    ck_assert_int_eq(waiters_start(), 0);
}

static void stop(void)
{
    ck_assert_int_eq(atomic_load(&process.spinners), 0);
    close(process.ringer);
}

START_TEST(a_waiter_has_an_id_and_a_bell_of_the_librarys_own)
{
    struct waiter *a = waiter_create(false), *b = waiter_create(false);

    ck_assert_ptr_nonnull(a);
    ck_assert_ptr_nonnull(b);
    ck_assert_uint_ne(a->id, 0);
    ck_assert_uint_ne(a->id, b->id);
    ck_assert_int_eq(fd_find(a->bell)->kind, OBJECT_OURS);
    waiter_ring(a->id);
    ck_assert_int_eq(bell_drain(b->bell), 0);
    ck_assert_int_eq(bell_drain(a->bell), 1);
    waiter_destroy(a);
    waiter_destroy(b);
    waiter_destroy(NULL);
}
END_TEST

START_TEST(only_a_sleeper_is_woken_and_only_once)
{
    struct waiter *w = waiter_create(false);

    waiter_wake(w->id);
    ck_assert_int_eq(bell_drain(w->bell), 0);
    atomic_store(&w->asleep, 1);
    waiter_wake(w->id);
    waiter_wake(w->id);
    ck_assert_int_eq(bell_drain(w->bell), 1);
    waiter_wake(0);
    waiter_wake(WAITERS_MAX);
    waiter_wake(UINT32_MAX);
    waiter_destroy(w);
}
END_TEST

START_TEST(ids_run_out_and_are_used_again)
{
    struct rlimit many = {4096, 4096};
    unsigned n = 0, id;

    if (setrlimit(RLIMIT_NOFILE, &many) < 0)
        return; /* not allowed here */
    while (n < WAITERS_MAX && (made[n] = waiter_create(false)) != NULL)
        n++;
    ck_assert_uint_eq(n, WAITERS_MAX - 1);
    id = made[500]->id;
    waiter_destroy(made[500]);
    made[500] = waiter_create(true);
    ck_assert_ptr_nonnull(made[500]);
    ck_assert_uint_eq(made[500]->id, id);
    ck_assert_uint_eq(atomic_load(&made[500]->asleep), 0);
    for (unsigned i = 0; i < n; i++)
        waiter_destroy(made[i]);
}
END_TEST

START_TEST(a_waiter_without_a_descriptor_takes_no_id)
{
    struct rlimit limit, none;
    struct waiter *w;

    getrlimit(RLIMIT_NOFILE, &limit);
    none = (struct rlimit){0, limit.rlim_max};
    setrlimit(RLIMIT_NOFILE, &none);
    for (int i = 0; i < 2 * WAITERS_MAX; i++)
        ck_assert_ptr_null(waiter_create(false));
    setrlimit(RLIMIT_NOFILE, &limit);
    w = waiter_create(false);
    ck_assert_ptr_nonnull(w);
    waiter_destroy(w);
}
END_TEST

static void *who_am_i(void *arg)
{
    struct waiter *w = waiter_self();

    *(unsigned *)arg = w->id;
    return waiter_self() == w && w->of_thread ? arg : NULL;
}

START_TEST(each_thread_has_one_waiter_that_ends_with_it)
{
    struct waiter *self = waiter_self();
    unsigned id = 0;
    pthread_t thread;
    void *same;

    ck_assert_ptr_eq(waiter_self(), self);
    ck_assert_int_eq(pthread_create(&thread, NULL, who_am_i, &id), 0);
    pthread_join(thread, &same);
    ck_assert_ptr_nonnull(same);
    ck_assert_uint_ne(id, self->id);
    ck_assert(waiter_is_idle(id));
    ck_assert(waiter_is_idle(self->id));
    atomic_store(&self->busy, 1);
    ck_assert(!waiter_is_idle(self->id));
    atomic_store(&self->busy, 0);
}
END_TEST

static struct waiter *volatile of_handler;

static void first_wait(int number)
{
    (void)number;
    of_handler = waiter_self();
}

/* In a process of its own: its thread never waited before. */
static int interrupted_after(unsigned ns)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL,
                             .sigev_signo = SIGUSR1};
    struct itimerspec when = {.it_value = {.tv_nsec = ns}};
    unsigned bells = 0;
    struct waiter *w;
    timer_t timer;

    alarm(5);
    signal(SIGUSR1, first_wait);
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) < 0 ||
        timer_settime(timer, 0, &when, NULL) < 0)
        return 2;
    w = waiter_self();
    while (of_handler == NULL)
        cpu_pause();
    for (unsigned fd = 0; fd < fd_rows_used(); fd++)
        bells += fd_find((int)fd) != NULL;
    return w == of_handler && w == waiter_self() && bells == 1 ? 0 : 1;
}

START_TEST(a_handler_in_the_midst_of_a_first_wait_has_the_same_waiter)
{
    for (unsigned i = 0; i < 1000; i++) {
        pid_t pid = fork();
        int status;

        if (pid == 0)
            _exit(interrupted_after(1 + i % 200 * 100));
        waitpid(pid, &status, 0);
        ck_assert_int_eq(status, 0);
    }
}
END_TEST

START_TEST(an_epoll_set_is_never_idle_and_a_free_id_always)
{
    struct waiter *set = waiter_create(false);
    unsigned id = set->id;

    ck_assert(!waiter_is_idle(id));
    ck_assert(waiter_is_idle(WAITERS_MAX));
    waiter_destroy(set);
    ck_assert(waiter_is_idle(id));
}
END_TEST

static _Atomic bool enough;
static _Atomic unsigned latest; /* id */

static void *come_and_go(void *arg)
{
    (void)arg;
    for (int i = 0; i < 3000; i++) {
        struct waiter *w = waiter_create(true);

        if (w != NULL) {
            atomic_store(&w->asleep, 1);
            atomic_store(&latest, w->id);
        }
        waiter_destroy(w);
    }
    atomic_store(&enough, true);
    return NULL;
}

START_TEST(a_wake_may_come_after_its_waiter_has_gone)
{
    pthread_t thread;

    atomic_store(&enough, false);
    ck_assert_int_eq(pthread_create(&thread, NULL, come_and_go, NULL), 0);
    while (!atomic_load(&enough))
        for (int i = 0; i < 16; i++) {
            waiter_wake(atomic_load(&latest));
            waiter_is_idle(atomic_load(&latest));
        }
    pthread_join(thread, NULL);
}
END_TEST

START_TEST(the_child_of_a_fork_starts_without_waiters)
{
    struct waiter *w = waiter_self();
    int bell = w->bell;

    waiters_forget();
    ck_assert(waiter_is_idle(w->id));
    ck_assert_ptr_null(fd_find(bell));
    ck_assert_ptr_nonnull(waiter_self());
}
END_TEST

/* Spins to its end without a hit; how long that took. */
static uint64_t spin_out(struct waiter *w, struct spin *spin)
{
    uint64_t began = clock_ns();

    ck_assert(spin_begin(spin, w, LIMIT));
    while (spin_round(spin, false))
        ;
    spin_end(spin, w, LIMIT, false);
    return clock_ns() - began;
}

START_TEST(a_spin_lasts_for_its_budget_at_most_the_limit)
{
    struct waiter *w = waiter_create(false);
    struct spin spin;

    ck_assert_uint_ge(spin_out(w, &spin), LIMIT);
    ck_assert_uint_ge(spin.until_ns - spin.began_ns, LIMIT);
    ck_assert_uint_le(spin.until_ns - spin.began_ns, LIMIT);
    w->budget_ns = LIMIT / 16;
    spin_out(w, &spin);
    ck_assert_uint_eq(spin.until_ns - spin.began_ns, LIMIT / 16);
    ck_assert(!spin_begin(&spin, w, 0));
    waiter_destroy(w);
}
END_TEST

START_TEST(the_budget_halves_when_news_come_long_after_the_spin)
{
    struct waiter *w = waiter_create(false);
    struct spin spin = {.began_ns = clock_ns() - 10 * LIMIT};

    spin_slept(&spin, w, LIMIT);
    ck_assert_uint_eq(w->budget_ns, LIMIT / 2);
    for (int i = 0; i < 20; i++)
        spin_slept(&spin, w, LIMIT);
    ck_assert_uint_eq(w->budget_ns, LIMIT / 16);
    spin_slept(&spin, w, 0);
    ck_assert_uint_eq(w->budget_ns, LIMIT / 16);
    waiter_destroy(w);
}
END_TEST

START_TEST(the_budget_grows_with_hits_and_with_near_misses)
{
    struct waiter *w = waiter_create(false);
    struct spin spin;
    uint32_t was;

    w->budget_ns = LIMIT / 16;
    ck_assert(spin_begin(&spin, w, LIMIT));
    spin_end(&spin, w, LIMIT, true);
    ck_assert_uint_eq(w->budget_ns, LIMIT / 8 + 1000);
    was = w->budget_ns;
    spin.began_ns = clock_ns();
    spin_slept(&spin, w, 1000 * LIMIT);
    ck_assert_uint_gt(w->budget_ns, was);
    for (int i = 0; i < 20; i++) {
        ck_assert(spin_begin(&spin, w, LIMIT));
        spin_end(&spin, w, LIMIT, true);
    }
    ck_assert_uint_eq(w->budget_ns, LIMIT);
    waiter_destroy(w);
}
END_TEST

START_TEST(one_cpu_is_left_to_those_who_work)
{
    struct waiter *w = waiter_create(false);
    struct spin spin[4];

    for (int i = 0; i < 4; i++) {
        ck_assert(spin_begin(&spin[i], w, LIMIT));
        ck_assert_int_eq(spin[i].counted, i < 3);
    }
    ck_assert_int_eq(atomic_load(&process.spinners), 3);
    for (int i = 3; i >= 0; i--)
        spin_end(&spin[i], w, LIMIT, false);
    ck_assert_int_eq(atomic_load(&process.spinners), 0);
    process.cpus = 1;
    ck_assert(spin_begin(&spin[0], w, LIMIT));
    ck_assert(spin[0].counted);
    spin_end(&spin[0], w, LIMIT, false);
    waiter_destroy(w);
}
END_TEST

START_TEST(a_spin_beside_its_peer_soon_sleeps)
{
    struct waiter *w = waiter_create(false);
    struct spin spin;
    int rounds = 0;

    ck_assert(spin_begin(&spin, w, 1000 * LIMIT));
    while (spin_round(&spin, true))
        rounds++;
    ck_assert_int_lt(rounds, 10);
    spin_end(&spin, w, 1000 * LIMIT, false);
    waiter_destroy(w);
}
END_TEST

/* So many waits beside the peer, each with a yield of that length. */
static void yield_for(struct waiter *w, int times, uint64_t ns)
{
    struct spin spin;

    slice_ns = ns;
    for (int i = 0; i < times; i++) {
        ck_assert(spin_begin(&spin, w, LIMIT));
        spin_round(&spin, true);
        spin_end(&spin, w, LIMIT, true);
    }
    slice_ns = 0;
}

START_TEST(who_loses_slices_by_yielding_does_not_yield_for_long)
{
    struct waiter *w = waiter_create(false);
    struct spin spin;
    uint64_t began;

    yield_for(w, 8, 0);
    yield_for(w, 3, 1000000);
    ck_assert_uint_eq(atomic_load(&w->no_yield_ns), 0);
    yield_for(w, 1, 1000000);
    ck_assert_uint_gt(atomic_load(&w->no_yield_ns), 0);
    atomic_store(&w->no_yield_ns, UINT64_MAX);
    yields = 0;
    ck_assert(spin_begin(&spin, w, LIMIT));
    ck_assert(!spin_round(&spin, true)); /* it sleeps */
    began = clock_ns();
    while (spin_round(&spin, false))
        ; /* it looks on, without */
    spin_end(&spin, w, LIMIT, false);
    ck_assert_uint_ge(clock_ns() - began, LIMIT / 2);
    ck_assert_uint_eq(yields, 0);
    atomic_store(&w->no_yield_ns, 1);
    ck_assert(spin_begin(&spin, w, LIMIT));
    while (spin_round(&spin, false))
        ;
    spin_end(&spin, w, LIMIT, false);
    ck_assert_uint_gt(yields, 0); /* it is over */
    waiter_destroy(w);
}
END_TEST

START_TEST(a_slice_lost_now_and_then_changes_nothing)
{
    struct waiter *w = waiter_create(false);

    for (int i = 0; i < 10; i++) {
        yield_for(w, 1, 1000000);
        yield_for(w, 3, 0);
    }
    ck_assert_uint_eq(atomic_load(&w->no_yield_ns), 0);
    waiter_destroy(w);
}
END_TEST

/* How often the looks before a spin go on. */
static int glances(struct waiter *w, struct spin *spin, uint64_t limit_ns,
                   bool here)
{
    int n = 0;

    spin_first(spin, w, limit_ns, here);
    while (spin_glance(spin))
        n++;
    return n;
}

START_TEST(a_spin_begins_with_a_few_looks_unless_the_peer_is_here)
{
    struct waiter *w = waiter_create(false);
    struct spin spin;

    ck_assert_int_eq(glances(w, &spin, LIMIT, false), 24);
    ck_assert_uint_eq(spin.began_ns, 0);
    ck_assert_int_eq(glances(w, &spin, LIMIT, true), 0);
    atomic_store(&w->rare, true);
    ck_assert_int_eq(glances(w, &spin, LIMIT, false), 24);
    waiter_destroy(w);
}
END_TEST

START_TEST(without_a_limit_the_first_looks_are_all_and_end_soon)
{
    struct waiter *w = waiter_create(false);
    struct spin spin;

    atomic_store(&bell_ring_ns, 0);
    ck_assert_int_ge(glances(w, &spin, 0, false), 3);
    ck_assert_uint_ge(clock_ns() - spin.began_ns, 3000);
    ck_assert_uint_eq(spin.until_ns - spin.began_ns, 3000);
    ck_assert(!spin_begin(&spin, w, 0));
    ck_assert_int_eq(glances(w, &spin, 0, true), 0);
    ck_assert_uint_eq(spin.began_ns, 0);
    waiter_destroy(w);
}
END_TEST

START_TEST(they_take_as_long_as_a_ring_does)
{
    static const uint32_t ring[][2] = {{2999, 3000},
                                       {3001, 3001},
                                       {9000, 9000},
                                       {12000, 12000},
                                       {40000, 12000}};
    struct waiter *w = waiter_create(false);
    struct spin spin;

    for (size_t i = 0; i < sizeof(ring) / sizeof(*ring); i++) {
        atomic_store(&bell_ring_ns, ring[i][0]);
        spin_first(&spin, w, 0, false);
        ck_assert_uint_eq(spin.until_ns - spin.began_ns, ring[i][1]);
    }
    atomic_store(&bell_ring_ns, 0);
    waiter_destroy(w);
}
END_TEST

START_TEST(who_waits_for_what_comes_rarely_does_not_look_without_a_limit)
{
    struct waiter *w = waiter_create(false);
    struct spin spin, slept = {.began_ns = clock_ns() - 500000};

    spin_slept(&slept, w, 0);
    ck_assert_int_eq(glances(w, &spin, 0, false), 0);
    ck_assert_uint_ne(spin.began_ns, 0);
    slept.began_ns = clock_ns() + 1000 * UINT64_C(1000000000);
    spin_slept(&slept, w, 0);
    ck_assert_int_gt(glances(w, &spin, 0, false), 0);
    waiter_destroy(w);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("waiter");
    TCase *t = tcase_create("waiter");

    tcase_add_checked_fixture(t, start, stop);
    tcase_set_timeout(t, 30);
    tcase_add_test(t, a_waiter_has_an_id_and_a_bell_of_the_librarys_own);
    tcase_add_test(t, only_a_sleeper_is_woken_and_only_once);
    tcase_add_test(t, ids_run_out_and_are_used_again);
    tcase_add_test(t, a_waiter_without_a_descriptor_takes_no_id);
    tcase_add_test(t, each_thread_has_one_waiter_that_ends_with_it);
    tcase_add_test(t,
                   a_handler_in_the_midst_of_a_first_wait_has_the_same_waiter);
    tcase_add_test(t, an_epoll_set_is_never_idle_and_a_free_id_always);
    tcase_add_test(t, a_wake_may_come_after_its_waiter_has_gone);
    tcase_add_test(t, the_child_of_a_fork_starts_without_waiters);
    tcase_add_test(t, a_spin_lasts_for_its_budget_at_most_the_limit);
    tcase_add_test(t, the_budget_halves_when_news_come_long_after_the_spin);
    tcase_add_test(t, the_budget_grows_with_hits_and_with_near_misses);
    tcase_add_test(t, one_cpu_is_left_to_those_who_work);
    tcase_add_test(t, a_spin_beside_its_peer_soon_sleeps);
    tcase_add_test(t, who_loses_slices_by_yielding_does_not_yield_for_long);
    tcase_add_test(t, a_slice_lost_now_and_then_changes_nothing);
    tcase_add_test(t, a_spin_begins_with_a_few_looks_unless_the_peer_is_here);
    tcase_add_test(t, without_a_limit_the_first_looks_are_all_and_end_soon);
    tcase_add_test(t, they_take_as_long_as_a_ring_does);
    tcase_add_test(
        t, who_waits_for_what_comes_rarely_does_not_look_without_a_limit);
    suite_add_tcase(s, t);
    return run_suite(s);
}
