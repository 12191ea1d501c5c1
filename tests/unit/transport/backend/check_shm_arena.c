/* Memory that is shared with a peer, and the places in it. */
#include "tests/unit/transport/backend/stranger.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "tests/support/run_suite.h"

START_TEST(a_guest_that_says_bye_again_and_again_frees_one_slot)
{
    uint8_t bytes[HELLO_SIZE];
    struct control_message m = {.type = MESSAGE_HELLO, .number = 1};
    struct arena *p;
    int fd;

    say(bytes, hello(bytes, m, CONTROL_VERSION), NULL, 0);
    ck_assert_int_eq(right[0].done, 1);
    fd = hear(&m);
    ck_assert_int_eq(m.type, MESSAGE_RINGS);
    ck_assert_int_ge(fd, 0);
    close(fd);
    ck_assert_int_eq(hear(&m), -1);
    ck_assert_int_eq(m.type, MESSAGE_WELCOME);
    p = (struct arena *)right[0].link->peer;
    m = (struct control_message){
        .type = MESSAGE_BYE, .link = m.link, .stream = 1};
    for (int i = 0; i < 3; i++)
        say_message(m);
    ck_assert_int_ge(right[0].deaths, 1);
    /* Our own end is not done with it: nobody else gets it. */
    ck_assert_int_eq(p->busy[0], SLOT_MINE);
    ck_assert_int_eq(arena_free_slot(p), 1);
    drop(&right[0]);
    say_message(m);
    ck_assert_int_eq(arena_free_slot(p), 0);
}
END_TEST

/* right[n] meets the stranger; the answer. */
static struct control_message answer_to_hello(unsigned n)
{
    struct control_message m = {.type = MESSAGE_HELLO, .number = n};
    uint8_t bytes[HELLO_SIZE];
    int fd;

    if (n > 0)
        party_start(&right[n], &there, false, n);
    say(bytes, hello_about(n, bytes, m, CONTROL_VERSION), NULL, 0);
    ck_assert_int_eq(right[n].done, 1);
    fd = hear(&m);
    if (fd >= 0) {
        close(fd);
        hear(&m);
    }
    return m;
}

static void let_go(unsigned n)
{
    struct control_message m;

    drop(&right[n]);
    hear(&m);
    ck_assert_int_eq(m.type, MESSAGE_BYE);
}

static void must_be_over_the_limit(unsigned n)
{
    struct control_message m = answer_to_hello(n);

    ck_assert_int_eq(m.type, MESSAGE_REFUSE);
    ck_assert_uint_eq(m.reason, REASON_LIMIT);
}

/* Its pages are there as long as the guest uses them. */
START_TEST(a_place_counts_until_both_ends_have_left_it)
{
    struct control_message m, bye = {.type = MESSAGE_BYE, .stream = 1};

    if (_i == 0)
        there.shm->config.max_memory = 2 * shm_link_size(RING);
    else
        there.shm->config.max_links = 2;
    for (unsigned n = 0; n < 2; n++) {
        m = answer_to_hello(n);
        ck_assert_int_eq(m.type, MESSAGE_WELCOME);
        let_go(n);
    }
    must_be_over_the_limit(2);
    bye.link = m.link;
    say_message(bye);
    say_message(bye);
    ck_assert_int_eq(answer_to_hello(3).type, MESSAGE_WELCOME);
    must_be_over_the_limit(4);
}
END_TEST

START_TEST(places_of_a_peer_that_has_gone_count_until_their_memory_goes)
{
    ck_assert_int_eq(answer_to_hello(0).type, MESSAGE_WELCOME);
    ck_assert_int_eq(answer_to_hello(1).type, MESSAGE_WELCOME);
    let_go(1);
    hang_up();
    ck_assert_uint_eq(there.shm->memory, 2 * shm_link_size(RING));
    ck_assert_uint_eq(there.shm->links, 2);
    drop(&right[0]);
    ck_assert_uint_eq(there.shm->memory, 0);
    ck_assert_uint_eq(there.shm->links, 0);
}
END_TEST

