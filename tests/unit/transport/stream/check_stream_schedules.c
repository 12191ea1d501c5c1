/*
 * Streams under random schedules: two ends, a fake kernel, a fake wire, and
 * for each seed another order of events and another mixture of faults.
 *
 * What must hold in every one: each byte arrives once and in order; end of
 * file comes after the last byte and at no other place; who is not told so
 * is told ECONNRESET, and that only when something deadly has happened; and
 * nobody gets stuck.
 *
 * Scenarios of docs/handover.md, section 13, in passing: 2, 4-12, 15-17, 20,
 * 21. SEED=n runs that seed alone; LONG=1 runs thirty times as many.
 */
#include "tests/unit/transport/stream/two_ends.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/run_suite.h"

/* What may happen besides writing, reading and going up and down. */
enum fault {
    FAULT_BREAK = 1,    /* the link breaks */
    FAULT_CHANNEL = 2,  /* the channel dies, with or without its messages */
    FAULT_SHUT = 4,     /* an end shuts down early */
    FAULT_CLOSE = 8,    /* an end closes */
    FAULT_EXIT = 16,    /* a process exits */
    FAULT_KILL = 32,    /* a process is killed */
    FAULT_SIGNALS = 64, /* EINTR, EAGAIN, short writes */
    FAULT_BARE = 128,   /* bare reads that last */
    FAULT_ALL = 255,
};

enum { STEPS = 220, TRACE = 4096 };

static struct two_ends pair;
static uint64_t chance;
static unsigned faults;
static uint64_t total;
static size_t most; /* bytes of one write or read */
static bool deadly;
static char trace[TRACE];
static int at_trace;

static unsigned pick(unsigned n)
{
    return (unsigned)(fake_random(&chance) % n);
}

static void note(char what, int side)
{
    if (at_trace < TRACE - 3) {
        trace[at_trace++] = what;
        trace[at_trace++] = (char)('0' + side);
        trace[at_trace] = 0;
    }
}

static void prepare(uint64_t seed, unsigned wanted)
{
    struct two_ends_settings s = {.seed = seed};

    chance = seed * 0x9e3779b97f4a7c15 + 1;
    for (int i = 0; i < 4; i++)
        fake_random(&chance);
    faults = wanted;
    deadly = false;
    at_trace = 0;
    trace[0] = 0;
    s.tcp.by_hand = pick(4) != 0;
    s.tcp.buffer = pick(2) ? 48 + pick(200) : 4096;
    s.ring = 8u << pick(5);
    s.link_by_hand = pick(2);
    s.device = seed & 1;
    s.careful = seed & 2 ? 1 + (unsigned)(seed >> 2) % 3 : 0;
    total = pick(3) ? 1 + pick(80) : pick(400);
    most = pick(3) ? 1 + pick(20) : 100;
    if (faults & FAULT_SIGNALS) {
        s.tcp.interrupts = pick(30);
        s.tcp.again = pick(30);
        s.tcp.short_writes = pick(128);
    }
    two_ends_start(&pair, &s);
    pair.end[1].stream.h.leave_room = pair.end[0].stream.h.leave_room =
        pick(2) ? 4 : 32768;
    pair.wire.break_at = (faults & FAULT_BREAK) ? 1 + pick(40) : 0;
}

static void application(struct end *e)
{
    size_t n = 1 + pick((unsigned)most);

    if (!end_is_alive(e) || e->closing || e->leaving)
        return;
    switch (pick(8)) {
    case 0:
    case 1:
    case 2:
        if (e->shut || e->write_error != 0 || e->wrote >= total)
            break;
        if (n > total - e->wrote)
            n = (size_t)(total - e->wrote);
        note('w', e->side);
        if (end_write(e, n) == STREAM_HELD && pick(40) == 0) {
            note('h', e->side);
            stream_hold_expired(&e->stream);
        }
        break;
    case 3:
        if ((faults & FAULT_BARE) && !e->eof && e->read_error == 0) {
            note('b', e->side);
            end_bare_step(e);
            break;
        }
        /* fall through */
    default:
        if (!e->eof && e->read_error == 0) {
            note('r', e->side);
            end_read(e, n);
        }
    }
}

static void traffic(int side)
{
    switch (pick(4)) {
    case 0:
        note('t', side);
        fake_tcp_deliver(pair.end[side].fd, pick(2) ? 1 + pick(60) : 1);
        break;
    case 1:
        note('l', side);
        fake_land(&pair.wire, side, pick(10));
        break;
    case 2:
        note('m', side);
        fake_deliver(&pair.wire, side);
        break;
    default:
        end_notice_dead_channel(&pair.end[side]);
    }
}

static void want_up_or_down(struct end *e)
{
    struct stream *s = &e->stream;

    if (!end_is_alive(e) || e->closing || e->leaving)
        return;
    if (s->wish == WISH_RETURN && stream_on_tcp(s)) {
        note('n', e->side);
        stream_wish(s, WISH_NONE, REASON_NONE);
    } else if (e->side == 0 && s->h.stage == STAGE_RAW && !pair.wire.broken) {
        note('u', e->side);
        stream_try_up(s);
    } else if (pick(stream_is_up(s) ? 4 : 30) == 0 || pair.wire.broken) {
        note('d', e->side);
        stream_wish(s, WISH_RETURN, REASON_WANTED);
    }
}

