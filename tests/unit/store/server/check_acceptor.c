#include "store/server/acceptor.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/support/run_suite.h"

static char folder[] = "/tmp/check-acceptor-XXXXXX";
static char path[64]; /* of a UNIX socket in it */

static void make_folder(void)
{
    strcpy(folder + strlen(folder) - 6, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/socket", folder);
}

static void remove_folder(void)
{
    unlink(path);
    ck_assert_int_eq(rmdir(folder), 0);
}

/* Opens path; the error, or "". */
static const char *open_path(struct acceptor *acceptor, unsigned backlog)
{
    static char error[512];
    struct options options = {
        .unix_path = path, .unix_mask = 0700, .backlog = backlog};
    int rc = acceptor_open(acceptor, &options, error, sizeof(error));

    if (rc == 0)
        error[0] = '\0';
    else
        ck_assert_int_eq(rc, -EADDRINUSE);
    return error;
}

/* A client of path: its descriptor or -errno. */
static int join_path(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), rc;

    strcpy(address.sun_path, path);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    rc = -errno;
    close(fd);
    return rc;
}

static void must_be_served(struct acceptor *acceptor)
{
    int client = join_path(), fd = acceptor_take(acceptor, 0);

    ck_assert_int_ge(client, 0);
    ck_assert_int_ge(fd, 0);
    close(fd);
    close(client);
}

/* Somebody bound path and is gone. */
static void leave_stale(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    strcpy(address.sun_path, path);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    close(fd);
}

START_TEST(addresses_are_written_as_memcached_writes_them)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(80)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6,
                               .sin6_port = htons(11211)};
    struct sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = "/x/y"};
    char text[ADDRESS_TEXT];

    inet_pton(AF_INET, "10.1.2.3", &in.sin_addr);
    inet_pton(AF_INET6, "::1", &in6.sin6_addr);
    address_text((struct sockaddr *)&in, text);
    ck_assert_str_eq(text, "tcp:10.1.2.3:80");
    address_text((struct sockaddr *)&in6, text);
    ck_assert_str_eq(text, "tcp6:[::1]:11211");
    address_text((struct sockaddr *)&un, text);
    ck_assert_str_eq(text, "unix:/x/y");
}
END_TEST

START_TEST(the_port_file_names_each_tcp_port)
{
    static struct acceptor acceptor = {
        .n = 3,
        .listener = {{.address = "tcp:127.0.0.1:4000"},
                     {.address = "tcp6:[::1]:4001"},
                     {.address = "unix:/x", .is_unix = true}}};
    char got[200] = "";
    int fd;

    ck_assert_int_eq(acceptor_write_ports(&acceptor, path), 0);
    fd = open(path, O_RDONLY);
    ck_assert_int_gt(read(fd, got, sizeof(got) - 1), 0);
    close(fd);
    ck_assert_str_eq(got, "TCP INET: 4000\nTCP INET6: 4001\n");
}
END_TEST

START_TEST(an_address_that_is_none_is_refused_in_words)
{
    static const char *const wrong[] = {"",    "[::1",       "[::1]x",
                                        ":80", "127.0.0.1:", "1.2.3.4:x"};
    struct options options = {.port = -1, .n_listen = 1};
    static struct acceptor acceptor;

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        char error[512] = "";

        options.listen[0] = wrong[i];
        ck_assert_msg(acceptor_open(&acceptor, &options, error, sizeof(error)) <
                          0,
                      "%s", wrong[i]);
        ck_assert_msg(strncmp(error, "cannot listen on ", 17) == 0, "%s",
                      error);
        ck_assert_uint_eq(acceptor.n, 0);
    }
}
END_TEST

START_TEST(a_socket_that_somebody_listens_on_is_left_to_them)
{
    static struct acceptor first, second;
    const char *error;
    int fd;

    ck_assert_str_eq(open_path(&first, 8), "");
    error = open_path(&second, 8);
    ck_assert_msg(strstr(error, "another process listens on it; stop") != NULL,
                  "%s", error);
    ck_assert_uint_eq(second.n, 0);
    fd = acceptor_take(&first, 0); /* the one that asked */
    ck_assert_int_ge(fd, 0);
    close(fd);
    must_be_served(&first);
    acceptor_close(&first);
    ck_assert_int_eq(access(path, F_OK), -1);
}
END_TEST

START_TEST(a_socket_whose_backlog_is_full_is_left_to_its_owner)
{
    static struct acceptor first, second;
    int clients[8], n = 0;
    const char *error;

    ck_assert_str_eq(open_path(&first, 1), "");
    while (n < 8 && (clients[n] = join_path()) >= 0)
        n++;
    ck_assert_int_lt(n, 8);
    ck_assert_int_eq(clients[n], -EAGAIN);
    error = open_path(&second, 1);
    ck_assert_msg(strstr(error, "another process listens on it") != NULL, "%s",
                  error);
    while (n > 0)
        close(clients[--n]);
    ck_assert_int_eq(access(path, F_OK), 0);
    acceptor_close(&first);
}
END_TEST

START_TEST(a_socket_that_nobody_listens_on_is_replaced)
{
    static struct acceptor acceptor;

    leave_stale();
    ck_assert_int_eq(join_path(), -ECONNREFUSED);
    ck_assert_str_eq(open_path(&acceptor, 8), "");
    must_be_served(&acceptor);
    acceptor_close(&acceptor);
    ck_assert_int_eq(access(path, F_OK), -1);
}
END_TEST

START_TEST(a_socket_of_another_kind_and_a_file_are_left_alone)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    static struct acceptor acceptor;
    const char *error;
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

    strcpy(address.sun_path, path);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    error = open_path(&acceptor, 8);
    ck_assert_msg(strstr(error, "another process may use it") != NULL, "%s",
                  error);
    ck_assert_int_eq(access(path, F_OK), 0);
    close(fd);
    unlink(path);
    fd = open(path, O_CREAT | O_WRONLY, 0600);
    ck_assert_int_ge(fd, 0);
    close(fd);
    error = open_path(&acceptor, 8);
    ck_assert_msg(strncmp(error, "cannot listen on ", 17) == 0, "%s", error);
    ck_assert_int_eq(access(path, F_OK), 0);
}
END_TEST

START_TEST(what_has_taken_the_place_of_the_socket_stays_at_the_end)
{
    static struct acceptor first, second;

    ck_assert_str_eq(open_path(&first, 8), "");
    unlink(path);
    ck_assert_str_eq(open_path(&second, 8), "");
    acceptor_close(&first);
    must_be_served(&second);
    acceptor_close(&second);
    ck_assert_int_eq(access(path, F_OK), -1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("acceptor");
    TCase *t = tcase_create("acceptor");

    tcase_add_checked_fixture(t, make_folder, remove_folder);
    tcase_add_test(t, addresses_are_written_as_memcached_writes_them);
    tcase_add_test(t, the_port_file_names_each_tcp_port);
    tcase_add_test(t, an_address_that_is_none_is_refused_in_words);
    tcase_add_test(t, a_socket_that_somebody_listens_on_is_left_to_them);
    tcase_add_test(t, a_socket_whose_backlog_is_full_is_left_to_its_owner);
    tcase_add_test(t, a_socket_that_nobody_listens_on_is_replaced);
    tcase_add_test(t, a_socket_of_another_kind_and_a_file_are_left_alone);
    tcase_add_test(t, what_has_taken_the_place_of_the_socket_stays_at_the_end);
    suite_add_tcase(s, t);
    return run_suite(s);
}
