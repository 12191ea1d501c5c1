#include "preload/fastsock_segment.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/run_suite.h"
#include "transport/shared_memory.h"
#include "transport/stream/handover.h"

static int made;
static struct stats_header *header;
static struct stats_row *rows;

static void start(void)
{
    void *at = NULL;

    ck_assert_int_eq(memory_create(STATS_NAME, stats_size(), &made), 0);
    ck_assert_int_eq(memory_map(made, stats_size(), true, &at), 0);
    header = at;
    rows = (struct stats_row *)(header + 1);
    header->magic = STATS_MAGIC;
    header->version = STATS_VERSION;
    header->rows = STATS_ROWS;
    header->pid = 77;
    strcpy(header->program, "server");
}

static void stop(void)
{
    memory_unmap(header, stats_size());
    close(made);
}

static struct stats_row *add_row(unsigned i)
{
    struct stats_row *row = &rows[i];

    row->fd = 9;
    row->opened_ns = 1000;
    row->since_ns = 2000;
    row->reason = REASON_UP;
    row->stage = STATS_STAGE_UP;
    memcpy(row->transport, "shm", 4);
    row->out = 100;
    row->link_out = 90;
    row->in = 50;
    row->link_in = 40;
    row->used = 1;
    if (header->highest <= i)
        header->highest = i + 1;
    return row;
}

START_TEST(a_row_reads_as_it_was_written)
{
    struct segment segment;
    struct segment_row row;
    struct stats_row *written = add_row(3);

    written->family = 4;
    memcpy(written->local, (uint8_t[]){127, 0, 0, 1}, 4);
    written->local_port = 80;
    written->peer_port = 4000;
    written->peer_pid = 12;
    ck_assert_int_eq(segment_open(made, &segment), 0);
    ck_assert_uint_eq(segment_highest(&segment), 4);
    ck_assert(!segment_row(&segment, 0, &row));
    ck_assert(segment_row(&segment, 3, &row));
    ck_assert_uint_eq(row.fd, 9);
    ck_assert_int_eq(row.reason, REASON_UP);
    ck_assert_str_eq(row.transport, "shm");
    ck_assert_int_eq(row.family, 4);
    ck_assert_uint_eq(row.local.port, 80);
    ck_assert_uint_eq(row.peer.port, 4000);
    ck_assert_uint_eq(row.local.address[0], 127);
    ck_assert_uint_eq(row.tcp_out, 10);
    ck_assert_uint_eq(row.tcp_in, 10);
    ck_assert_uint_eq(row.link_out, 90);
    ck_assert_uint_eq(row.since_ns, 2000);
    ck_assert_uint_eq(row.peer_pid, 12);
    segment_close(&segment);
}
END_TEST

START_TEST(the_head_reads_as_it_was_written)
{
    struct segment segment;
    struct segment_head head;

    header->streams_seen = 5;
    header->broken = 1;
    ck_assert_int_eq(segment_open(made, &segment), 0);
    segment_head(&segment, &head);
    ck_assert_uint_eq(head.pid, 77);
    ck_assert_str_eq(head.program, "server");
    ck_assert_uint_eq(head.streams_seen, 5);
    ck_assert_uint_eq(head.broken, 1);
    segment_close(&segment);
}
END_TEST

START_TEST(a_segment_opened_for_reading_only_is_enough)
{
    char path[64];
    struct segment segment;
    int fd;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", made);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(segment_open(fd, &segment), 0);
    close(fd);
    ck_assert_uint_eq(segment_highest(&segment), 0);
    segment_close(&segment);
}
END_TEST

START_TEST(a_truncated_segment_is_refused)
{
    static const size_t sizes[] = {1, 4096, 4096 + 256, 1 << 20};
    struct segment segment;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        int fd = -1;

        ck_assert_int_eq(memory_create(STATS_NAME, sizes[i], &fd), 0);
        ck_assert_int_eq(pwrite(fd, header, 1, 0), 1);
        ck_assert_int_eq(segment_open(fd, &segment), -ERANGE);
        close(fd);
    }
}
END_TEST

