#include "preload/fastsock_tree.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/run_suite.h"

static char tree[32];
static int root;

static const char *path_of(const char *name)
{
    static char path[256];

    snprintf(path, sizeof(path), "%s%s", tree, name);
    return path;
}

static void put_bytes(const char *name, const char *bytes, size_t len)
{
    FILE *file = fopen(path_of(name), "w");

    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(bytes, 1, len, file), len);
    ck_assert_int_eq(fclose(file), 0);
}

static void put(const char *name, const char *text)
{
    put_bytes(name, text, strlen(text));
}

static void put_link(const char *name, const char *target)
{
    ck_assert_int_eq(symlink(target, path_of(name)), 0);
}

static void setup(void)
{
    strcpy(tree, "/tmp/check_tree.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(tree));
    root = tree_open(tree);
    ck_assert_int_ge(root, 0);
}

static int remove_one(const char *path, const struct stat *st, int flag,
                      struct FTW *at)
{
    (void)st;
    (void)flag;
    (void)at;
    return remove(path);
}

static void teardown(void)
{
    close(root);
    nftw(tree, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

START_TEST(without_a_folder_it_is_this_machine)
{
    char line[64];

    ck_assert_int_eq(tree_open(NULL), AT_FDCWD);
    ck_assert_int_eq(tree_open("/dev/null"), -ENOTDIR);
    ck_assert(tree_has(AT_FDCWD, "/proc/self"));
    ck_assert_int_gt(tree_line(AT_FDCWD, "/proc/self/comm", line, sizeof(line)),
                     0);
    ck_assert_int_eq(tree_may_use(AT_FDCWD, "/dev/null"), 0);
}
END_TEST

/* A kernel without openat2 follows none; then nothing can be read. */
START_TEST(links_do_not_lead_out_of_the_tree)
{
    char line[64];

    put("/inside", "inside\n");
    put_link("/absolute", "/inside");
    put_link("/upwards", "../../../../../../../../inside");
    put_link("/outwards", "/proc/self/comm");
    put_link("/circle", "circle");
    if (tree_line(root, "/absolute", line, sizeof(line)) > 0) {
        ck_assert_str_eq(line, "inside");
        ck_assert_int_gt(tree_line(root, "/upwards", line, sizeof(line)), 0);
        ck_assert_str_eq(line, "inside");
    }
    ck_assert_int_lt(tree_line(root, "/outwards", line, sizeof(line)), 0);
    ck_assert_int_lt(tree_line(root, "/circle", line, sizeof(line)), 0);
    ck_assert_int_lt(tree_line(root, "/../inside/x", line, sizeof(line)), 0);
}
END_TEST

START_TEST(a_file_is_cut_to_the_room_for_it)
{
    char line[8];

    put("/long", "  0123456789\n");
    ck_assert_int_eq(tree_line(root, "/long", line, sizeof(line)), 5);
    ck_assert_str_eq(line, "01234");
    put("/blank", " \t \nx");
    ck_assert_int_eq(tree_line(root, "/blank", line, sizeof(line)), 0);
    put_bytes("/nul", "ab\0cd", 5);
    ck_assert_int_eq(tree_line(root, "/nul", line, sizeof(line)), 2);
    ck_assert_int_eq(tree_line(root, "/absent", line, sizeof(line)), -ENOENT);
    ck_assert_str_eq(line, "");
}
END_TEST

START_TEST(only_plain_files_are_read)
{
    char line[8];

    ck_assert_int_eq(mkfifo(path_of("/fifo"), 0644), 0);
    ck_assert_int_eq(mkdir(path_of("/folder"), 0755), 0);
    ck_assert_int_eq(tree_line(root, "/fifo", line, sizeof(line)), -EINVAL);
    ck_assert_int_eq(tree_line(root, "/folder", line, sizeof(line)), -EINVAL);
    ck_assert_int_eq(tree_may_use(root, "/fifo"), 0);
    ck_assert_int_eq(tree_may_use(root, "/absent"), -ENOENT);
}
END_TEST

START_TEST(names_are_sorted_and_too_many_are_cut)
{
    static struct tree_names names;
    char name[64];

    ck_assert_int_eq(mkdir(path_of("/many"), 0755), 0);
    put("/many/p10", "");
    put("/many/p9", "");
    put("/many/.hidden", "");
    ck_assert_int_eq(tree_list(root, "/many", &names), 0);
    ck_assert_uint_eq(names.n, 2);
    ck_assert_str_eq(names.name[0], "p9");
    ck_assert(!names.more);
    for (int i = 0; i < TREE_NAMES_MAX; i++) {
        snprintf(name, sizeof(name), "/many/%d", i);
        put(name, "");
    }
    ck_assert_int_eq(tree_list(root, "/many", &names), 0);
    ck_assert_uint_eq(names.n, TREE_NAMES_MAX);
    ck_assert(names.more);
    ck_assert_int_eq(tree_list(root, "/absent", &names), -ENOENT);
    ck_assert_uint_eq(names.n, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("fastsock_tree");
    TCase *t = tcase_create("fastsock_tree");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, without_a_folder_it_is_this_machine);
    tcase_add_test(t, links_do_not_lead_out_of_the_tree);
    tcase_add_test(t, a_file_is_cut_to_the_room_for_it);
    tcase_add_test(t, only_plain_files_are_read);
    tcase_add_test(t, names_are_sorted_and_too_many_are_cut);
    suite_add_tcase(s, t);
    return run_suite(s);
}
