/* Rings that stretch: decision 0046. */
#include "tests/unit/transport/backend/two_processes.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/run_suite.h"

static struct link *l, *r; /* a link's two ends */

static void start_linked_again(void)
{
    must_meet(0);
    l = left[0].link;
    r = right[0].link;
    l->ops->start(l, 1, 0, 0);
    r->ops->start(r, 1, 0, 0);
}

static void start_linked(void)
{
    start();
    start_linked_again();
}

/* Of the bytes from off on. */
static const uint8_t *pattern_at(uint64_t off)
{
    enum { PERIOD = 65521 };
    static uint8_t pattern[PERIOD + RING];
    static bool made;

    for (unsigned i = 0; !made && i < sizeof(pattern); i++)
        pattern[i] = (uint8_t)(i % PERIOD * 2654435761u >> 13);
    made = true;
    return pattern + off % PERIOD;
}

/* One copy of a write, as a stream makes it; all that is under way is l's. */
static void put(uint64_t *wrote, uint32_t len)
{
    if (l->stretch_at == *wrote)
        l->ops->stretch(l);
    if (l->stretch_at > *wrote && len > l->stretch_at - *wrote)
        len = (uint32_t)(l->stretch_at - *wrote);
    ring_put(&l->tx, *wrote, pattern_at(*wrote), len);
    *wrote += len;
    l->ops->commit(l, *wrote);
}

static void get(uint64_t *took, uint32_t len)
{
    uint8_t bytes[RING];
    uint64_t landed;

    ck_assert_int_eq(r->ops->landed(r, *took, *took, &landed), 0);
    ck_assert_uint_ge(landed, *took + len);
    ring_get(&r->rx, *took, bytes, len);
    ck_assert_mem_eq(bytes, pattern_at(*took), len);
    *took += len;
    r->ops->release(r, *took);
}

/* A reader 1,000 bytes behind, until the writer's ring has stretched. */
static void go_on_until_it_stretches(uint64_t *wrote, uint64_t *took)
{
    put(wrote, 1000);
    for (int i = 0; i < 10000 && l->tx.span == RING; i++) {
        uint64_t before = *wrote;

        put(wrote, 777);
        get(took, (uint32_t)(*wrote - before));
    }
    ck_assert_uint_eq(l->tx.span, shm_span(RING, 1));
}

/* What goes on, without a byte more under way. */
static void go_on(uint64_t *wrote, uint64_t *took, uint64_t bytes)
{
    uint64_t until = *wrote + bytes;

    while (*wrote < until) {
        uint64_t before = *wrote;

        put(wrote, 1 + (uint32_t)(*wrote % (RING - 1000)));
        get(took, (uint32_t)(*wrote - before));
    }
}

/* However long it takes until it was fast for long enough. */
static void go_on_until_it_stretches_again(uint64_t *wrote, uint64_t *took)
{
    while (l->tx.span != shm_span(RING, 2))
        go_on(wrote, took, RING);
}

START_TEST(the_ring_of_a_fast_stream_stretches_and_its_reader_follows)
{
    uint64_t counted = here.shm->memory, theirs = there.shm->memory;
    uint64_t wrote = 0, took = 0, freed;

    go_on_until_it_stretches(&wrote, &took);
    ck_assert_uint_ge(wrote,
                      RING + shm_span(RING, 1)); /* the second time there */
    ck_assert_uint_eq(l->tx.size, RING);
    ck_assert_uint_eq(here.shm->memory, counted + shm_span(RING, 1) - RING);
    for (int i = 0; i < 300; i++) {
        uint64_t before = wrote;

        put(&wrote, 1 + (uint32_t)i * 37 % (RING - 1000));
        get(&took, (uint32_t)(wrote - before));
    }
    ck_assert_uint_eq(r->rx.span, shm_span(RING, 1));
    ck_assert_uint_eq(there.shm->memory, theirs); /* l's end counts it */
    ck_assert_uint_eq(r->tx.span, RING);          /* each direction by itself */
    get(&took, 1000);
    ck_assert_int_eq(l->ops->freed(l, 0, wrote, &freed), 0);
    ck_assert_uint_eq(freed, wrote);
    l->ops->rest(l, true);
    ck_assert_uint_eq(l->tx.span, RING);
    ck_assert_uint_eq(here.shm->memory, counted - 2 * RING);
    l->ops->rest(l, false);
    put(&wrote, 100);
    get(&took, 100);
    ck_assert_uint_eq(r->rx.span, RING);
    ck_assert_uint_eq(there.shm->memory, theirs);
    go_on_until_it_stretches(&wrote, &took);
    get(&took, 1000);
}
END_TEST

