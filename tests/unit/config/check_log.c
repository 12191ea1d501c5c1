#include "config/log.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/run_suite.h"

static int pipe_end[2]; /* what is written to descriptor 2 comes out of [0] */
static int old_stderr;
static char line[4096], prefix[64];

static void start(void)
{
    ck_assert_int_eq(pipe2(pipe_end, O_CLOEXEC | O_NONBLOCK), 0);
    old_stderr = dup(STDERR_FILENO);
    ck_assert_int_eq(dup2(pipe_end[1], STDERR_FILENO), STDERR_FILENO);
    log_init("prog", LOG_WARN);
    snprintf(prefix, sizeof(prefix), "prog[%ld]: ", (long)getpid());
}

static void stop(void)
{
    log_threshold = LOG_NONE;
    dup2(old_stderr, STDERR_FILENO);
    close(old_stderr);
    close(pipe_end[0]);
    close(pipe_end[1]);
}

/* What was written, or "" */
static const char *written(int fd)
{
    ssize_t n = read(fd, line, sizeof(line) - 1);

    line[n > 0 ? n : 0] = '\0';
    return line;
}

START_TEST(a_line_has_the_name_the_process_and_the_level)
{
    char expected[128];

    log_error("%s is %d", "answer", 42);
    snprintf(expected, sizeof(expected), "%serror: answer is 42\n", prefix);
    ck_assert_str_eq(written(pipe_end[0]), expected);
    log_warn("x");
    snprintf(expected, sizeof(expected), "%swarning: x\n", prefix);
    ck_assert_str_eq(written(pipe_end[0]), expected);
}
END_TEST

START_TEST(lines_above_the_threshold_are_not_written)
{
    log_info("x");
    log_debug("x");
    ck_assert_str_eq(written(pipe_end[0]), "");
    log_threshold = LOG_NONE;
    log_error("x");
    ck_assert_str_eq(written(pipe_end[0]), "");
    log_threshold = LOG_DEBUG;
    log_debug("x");
    ck_assert_str_ne(written(pipe_end[0]), "");
}
END_TEST

START_TEST(a_line_is_one_write_of_at_most_512_bytes)
{
    char text[2000];
    size_t len;

    memset(text, 'y', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    log_error("%s", text);
    len = strlen(written(pipe_end[0]));
    ck_assert_uint_eq(len, 512);
    ck_assert_str_eq(line + len - 4, "...\n");
}
END_TEST

START_TEST(a_line_that_just_fits_is_not_cut)
{
    char text[512];
    size_t room = 512 - 1 - strlen(prefix) - strlen("error: ");

    memset(text, 'y', sizeof(text));
    text[room] = '\0';
    log_error("%s", text);
    ck_assert_uint_eq(strlen(written(pipe_end[0])), 512);
    ck_assert_str_eq(line + 510, "y\n");
}
END_TEST

START_TEST(control_bytes_cannot_forge_a_second_line)
{
    log_error("a\nb\033[0m\177");
    ck_assert_ptr_nonnull(strstr(written(pipe_end[0]), "a?b?[0m?\n"));
}
END_TEST

START_TEST(errno_is_kept)
{
    errno = EXDEV;
    log_error("x");
    ck_assert_int_eq(errno, EXDEV);
    close(STDERR_FILENO);
    log_error("x");
    ck_assert_int_eq(errno, EXDEV);
    log_init("prog", LOG_WARN);
    ck_assert_int_eq(errno, EXDEV);
}
END_TEST

START_TEST(a_descriptor_2_that_became_something_else_gets_no_line)
{
    int pair[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair),
                     0);
    dup2(pair[1], STDERR_FILENO);
    log_error("x");
    ck_assert_str_eq(written(pair[0]), "");
    log_init("prog", LOG_WARN);
    log_error("x");
    ck_assert_str_ne(written(pair[0]), "");
    close(pair[0]);
    close(pair[1]);
}
END_TEST

START_TEST(a_process_without_descriptor_2_gets_no_line_later_either)
{
    close(STDERR_FILENO);
    log_init("prog", LOG_WARN);
    dup2(pipe_end[1], STDERR_FILENO);
    log_error("x");
    ck_assert_str_eq(written(pipe_end[0]), "");
}
END_TEST

static volatile sig_atomic_t pipe_signals;

static void count_signal(int number)
{
    (void)number;
    pipe_signals++;
}

START_TEST(a_pipe_without_a_reader_raises_no_sigpipe)
{
    sigset_t set, now;

    signal(SIGPIPE, count_signal);
    close(pipe_end[0]);
    log_error("x");
    ck_assert_int_eq(pipe_signals, 0);
    sigpending(&now);
    ck_assert_int_eq(sigismember(&now, SIGPIPE), 0);
    sigprocmask(SIG_BLOCK, NULL, &now);
    ck_assert_int_eq(sigismember(&now, SIGPIPE), 0);
    /* One that was pending before is not ours to take. */
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGPIPE);
    log_error("x");
    sigpending(&now);
    ck_assert_int_eq(sigismember(&now, SIGPIPE), 1);
}
END_TEST

START_TEST(a_full_pipe_drops_the_line_and_does_not_wait)
{
    while (write(pipe_end[1], line, sizeof(line)) > 0)
        continue;
    ck_assert_int_eq(fcntl(pipe_end[1], F_SETFL, 0), 0); /* may block now */
    log_error("x");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log");
    TCase *t = tcase_create("log");

    tcase_add_checked_fixture(t, start, stop);
    tcase_add_test(t, a_line_has_the_name_the_process_and_the_level);
    tcase_add_test(t, lines_above_the_threshold_are_not_written);
    tcase_add_test(t, a_line_is_one_write_of_at_most_512_bytes);
    tcase_add_test(t, a_line_that_just_fits_is_not_cut);
    tcase_add_test(t, control_bytes_cannot_forge_a_second_line);
    tcase_add_test(t, errno_is_kept);
    tcase_add_test(t, a_descriptor_2_that_became_something_else_gets_no_line);
    tcase_add_test(t, a_process_without_descriptor_2_gets_no_line_later_either);
    tcase_add_test(t, a_pipe_without_a_reader_raises_no_sigpipe);
    tcase_add_test(t, a_full_pipe_drops_the_line_and_does_not_wait);
    suite_add_tcase(suite, t);
    return run_suite(suite);
}
