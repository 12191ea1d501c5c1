#include "transport/lock.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/run_suite.h"

enum { THREADS = 4, TIMES = 20000 };

static struct lock lock;
static int sum; /* under the lock */
static _Atomic int arrived;

START_TEST(a_free_lock_is_taken_and_given_back)
{
    lock_init(&lock);
    ck_assert_int_eq(lock_take(&lock), 0);
    ck_assert_uint_eq(atomic_load(&lock.word), lock_my_id());
    ck_assert(!lock_try(&lock));
    lock_give(&lock);
    ck_assert_uint_eq(atomic_load(&lock.word), 0);
    ck_assert(lock_try(&lock));
    lock_give(&lock);
}
END_TEST

START_TEST(who_holds_it_already_is_told_instead_of_waiting_for_ever)
{
    lock_init(&lock);
    ck_assert_int_eq(lock_take(&lock), 0);
    ck_assert_int_eq(lock_take(&lock), -EDEADLK);
    /* Also when somebody sleeps on it meanwhile. */
    atomic_fetch_or(&lock.word, 1u << 31);
    ck_assert_int_eq(lock_take(&lock), -EDEADLK);
    lock_give(&lock);
    ck_assert_uint_eq(atomic_load(&lock.word), 0);
}
END_TEST

static void enter_and_leave(int number)
{
    (void)number;
    lock_enter(&lock);
    ck_assert_uint_eq(lock_entered, 2);
    lock_leave(&lock);
}

START_TEST(a_handler_leaves_what_its_thread_has_entered)
{
    lock_init(&lock);
    signal(SIGUSR1, enter_and_leave);
    lock_enter(&lock);
    ck_assert_uint_eq(lock_entered, 1);
    raise(SIGUSR1);
    ck_assert_uint_eq(lock_entered, 1);
    ck_assert_uint_eq(atomic_load(&lock.word), lock_my_id());
    lock_leave(&lock);
    ck_assert_uint_eq(atomic_load(&lock.word), 0);
    ck_assert_uint_eq(lock_entered, 0);
}
END_TEST

static unsigned found_entered;
static bool found_free;

static void look_in_handler(int number)
{
    (void)number;
    found_entered = lock_entered;
    found_free = lock_try_enter(&lock);
}

START_TEST(a_lock_that_was_tried_for_is_entered_too)
{
    lock_init(&lock);
    signal(SIGUSR1, look_in_handler);
    ck_assert(lock_try_enter(&lock));
    ck_assert_uint_eq(lock_entered, 1);
    raise(SIGUSR1);
    ck_assert_uint_eq(found_entered, 1);
    ck_assert(!found_free);
    ck_assert_uint_eq(lock_entered, 1);
    ck_assert_uint_eq(atomic_load(&lock.word), lock_my_id());
    lock_leave(&lock);
    ck_assert_uint_eq(atomic_load(&lock.word), 0);
    ck_assert_uint_eq(lock_entered, 0);
}
END_TEST

START_TEST(one_that_another_thread_holds_is_not_entered)
{
    lock_init(&lock);
    atomic_store(&lock.word, lock_my_id() + 1);
    ck_assert(!lock_try_enter(&lock));
    ck_assert_uint_eq(lock_entered, 0);
    ck_assert_uint_eq(atomic_load(&lock.word), lock_my_id() + 1);
}
END_TEST

START_TEST(the_child_of_a_fork_inside_has_entered_nothing)
{
    lock_init(&lock);
    lock_enter(&lock);
    lock_forget_self();
    lock_init(&lock);
    ck_assert_uint_eq(lock_entered, 0);
    lock_leave(&lock); /* of a frame that goes on in the child */
    ck_assert_uint_eq(lock_entered, 0);
    lock_enter(&lock);
    ck_assert_uint_eq(lock_entered, 1);
    lock_leave(&lock);
}
END_TEST

static int in_handler;

static void take_in_handler(int number)
{
    (void)number;
    in_handler = lock_take(&lock);
}

START_TEST(a_signal_handler_inside_the_lock_does_not_hang)
{
    lock_init(&lock);
    in_handler = 7;
    signal(SIGUSR1, take_in_handler);
    ck_assert_int_eq(lock_take(&lock), 0);
    raise(SIGUSR1);
    ck_assert_int_eq(in_handler, -EDEADLK);
    lock_give(&lock);
    raise(SIGUSR1);
    ck_assert_int_eq(in_handler, 0);
    lock_give(&lock);
}
END_TEST

static void *add_many(void *arg)
{
    (void)arg;
    for (int i = 0; i < TIMES; i++) {
        if (i % 16 == 0) {
            while (!lock_try(&lock))
                sched_yield();
        } else if (lock_take(&lock) != 0) {
            return NULL;
        }
        sum++;
        if (i % 4096 == 0)
            sched_yield(); /* while we hold it: others go to sleep */
        lock_give(&lock);
    }
    return NULL;
}

START_TEST(threads_exclude_each_other_and_nobody_is_left_asleep)
{
    pthread_t thread[THREADS];

    alarm(10);
    lock_init(&lock);
    sum = 0;
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, add_many, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    ck_assert_int_eq(sum, THREADS * TIMES);
    ck_assert_uint_eq(atomic_load(&lock.word), 0);
}
END_TEST

static void *take_once(void *arg)
{
    (void)arg;
    atomic_fetch_add(&arrived, 1);
    if (lock_take(&lock) == 0) {
        sum++;
        lock_give(&lock);
    }
    return NULL;
}

START_TEST(sleepers_are_woken_one_after_the_other)
{
    struct timespec moment = {0, 20000000};
    pthread_t thread[THREADS];

    alarm(10);
    lock_init(&lock);
    sum = 0;
    atomic_store(&arrived, 0);
    ck_assert_int_eq(lock_take(&lock), 0);
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, take_once, NULL), 0);
    while (atomic_load(&arrived) < THREADS)
        sched_yield();
    nanosleep(&moment, NULL); /* until they sleep, most likely */
    ck_assert_int_eq(sum, 0);
    lock_give(&lock);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    ck_assert_int_eq(sum, THREADS);
}
END_TEST

START_TEST(the_child_of_a_fork_has_a_name_of_its_own)
{
    uint32_t parent = lock_my_id();
    int status = -1;
    pid_t child = fork();

    ck_assert_int_ge(child, 0);
    if (child == 0) {
        lock_forget_self();
        _exit(lock_my_id() == parent || lock_my_id() != (uint32_t)getpid());
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("lock");
    TCase *t = tcase_create("lock");

    tcase_add_test(t, a_free_lock_is_taken_and_given_back);
    tcase_add_test(t, who_holds_it_already_is_told_instead_of_waiting_for_ever);
    tcase_add_test(t, a_handler_leaves_what_its_thread_has_entered);
    tcase_add_test(t, a_lock_that_was_tried_for_is_entered_too);
    tcase_add_test(t, one_that_another_thread_holds_is_not_entered);
    tcase_add_test(t, the_child_of_a_fork_inside_has_entered_nothing);
    tcase_add_test(t, a_signal_handler_inside_the_lock_does_not_hang);
    tcase_add_test(t, threads_exclude_each_other_and_nobody_is_left_asleep);
    tcase_add_test(t, sleepers_are_woken_one_after_the_other);
    tcase_add_test(t, the_child_of_a_fork_has_a_name_of_its_own);
    suite_add_tcase(s, t);
    return run_suite(s);
}