/* Is welcomed and could not map what came; was there something new? */
static bool is_offered_more(unsigned n)
{
    struct control_message m = {.type = MESSAGE_HELLO, .number = n};
    uint8_t bytes[HELLO_SIZE];
    int fd;

    if (n > 0)
        party_start(&right[0], &there, false, 0);
    say(bytes, hello(bytes, m, CONTROL_VERSION), NULL, 0);
    ck_assert_int_eq(right[0].done, 1);
    fd = hear(&m);
    if (fd >= 0) {
        close(fd);
        hear(&m);
    }
    ck_assert_int_eq(m.type, MESSAGE_WELCOME);
    say_message((struct control_message){.type = MESSAGE_BYE,
                                         .link = m.link,
                                         .stream = 1,
                                         .reason = REASON_NO_MEMORY});
    drop(&right[0]);
    hear(&m);
    ck_assert_int_eq(m.type, MESSAGE_BYE);
    return fd >= 0;
}

START_TEST(an_arena_that_its_guest_could_not_take_is_replaced_some_times)
{
    unsigned n = 0;

    while (n < 100 && is_offered_more(n))
        n++;
    ck_assert_uint_gt(n, 2);
    ck_assert_uint_lt(n, 100);
    ck_assert_uint_eq(n_channels(&there), 1);
}
END_TEST

static void refused(int fd)
{
    ck_assert(!offer(0, &fd, 1));
    hang_up();
    call();
    close(fd);
}

START_TEST(a_sound_arena_is_taken_once)
{
    int fd = arena_file(shm_arena_size(RING), good);
    int pair[2] = {fd, fd};

    ck_assert(offer(0, &fd, 1));
    ck_assert(offer(1, pair, 2));
    ck_assert(!offer(1, &fd, 1));
    close(fd);
}
END_TEST

START_TEST(descriptors_that_are_no_arena_close_the_channel)
{
    int ends[2], fd, many[10];

    ck_assert(!offer(0, NULL, 0));
    hang_up();
    call();
    ck_assert_int_eq(pipe(ends), 0);
    refused(ends[0]);
    refused(ends[1]);
    refused(open("/dev/null", O_RDWR));
    refused(dup(raw));
    fd = memfd_create("unsealed", MFD_ALLOW_SEALING);
    ck_assert_int_eq(ftruncate(fd, (off_t)shm_arena_size(RING)), 0);
    refused(fd);
    refused(arena_file(4096, good));
    refused(arena_file(shm_arena_size(RING) - 1, good));
    refused(arena_file(shm_arena_size(RING) + 4096, good));
    fd = memfd_create("read only", MFD_ALLOW_SEALING);
    ck_assert_int_eq(ftruncate(fd, (off_t)shm_arena_size(RING)), 0);
    ck_assert_int_eq(pwrite(fd, &good, 64, 0), 64);
    ck_assert_int_eq(
        fcntl(fd, F_ADD_SEALS,
              F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL | F_SEAL_WRITE),
        0);
    refused(fd);
    fd = arena_file(shm_arena_size(RING), good);
    for (int i = 0; i < 10; i++)
        many[i] = fd;
    ck_assert(!offer(0, many, 10)); /* more than fit */
    close(fd);
}
END_TEST

START_TEST(an_arena_for_which_no_descriptor_is_left_closes_nothing)
{
    int fd = arena_file(shm_arena_size(RING), good), full[1024], n = 0;
    struct rlimit before, few;

    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = before;
    few.rlim_cur = 512;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    while (n < 1024 && (full[n] = dup(fd)) >= 0)
        n++;
    ck_assert(offer(0, &fd, 1));
    while (n > 0)
        close(full[--n]);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    ck_assert(offer(0, &fd, 1)); /* it was not taken before */
    ck_assert(!offer(0, &fd, 1));
    close(fd);
}
END_TEST

