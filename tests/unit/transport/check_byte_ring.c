#include "transport/byte_ring.h"

#include <check.h>
#include <stdbool.h>
#include <stdlib.h>

#include "tests/support/run_suite.h"

/* A ring with guard bytes around it, so that a copy too long shows. */
enum { RING_BYTES = 256, GUARD = 64 };

static uint8_t memory[GUARD + RING_BYTES + GUARD];
static const struct byte_ring ring = {memory + GUARD, RING_BYTES, RING_BYTES};
static uint64_t state;

static uint64_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void start(void)
{
    state = 0x9e3779b97f4a7c15;
    memset(memory, 0xee, sizeof(memory));
}

static void guards_are_whole(void)
{
    for (int i = 0; i < GUARD; i++) {
        ck_assert_uint_eq(memory[i], 0xee);
        ck_assert_uint_eq(memory[GUARD + RING_BYTES + i], 0xee);
    }
}

/* What the byte of a stream at an offset is, in all tests here. */
static uint8_t pattern(uint64_t off)
{
    return (uint8_t)(off * 167 + (off >> 8) * 59);
}

static void fill(uint8_t *bytes, uint64_t off, size_t len)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = pattern(off + i);
}

START_TEST(every_length_at_every_index_comes_back)
{
    uint8_t in[RING_BYTES], out[RING_BYTES + 1];

    for (uint64_t idx = 0; idx < RING_BYTES; idx++) {
        for (size_t len = 0; len <= RING_BYTES; len += 1 + len / 70) {
            fill(in, idx, len);
            memset(out, 0x55, sizeof(out));
            ring_put(&ring, idx, in, len);
            ring_get(&ring, idx, out, len);
            if (memcmp(in, out, len) != 0 || out[len] != 0x55)
                ck_abort_msg("index %d, length %zu", (int)idx, len);
        }
    }
    guards_are_whole();
}
END_TEST

START_TEST(what_is_under_way_stays_where_it_is_when_a_ring_stretches)
{
    for (int i = 0; i < 10000; i++) {
        uint32_t size = 1u << (6 + next_random() % 6);
        uint32_t span = size << (1 + next_random() % 5);
        uint64_t wrote = next_random() >> (1 + next_random() % 60);
        uint64_t at = ring_stretches_at(wrote, size, span);

        ck_assert_uint_ge(at, wrote);
        ck_assert_uint_lt(at - wrote, span);
        ck_assert_uint_eq(ring_stretches_at(at, size, span), at);
        for (uint32_t back = 1; back <= size && back <= at; back++)
            ck_assert_uint_eq((at - back) % size, (at - back) % span);
        ck_assert_uint_eq(at % span, size); /* and the next is not yet used */
    }
}
END_TEST

START_TEST(a_put_changes_no_byte_beside_it)
{
    uint8_t in[RING_BYTES] = {0};

    for (uint64_t idx = 0; idx < RING_BYTES; idx++) {
        for (size_t len = 0; len <= RING_BYTES; len += 1 + len / 8) {
            size_t changed = 0;

            memset(ring.bytes, 0xee, RING_BYTES);
            ring_put(&ring, idx, in, len);
            for (size_t i = 0; i < RING_BYTES; i++)
                changed += ring.bytes[i] != 0xee;
            if (changed != len)
                ck_abort_msg("index %d, length %zu", (int)idx, len);
        }
    }
    guards_are_whole();
}
END_TEST

START_TEST(the_inline_and_the_general_copies_agree)
{
    uint8_t in[RING_SMALL], a[RING_SMALL], b[RING_SMALL];

    for (uint64_t idx = 0; idx < RING_BYTES; idx++) {
        for (size_t len = 0; len <= RING_SMALL; len++) {
            fill(in, idx * 3, len);
            ring_put_split(&ring, idx, in, len);
            ring_get(&ring, idx, a, len);
            ring_put(&ring, idx, in, len);
            ring_get_split(&ring, idx, b, len);
            if (memcmp(in, a, len) != 0 || memcmp(in, b, len) != 0)
                ck_abort_msg("index %d, length %zu", (int)idx, len);
        }
    }
}
END_TEST

/* Cuts len bytes at random into a vector; returns its length. */
static int cut(struct iovec *iov, uint8_t *bytes, size_t len, int most)
{
    int n = 0;

    while (n < most - 1 && len > 0) {
        size_t part = next_random() % (len + 1);

        iov[n++] = (struct iovec){part ? bytes : NULL, part};
        bytes += part;
        len -= part;
    }
    iov[n++] = (struct iovec){bytes, len};
    return n;
}