START_TEST(a_segment_that_could_shrink_under_the_reader_is_refused)
{
    int fd = memfd_create(STATS_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    struct segment segment;

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, (off_t)stats_size()), 0);
    ck_assert_int_eq(pwrite(fd, header, sizeof(*header), 0),
                     (ssize_t)sizeof(*header));
    ck_assert_int_eq(segment_open(fd, &segment), -EPERM);
    close(fd);
}
END_TEST

START_TEST(another_magic_is_no_segment)
{
    struct segment segment;

    header->magic = STATS_MAGIC + 1;
    ck_assert_int_eq(segment_open(made, &segment), -EPROTO);
}
END_TEST

START_TEST(one_that_is_not_finished_is_no_damage)
{
    struct segment segment;

    header->magic = 0;
    ck_assert_int_eq(segment_open(made, &segment), -EAGAIN);
}
END_TEST

START_TEST(another_version_is_told_apart_from_damage)
{
    struct segment segment;

    header->version = STATS_VERSION + 1;
    ck_assert_int_eq(segment_open(made, &segment), -EPROTONOSUPPORT);
    header->version = 0;
    ck_assert_int_eq(segment_open(made, &segment), -EPROTONOSUPPORT);
}
END_TEST

START_TEST(a_row_count_beyond_the_layout_is_refused)
{
    static const uint32_t counts[] = {0, STATS_ROWS + 1, UINT32_MAX};
    struct segment segment;

    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        header->rows = counts[i];
        ck_assert_int_eq(segment_open(made, &segment), -EPROTO);
    }
}
END_TEST

START_TEST(no_loop_runs_beyond_the_rows_there_are)
{
    struct segment segment;
    struct segment_row row;

    add_row(0), add_row(9);
    header->rows = 8;
    header->highest = UINT32_MAX;
    ck_assert_int_eq(segment_open(made, &segment), 0);
    ck_assert_uint_eq(segment_highest(&segment), 8);
    header->rows = UINT32_MAX; /* grown after it was judged */
    ck_assert_uint_eq(segment_highest(&segment), 8);
    ck_assert(segment_row(&segment, 0, &row));
    ck_assert(!segment_row(&segment, 9, &row));
    ck_assert(!segment_row(&segment, STATS_ROWS, &row));
    ck_assert(!segment_row(&segment, UINT32_MAX, &row));
    segment_close(&segment);
}
END_TEST

START_TEST(strings_without_an_end_are_cut_at_their_field)
{
    struct segment segment;
    struct segment_head head;
    struct segment_row row;
    struct stats_row *written = add_row(0);

    memset(header->program, 'x', sizeof(header->program));
    memset(written->transport, 'y', sizeof(written->transport));
    memset(written->reserved, 'z', sizeof(written->reserved));
    ck_assert_int_eq(segment_open(made, &segment), 0);
    segment_head(&segment, &head);
    ck_assert_uint_eq(strlen(head.program), sizeof(header->program));
    ck_assert(segment_row(&segment, 0, &row));
    ck_assert_str_eq(row.transport, "yyyyyyyy");
    segment_close(&segment);
}
END_TEST

START_TEST(strings_cannot_write_to_the_terminal)
{
    struct segment segment;
    struct segment_head head;

    strcpy(header->program, "a\033[2J\n\t\x7f\xff\"b");
    ck_assert_int_eq(segment_open(made, &segment), 0);
    segment_head(&segment, &head);
    ck_assert_str_eq(head.program, "a?[2J????\"b");
    segment_close(&segment);
}
END_TEST

START_TEST(rows_with_nonsense_are_skipped)
{
    struct segment segment;
    struct segment_row row;
    struct stats_row *written = add_row(0);

    ck_assert_int_eq(segment_open(made, &segment), 0);
    written->stage = STATS_STAGE_DEAD + 1;
    ck_assert(!segment_row(&segment, 0, &row));
    written->stage = UINT32_MAX;
    ck_assert(!segment_row(&segment, 0, &row));
    written->stage = 0;
    written->fd = UINT32_MAX;
    ck_assert(!segment_row(&segment, 0, &row));
    written->fd = 0;
    written->used = 2;
    ck_assert(!segment_row(&segment, 0, &row));
    written->used = 1;
    ck_assert(segment_row(&segment, 0, &row));
    segment_close(&segment);
}
END_TEST