START_TEST(headers_that_do_not_fit_the_file_close_the_channel)
{
    static const uint32_t sizes[] = {0,        1,        RING - 1, RING + 1,
                                     RING / 2, 2 * RING, 1u << 31, UINT32_MAX};
    struct shm_header h;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        h = good;
        h.ring_size = sizes[i];
        refused(arena_file(shm_arena_size(RING), h));
    }
    h = good;
    h.magic++;
    refused(arena_file(shm_arena_size(RING), h));
    h = good;
    h.version++;
    refused(arena_file(shm_arena_size(RING), h));
    h = good;
    h.links--;
    refused(arena_file(shm_arena_size(RING), h));
    h = good;
    h.waiters++;
    refused(arena_file(shm_arena_size(RING), h));
}
END_TEST

START_TEST(a_peer_cannot_make_us_map_without_end)
{
    int fd = arena_file(shm_arena_size(RING), good);
    uint32_t id = 0;

    while (id < 1000 && offer(id, &fd, 1))
        id++;
    ck_assert_uint_lt(id, 200);
    close(fd);
}
END_TEST

static struct shm_header sized(uint32_t ring_size)
{
    struct shm_header h = good;

    h.ring_size = ring_size;
    return h;
}

static unsigned n_arenas(void)
{
    unsigned n = 0;

    for (struct arena *p = there.shm->channels->arenas; p != NULL; p = p->next)
        n++;
    return n;
}

START_TEST(arenas_take_no_more_addresses_than_there_are_to_spare)
{
    const uint64_t tib = UINT64_C(1) << 40;
    int fd = arena_file(shm_arena_size(RING_SIZE_MOST), sized(RING_SIZE_MOST));
    int small = arena_file(shm_arena_size(RING), good);

    ck_assert_uint_ge(shm_arena_size(RING_SIZE_MOST), tib);
    there.shm->config.max_memory = tib;
    for (uint32_t id = 0; id < 40; id++)
        ck_assert(offer(id, &fd, 1)); /* what is not taken breaks no rule */
    ck_assert_uint_le(n_arenas(), 32);
    hang_up();
    call();
    ck_assert(offer(0, &small, 1));
    ck_assert_uint_eq(n_arenas(), 1); /* all is given back */
    close(fd);
    close(small);
}
END_TEST

START_TEST(an_arena_without_a_link_that_fits_the_memory_is_not_taken)
{
    int fd = arena_file(shm_arena_size(RING), good);

    there.shm->config.max_memory = shm_link_size(RING) - 1;
    ck_assert(offer(0, &fd, 1));
    ck_assert_uint_eq(n_arenas(), 0);
    there.shm->config.max_memory++;
    ck_assert(offer(0, &fd, 1));
    ck_assert_uint_eq(n_arenas(), 1);
    close(fd);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("shm_arena");
    TCase *t = tcase_create("shm_arena");

    tcase_add_checked_fixture(t, start_stranger, stop_stranger);
    tcase_set_timeout(t, 30);
    tcase_add_test(t, a_guest_that_says_bye_again_and_again_frees_one_slot);
    tcase_add_loop_test(t, a_place_counts_until_both_ends_have_left_it, 0, 2);
    tcase_add_test(
        t, places_of_a_peer_that_has_gone_count_until_their_memory_goes);
    tcase_add_test(
        t, an_arena_that_its_guest_could_not_take_is_replaced_some_times);
    tcase_add_test(t, a_sound_arena_is_taken_once);
    tcase_add_test(t, descriptors_that_are_no_arena_close_the_channel);
    tcase_add_test(t, an_arena_for_which_no_descriptor_is_left_closes_nothing);
    tcase_add_test(t, headers_that_do_not_fit_the_file_close_the_channel);
    tcase_add_test(t, a_peer_cannot_make_us_map_without_end);
    tcase_add_test(t, arenas_take_no_more_addresses_than_there_are_to_spare);
    tcase_add_test(t,
                   an_arena_without_a_link_that_fits_the_memory_is_not_taken);
    suite_add_tcase(s, t);
    return run_suite(s);
}