static void disaster(struct end *e)
{
    if (!end_is_alive(e) || e->closing || e->leaving)
        return;
    switch (1u << pick(6)) {
    case FAULT_CHANNEL:
        if (!(faults & FAULT_CHANNEL) || pair.wire.channel_dead)
            break;
        note('C', e->side);
        fake_channel_end(&pair.wire, pick(2), pick(2));
        break;
    case FAULT_SHUT:
        if (!(faults & FAULT_SHUT) || e->shut || pick(3) != 0)
            break;
        note('S', e->side);
        end_shutdown(e);
        break;
    case FAULT_CLOSE:
        if (!(faults & FAULT_CLOSE))
            break;
        note('X', e->side);
        deadly = true;
        end_close(e);
        break;
    case FAULT_EXIT:
        if (!(faults & FAULT_EXIT) || e->bare != BARE_NONE)
            break;
        note('E', e->side);
        deadly = true;
        end_exit(e);
        break;
    case FAULT_KILL:
        if (!(faults & FAULT_KILL))
            break;
        note('K', e->side);
        deadly = true;
        end_kill(e);
        break;
    default:
        break;
    }
}

static void step(void)
{
    int side = (int)pick(2);
    unsigned dice = pick(64);

    if (dice < 28)
        application(&pair.end[side]);
    else if (dice < 48)
        traffic(side);
    else if (dice < 59) {
        note('p', side);
        end_help(&pair.end[side]);
        if (end_is_alive(&pair.end[side]) && pick(4) == 0) {
            stream_rest(&pair.end[side].stream);
            stream_rest(&pair.end[side].stream);
            stream_stir(&pair.end[side].stream);
        }
    } else if (dice < 63)
        want_up_or_down(&pair.end[side]);
    else
        disaster(&pair.end[side]);
}

static void judge(uint64_t seed, bool finished)
{
    const char *wrong = pair.wrong;

    if (wrong == NULL && !finished)
        wrong = "stuck";
    for (int i = 0; i < 2 && wrong == NULL; i++) {
        struct end *e = &pair.end[i];

        if (e->closed || e->gone || e->eof)
            continue;
        if (!deadly)
            wrong = "an error out of nothing";
        else if (e->read_error != ECONNRESET)
            wrong = "an error that a reader does not expect";
    }
    if (wrong != NULL)
        ck_abort_msg("seed %lu faults %u: %s\n%s\n%s", (unsigned long)seed,
                     faults, wrong, two_ends_where(&pair), trace);
}

static unsigned long ups;

static void run(uint64_t seed, unsigned wanted)
{
    bool finished;

    prepare(seed, wanted);
    for (int i = 0; i < STEPS && pair.wrong == NULL; i++)
        step();
    finished = two_ends_finish(&pair, total);
    judge(seed, finished);
    ups += pair.end[0].stream.ups;
}

static void run_many(uint64_t first, int n, unsigned wanted)
{
    const char *one = getenv("SEED"), *longer = getenv("LONG");

    ups = 0;
    if (longer != NULL)
        n *= 30;
    if (one != NULL) {
        first = strtoull(one, NULL, 10);
        n = 1;
    }
    for (int i = 0; i < n; i++)
        run(first + (uint64_t)i, wanted);
    /* The property would hold as well for streams that never go up. */
    if (n > 1)
        ck_assert_uint_gt(ups,
                          (unsigned long)n / (wanted == FAULT_ALL ? 20 : 5));
}

START_TEST(without_faults_every_byte_arrives_once_and_in_order)
{
    run_many(1, 4000, 0);
}
END_TEST

START_TEST(calls_that_are_interrupted_or_cut_short_lose_nothing)
{
    run_many(1000000, 3000, FAULT_SIGNALS | FAULT_BARE);
}
END_TEST

START_TEST(a_broken_link_loses_nothing)
{
    run_many(2000000, 4000, FAULT_BREAK | FAULT_SIGNALS);
}
END_TEST

START_TEST(a_dead_channel_loses_nothing)
{
    run_many(3000000, 3000, FAULT_CHANNEL | FAULT_BREAK);
}
END_TEST

START_TEST(a_half_closed_stream_ends_after_its_last_byte)
{
    run_many(4000000, 3000, FAULT_SHUT | FAULT_CHANNEL);
}
END_TEST

START_TEST(after_a_close_there_is_no_short_end_of_file)
{
    run_many(5000000, 3000, FAULT_CLOSE | FAULT_SHUT);
}
END_TEST

START_TEST(after_an_exit_there_is_no_short_end_of_file)
{
    run_many(6000000, 3000, FAULT_EXIT | FAULT_SHUT);
}
END_TEST

START_TEST(after_a_kill_there_is_no_short_end_of_file)
{
    run_many(7000000, 3000, FAULT_KILL | FAULT_SHUT);
}
END_TEST

START_TEST(with_all_faults_at_once_no_promise_is_broken)
{
    run_many(8000000, 6000, FAULT_ALL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stream schedules");
    TCase *tc = tcase_create("seeds");

    tcase_set_timeout(tc, 20);
    tcase_add_test(tc, without_faults_every_byte_arrives_once_and_in_order);
    tcase_add_test(tc, calls_that_are_interrupted_or_cut_short_lose_nothing);
    tcase_add_test(tc, a_broken_link_loses_nothing);
    tcase_add_test(tc, a_dead_channel_loses_nothing);
    tcase_add_test(tc, a_half_closed_stream_ends_after_its_last_byte);
    tcase_add_test(tc, after_a_close_there_is_no_short_end_of_file);
    tcase_add_test(tc, after_an_exit_there_is_no_short_end_of_file);
    tcase_add_test(tc, after_a_kill_there_is_no_short_end_of_file);
    tcase_add_test(tc, with_all_faults_at_once_no_promise_is_broken);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
