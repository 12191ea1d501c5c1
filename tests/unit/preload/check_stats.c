#include "preload/stats.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "preload/process.h"
#include "tests/support/run_suite.h"
#include "transport/pause.h"

static struct endpoint one, two;

static void start(void)
{
    memset(&one, 0, sizeof(one));
    memset(&two, 0, sizeof(two));
    one.stream.fd = 4;
    two.stream.fd = 5;
    strcpy(process.program, "checked");
    process.settings.report[0] = '\0';
}

/* The header lies before the first row. */
static struct stats_header *header_of(struct stats_row *first)
{
    return (struct stats_header *)((char *)first - sizeof(struct stats_header));
}

START_TEST(a_row_begins_on_tcp_and_young)
{
    struct stats_row *row = stats_open_row(&one);

    ck_assert_ptr_nonnull(row);
    ck_assert_uint_eq(row->used, 1);
    ck_assert_uint_eq(row->fd, 4);
    ck_assert_str_eq(row->transport, "tcp");
    ck_assert_uint_eq(row->reason, REASON_YOUNG);
    ck_assert_uint_eq(row->since_ns, row->opened_ns);
    ck_assert_uint_le(row->opened_ns, clock_ns());
    ck_assert_ptr_ne(stats_open_row(&two), row);
}
END_TEST

START_TEST(the_segment_names_the_process_and_how_far_it_is_used)
{
    struct stats_row *row = stats_open_row(&one);
    struct stats_header *h = header_of(row);

    ck_assert_uint_eq(h->magic, STATS_MAGIC);
    ck_assert_uint_eq(h->version, STATS_VERSION);
    ck_assert_uint_eq(h->pid, getpid());
    ck_assert_uint_eq(h->rows, STATS_ROWS);
    ck_assert_str_eq(h->program, "checked");
    ck_assert_uint_eq(h->highest, 1);
    ck_assert_uint_eq(h->streams_seen, 1);
}
END_TEST

START_TEST(a_full_table_counts_what_it_cannot_list_until_a_row_is_free)
{
    struct stats_row *first = stats_open_row(&one), *row;
    struct stats_header *h = header_of(first);

    for (int i = 1; i < STATS_ROWS; i++)
        ck_assert_ptr_nonnull(stats_open_row(&two));
    ck_assert_uint_eq(h->highest, STATS_ROWS);
    ck_assert_ptr_null(stats_open_row(&two));
    ck_assert_uint_eq(h->unlisted, 1);
    /* Without a search of the table each time; else Check's limit ends it. */
    for (int i = 1; i < 200000; i++)
        ck_assert_ptr_null(stats_open_row(&two));
    ck_assert_uint_eq(h->unlisted, 200000);
    two.row = first + 77;
    stats_close_row(&two);
    ck_assert_ptr_null(two.row);
    row = stats_open_row(&one);
    ck_assert_ptr_eq(row, first + 77);
    ck_assert_ptr_null(stats_open_row(&two));
    ck_assert_uint_eq(h->streams_seen, STATS_ROWS + 200002);
}
END_TEST

START_TEST(a_closed_row_leaves_its_bytes_in_the_sums)
{
    struct stats_row *row = one.row = stats_open_row(&one);
    struct stats_header *h = header_of(row);

    atomic_store(&row->out, 10);
    atomic_store(&row->in, 20);
    atomic_store(&row->link_out, 3);
    atomic_store(&row->link_in, 4);
    stats_close_row(&one);
    ck_assert_uint_eq(row->used, 0);
    ck_assert_ptr_eq(one.stream.bytes, &one.bytes);
    ck_assert_uint_eq(h->closed_out, 10);
    ck_assert_uint_eq(h->closed_in, 20);
    ck_assert_uint_eq(h->closed_link_out, 3);
    ck_assert_uint_eq(h->closed_link_in, 4);
    stats_close_row(&one); /* it has none any more */
    ck_assert_uint_eq(h->closed_out, 10);
}
END_TEST

START_TEST(an_update_shows_the_stage_the_reason_and_the_names)
{
    struct stats_row *row = one.row = stats_open_row(&one);
    struct stats_header *h = header_of(row);

    one.stream.h.initiator = true;
    one.stream.why = REASON_MEETING;
    one.known = true;
    one.name = (struct connection_name){.family = 4,
                                        .server = {10, 0, 0, 1},
                                        .client = {10, 0, 0, 2},
                                        .server_port = 80,
                                        .client_port = 4000};
    one.stream.returns = 1;
    one.stream.h.why = REASON_FORK;
    stats_update(&one);
    ck_assert_uint_eq(row->reason, REASON_MEETING);
    ck_assert_uint_eq(row->family, 4);
    ck_assert_uint_eq(row->local[3], 2);
    ck_assert_uint_eq(row->peer[3], 1);
    ck_assert_uint_eq(row->local_port, 4000);
    ck_assert_uint_eq(row->peer_port, 80);
    ck_assert_uint_eq(row->last_return, REASON_FORK);
    ck_assert_uint_eq(h->returns, 1);
    stats_update(&one);
    ck_assert_uint_eq(h->returns, 1);
    stats_update(&two); /* without a row */
}
END_TEST

START_TEST(a_stream_that_broke_is_counted_once)
{
    struct stats_row *row = one.row = stats_open_row(&one);
    struct stats_header *h = header_of(row);

    one.stream.h.stage = STAGE_DEAD;
    one.stream.error = ECONNRESET; /* of the peer's application, so far */
    stats_update(&one);
    ck_assert_uint_eq(h->broken, 0);
    one.stream.broken = true;
    stats_update(&one);
    stats_update(&one);
    ck_assert_uint_eq(h->broken, 1);
}
END_TEST

