#include "preload/family.h"

#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "preload/endpoint.h"
#include "preload/members.h"
#include "tests/support/run_suite.h"

/* Another holder, as one in another process: for tests in one process. */
static struct holding another_of(const struct holding *e)
{
    struct holding other = {.place = e->place};

    family_forked(&other);
    return other;
}

/* What a child does with what it got; its exit status is its answer. */
static int in_child(struct holding *e, int (*act)(struct holding *e))
{
    int status = -1;
    pid_t pid;

    family_grows(e);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        members_forked();
        family_forked(e);
        _exit(act(e));
    }
    waitpid(pid, &status, 0);
    if (WIFSIGNALED(status))
        return 0;
    return WEXITSTATUS(status);
}

static int closes(struct holding *e)
{
    family_leave(e);
    return 0;
}

static int looks(struct holding *e)
{
    return family_is_alone(e);
}

static int just_ends(struct holding *e)
{
    (void)e;
    return 0;
}

START_TEST(what_was_never_shared_is_not_counted)
{
    struct holding e = {.place = 0};

    ck_assert(!family_counts(&e));
    family_leave(&e);
    ck_assert(!family_is_alone(&e));
}
END_TEST

START_TEST(the_parent_is_alone_when_the_child_has_closed)
{
    struct holding e = {.place = 0};

    ck_assert_int_eq(in_child(&e, closes), 0);
    ck_assert(family_counts(&e));
    ck_assert(family_is_alone(&e));
    ck_assert(!family_counts(&e)); /* from then on */
}
END_TEST

START_TEST(the_child_is_not_alone_before_the_parent_has_closed)
{
    struct holding e = {.place = 0}, f = {.place = 0};
    int go[2], status = 0;
    pid_t pid;
    char c;

    ck_assert_int_eq(in_child(&e, looks), 0);
    ck_assert_int_eq(pipe(go), 0);
    family_grows(&f);
    pid = fork();
    if (pid == 0) {
        members_forked();
        family_forked(&f);
        _exit(read(go[0], &c, 1) == 1 && family_is_alone(&f) ? 7 : 1);
    }
    family_leave(&f);
    ck_assert_int_eq(write(go[1], "x", 1), 1);
    waitpid(pid, &status, 0);
    ck_assert_int_eq(WEXITSTATUS(status), 7);
    close(go[0]);
    close(go[1]);
}
END_TEST

static int is_killed(struct holding *e)
{
    (void)e;
    kill(getpid(), SIGKILL);
    return 1;
}

static int has_a_child_and_is_killed(struct holding *e)
{
    in_child(e, is_killed);
    family_grows(e);
    return is_killed(e); /* before that one was there */
}

START_TEST(who_has_ended_without_a_word_is_counted_out)
{
    struct holding e = {.place = 0};

    in_child(&e, just_ends);
    ck_assert(family_is_alone(&e));
    in_child(&e, is_killed);
    ck_assert(family_is_alone(&e));
    for (int i = 0; i < 20; i++)
        in_child(&e, i % 2 == 0 ? is_killed : closes);
    ck_assert(family_is_alone(&e));
    in_child(&e, has_a_child_and_is_killed);
    ck_assert(!family_is_alone(&e));
}
END_TEST

/* The end of a process, as others see it. */
static void wait_for_end(pid_t pid)
{
    siginfo_t info;

    ck_assert_int_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
}

START_TEST(who_was_not_seen_to_end_is_not_counted_out)
{
    struct holding e = {.place = 0};
    int in[2];
    pid_t pid;
    char c;

    ck_assert_int_eq(pipe(in), 0);
    family_grows(&e);
    pid = fork();
    if (pid == 0) {
        members_forked();
        family_forked(&e);
        if (write(in[1], "x", 1) == 1)
            pause();
    }
    ck_assert_int_eq(read(in[0], &c, 1), 1);
    ck_assert(!family_is_alone(&e));
    kill(pid, SIGKILL);
    wait_for_end(pid);
    ck_assert(!family_is_alone(&e)); /* its parent has not asked for it */
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    ck_assert(family_is_alone(&e));
}
END_TEST

static int hides_and_is_killed(struct holding *e)
{
    member_hides();
    return is_killed(e);
}

static int hid_and_is_killed(struct holding *e)
{
    member_hides();
    member_shows();
    return is_killed(e);
}

START_TEST(who_may_have_left_it_to_others_is_not_counted_out)
{
    struct holding e = {.place = 0};

    in_child(&e, hid_and_is_killed);
    ck_assert(family_is_alone(&e));
    in_child(&e, hides_and_is_killed);
    ck_assert(!family_is_alone(&e));
}
END_TEST

START_TEST(who_has_lost_its_lock_and_lives_is_not_counted_out)
{
    struct holding e = {.place = 0};
    int in[2], out[2];
    pid_t pid;
    char c;

    ck_assert_int_eq(pipe(in) | pipe(out), 0);
    family_grows(&e);
    pid = fork();
    if (pid == 0) {
        members_forked();
        family_forked(&e);
        close(out[1]);
        syscall(SYS_close, members_fd());
        _exit(write(in[1], "x", 1) != 1 || read(out[0], &c, 1) != 0);
    }
    ck_assert_int_eq(read(in[0], &c, 1), 1);
    ck_assert(!family_is_alone(&e));
    close(out[1]);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    ck_assert(family_is_alone(&e));
}
END_TEST

