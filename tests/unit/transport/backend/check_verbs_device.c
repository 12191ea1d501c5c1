/*
 * Who looks at a completion queue, with a device that is made here: what the
 * library calls of it is answered below, and at a moment of the test's choice
 * something completes and another thread looks.
 */
#include "transport/backend/verbs_private.h"

#include <check.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/support/run_suite.h"

static struct verbs_device device;
static struct ibv_context context;
static struct ibv_comp_channel channel;
static struct ibv_cq queue;
static bool armed;
static unsigned completed, events;
static void (*then)(void); /* once, with a lock of the device held */

int ibv_get_cq_event(struct ibv_comp_channel *from, struct ibv_cq **cq,
                     void **arg)
{
    uint64_t count;

    if (read(from->fd, &count, sizeof(count)) != (ssize_t)sizeof(count))
        return -1;
    events += (unsigned)count;
    *cq = &queue;
    *arg = NULL;
    return 0;
}

void ibv_ack_cq_events(struct ibv_cq *cq, unsigned n)
{
    ck_assert_ptr_eq(cq, &queue);
    ck_assert_uint_le(n, events);
    events -= n;
}

static void now(void)
{
    void (*what)(void) = then;

    then = NULL;
    if (what != NULL)
        what();
}

static int arm(struct ibv_cq *cq, int solicited)
{
    ck_assert(cq == &queue && !solicited);
    armed = true;
    now();
    return 0;
}

/* Of a peer that there is none of. */
static int poll_queue(struct ibv_cq *cq, int n, struct ibv_wc *wc)
{
    ck_assert(cq == &queue && n > 0);
    if (completed == 0) {
        now();
        return 0;
    }
    *wc = (struct ibv_wc){.wr_id = 0};
    completed--;
    return 1;
}

static void start(void)
{
    context.ops.poll_cq = poll_queue;
    context.ops.req_notify_cq = arm;
    queue.context = &context;
    channel.fd = eventfd(0, EFD_NONBLOCK);
    ck_assert_int_ge(channel.fd, 0);
    device.cq = &queue;
    device.channel = &channel;
    armed = true;
}

static void completes(void)
{
    uint64_t one = 1;

    completed++;
    if (armed)
        ck_assert_int_eq(write(channel.fd, &one, sizeof(one)), sizeof(one));
    armed = false;
}

static void *takes_event(void *arg)
{
    (void)arg;
    verbs_take_event(&device);
    return NULL;
}

static void *polls(void *arg)
{
    (void)arg;
    verbs_poll(&device, true);
    return NULL;
}

static void another(void *(*does)(void *))
{
    pthread_t thread;

    ck_assert_int_eq(pthread_create(&thread, NULL, does, NULL), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
}

static void completes_and_is_seen(void)
{
    completes();
    another(takes_event);
}

static void completes_and_is_asked_for(void)
{
    completes();
    another(polls);
}

/* The next completion makes an event that somebody is told of. */
static void nothing_is_left(void)
{
    uint64_t count;

    ck_assert_uint_eq(completed, 0);
    ck_assert_uint_eq(events, 0);
    ck_assert_msg(armed, "nobody will be told of what completes");
    ck_assert_int_lt(read(channel.fd, &count, sizeof(count)), 0);
}

START_TEST(an_event_is_taken_and_the_queue_armed_and_read)
{
    completes();
    verbs_take_event(&device);
    nothing_is_left();
    verbs_take_event(&device);
    nothing_is_left();
}
END_TEST

START_TEST(an_event_that_comes_while_one_is_taken_is_not_left)
{
    completes();
    then = completes_and_is_seen;
    verbs_take_event(&device);
    ck_assert_ptr_null(then);
    nothing_is_left();
}
END_TEST

START_TEST(what_completes_while_the_queue_is_read_is_read)
{
    then = completes_and_is_asked_for;
    verbs_poll(&device, true);
    ck_assert_ptr_null(then);
    ck_assert_uint_eq(completed, 0);
    verbs_take_event(&device);
    nothing_is_left();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("verbs_device");
    TCase *tc = tcase_create("verbs_device");

    tcase_add_checked_fixture(tc, start, NULL);
    tcase_add_test(tc, an_event_is_taken_and_the_queue_armed_and_read);
    tcase_add_test(tc, an_event_that_comes_while_one_is_taken_is_not_left);
    tcase_add_test(tc, what_completes_while_the_queue_is_read_is_read);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