/* As of requests that are answered one by one. */
START_TEST(the_ring_of_a_stream_that_waits_for_its_reader_stays_as_it_is)
{
    uint64_t wrote = 0, took = 0;

    for (int i = 0; i < 10000; i++) {
        uint64_t before = wrote;

        put(&wrote, RING / 64);
        get(&took, (uint32_t)(wrote - before));
    }
    ck_assert_uint_eq(l->tx.span, RING);
    go_on_until_it_stretches(&wrote, &took);
}
END_TEST

/* The start of an epoch tells the reader of what is stretched. */
START_TEST(a_new_epoch_goes_on_with_the_ring_as_it_is)
{
    uint64_t wrote = 0, took = 0;

    go_on_until_it_stretches(&wrote, &took);
    get(&took, 1000);
    wrote = took = 1000001;
    l->ops->start(l, 2, wrote, 0);
    r->ops->start(r, 2, 0, took);
    for (int i = 0; i < 100; i++) {
        uint64_t before = wrote;

        put(&wrote, RING);
        get(&took, (uint32_t)(wrote - before));
    }
    ck_assert_uint_eq(l->tx.span, shm_span(RING, 1));
}
END_TEST

START_TEST(a_ring_does_not_stretch_into_the_memory_of_other_links)
{
    uint64_t wrote = 0, took = 0, counted = here.shm->memory;

    here.shm->config.max_memory = 2 * (counted + shm_span(RING, 1) - RING) - 1;
    put(&wrote, 1000);
    for (int i = 0; i < 1000; i++) {
        uint64_t before = wrote;

        put(&wrote, RING - 1000);
        get(&took, (uint32_t)(wrote - before));
    }
    ck_assert_uint_eq(l->tx.span, RING);
    ck_assert_uint_eq(here.shm->memory, counted);
    here.shm->config.max_memory++;
    go_on_until_it_stretches(&wrote, &took);
}
END_TEST

static int pages_in_memory(void *ring)
{
    unsigned char present[32 * RING / 4096];
    int n = 0;

    ck_assert_int_eq(mincore(ring, 32 * RING, present), 0);
    for (size_t i = 0; i < sizeof(present); i++)
        n += present[i] & 1;
    return n;
}

START_TEST(the_next_link_in_the_place_has_none_of_its_pages)
{
    struct party *first[2] = {&left[0], &right[0]};

    for (int i = 0; i < 2; i++) {
        uint64_t wrote = 0, took = 0;
        void *ring;

        if (i > 0)
            start_linked_again();
        ring = l->tx.bytes;
        go_on_until_it_stretches(&wrote, &took);
        go_on_until_it_stretches_again(&wrote, &took);
        go_on(&wrote, &took, 2 * (uint64_t)shm_span(RING, 2));
        ck_assert_int_eq(pages_in_memory(ring), 32);
        drop(first[i]);
        turn(10);
        ck_assert_int_eq(pages_in_memory(ring), 32); /* it may be read yet */
        drop(first[!i]);
        turn(10);
        ck_assert_int_eq(pages_in_memory(ring), 0);
    }
}
END_TEST

START_TEST(a_large_ring_does_not_stretch)
{
    static const struct {
        uint32_t size, once, twice;
    } rings[] = {{4096, 32768, 131072},       {262144, 2097152, 8388608},
                 {1 << 20, 2097152, 8388608}, {1 << 21, 2097152, 8388608},
                 {1 << 23, 1 << 23, 1 << 23}, {1 << 30, 1 << 30, 1 << 30}};

    for (size_t i = 0; i < sizeof(rings) / sizeof(rings[0]); i++) {
        ck_assert_uint_eq(shm_span(rings[i].size, 0), rings[i].size);
        ck_assert_uint_eq(shm_span(rings[i].size, 1), rings[i].once);
        ck_assert_uint_eq(shm_span(rings[i].size, 2), rings[i].twice);
    }
}
END_TEST

