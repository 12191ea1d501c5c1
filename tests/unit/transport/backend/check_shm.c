#include "tests/unit/transport/backend/two_processes.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#include "tests/support/run_suite.h"

static struct link *l, *r; /* a link's two ends */
static int bell;           /* of waiter WAITER of the right one */

static void start_linked(void)
{
    start();
    must_meet(0);
    l = left[0].link;
    r = right[0].link;
    l->ops->start(l, 1, 0, 0);
    r->ops->start(r, 1, 0, 0);
    bell = bell_open(there.config.bell_token, WAITER);
    ck_assert_int_ge(bell, 0);
}

static void stop_linked(void)
{
    close(bell);
    stop();
}

static struct shm_waiter *waiter_words(struct link *link, unsigned id)
{
    struct arena *p = (struct arena *)link->peer;

    return (struct shm_waiter *)((char *)p->base + sizeof(struct shm_header) +
                                 (uint64_t)p->side * shm_waiters_size()) +
           id;
}

static const uint64_t hostile[] = {
    0,
    1,
    4095,
    4096,
    4097,
    9999,
    10001,
    14096,
    14097,
    1ull << 32,
    (1ull << 32) + 10000,
    INT64_MAX,
    1ull << 63,
    UINT64_MAX - 4096,
    UINT64_MAX,
};
enum { N_HOSTILE = sizeof(hostile) / sizeof(hostile[0]) };

START_TEST(a_commit_out_of_bounds_breaks_a_rule_and_sets_nothing)
{
    struct ring_words *w =
        &shm_link_of(&right[0])
             ->words->direction[!shm_link_of(&right[0])->side];

    for (int i = 0; i < N_HOSTILE; i++) {
        uint64_t v = hostile[i], landed = 7;
        bool sound = v >= 10000 && v <= 10000 + RING;

        atomic_store(&w->commit, v);
        ck_assert_int_eq(r->ops->landed(r, 10000, 10000, &landed),
                         sound ? 0 : -EPROTO);
        ck_assert_uint_eq(landed, sound ? v : 7);
        ck_assert_uint_eq(r->ops->arrived(r), v);
    }
}
END_TEST

START_TEST(a_release_out_of_bounds_breaks_a_rule_and_sets_nothing)
{
    struct ring_words *w =
        &shm_link_of(&right[0])->words->direction[shm_link_of(&right[0])->side];

    for (int i = 0; i < N_HOSTILE; i++) {
        uint64_t v = hostile[i], freed = 7;
        bool sound = v >= 10000 && v <= 10500;

        atomic_store(&w->release, v);
        ck_assert_int_eq(r->ops->freed(r, 10000, 10500, &freed),
                         sound ? 0 : -EPROTO);
        ck_assert_uint_eq(freed, sound ? v : 7);
    }
}
END_TEST

START_TEST(words_of_links_are_apart_and_of_neighbours_in_different_lines)
{
    const uint64_t size = sizeof(struct shm_link_words);
    const uint64_t first = sizeof(struct shm_header) + 2 * shm_waiters_size();
    static bool taken[SHM_LINKS];

    for (unsigned idx = 0; idx < SHM_LINKS; idx++) {
        uint64_t at = shm_words_at(idx);

        ck_assert_uint_ge(at, first);
        ck_assert_uint_le(at + size, shm_ring_at(0, 0, RING));
        ck_assert_uint_eq((at - first) % size, 0);
        ck_assert(!taken[(at - first) / size]);
        taken[(at - first) / size] = true;
        for (unsigned i = 1; i <= idx % 8; i++) {
            ck_assert_uint_ne(at % 4096, shm_words_at(idx - i) % 4096);
            ck_assert_uint_ne(at / 4096, shm_words_at(idx - i) / 4096);
        }
    }
    ck_assert_uint_eq(shm_ring_at(0, 0, RING) % 4096, 0);
}
END_TEST

static int pages_in_memory(const struct byte_ring *ring)
{
    unsigned char present[RING / 4096];
    int n = 0;

    ck_assert_int_eq(mincore(ring->bytes, ring->size, present), 0);
    for (size_t i = 0; i < sizeof(present); i++)
        n += present[i] & 1;
    return n;
}

START_TEST(a_link_that_rests_gives_its_memory_back)
{
    uint64_t counted = here.shm->memory;
    char out[RING] = "something";

    ring_put(&l->tx, 0, out, RING);
    ck_assert_int_gt(pages_in_memory(&l->tx), 0);
    l->ops->rest(l, true);
    ck_assert_int_eq(pages_in_memory(&l->tx), 0);
    ck_assert_uint_eq(here.shm->memory, counted - 2 * RING);
    l->ops->rest(l, true);
    ck_assert_uint_eq(here.shm->memory, counted - 2 * RING);
    l->ops->rest(l, false);
    ck_assert_uint_eq(here.shm->memory, counted);
    l->ops->rest(l, true); /* and dropped like that */
}
END_TEST