START_TEST(numbers_of_a_liar_stay_in_their_range)
{
    struct segment segment;
    struct segment_row row;
    struct stats_row *written = add_row(0);

    written->reason = written->last_return = UINT32_MAX;
    written->not_over[1] = UINT32_MAX;
    written->family = 5;
    written->peer_pid = UINT32_MAX;
    written->link_out = UINT64_MAX;
    written->since_ns = 1;
    ck_assert_int_eq(segment_open(made, &segment), 0);
    ck_assert(segment_row(&segment, 0, &row));
    ck_assert_int_eq(row.reason, REASON_OTHER);
    ck_assert_int_eq(row.last_return, REASON_OTHER);
    ck_assert_int_eq(row.not_over[0], REASON_NONE);
    ck_assert_int_eq(row.not_over[1], REASON_OTHER);
    ck_assert_int_eq(row.family, 0);
    ck_assert_uint_eq(row.peer_pid, 0);
    ck_assert_uint_eq(row.tcp_out, 0);
    ck_assert_uint_eq(row.since_ns, written->opened_ns);
    segment_close(&segment);
}
END_TEST

START_TEST(any_contents_are_survived)
{
    struct segment segment;
    struct segment_head head;
    struct segment_row row;

    srandom(1);
    ck_assert_int_eq(segment_open(made, &segment), 0);
    for (unsigned round = 0; round < 200; round++) {
        uint32_t *word = (uint32_t *)header;

        for (size_t i = 0; i < 8192; i++)
            word[i] = (uint32_t)random() << 1 ^ (uint32_t)random();
        for (unsigned i = 0; i < 100; i++) {
            rows[i].used = 1;
            rows[i].fd &= 0xffff;
            rows[i].stage %= 12;
        }
        segment_head(&segment, &head);
        ck_assert_uint_lt(strlen(head.program), sizeof(head.program));
        ck_assert_uint_le(segment_highest(&segment), STATS_ROWS);
        for (unsigned i = 0; i < 100; i++) {
            if (!segment_row(&segment, i, &row))
                continue;
            ck_assert_uint_lt(strlen(row.transport), sizeof(row.transport));
            ck_assert_int_lt(row.reason, REASON_COUNT);
            ck_assert_uint_le(row.stage, STATS_STAGE_DEAD);
        }
    }
    segment_close(&segment);
}
END_TEST

START_TEST(stages_are_named_as_in_the_handover)
{
    for (int stage = STAGE_RAW; stage <= STAGE_DEAD; stage++)
        ck_assert_str_eq(stats_stage_name((uint32_t)stage),
                         handover_stage_name((enum handover_stage)stage));
    ck_assert_int_eq(STATS_STAGE_RAW, STAGE_RAW);
    ck_assert_int_eq(STATS_STAGE_UP, STAGE_UP);
    ck_assert_int_eq(STATS_STAGE_DEAD, STAGE_DEAD);
    ck_assert_str_eq(stats_stage_name(STATS_STAGE_DEAD + 1), "?");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("segment");
    TCase *t = tcase_create("segment");

    tcase_add_checked_fixture(t, start, stop);
    tcase_add_test(t, a_row_reads_as_it_was_written);
    tcase_add_test(t, the_head_reads_as_it_was_written);
    tcase_add_test(t, a_segment_opened_for_reading_only_is_enough);
    tcase_add_test(t, a_truncated_segment_is_refused);
    tcase_add_test(t, a_segment_that_could_shrink_under_the_reader_is_refused);
    tcase_add_test(t, another_magic_is_no_segment);
    tcase_add_test(t, one_that_is_not_finished_is_no_damage);
    tcase_add_test(t, another_version_is_told_apart_from_damage);
    tcase_add_test(t, a_row_count_beyond_the_layout_is_refused);
    tcase_add_test(t, no_loop_runs_beyond_the_rows_there_are);
    tcase_add_test(t, strings_without_an_end_are_cut_at_their_field);
    tcase_add_test(t, strings_cannot_write_to_the_terminal);
    tcase_add_test(t, rows_with_nonsense_are_skipped);
    tcase_add_test(t, numbers_of_a_liar_stay_in_their_range);
    tcase_add_test(t, any_contents_are_survived);
    tcase_add_test(t, stages_are_named_as_in_the_handover);
    suite_add_tcase(s, t);
    return run_suite(s);
}