START_TEST(the_ring_of_a_stream_that_stays_fast_stretches_again)
{
    uint64_t wrote = 0, took = 0, counted = here.shm->memory, freed;

    for (int i = 0; i < 2; i++) { /* and once more after a rest */
        go_on_until_it_stretches(&wrote, &took);
        go_on(&wrote, &took, 30 * (uint64_t)shm_span(RING, 2));
        ck_assert_uint_eq(l->tx.span, shm_span(RING, 1));
        go_on_until_it_stretches_again(&wrote, &took);
        ck_assert_uint_eq(l->tx.size, RING);
        ck_assert_uint_eq(here.shm->memory, counted + shm_span(RING, 2) - RING);
        go_on(&wrote, &took, 2 * (uint64_t)shm_span(RING, 2));
        ck_assert_uint_eq(r->rx.span, shm_span(RING, 2));
        get(&took, 1000);
        ck_assert_int_eq(l->ops->freed(l, 0, wrote, &freed), 0);
        ck_assert_uint_eq(freed, wrote);
        l->ops->rest(l, true);
        l->ops->rest(l, false);
        ck_assert_uint_eq(l->tx.span, RING);
        ck_assert_uint_eq(here.shm->memory, counted);
        ck_assert_uint_ge(l->stretch_at, wrote);
        ck_assert_uint_lt(l->stretch_at - wrote, shm_span(RING, 1));
    }
}
END_TEST

START_TEST(a_lap_that_takes_its_time_counts_from_the_beginning)
{
    uint64_t wrote = 0, took = 0;

    go_on_until_it_stretches(&wrote, &took);
    for (int i = 0; i < 4; i++) {
        go_on(&wrote, &took, 30 * (uint64_t)shm_span(RING, 2));
        ck_assert_uint_eq(l->tx.span, shm_span(RING, 1));
        usleep(20000);
    }
    go_on_until_it_stretches_again(&wrote, &took);
}
END_TEST

START_TEST(a_word_that_is_neither_stretched_nor_not_breaks_a_rule)
{
    struct ring_words *w =
        &shm_link_of(&right[0])
             ->words->direction[!shm_link_of(&right[0])->side];
    uint64_t landed = 7;

    atomic_store(&w->stretched, SHM_STRETCHES + 1);
    ck_assert_int_eq(r->ops->landed(r, 0, 0, &landed), -EPROTO);
    atomic_store(&w->stretched, UINT32_MAX);
    ck_assert_int_eq(r->ops->landed(r, 0, 0, &landed), -EPROTO);
    ck_assert_uint_eq(landed, 7); /* refused, and nothing is set */
    for (unsigned i = 0; i <= SHM_STRETCHES; i++) {
        atomic_store(&w->stretched, i);
        ck_assert_int_eq(r->ops->landed(r, 0, 0, &landed), 0);
        ck_assert_uint_eq(r->rx.span, shm_span(RING, i));
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("shm stretch");
    TCase *t = tcase_create("shm stretch");

    tcase_add_checked_fixture(t, start_linked, stop);
    tcase_set_timeout(t, 30);
    tcase_add_test(t,
                   the_ring_of_a_fast_stream_stretches_and_its_reader_follows);
    tcase_add_test(
        t, the_ring_of_a_stream_that_waits_for_its_reader_stays_as_it_is);
    tcase_add_test(t, a_new_epoch_goes_on_with_the_ring_as_it_is);
    tcase_add_test(t, a_ring_does_not_stretch_into_the_memory_of_other_links);
    tcase_add_test(t, the_next_link_in_the_place_has_none_of_its_pages);
    tcase_add_test(t, a_large_ring_does_not_stretch);
    tcase_add_test(t, the_ring_of_a_stream_that_stays_fast_stretches_again);
    tcase_add_test(t, a_lap_that_takes_its_time_counts_from_the_beginning);
    tcase_add_test(t, a_word_that_is_neither_stretched_nor_not_breaks_a_rule);
    suite_add_tcase(s, t);
    return run_suite(s);
}
