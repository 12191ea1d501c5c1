/* Files that are cut short under a mapping. */
#include "store/pm/guard.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/run_suite.h"

#define SIZE (1u << 20)

/* A file in memory, mapped, with its upper half gone. */
static volatile unsigned char *half_file(void)
{
    int fd = memfd_create("file", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(fd, SIZE), 0);
    unsigned char *base =
        mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert(base != MAP_FAILED);
    memset(base, 'x', SIZE);
    ck_assert_int_eq(ftruncate(fd, SIZE / 2), 0);
    close(fd);
    return base;
}

static struct guard *guarded(volatile unsigned char *base,
                             enum guard_outside outside)
{
    struct guard *guard = NULL;
    ck_assert_int_eq(
        guard_add((void *)(uintptr_t)base, SIZE, "file", outside, &guard), 0);
    return guard;
}

/* -1: it came back to the frame. */
static int read_in_frame(struct guard *guard, const volatile unsigned char *at)
{
    struct guard_frame frame;
    if (sigsetjmp(frame.back, 0) != 0)
        return -1;
    guard_enter(&frame, guard);
    int byte = *at;
    guard_leave(&frame);
    return byte;
}

START_TEST(a_fault_in_a_frame_comes_back_to_it)
{
    volatile unsigned char *base = half_file();
    struct guard *guard = guarded(base, GUARD_EXIT);
    uint64_t offset = 0;
    ck_assert_int_eq(read_in_frame(guard, base + 100), 'x');
    ck_assert(!guard_lost(guard, &offset));
    for (int i = 0; i < 3; i++) /* the signal is not blocked by the first */
        ck_assert_int_eq(read_in_frame(guard, base + SIZE / 2 + 4096 * i + 5),
                         -1);
    ck_assert(guard_lost(guard, &offset));
    ck_assert_uint_eq(offset, SIZE / 2 + 5);
    ck_assert_int_eq(read_in_frame(guard, base + SIZE / 2 + 6), 0);
    ck_assert_int_eq(read_in_frame(guard, base + 100), 'x');
    guard_remove(guard);
}
END_TEST

START_TEST(outside_of_a_frame_zeroes_are_read)
{
    volatile unsigned char *base = half_file();
    struct guard *guard = guarded(base, GUARD_ZEROES);
    uint64_t offset = 0;
    errno = 77;
    ck_assert_int_eq(base[SIZE - 1], 0);
    ck_assert_int_eq(errno, 77);
    base[SIZE - 2] = 'y'; /* and can be written, for nobody */
    ck_assert_int_eq(base[SIZE - 2], 'y');
    ck_assert(guard_lost(guard, &offset));
    ck_assert_uint_eq(offset, SIZE - 1);
    guard_remove(guard);
}
END_TEST

static int in_child(void (*call)(void))
{
    int status = -1;
    pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr))
            _exit(9);
        signal(SIGBUS, SIG_DFL); /* sanitizers have a handler */
        call();
        _exit(8);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return status;
}

static void fault_outside(void)
{
    volatile unsigned char *base = half_file();
    guarded(base, GUARD_EXIT);
    (void)base[SIZE - 1];
}

START_TEST(outside_of_a_frame_the_process_ends_if_it_was_asked_to)
{
    int status = in_child(fault_outside);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FAILURE);
}
END_TEST

static void fault_elsewhere(void)
{
    volatile unsigned char *base = half_file(), *other = half_file();
    struct guard *guard = guarded(base, GUARD_ZEROES);
    guard_remove(guarded(other, GUARD_ZEROES));
    read_in_frame(guard, other + SIZE - 1);
}

static void signal_from_elsewhere(void)
{
    guarded(half_file(), GUARD_ZEROES);
    raise(SIGBUS);
}

static void theirs(int sig)
{
    (void)sig;
    _exit(42);
}

static void fault_of_another_handler(void)
{
    signal(SIGBUS, theirs);
    fault_elsewhere();
}

START_TEST(what_is_not_ours_goes_where_it_went_before)
{
    int status = in_child(fault_elsewhere);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    status = in_child(signal_from_elsewhere);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    status = in_child(fault_of_another_handler);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 42);
}
END_TEST

START_TEST(a_frame_is_for_its_own_mapping)
{
    volatile unsigned char *one = half_file(), *two = half_file();
    struct guard *first = guarded(one, GUARD_ZEROES);
    struct guard *second = guarded(two, GUARD_ZEROES);
    uint64_t offset;
    ck_assert_int_eq(read_in_frame(first, two + SIZE - 1), 0);
    ck_assert(guard_lost(second, &offset) && !guard_lost(first, &offset));
    guard_remove(first);
    guard_remove(second);
}
END_TEST

static void *fault_in_thread(void *arg)
{
    volatile unsigned char *base = half_file();
    struct guard *own = guarded(base, GUARD_EXIT);
    intptr_t bad = 0;
    (void)arg;
    for (size_t at = SIZE / 2; at < SIZE; at += 4096)
        bad += read_in_frame(own, base + at) != -1;
    guard_remove(own);
    return (void *)bad;
}

START_TEST(each_thread_comes_back_to_its_own_frame)
{
    pthread_t threads[8];
    for (int i = 0; i < 8; i++)
        ck_assert_int_eq(
            pthread_create(&threads[i], NULL, fault_in_thread, NULL), 0);
    for (int i = 0; i < 8; i++) {
        void *bad;
        pthread_join(threads[i], &bad);
        ck_assert_ptr_null(bad);
    }
}
END_TEST

START_TEST(there_is_an_end_to_the_number_of_mappings)
{
    struct guard *all[GUARD_MAX], *more;
    static char mapping[GUARD_MAX];
    for (int i = 0; i < GUARD_MAX; i++)
        ck_assert_int_eq(
            guard_add(&mapping[i], 1, "file", GUARD_ZEROES, &all[i]), 0);
    ck_assert_int_eq(guard_add(mapping, 1, "file", GUARD_ZEROES, &more),
                     -ENOSPC);
    for (int i = 0; i < GUARD_MAX; i++)
        guard_remove(all[i]);
    ck_assert_int_eq(guard_add(mapping, 1, "file", GUARD_ZEROES, &more), 0);
    guard_remove(more);
    guard_remove(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("guard");
    TCase *tcase = tcase_create("guard");
    tcase_add_test(tcase, a_fault_in_a_frame_comes_back_to_it);
    tcase_add_test(tcase, outside_of_a_frame_zeroes_are_read);
    tcase_add_test(tcase,
                   outside_of_a_frame_the_process_ends_if_it_was_asked_to);
    tcase_add_test(tcase, what_is_not_ours_goes_where_it_went_before);
    tcase_add_test(tcase, a_frame_is_for_its_own_mapping);
    tcase_add_test(tcase, each_thread_comes_back_to_its_own_frame);
    tcase_add_test(tcase, there_is_an_end_to_the_number_of_mappings);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