START_TEST(a_ring_carries_each_direction_and_gives_its_room_back)
{
    uint8_t out[RING], in[RING];
    uint64_t seen = 0;

    for (int i = 0; i < RING; i++)
        out[i] = (uint8_t)(i * 7);
    ring_put(&l->tx, 0, out, RING);
    l->ops->commit(l, RING);
    ck_assert_int_eq(r->ops->landed(r, 0, 0, &seen), 0);
    ck_assert_uint_eq(seen, RING);
    ring_get(&r->rx, 0, in, RING);
    ck_assert_mem_eq(in, out, RING);
    r->ops->release(r, RING - 1);
    ck_assert_int_eq(l->ops->freed(l, 0, RING, &seen), 0);
    ck_assert_uint_eq(seen, RING - 1);
    ck_assert_ptr_ne(l->tx.bytes, l->rx.bytes);
    ck_assert_int_eq(l->ops->landed(l, 0, 0, &seen), 0);
    ck_assert_uint_eq(seen, 0);
}
END_TEST

START_TEST(nobody_is_rung_who_has_not_armed)
{
    l->ops->commit(l, 1);
    r->ops->watch(r, WAITER);
    l->ops->commit(l, 2);
    ck_assert_int_eq(bell_drain(bell), 0);
    r->ops->peer_arm(r->peer, WAITER, true);
    r->ops->peer_arm(r->peer, WAITER, false);
    l->ops->commit(l, 3);
    ck_assert_int_eq(bell_drain(bell), 0);
}
END_TEST

START_TEST(an_armed_watcher_is_rung_exactly_once)
{
    r->ops->watch(r, (uint64_t)WAITER << 32 | 9);
    r->ops->peer_arm(r->peer, WAITER, true);
    for (uint64_t at = 1; at < 10; at++)
        l->ops->commit(l, at);
    ck_assert_int_eq(bell_drain(bell), 1);
    r->ops->peer_arm(r->peer, WAITER, true);
    l->ops->commit(l, 10);
    ck_assert_int_eq(bell_drain(bell), 1);
    r->ops->watch(r, 9); /* it left */
    r->ops->peer_arm(r->peer, WAITER, true);
    l->ops->commit(l, 11);
    ck_assert_int_eq(bell_drain(bell), 0);
}
END_TEST

/* However full the ring is; the reader looked last when it was empty. */
START_TEST(a_writer_is_rung_for_a_third_or_knows_that_it_may_not_be)
{
    int left_bell = bell_open(here.config.bell_token, WAITER);
    uint64_t base = 0, full = RING - RING / 3;

    l->ops->watch(l, WAITER);
    for (uint64_t n = full + 1; n <= RING; n += 7, base += RING) {
        bool sure;

        l->ops->start(l, 1, base, 0);
        r->ops->start(r, 1, 0, base);
        l->ops->commit(l, base + n);
        l->ops->peer_arm(l->peer, WAITER, true);
        l->ops->want_room(l);
        sure = l->ops->rings(l, base + n);
        ck_assert(sure == (n >= full + RING / 4));
        r->ops->release(r, base + n - full);
        ck_assert_int_eq(bell_drain(left_bell), sure ? 1 : 0);
        l->ops->peer_arm(l->peer, WAITER, false);
    }
    close(left_bell);
}
END_TEST

START_TEST(all_armed_watchers_are_rung)
{
    int other = bell_open(there.config.bell_token, WAITERS_MAX - 1);

    r->ops->watch(r, (uint64_t)(WAITERS_MAX - 1) << 48 | WAITER);
    r->ops->peer_arm(r->peer, WAITER, true);
    r->ops->peer_arm(r->peer, WAITERS_MAX - 1, true);
    l->ops->commit(l, 1);
    ck_assert_int_eq(bell_drain(bell), 1);
    ck_assert_int_eq(bell_drain(other), 1);
    close(other);
}
END_TEST

START_TEST(watchers_that_cannot_be_are_passed_over)
{
    struct shm_side *theirs =
        &shm_link_of(&right[0])->words->side[shm_link_of(&right[0])->side];

    atomic_store(&theirs->watchers, UINT64_MAX);
    atomic_store(&theirs->markers, UINT64_MAX);
    l->ops->commit(l, 1);
    atomic_store(&theirs->watchers, (uint64_t)WAITERS_MAX << 16 | WAITER);
    r->ops->peer_arm(r->peer, WAITER, true);
    l->ops->commit(l, 2);
    ck_assert_int_eq(bell_drain(bell), 1);
}
END_TEST

