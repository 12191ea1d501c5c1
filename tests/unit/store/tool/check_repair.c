/* kvpool repair --undo: files that no repair has written. */
#include "store/tool/tool.h"

#include "store/pm/region.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/run_suite.h"

#define SIZE (64u << 10)

static char folder[64];
static char path[96], undo[96], said[96];

static void make_pool(void)
{
    struct region_options options = {.size = SIZE, .policy = PM_PROCESS};
    struct region region;
    char error[256];
    bool shm = access("/dev/shm", W_OK) == 0; /* fsync is quick there */
    snprintf(folder, sizeof(folder), "%s/check_repair.XXXXXX",
             shm ? "/dev/shm" : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/pool", folder);
    snprintf(undo, sizeof(undo), "%s/undo", folder);
    snprintf(said, sizeof(said), "%s/said", folder);
    ck_assert_msg(region_open(&region, path, &options, error, sizeof(error)) ==
                      0,
                  "%s", error);
    region_close(&region);
}

static void remove_pool(void)
{
    unlink(path);
    unlink(undo);
    unlink(said);
    rmdir(folder);
}

/* The exit status of an undo with this one word; what it says is in a file. */
static int undo_word(const char *word)
{
    static char name[] = "repair", yes[] = "--yes", option[] = "--undo";
    char *argv[] = {name, yes, option, undo, path, NULL};
    FILE *out = fopen(undo, "we");
    fprintf(out, "kvpool undo 1\nsize %u 0\nword %s\nend 1\n", SIZE, word);
    fclose(out);
    int saved = dup(STDERR_FILENO);
    int fd = open(said, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(fd, STDERR_FILENO);
    close(fd);
    optind = 1;
    int status = kvpool_repair(5, argv);
    dup2(saved, STDERR_FILENO);
    close(saved);
    return status;
}

static void says(const char *words)
{
    char text[512] = "";
    FILE *in = fopen(said, "re");
    ck_assert_uint_gt(fread(text, 1, sizeof(text) - 1, in), 0);
    fclose(in);
    ck_assert_msg(strstr(text, words) != NULL, "\"%s\" is not in \"%s\"", words,
                  text);
}

START_TEST(a_word_that_is_not_in_the_file_cannot_be_undone)
{
    static const char *const words[] = {"fffffffffffffff8 0 0",
                                        "7ffffffffffffff8 0 0", "10000 0 0"};
    for (unsigned i = 0; i < sizeof(words) / sizeof(*words); i++) {
        ck_assert_int_eq(undo_word(words[i]), TOOL_FAILED);
        says("it cannot be undone");
    }
}
END_TEST

START_TEST(the_last_word_of_the_file_can_be_undone)
{
    ck_assert_int_eq(undo_word("fff8 7 0"), TOOL_DONE);
    ck_assert_int_eq(undo_word("fff8 0 0"), TOOL_FAILED);
    says("it cannot be undone");
    ck_assert_int_eq(undo_word("fff8 0 7"), TOOL_DONE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("repair");
    TCase *tcase = tcase_create("repair");
    tcase_add_checked_fixture(tcase, make_pool, remove_pool);
    tcase_add_test(tcase, a_word_that_is_not_in_the_file_cannot_be_undone);
    tcase_add_test(tcase, the_last_word_of_the_file_can_be_undone);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