/* Nobody else's end is taken for that of one who has the same slot. */
START_TEST(numbers_are_given_out_once)
{
    uint32_t mine = member_self();

    ck_assert_uint_ne(mine, 0);
    ck_assert_uint_eq(member_self(), mine);
    ck_assert(!member_is_gone(mine));
    for (int i = 0; i < 70000; i++) {
        members_forked(); /* not so, and so the slots fill up */
        if (member_self() == 0)
            return;
        ck_assert_uint_ne(member_self(), mine);
        ck_assert(!member_is_gone(mine));
    }
    ck_abort_msg("no end of slots");
}
END_TEST

static int runs(struct holding *e)
{
    if (family_execs(e))
        execl("/bin/true", "true", (char *)NULL);
    return 9;
}

static int runs_nothing(struct holding *e)
{
    int n = family_execs(e);

    execl("/does/not/exist", "true", (char *)NULL);
    family_exec_failed(e);
    return n;
}

static int runs_nothing_and_is_not_alone(struct holding *e)
{
    return runs_nothing(e) == 1 && family_counts(e) && !family_is_alone(e);
}

static int runs_in_the_end(struct holding *e)
{
    return runs_nothing(e) == 1 && runs_nothing(e) == 1 ? runs(e) : 9;
}

static int runs_nothing_and_closes(struct holding *e)
{
    int n = runs_nothing(e);

    family_leave(e);
    return n;
}

static int ends_instead(struct holding *e)
{
    return !family_execs(e);
}

START_TEST(who_runs_another_program_is_counted_out)
{
    struct holding e = {.place = 0};

    ck_assert_int_eq(in_child(&e, runs), 0);
    ck_assert(family_is_alone(&e));
    ck_assert_int_eq(in_child(&e, runs_in_the_end), 0);
    ck_assert_int_eq(in_child(&e, runs), 0);
    ck_assert_int_eq(in_child(&e, runs), 0);
    ck_assert(family_is_alone(&e));
    ck_assert_int_eq(in_child(&e, ends_instead), 0); /* as if it was killed */
    ck_assert(family_is_alone(&e));
}
END_TEST

START_TEST(who_cannot_run_it_counts_until_it_has_closed)
{
    struct holding e = {.place = 0};

    ck_assert_int_eq(in_child(&e, runs_nothing_and_is_not_alone), 1);
    ck_assert(family_counts(&e));
    ck_assert(family_is_alone(&e)); /* it has ended */
    ck_assert_int_eq(in_child(&e, runs_nothing_and_closes), 1);
    ck_assert(family_is_alone(&e));
}
END_TEST

/* The test's two holders are one process; the second one's thread ends. */
static void *execs_and_ends(void *e)
{
    return family_execs(e) ? e : NULL;
}

START_TEST(what_is_closed_during_an_exec_is_counted_out_once)
{
    struct holding e = {.place = 0}, f;
    pthread_t thread;
    void *did;

    family_grows(&e);
    family_grows(&e); /* three hold it */
    f = another_of(&e);
    ck_assert_int_eq(pthread_create(&thread, NULL, execs_and_ends, &f), 0);
    ck_assert_int_eq(pthread_join(thread, &did), 0);
    ck_assert_ptr_nonnull(did);
    ck_assert(family_counts(&f));
    family_leave(&f);
    ck_assert(!family_is_alone(&e));
    in_child(&e, closes);
    ck_assert(!family_is_alone(&e)); /* the third one */
}
END_TEST

static int runs_in_hiding(struct holding *e)
{
    member_hides();
    return runs(e) == 9 && execl("/bin/true", "true", (char *)NULL);
}

/* Two that are about to run a program at once: one of them counts for ever. */
START_TEST(of_two_that_exec_at_once_one_is_counted_out)
{
    struct holding e = {.place = 0}, f;

    family_grows(&e);
    f = another_of(&e);
    ck_assert(family_execs(&f));
    ck_assert_int_eq(in_child(&e, runs_in_hiding), 0);
    family_exec_failed(&f);
    family_leave(&f);
    ck_assert(!family_is_alone(&e));
}
END_TEST

START_TEST(a_fork_during_an_exec_is_counted)
{
    struct holding e = {.place = 0}, f;

    family_grows(&e);
    f = another_of(&e);
    ck_assert(family_execs(&f));
    family_grows(&f); /* the child of the fork */
    struct holding child = f;
    family_forked(&child);
    family_exec_failed(&f);
    family_leave(&f);
    ck_assert(!family_is_alone(&e));
    family_leave(&child);
    ck_assert(family_is_alone(&e));
}
END_TEST