START_TEST(events_are_counted_once_there_is_a_segment)
{
    struct stats_header *h;

    stats_count(STATS_SLEEP);
    h = header_of(stats_open_row(&one));
    ck_assert_uint_eq(h->sleeps, 0);
    for (enum stats_event e = STATS_UP; e <= STATS_SPIN_MISSED; e++)
        stats_count(e);
    stats_count(STATS_SPIN_HIT);
    ck_assert_uint_eq(h->streams_up, 1);
    ck_assert_uint_eq(h->returns, 1);
    ck_assert_uint_eq(h->broken, 1);
    ck_assert_uint_eq(h->sleeps, 1);
    ck_assert_uint_eq(h->spins_hit, 2);
    ck_assert_uint_eq(h->spins_missed, 1);
}
END_TEST

START_TEST(the_child_of_a_fork_starts_a_segment_of_its_own)
{
    struct stats_row *row;

    stats_after_fork();
    stats_open_row(&one);
    stats_open_row(&two);
    stats_after_fork();
    stats_count(STATS_UP);
    row = stats_open_row(&one);
    ck_assert_uint_eq(header_of(row)->streams_seen, 1);
    ck_assert_uint_eq(header_of(row)->streams_up, 0);
}
END_TEST

START_TEST(the_report_adds_open_and_closed_streams)
{
    char path[128], text[1024] = "", line[64];
    FILE *f;

    snprintf(path, sizeof(path), "/tmp/check_stats.%d.txt", (int)getpid());
    strcpy(process.settings.report, "/tmp/check_stats.%p.txt");
    stats_report(); /* no segment, no file */
    ck_assert_int_lt(access(path, F_OK), 0);
    one.row = stats_open_row(&one);
    two.row = stats_open_row(&two);
    atomic_store(&one.row->out, 100);
    atomic_store(&one.row->link_out, 60);
    atomic_store(&two.row->out, 7);
    atomic_store(&two.row->in, 9);
    stats_close_row(&one);
    stats_count(STATS_SLEEP);
    stats_report();
    f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_gt(fread(text, 1, sizeof(text) - 1, f), 0);
    fclose(f);
    unlink(path);
    snprintf(line, sizeof(line), "program checked\npid %d\n", (int)getpid());
    ck_assert_ptr_nonnull(strstr(text, line));
    ck_assert_ptr_nonnull(strstr(text, "\nstreams_seen 2\n"));
    ck_assert_ptr_nonnull(strstr(text, "\nstreams_open 1\n"));
    ck_assert_ptr_nonnull(strstr(text, "\nlink_bytes_out 60\n"));
    ck_assert_ptr_nonnull(strstr(text, "\nlink_bytes_in 0\n"));
    ck_assert_ptr_nonnull(strstr(text, "\ntcp_bytes_out 47\n"));
    ck_assert_ptr_nonnull(strstr(text, "\ntcp_bytes_in 9\n"));
    ck_assert_ptr_nonnull(strstr(text, "\nsleeps 1\n"));
}
END_TEST

START_TEST(the_report_says_why_streams_never_left_tcp)
{
    char path[128], text[1024] = "";
    FILE *f;

    snprintf(path, sizeof(path), "/tmp/check_stats.%d.txt", (int)getpid());
    strcpy(process.settings.report, "/tmp/check_stats.%p.txt");
    for (int i = 0; i < 3; i++) {
        one.row = stats_open_row(&one);
        one.row->ups = i == 2; /* this one has been on a link */
        stats_close_row(&one);
    }
    two.row = stats_open_row(&two);
    two.row->reason = REASON_BARE_READ; /* still open */
    stats_report();
    f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_gt(fread(text, 1, sizeof(text) - 1, f), 0);
    fclose(f);
    unlink(path);
    ck_assert_ptr_nonnull(strstr(text, "\nstayed_young 2\n"));
    ck_assert_ptr_nonnull(strstr(text, "\nstayed_bare_read 1\n"));
    ck_assert_ptr_null(strstr(text, "stayed_up"));
}
END_TEST

START_TEST(a_report_that_cannot_be_written_is_left_out)
{
    stats_open_row(&one);
    stats_report(); /* not asked for */
    strcpy(process.settings.report, "/nonexistent/%p%");
    stats_report();
    memset(process.settings.report, 'p', SETTINGS_PATH_MAX - 1);
    process.settings.report[SETTINGS_PATH_MAX - 1] = '\0';
    process.settings.report[0] = '/';
    stats_report();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("stats");
    TCase *t = tcase_create("stats");

    tcase_add_checked_fixture(t, start, NULL);
    tcase_set_timeout(t, 30);
    tcase_add_test(t, a_row_begins_on_tcp_and_young);
    tcase_add_test(t, the_segment_names_the_process_and_how_far_it_is_used);
    tcase_add_test(t,
                   a_full_table_counts_what_it_cannot_list_until_a_row_is_free);
    tcase_add_test(t, a_stream_that_broke_is_counted_once);
    tcase_add_test(t, a_closed_row_leaves_its_bytes_in_the_sums);
    tcase_add_test(t, an_update_shows_the_stage_the_reason_and_the_names);
    tcase_add_test(t, events_are_counted_once_there_is_a_segment);
    tcase_add_test(t, the_child_of_a_fork_starts_a_segment_of_its_own);
    tcase_add_test(t, the_report_adds_open_and_closed_streams);
    tcase_add_test(t, the_report_says_why_streams_never_left_tcp);
    tcase_add_test(t, a_report_that_cannot_be_written_is_left_out);
    suite_add_tcase(s, t);
    return run_suite(s);
}
