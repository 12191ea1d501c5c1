/*
 * A SWITCH that the kernel's window has cut: with a few bytes of a large buffer
 * unread it has no room for the rest, so looking alone never sees it whole.
 */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/run_suite.h"
#include "transport/stream/kernel_calls.h"
#include "transport/stream/overlay.h"

enum { A_WRITE = 6 * RECORD_SIZE };

static struct stream_calls owner;
static struct stream_bytes bytes;
static struct stream stream;
static int writer, reader;
static const int buffers[] = {4096, 16384, 65536, 131072, 0}; /* 0: as it is */

static void open_streams(int buffer)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof(at);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (buffer != 0)
        ck_assert_int_eq(setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &buffer,
                                    sizeof(buffer)),
                         0);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    writer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&at, len), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&at, &len), 0);
    ck_assert_int_eq(connect(writer, (struct sockaddr *)&at, len), 0);
    reader = accept(listener, NULL, NULL);
    ck_assert_int_ge(reader, 0);
    close(listener);
    stream_init(&stream, reader, false, &tcp_calls_kernel, &owner, &bytes);
    stream.h.stage = STAGE_ACCEPTED;
    stream.h.tag_in = 0x0123456789abcdef;
    stream.h.epoch = 1;
}

/* Nothing but SWITCH, one after the other, until the kernel takes no more. */
static void fill(void)
{
    uint8_t records[A_WRITE];
    struct control_record r;

    handover_expected_switch(&stream.h, &r);
    for (int i = 0; i < A_WRITE; i += RECORD_SIZE)
        record_encode(&r, records + i);
    for (int quiet = 0; quiet < 20; quiet++) {
        while (send(writer, records, A_WRITE, MSG_DONTWAIT) > 0)
            quiet = 0;
        usleep(5000);
    }
}

static int unread(void)
{
    int n = -1;

    ck_assert_int_eq(ioctl(reader, FIONREAD, &n), 0);
    return n;
}

static void drop(size_t n)
{
    static uint8_t to[65536];

    while (n > 0) {
        ssize_t rc =
            recv(reader, to, n < sizeof(to) ? n : sizeof(to), MSG_DONTWAIT);

        ck_assert_int_gt(rc, 0);
        n -= (size_t)rc;
    }
}

START_TEST(the_rest_of_it_comes)
{
    int cut = 0;
    int rc;

    open_streams(buffers[_i]);
    /* The window cuts where it likes: `cut` bytes of it shall lie there. */
    fill();
    cut = unread() % RECORD_SIZE;
    drop((size_t)(unread() - cut));
    stream.h.took = stream.h.arrive = 0;
    for (int i = 0; (rc = overlay_get_switch(&stream)) == -EAGAIN; i++) {
        struct pollfd p = {.fd = reader, .events = POLLIN};

        ck_assert_msg(i < 2000, "%d bytes of it, and no more", cut);
        poll(&p, 1, 1);
        usleep(1000);
    }
    ck_assert_int_eq(rc, 1);
    ck_assert_uint_eq(stream.extra_in, RECORD_SIZE);
    ck_assert_uint_eq(stream.in_have, 0);
    close(writer);
    close(reader);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("switch window");
    TCase *tc = tcase_create("window");

    tcase_set_timeout(tc, 30);
    tcase_add_loop_test(tc, the_rest_of_it_comes, 0,
                        sizeof(buffers) / sizeof(buffers[0]));
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