START_TEST(places_are_used_again)
{
    struct holding e = {.place = 0};

    for (int i = 0; i < 200000; i++) {
        family_grows(&e);
        ck_assert(family_counts(&e));
        family_grows(&e);
        for (int k = 0; k < 3; k++) {
            struct holding holder = k == 0 ? e : another_of(&e);

            family_leave(&holder);
        }
        e.place = 0;
    }
}
END_TEST

START_TEST(without_a_free_place_nothing_is_counted)
{
    static struct holding many[70000];
    unsigned counted = 0;

    for (unsigned i = 0; i < sizeof(many) / sizeof(many[0]); i++) {
        family_grows(&many[i]);
        counted += family_counts(&many[i]);
    }
    ck_assert_uint_gt(counted, 60000);
    ck_assert(!family_counts(&many[sizeof(many) / sizeof(many[0]) - 1]));
}
END_TEST

enum { ASKED = 500, PASSES = 40 };

static struct holding asked[ASKED];
static pthread_barrier_t together;

static void *ask_all(void *arg)
{
    uintptr_t alone = 0;

    (void)arg;
    pthread_barrier_wait(&together);
    for (int i = 0; i < ASKED; i++)
        alone += family_is_alone(&asked[i]);
    pthread_barrier_wait(&together);
    return (void *)alone;
}

START_TEST(of_threads_that_ask_at_once_one_is_told)
{
    ck_assert_int_eq(pthread_barrier_init(&together, NULL, 2), 0);
    for (int pass = 0; pass < PASSES; pass++) {
        pthread_t other;
        uintptr_t mine;
        void *its;

        for (int i = 0; i < ASKED; i++) {
            struct holding child;

            family_grows(&asked[i]);
            child = another_of(&asked[i]);
            family_leave(&child);
        }
        ck_assert_int_eq(pthread_create(&other, NULL, ask_all, NULL), 0);
        mine = (uintptr_t)ask_all(NULL);
        ck_assert_int_eq(pthread_join(other, &its), 0);
        ck_assert_uint_eq(mine + (uintptr_t)its, ASKED);
    }
}
END_TEST

static void *grow_all(void *arg)
{
    (void)arg;
    pthread_barrier_wait(&together);
    for (int i = 0; i < ASKED; i++)
        family_grows(&asked[i]);
    return NULL;
}

START_TEST(threads_that_fork_at_once_count_in_one_place)
{
    ck_assert_int_eq(pthread_barrier_init(&together, NULL, 2), 0);
    for (int pass = 0; pass < PASSES; pass++) {
        pthread_t other;

        memset(asked, 0, sizeof(asked));
        ck_assert_int_eq(pthread_create(&other, NULL, grow_all, NULL), 0);
        grow_all(NULL);
        ck_assert_int_eq(pthread_join(other, NULL), 0);
        for (int i = 0; i < ASKED; i++) {
            struct holding one = another_of(&asked[i]),
                           two = another_of(&asked[i]);

            family_leave(&one);
            ck_assert(!family_is_alone(&asked[i]));
            family_leave(&two);
            ck_assert(family_is_alone(&asked[i]));
        }
    }
}
END_TEST

START_TEST(what_is_passed_on_counts_whatever_kept_it_on_tcp_before)
{
    struct endpoint e = {.fds = 1};
    struct holding f;

    family_grows(&e.holders);
    e.ineligible = true;
    endpoint_banish(&e, REASON_PASSED_ON);
    in_child(&e.holders, closes);
    f = another_of(&e.holders);
    family_leave(&f);
    ck_assert(!family_is_alone(&e.holders));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("family");
    TCase *tc = tcase_create("family");

    tcase_add_test(tc, what_was_never_shared_is_not_counted);
    tcase_add_test(tc, the_parent_is_alone_when_the_child_has_closed);
    tcase_add_test(tc, the_child_is_not_alone_before_the_parent_has_closed);
    tcase_add_test(tc, who_has_ended_without_a_word_is_counted_out);
    tcase_add_test(tc, who_was_not_seen_to_end_is_not_counted_out);
    tcase_add_test(tc, who_may_have_left_it_to_others_is_not_counted_out);
    tcase_add_test(tc, who_has_lost_its_lock_and_lives_is_not_counted_out);
    tcase_add_test(tc, numbers_are_given_out_once);
    tcase_add_test(tc, who_runs_another_program_is_counted_out);
    tcase_add_test(tc, who_cannot_run_it_counts_until_it_has_closed);
    tcase_add_test(tc, what_is_closed_during_an_exec_is_counted_out_once);
    tcase_add_test(tc, of_two_that_exec_at_once_one_is_counted_out);
    tcase_add_test(tc, a_fork_during_an_exec_is_counted);
    tcase_add_test(tc, places_are_used_again);
    tcase_add_test(tc, without_a_free_place_nothing_is_counted);
    tcase_add_test(tc, of_threads_that_ask_at_once_one_is_told);
    tcase_add_test(tc, threads_that_fork_at_once_count_in_one_place);
    tcase_add_test(tc, what_is_passed_on_counts_whatever_kept_it_on_tcp_before);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