START_TEST(a_vector_is_the_same_as_its_bytes_in_a_row)
{
    uint8_t in[RING_BYTES], out[RING_BYTES], row[RING_BYTES];
    struct iovec iov[8];

    for (int i = 0; i < 20000; i++) {
        uint64_t off = next_random();
        size_t total = next_random() % (RING_BYTES + 1);
        size_t skip = next_random() % (total + 20);
        size_t len = next_random() % (RING_BYTES + 1);
        size_t left = skip < total ? total - skip : 0;
        size_t want = left < len ? left : len;

        fill(in, off, total);
        ck_assert_uint_eq(
            ring_put_iov(&ring, off, iov, cut(iov, in, total, 8), skip, len),
            want);
        ring_get(&ring, off, row, want);
        if (want > 0)
            ck_assert_mem_eq(row, in + skip, want);
        memset(out, 0x55, sizeof(out));
        ck_assert_uint_eq(
            ring_get_iov(&ring, off, iov, cut(iov, out, total, 8), skip, len),
            want);
        for (size_t k = 0; k < sizeof(out); k++) {
            bool inside = k >= skip && k - skip < want;

            if (out[k] != (inside ? in[k] : 0x55))
                ck_abort_msg("byte %zu of %zu after %zu", k, want, skip);
        }
    }
    guards_are_whole();
}
END_TEST

START_TEST(an_empty_vector_moves_nothing)
{
    struct iovec empty[3] = {{NULL, 0}, {NULL, 0}, {NULL, 0}};

    ck_assert_uint_eq(ring_put_iov(&ring, 5, NULL, 0, 0, 10), 0);
    ck_assert_uint_eq(ring_put_iov(&ring, 5, empty, 3, 0, 10), 0);
    ck_assert_uint_eq(ring_get_iov(&ring, 5, empty, 3, 7, 10), 0);
    ring_put(&ring, 5, NULL, 0);
    ring_get(&ring, 5, NULL, 0);
    guards_are_whole();
}
END_TEST

/* One stream through the ring: what each side knows of it. */
struct flow {
    struct ring_words words;
    uint64_t wrote, freed, landed, took;
};

static void write_some(struct flow *f)
{
    uint8_t bytes[RING_BYTES];
    size_t room = RING_BYTES - (size_t)(f->wrote - f->freed);
    size_t len = next_random() % (room + 1);
    struct iovec iov[4];

    fill(bytes, f->wrote, len);
    if (next_random() & 1)
        ring_put(&ring, f->wrote, bytes, len);
    else
        ring_put_iov(&ring, f->wrote, iov, cut(iov, bytes, len, 4), 0, len);
    f->wrote += len;
    atomic_store_explicit(&f->words.commit, f->wrote, memory_order_release);
}

/* Takes some; how many bytes are wrong. Marks of Check are slow: none here. */
static size_t read_some(struct flow *f)
{
    uint8_t bytes[RING_BYTES];
    size_t bad = 0, len;
    struct iovec iov[4];

    if (ring_landed(&f->words, f->took, f->landed, RING_BYTES, &f->landed) < 0)
        return SIZE_MAX;
    len = next_random() % (f->landed - f->took + 1);
    if (next_random() & 1)
        ring_get(&ring, f->took, bytes, len);
    else
        ring_get_iov(&ring, f->took, iov, cut(iov, bytes, len, 4), 0, len);
    for (size_t i = 0; i < len; i++)
        bad += bytes[i] != pattern(f->took + i);
    f->took += len;
    if (next_random() % 4 != 0)
        atomic_store_explicit(&f->words.release, f->took, memory_order_release);
    return bad;
}

static void run_flow(uint64_t first, int steps)
{
    struct flow f = {{.commit = first, .release = first, .looked = first},
                     first,
                     first,
                     first,
                     first};
    uint64_t before = first;
    size_t bad = 0;

    for (int i = 0; i < steps; i++) {
        switch (next_random() % 4) {
        case 0:
        case 1:
            write_some(&f);
            break;
        case 2:
            bad += read_some(&f) != 0;
            break;
        default:
            bad += ring_freed(&f.words, f.freed, f.wrote, &f.freed) < 0;
        }
        if (bad > 0 || f.freed > f.took || f.took > f.landed ||
            f.landed > f.wrote || f.wrote > f.freed + RING_BYTES ||
            f.freed < before)
            ck_abort_msg("step %d from %llu", i, (unsigned long long)first);
        before = f.freed;
    }
    ck_assert_uint_gt(f.took, first);
}

