/*
 * Two streams over a fake kernel that gives what the test lets through, at the
 * moments in which one of them waits at `arrive`.
 */
#ifndef TESTS_UNIT_TRANSPORT_STREAM_OVERLAY_PAIR_H
#define TESTS_UNIT_TRANSPORT_STREAM_OVERLAY_PAIR_H

#include <check.h>
#include <sys/ioctl.h>

#include "tests/unit/transport/stream/two_ends.h"

static struct two_ends pair;

static inline void prepare_over(bool device)
{
    struct two_ends_settings s = {.tcp = {.buffer = 4096, .by_hand = true},
                                  .device = device,
                                  .ring = 256,
                                  .seed = 5};

    two_ends_start(&pair, &s);
    pair.end[0].no_up = true;
}

static inline void prepare(void)
{
    prepare_over(false);
}

/* The initiator has said SWITCH; the other end waits at `arrive`. */
static inline void prepare_switch(void)
{
    prepare();
    ck_assert_int_eq(stream_try_up(&pair.end[0].stream), 0);
    ck_assert(fake_deliver(&pair.wire, 0));
    ck_assert(fake_deliver(&pair.wire, 1));
    ck_assert_int_eq(pair.end[0].stream.h.stage, STAGE_SWITCHED);
    ck_assert_int_eq(pair.end[1].stream.h.stage, STAGE_ACCEPTED);
}

/* The initiator has proposed; whatever its TCP carries now is raw. */
static inline void prepare_raw_over(bool device, bool cancel)
{
    prepare_over(device);
    ck_assert_int_eq(stream_try_up(&pair.end[0].stream), 0);
    ck_assert(fake_deliver(&pair.wire, 0));
    if (cancel)
        stream_hold_expired(&pair.end[0].stream);
}

static inline void prepare_raw_at_arrive(bool cancel)
{
    prepare_raw_over(false, cancel);
}

static inline void expected_switch(uint8_t out[RECORD_SIZE])
{
    struct control_record r;

    handover_expected_switch(&pair.end[1].stream.h, &r);
    record_encode(&r, out);
}

static inline void raw(const void *bytes, size_t n)
{
    fake_tcp_foreign_write(pair.end[0].fd, bytes, n);
    fake_tcp_deliver(pair.end[0].fd, n);
    while (end_help(&pair.end[1]))
        ;
}

static inline ssize_t read_at_1(uint8_t *to, size_t n)
{
    struct iovec iov = {to, n};

    return stream_bare_enter(&pair.end[1].stream)
               ? (stream_bare_leave(&pair.end[1].stream),
                  fake_tcp_calls.recv(pair.end[1].fd, to, n, 0))
               : stream_recv(&pair.end[1].stream, &iov, 1, 0);
}

static inline int unread_by_kernel(void)
{
    int n = -1;

    ck_assert_int_eq(fake_tcp_calls.ioctl(pair.end[1].fd, FIONREAD, &n), 0);
    return n;
}

#endif