START_TEST(a_writer_without_room_is_rung_when_a_third_is_free_and_not_before)
{
    int left_bell = bell_open(here.config.bell_token, WAITER);

    l->ops->commit(l, RING);
    l->ops->watch(l, WAITER);
    l->ops->want_room(l);
    /* Not armed yet and too little: the wish must not be used up by it. */
    r->ops->release(r, RING / 4);
    ck_assert_int_eq(bell_drain(left_bell), 0);
    l->ops->peer_arm(l->peer, WAITER, true);
    r->ops->release(r, RING / 3 - 1);
    ck_assert_int_eq(bell_drain(left_bell), 0);
    r->ops->release(r, RING / 3);
    ck_assert_int_eq(bell_drain(left_bell), 1);
    /* Asked once, answered once. */
    l->ops->peer_arm(l->peer, WAITER, true);
    r->ops->release(r, RING);
    ck_assert_int_eq(bell_drain(left_bell), 0);
    close(left_bell);
}
END_TEST

START_TEST(a_release_in_small_steps_comes_to_the_ring_as_well)
{
    int left_bell = bell_open(here.config.bell_token, WAITER);
    int rings = 0;

    l->ops->commit(l, RING);
    l->ops->watch(l, WAITER);
    for (uint64_t at = 1; at <= RING; at++) {
        l->ops->want_room(l);
        l->ops->peer_arm(l->peer, WAITER, true);
        r->ops->release(r, at);
        rings += bell_drain(left_bell);
    }
    ck_assert_int_eq(rings, 3); /* a third, and a quarter twice */
    close(left_bell);
}
END_TEST

START_TEST(marks_name_the_links_with_news_and_are_taken_once)
{
    for (unsigned i = 1; i < 200; i++) {
        must_meet(i);
        right[i].link->ops->watch(right[i].link, WAITER);
        right[i].link->ops->set_marked(right[i].link, WAITER, true);
    }
    ck_assert_ptr_null(r->ops->peer_next_mark(r->peer, WAITER));
    for (unsigned i = 50; i < 200; i += 70) {
        left[i].link->ops->commit(left[i].link, 1);
        left[i].link->ops->commit(left[i].link, 2);
    }
    for (int n = 0; n < 3; n++) {
        struct party *p = r->ops->peer_next_mark(r->peer, WAITER);

        ck_assert_ptr_nonnull(p);
        ck_assert_uint_eq((p - right - 50) % 70, 0);
    }
    ck_assert_ptr_null(r->ops->peer_next_mark(r->peer, WAITER));
    ck_assert_ptr_null(r->ops->peer_next_mark(r->peer, WAITER + 1));
    right[50].link->ops->set_marked(right[50].link, WAITER, false);
    left[50].link->ops->commit(left[50].link, 3);
    ck_assert_ptr_null(r->ops->peer_next_mark(r->peer, WAITER));
}
END_TEST

START_TEST(four_watchers_can_be_marked_and_each_leaves_alone)
{
    struct shm_side *mine =
        &shm_link_of(&right[0])->words->side[shm_link_of(&right[0])->side];

    for (unsigned id = 1; id <= LINK_WATCHERS + 1; id++)
        r->ops->set_marked(r, id, true);
    ck_assert_uint_eq(atomic_load(&mine->markers), 0x0004000300020001);
    r->ops->set_marked(r, 2, true);
    ck_assert_uint_eq(atomic_load(&mine->markers), 0x0002000400030001);
    r->ops->set_marked(r, 3, false);
    r->ops->set_marked(r, 77, false);
    ck_assert_uint_eq(atomic_load(&mine->markers), 0x000200040001);
}
END_TEST

START_TEST(marks_of_links_that_do_not_exist_lead_nowhere)
{
    struct shm_waiter *w = waiter_words(r, WAITER);
    int found = 0;

    for (int i = 0; i < SHM_MARK_WORDS; i++)
        atomic_store(&w->mark[i], UINT64_MAX);
    atomic_store(&w->marked, UINT64_MAX);
    for (int i = 0; i < 2 * SHM_LINKS; i++) {
        struct party *p = r->ops->peer_next_mark(r->peer, WAITER);

        if (p == NULL)
            continue;
        ck_assert_ptr_eq(p, &right[0]);
        found++;
    }
    ck_assert_int_eq(found, 1);
    /* Not of words that do not exist either: nothing wakes us for ever. */
    ck_assert(!r->ops->peer_has_mark(r->peer, WAITER));
}
END_TEST

static _Atomic bool stop_marking;

