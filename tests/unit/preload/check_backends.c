#include "preload/backends.h"

#include <check.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "preload/process.h"
#include "tests/support/run_suite.h"
#include "transport/bell.h"

static char root[64];     /* below it are the devices of this host */
static char modules[512]; /* a folder for each kind of module */
static struct loop *loop;

static const struct connection_name far_away = {.family = 4,
                                                .server = {192, 0, 2, 1},
                                                .client = {192, 0, 2, 2},
                                                .server_port = 7,
                                                .client_port = 4711};

static int keep(int fd)
{
    return fd;
}

static void let_go(int fd)
{
    close(fd);
}

static void make_folder(const char *below)
{
    char path[200];

    snprintf(path, sizeof(path), "%s%s", root, below);
    ck_assert_int_eq(mkdir(path, 0700), 0);
}

static void remove_folder(const char *below)
{
    char path[200];

    snprintf(path, sizeof(path), "%s%s", root, below);
    rmdir(path);
}

static void add_device(void)
{
    make_folder("/sys/class/infiniband/mlx5_0");
}

static void start(void)
{
    static const struct loop_calls calls = {keep, let_go};
    static const struct link_events events;
    struct backend_config config = {.max_links = 10, .max_memory = 1 << 20};

    strcpy(root, "/tmp/check_backends.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
    make_folder("/sys");
    make_folder("/sys/class");
    make_folder("/sys/class/infiniband");
    settings_defaults(&process.settings);
    process.settings.log_level = LOG_NONE;
    unsetenv("MODULE_LOADED");
    unsetenv("MODULE_FAILS");
    unsetenv("MODULE_INSTANCES");
    ck_assert_int_eq(loop_create(&calls, &loop), 0);
    config.ringer = bell_ringer_open();
    backends_start(loop, &config, &events);
}

static void stop(void)
{
    remove_folder("/sys/class/infiniband/mlx5_0");
    remove_folder("/sys/class/infiniband");
    remove_folder("/sys/class");
    remove_folder("/sys");
    remove_folder("");
    settings_free(&process.settings);
}

static void look(const char *kind, bool secure)
{
    char folder[600];

    snprintf(folder, sizeof(folder), "%s/%s", modules, kind);
    backends_look_in(root, folder, secure);
}

static bool was_loaded(void)
{
    return getenv("MODULE_LOADED") != NULL;
}

/* The reason why that transport cannot be had; "none": it can. */
static const char *why_not(const char *transport)
{
    const char *at = transport;
    enum reason why;
    struct backend *b = backends_next(&at, &far_away, &why);

    ck_assert_str_eq(at, "");
    ck_assert_int_eq(b != NULL, why == REASON_NONE);
    return reason_token(why);
}

static void must_be(const char **at, const char *name)
{
    enum reason why;
    struct backend *b = backends_next(at, &far_away, &why);

    ck_assert_str_eq(reason_token(why), "none");
    if (name == NULL) {
        ck_assert_ptr_null(b);
        return;
    }
    ck_assert_ptr_nonnull(b);
    /* The module's instance has no ops: it is nobody else's. */
    ck_assert_str_eq(b->ops != NULL ? b->ops->name : "verbs", name);
}

START_TEST(transports_come_in_the_order_of_the_list_and_then_it_has_ended)
{
    const char *one = "shm,verbs", *other = "verbs,shm", *alone = "verbs";

    add_device();
    look("sound", false);
    must_be(&one, "shm");
    must_be(&one, "verbs");
    must_be(&one, NULL);
    must_be(&other, "verbs");
    must_be(&other, "shm");
    must_be(&other, NULL);
    must_be(&alone, "verbs");
    must_be(&alone, NULL);
    ck_assert_str_eq(getenv("MODULE_INSTANCES"), "1");
}
END_TEST

START_TEST(a_name_that_nobody_knows_is_passed_over)
{
    static const char *const names[] = {"sh", "shmm", "pigeon", "verb"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char list[40];
        const char *at = list;
        enum reason why;

        snprintf(list, sizeof(list), "%s,shm", names[i]);
        ck_assert_ptr_null(backends_next(&at, &far_away, &why));
        ck_assert_str_eq(reason_token(why), "other_host");
        must_be(&at, "shm");
    }
}
END_TEST

START_TEST(without_a_device_nothing_is_loaded)
{
    look("sound", false);
    ck_assert(!backends_between_hosts);
    ck_assert_str_eq(why_not("verbs"), "no_device");
    ck_assert(!was_loaded());
    ck_assert_str_eq(why_not("shm"), "none");
}
END_TEST

START_TEST(without_the_folder_of_devices_nothing_is_loaded)
{
    remove_folder("/sys/class/infiniband");
    look("sound", false);
    ck_assert(!backends_between_hosts);
    ck_assert_str_eq(why_not("verbs"), "no_device");
    ck_assert(!was_loaded());
}
END_TEST

START_TEST(a_module_is_loaded_when_it_is_first_needed_and_once)
{
    add_device();
    look("sound", false);
    ck_assert(backends_between_hosts);
    ck_assert(!was_loaded());
    ck_assert_str_eq(why_not("shm"), "none");
    ck_assert(!was_loaded());
    ck_assert_str_eq(why_not("verbs"), "none");
    ck_assert(was_loaded());
    ck_assert_str_eq(why_not("verbs"), "none");
    ck_assert_str_eq(getenv("MODULE_INSTANCES"), "1");
}
END_TEST

START_TEST(what_nobody_wants_is_not_loaded)
{
    add_device();
    strcpy(process.settings.transports, "shm");
    look("sound", false);
    ck_assert(!backends_between_hosts);
    ck_assert_str_eq(why_not("verbs"), "no_device");
    ck_assert(!was_loaded());
}
END_TEST

START_TEST(what_a_rule_wants_may_be_loaded)
{
    char error[RULE_ERROR_MAX];

    add_device();
    strcpy(process.settings.transports, "shm");
    ck_assert_int_eq(
        rules_parse(&process.settings.rules, "port=1,transports=verbs", error),
        0);
    look("sound", false);
    ck_assert(backends_between_hosts);
    ck_assert_str_eq(why_not("verbs"), "none");
}
END_TEST

START_TEST(with_more_rights_than_its_caller_a_program_loads_nothing)
{
    add_device();
    look("sound", true);
    ck_assert(!backends_between_hosts);
    ck_assert_str_eq(why_not("verbs"), "no_module");
    ck_assert(!was_loaded());
    ck_assert_str_eq(why_not("shm"), "none");
}
END_TEST

START_TEST(a_module_that_is_not_there_is_a_reason_and_not_looked_for_again)
{
    char here[600], there[600];

    add_device();
    backends_look_in(root, root, false);
    ck_assert(backends_between_hosts);
    ck_assert_str_eq(why_not("verbs"), "no_module");
    snprintf(here, sizeof(here), "%s/sound/libfastsock-verbs.so", modules);
    snprintf(there, sizeof(there), "%s/libfastsock-verbs.so", root);
    ck_assert_int_eq(symlink(here, there), 0);
    ck_assert_str_eq(why_not("verbs"), "no_module");
    unlink(there);
    ck_assert(!was_loaded());
    ck_assert_str_eq(why_not("shm"), "none");
}
END_TEST

START_TEST(without_a_folder_of_modules_none_is_loaded)
{
    add_device();
    backends_look_in(root, "/nowhere/at/all", false);
    ck_assert(!backends_between_hosts);
    ck_assert_str_eq(why_not("verbs"), "no_module");
}
END_TEST

/* Is a module of that kind mapped? */
static bool is_open(const char *kind)
{
    char path[600];
    void *handle;

    snprintf(path, sizeof(path), "%s/%s/libfastsock-verbs.so", modules, kind);
    handle = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
    if (handle != NULL)
        dlclose(handle);
    return handle != NULL;
}

START_TEST(a_module_of_another_version_is_closed_and_never_asked)
{
    add_device();
    look("other_version", false);
    ck_assert_str_eq(why_not("verbs"), "no_module");
    ck_assert(was_loaded());
    ck_assert(!is_open("other_version"));
    unsetenv("MODULE_LOADED");
    ck_assert_str_eq(why_not("verbs"), "no_module");
    ck_assert(!was_loaded());
    ck_assert_ptr_null(getenv("MODULE_INSTANCES"));
}
END_TEST

START_TEST(a_module_without_the_name_that_it_should_export_is_closed)
{
    add_device();
    look("no_name", false);
    ck_assert_str_eq(why_not("verbs"), "no_module");
    ck_assert(was_loaded());
    ck_assert(!is_open("no_name"));
    ck_assert_str_eq(why_not("shm"), "none");
}
END_TEST

START_TEST(a_transport_that_does_not_start_is_not_started_again)
{
    static const struct {
        int error;
        const char *why;
    } cases[] = {{ENODEV, "no_device"}, {ENOMEM, "no_memory"}};
    char number[12];

    add_device();
    look("sound", false);
    snprintf(number, sizeof(number), "%d", cases[_i].error);
    setenv("MODULE_FAILS", number, 1);
    ck_assert_str_eq(why_not("verbs"), cases[_i].why);
    unsetenv("MODULE_FAILS");
    ck_assert_str_eq(why_not("verbs"), cases[_i].why);
    ck_assert_str_eq(getenv("MODULE_INSTANCES"), "1");
}
END_TEST

START_TEST(between_loopback_addresses_no_device_is_sought)
{
    static const struct connection_name near[] = {
        {.family = 4, .server = {127, 0, 0, 1}, .client = {127, 0, 0, 1}},
        {.family = 6, .server = {[15] = 1}, .client = {[15] = 1}}};
    const char *at = "verbs,shm";
    enum reason why;

    add_device();
    look("sound", false);
    ck_assert_ptr_null(backends_next(&at, &near[_i], &why));
    ck_assert_str_eq(reason_token(why), "no_route");
    ck_assert_ptr_nonnull(backends_next(&at, &near[_i], &why));
    ck_assert(!was_loaded());
    /* Of that connection only. */
    ck_assert_str_eq(why_not("verbs"), "none");
}
END_TEST

START_TEST(who_is_met_over_a_device_has_to_prove_who_it_is)
{
    const char *at = "shm,verbs";
    enum reason why;

    add_device();
    look("sound", false);
    ck_assert(!backend_needs_proof(backends_next(&at, &far_away, &why)));
    ck_assert(backend_needs_proof(backends_next(&at, &far_away, &why)));
}
END_TEST

START_TEST(after_a_fork_a_device_is_not_used_and_shared_memory_anew)
{
    const char *at = "shm";
    struct backend *before, *after;
    enum reason why;

    add_device();
    look("sound", false);
    before = backends_next(&at, &far_away, &why);
    ck_assert_str_eq(why_not("verbs"), "none");
    backends_after_fork();
    ck_assert_str_eq(why_not("verbs"), "fork");
    ck_assert_str_eq(getenv("MODULE_INSTANCES"), "1");
    at = "shm";
    after = backends_next(&at, &far_away, &why);
    ck_assert_ptr_nonnull(after);
    ck_assert_ptr_ne(after, before);
    before->ops->destroy(before);
    after->ops->destroy(after);
}
END_TEST

/* They are beside this program. */
static void find_modules(void)
{
    char *slash;

    if (realpath("/proc/self/exe", modules) == NULL)
        abort();
    slash = strrchr(modules, '/');
    snprintf(slash, sizeof(modules) - (size_t)(slash - modules), "/modules");
}

int main(void)
{
    Suite *suite = suite_create("backends");
    TCase *tc = tcase_create("backends");

    find_modules();
    tcase_add_checked_fixture(tc, start, stop);
    tcase_add_test(
        tc, transports_come_in_the_order_of_the_list_and_then_it_has_ended);
    tcase_add_test(tc, a_name_that_nobody_knows_is_passed_over);
    tcase_add_test(tc, without_a_device_nothing_is_loaded);
    tcase_add_test(tc, without_the_folder_of_devices_nothing_is_loaded);
    tcase_add_test(tc, a_module_is_loaded_when_it_is_first_needed_and_once);
    tcase_add_test(tc, what_nobody_wants_is_not_loaded);
    tcase_add_test(tc, what_a_rule_wants_may_be_loaded);
    tcase_add_test(tc,
                   with_more_rights_than_its_caller_a_program_loads_nothing);
    tcase_add_test(
        tc, a_module_that_is_not_there_is_a_reason_and_not_looked_for_again);
    tcase_add_test(tc, without_a_folder_of_modules_none_is_loaded);
    tcase_add_test(tc, a_module_of_another_version_is_closed_and_never_asked);
    tcase_add_test(tc,
                   a_module_without_the_name_that_it_should_export_is_closed);
    tcase_add_loop_test(
        tc, a_transport_that_does_not_start_is_not_started_again, 0, 2);
    tcase_add_loop_test(tc, between_loopback_addresses_no_device_is_sought, 0,
                        2);
    tcase_add_test(tc, who_is_met_over_a_device_has_to_prove_who_it_is);
    tcase_add_test(tc,
                   after_a_fork_a_device_is_not_used_and_shared_memory_anew);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
