#include "store/server/acceptor.h"

#include <arpa/inet.h>
#include <check.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/support/run_suite.h"

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
    char path[] = "/tmp/check-acceptor-XXXXXX", got[200] = "";
    int fd = mkstemp(path);

    ck_assert_int_ge(fd, 0);
    close(fd);
    ck_assert_int_eq(acceptor_write_ports(&acceptor, path), 0);
    fd = open(path, O_RDONLY);
    ck_assert_int_gt(read(fd, got, sizeof(got) - 1), 0);
    close(fd);
    unlink(path);
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

int main(void)
{
    Suite *s = suite_create("acceptor");
    TCase *t = tcase_create("acceptor");

    tcase_add_test(t, addresses_are_written_as_memcached_writes_them);
    tcase_add_test(t, the_port_file_names_each_tcp_port);
    tcase_add_test(t, an_address_that_is_none_is_refused_in_words);
    suite_add_tcase(s, t);
    return run_suite(s);
}