static void *mark_for_ever(void *arg)
{
    struct shm_waiter *w = arg;

    while (!atomic_load_explicit(&stop_marking, memory_order_relaxed)) {
        atomic_store_explicit(&w->mark[0], ~UINT64_C(1), memory_order_relaxed);
        atomic_store_explicit(&w->marked, 1, memory_order_relaxed);
    }
    return NULL;
}

START_TEST(a_peer_that_never_stops_marking_does_not_hold_us)
{
    pthread_t thread;
    uint64_t slowest = 0;

    atomic_store(&stop_marking, false);
    atomic_store(&((struct arena *)r->peer)->owner[0], NULL);
    ck_assert_int_eq(
        pthread_create(&thread, NULL, mark_for_ever, waiter_words(r, WAITER)),
        0);
    while (atomic_load(&waiter_words(r, WAITER)->marked) == 0)
        ;
    for (int i = 0; i < 300; i++) {
        uint64_t began = clock_ns(), took;

        ck_assert_ptr_null(r->ops->peer_next_mark(r->peer, WAITER));
        took = clock_ns() - began;
        if (took > slowest)
            slowest = took;
    }
    atomic_store(&stop_marking, true);
    pthread_join(thread, NULL);
    ck_assert_uint_lt(slowest, 1000000000);
}
END_TEST

START_TEST(an_abort_is_said_on_purpose_and_forgotten_with_the_link)
{
    ck_assert(!r->ops->aborted(r));
    l->ops->set_aborted(l);
    ck_assert(r->ops->aborted(r));
    ck_assert(!l->ops->aborted(l));
    drop(&left[0]);
    drop(&right[0]);
    turn(2);
    must_meet(1);
    ck_assert(!right[1].link->ops->aborted(right[1].link));
}
END_TEST

START_TEST(the_cpu_of_the_peer_is_known_once_it_has_moved_bytes)
{
    uint32_t cpu;
    bool is_here = false;

    ck_assert(!r->ops->peer_is_here(r, 0));
    l->ops->commit(l, 1);
    for (cpu = 0; cpu < 4096 && !is_here; cpu++)
        is_here = r->ops->peer_is_here(r, cpu);
    ck_assert(is_here);
    ck_assert(!r->ops->peer_is_here(r, cpu + 1));
}
END_TEST

START_TEST(the_memory_of_a_peer_lives_as_long_as_somebody_refers_to_it)
{
    struct peer *peer = r->peer;

    r->ops->peer_get(peer);
    drop(&left[0]);
    drop(&right[0]);
    side_stop(&here);
    side_stop(&there);
    peer_ops(peer)->peer_arm(peer, WAITER, true);
    ck_assert_ptr_null(peer_ops(peer)->peer_next_mark(peer, WAITER));
    peer_ops(peer)->peer_put(peer);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("shm");
    TCase *t = tcase_create("shm");

    tcase_add_checked_fixture(t, start_linked, stop_linked);
    tcase_set_timeout(t, 30);
    tcase_add_test(t, a_commit_out_of_bounds_breaks_a_rule_and_sets_nothing);
    tcase_add_test(t, a_release_out_of_bounds_breaks_a_rule_and_sets_nothing);
    tcase_add_test(
        t, words_of_links_are_apart_and_of_neighbours_in_different_lines);
    tcase_add_test(t, a_link_that_rests_gives_its_memory_back);
    tcase_add_test(t, a_ring_carries_each_direction_and_gives_its_room_back);
    tcase_add_test(t, nobody_is_rung_who_has_not_armed);
    tcase_add_test(t, an_armed_watcher_is_rung_exactly_once);
    tcase_add_test(t, a_writer_is_rung_for_a_third_or_knows_that_it_may_not_be);
    tcase_add_test(t, all_armed_watchers_are_rung);
    tcase_add_test(t, watchers_that_cannot_be_are_passed_over);
    tcase_add_test(
        t, a_writer_without_room_is_rung_when_a_third_is_free_and_not_before);
    tcase_add_test(t, a_release_in_small_steps_comes_to_the_ring_as_well);
    tcase_add_test(t, marks_name_the_links_with_news_and_are_taken_once);
    tcase_add_test(t, four_watchers_can_be_marked_and_each_leaves_alone);
    tcase_add_test(t, marks_of_links_that_do_not_exist_lead_nowhere);
    tcase_add_test(t, a_peer_that_never_stops_marking_does_not_hold_us);
    tcase_add_test(t, an_abort_is_said_on_purpose_and_forgotten_with_the_link);
    tcase_add_test(t, the_cpu_of_the_peer_is_known_once_it_has_moved_bytes);
    tcase_add_test(t,
                   the_memory_of_a_peer_lives_as_long_as_somebody_refers_to_it);
    suite_add_tcase(s, t);
    return run_suite(s);
}