START_TEST(two_million_random_steps_lose_nothing_at_any_offset)
{
    run_flow(0, 500000);
    run_flow((1ull << 32) - 100000, 500000);
    run_flow((1ull << 40) + 7, 500000);
    run_flow((uint64_t)INT64_MAX - (1ull << 27), 500000);
    guards_are_whole();
}
END_TEST

START_TEST(a_commit_out_of_bounds_is_refused_and_sets_nothing)
{
    struct ring_words words = {.commit = 1000};
    uint64_t landed = 7;

    ck_assert_int_eq(ring_landed(&words, 900, 1000, 256, &landed), 0);
    ck_assert_uint_eq(landed, 1000);
    landed = 7;
    words.commit = 999;
    ck_assert_int_eq(ring_landed(&words, 900, 1000, 256, &landed), -EPROTO);
    words.commit = 900 + 257;
    ck_assert_int_eq(ring_landed(&words, 900, 1000, 256, &landed), -EPROTO);
    words.commit = UINT64_MAX;
    ck_assert_int_eq(ring_landed(&words, 900, 1000, 256, &landed), -EPROTO);
    words.commit = 0;
    ck_assert_int_eq(ring_landed(&words, 900, 1000, 256, &landed), -EPROTO);
    ck_assert_uint_eq(landed, 7);
    words.commit = 900 + 256;
    ck_assert_int_eq(ring_landed(&words, 900, 1000, 256, &landed), 0);
    ck_assert_uint_eq(landed, 1156);
}
END_TEST

START_TEST(a_release_out_of_bounds_is_refused_and_sets_nothing)
{
    struct ring_words words = {.release = 500};
    uint64_t freed = 7;

    ck_assert_int_eq(ring_freed(&words, 500, 600, &freed), 0);
    ck_assert_uint_eq(freed, 500);
    freed = 7;
    words.release = 499;
    ck_assert_int_eq(ring_freed(&words, 500, 600, &freed), -EPROTO);
    words.release = 601;
    ck_assert_int_eq(ring_freed(&words, 500, 600, &freed), -EPROTO);
    words.release = UINT64_MAX;
    ck_assert_int_eq(ring_freed(&words, 500, 600, &freed), -EPROTO);
    ck_assert_uint_eq(freed, 7);
    words.release = 600;
    ck_assert_int_eq(ring_freed(&words, 500, 600, &freed), 0);
    ck_assert_uint_eq(freed, 600);
}
END_TEST

START_TEST(any_value_in_the_words_is_refused_or_within_the_ring)
{
    struct ring_words words = {.commit = 0};
    uint64_t took = (uint64_t)INT64_MAX - 4096, landed, freed;
    int bad = 0;

    for (int i = 0; i < 200000; i++) {
        uint64_t value = next_random() >> next_random() % 64;

        if (next_random() & 1)
            value = took - 1024 + value % 2048;
        words.commit = words.release = value;
        if (ring_landed(&words, took, took + 3, 256, &landed) == 0)
            bad += landed < took + 3 || landed - took > 256;
        if (ring_freed(&words, took - 256, took, &freed) == 0)
            bad += freed < took - 256 || freed > took;
    }
    ck_assert_int_eq(bad, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("byte_ring");
    TCase *t = tcase_create("byte_ring");

    tcase_add_checked_fixture(t, start, NULL);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, every_length_at_every_index_comes_back);
    tcase_add_test(t,
                   what_is_under_way_stays_where_it_is_when_a_ring_stretches);
    tcase_add_test(t, a_put_changes_no_byte_beside_it);
    tcase_add_test(t, the_inline_and_the_general_copies_agree);
    tcase_add_test(t, a_vector_is_the_same_as_its_bytes_in_a_row);
    tcase_add_test(t, an_empty_vector_moves_nothing);
    tcase_add_test(t, two_million_random_steps_lose_nothing_at_any_offset);
    tcase_add_test(t, a_commit_out_of_bounds_is_refused_and_sets_nothing);
    tcase_add_test(t, a_release_out_of_bounds_is_refused_and_sets_nothing);
    tcase_add_test(t, any_value_in_the_words_is_refused_or_within_the_ring);
    suite_add_tcase(s, t);
    return run_suite(s);
}
