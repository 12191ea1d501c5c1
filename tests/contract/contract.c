#include "tests/contract/contract.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>

const struct contract *contract;
struct side here, there;
uint64_t contract_max_links = 4096;
struct party left[MANY], right[MANY];

static int side_keep(int fd)
{
    int high = fd < 0 ? fd : fcntl(fd, F_DUPFD_CLOEXEC, KEPT_FROM);

    if (high < 0)
        return fd;
    close(fd);
    return high;
}

static void side_close(int fd)
{
    close(fd);
}

static void on_message(void *owner, const struct control_message *message)
{
    struct party *p = owner;

    p->messages++;
    p->last = *message;
    if (p->heard != NULL)
        p->heard(p);
}

static void on_death(void *owner)
{
    ((struct party *)owner)->deaths++;
}

static void on_broken(void *owner, enum reason why)
{
    struct party *p = owner;

    p->breaks++;
    p->why = why;
}

static bool party_counts(void *owner, uint64_t *wrote, uint64_t *took)
{
    struct party *p = owner;

    *wrote = p->wrote;
    *took = p->took;
    return !p->uncounted;
}

static void on_done(struct meeting *meeting, struct link *link, enum reason why)
{
    struct party *p = meeting->owner;

    p->done++;
    p->link = link;
    p->why = why;
}

void side_start(struct side *s, uint64_t token)
{
    static const struct loop_calls calls = {side_keep, side_close};
    static const struct link_events events = {
        .message = on_message, .channel_dead = on_death, .broken = on_broken};

    s->config = (struct backend_config){
        .bell_token = token << 32 | (uint32_t)getpid(),
        .ringer = bell_ringer_open(),
        .max_memory = 1 << 30,
        .max_links = contract_max_links,
        .meet_ns = contract->patience_ns / 4,
    };
    s->bell = bell_open(s->config.bell_token, WAITER);
    ck_assert_int_ge(s->bell, 0);
    ck_assert_int_eq(loop_create(&calls, &s->loop), 0);
    ck_assert_int_eq(
        contract->ops->create(s->loop, &s->config, &events, &s->backend), 0);
}

void side_stop(struct side *s)
{
    if (s->loop == NULL)
        return;
    contract->ops->destroy(s->backend);
    loop_destroy(s->loop);
    close(s->config.ringer);
    close(s->bell);
    *s = (struct side){0};
}

static bool never_sleep(void *arg)
{
    (void)arg;
    return false;
}

void turn_here(void)
{
    loop_turn(here.loop, never_sleep, NULL);
}

void turn(int times)
{
    for (int i = 0; i < times; i++) {
        if (here.loop != NULL)
            turn_here();
        if (there.loop != NULL)
            loop_turn(there.loop, never_sleep, NULL);
    }
}

bool turn_until(const int *n, int least)
{
    uint64_t limit = clock_ns() + contract->patience_ns;

    while (*(volatile const int *)n < least && clock_ns() < limit)
        turn(1);
    return *n >= least;
}

/* Connection n of this run; what both ends have seen is the same. */
void party_start(struct party *p, struct side *s, bool initiator, unsigned n)
{
    struct iovec iov = {p, 0};
    char text[64];

    memset(p, 0, sizeof(*p));
    iov.iov_base = text;
    iov.iov_len = (size_t)snprintf(text, sizeof(text),
                                   "the first bytes of connection %u", n);
    proof_note(&p->proof, PROOF_TO_SERVER, &iov, 1, iov.iov_len);
    p->meeting = (struct meeting){.initiator = initiator,
                                  .ring_size = RING,
                                  .owner = p,
                                  .proof = &p->proof,
                                  .counts = party_counts,
                                  .done = on_done};
    contract->name(n, &p->meeting.name);
    contract->ops->meeting_start(s->backend, &p->meeting);
}

void must_meet(unsigned n)
{
    party_start(&right[n], &there, false, n);
    party_start(&left[n], &here, true, n);
    ck_assert(turn_until(&left[n].done, 1));
    ck_assert_str_eq(reason_token(left[n].why), "none");
    ck_assert(turn_until(&right[n].done, 1));
    ck_assert_str_eq(reason_token(right[n].why), "none");
    ck_assert_ptr_nonnull(left[n].link);
    ck_assert_ptr_nonnull(right[n].link);
    left[n].link->ops->start(left[n].link, 1, 0, 0);
    right[n].link->ops->start(right[n].link, 1, 0, 0);
}

void drop(struct party *p)
{
    if (p->link != NULL)
        p->link->ops->free(p->link);
    p->link = NULL;
}

void listen_there(bool on)
{
    struct connection_name name;
    struct sockaddr_in in = {.sin_family = AF_INET};

    if (contract->ops->listen == NULL)
        return;
    contract->name(0, &name);
    in.sin_port = htons(name.server_port);
    memcpy(&in.sin_addr, name.server, 4);
    ck_assert_int_eq(contract->ops->listen(
                         there.backend, (struct sockaddr *)&in, sizeof(in), on),
                     0);
}

void must_land(struct link *link, uint64_t took, uint64_t want)
{
    uint64_t limit = clock_ns() + contract->patience_ns, landed = took;

    do {
        ck_assert_int_eq(link->ops->landed(link, took, landed, &landed), 0);
        if (landed == want)
            return;
        turn(1);
    } while (clock_ns() < limit);
    ck_abort_msg("%llu landed and not %llu", (unsigned long long)landed,
                 (unsigned long long)want);
}

uint64_t must_free(struct link *link, uint64_t before, uint64_t wrote,
                   uint64_t want)
{
    uint64_t limit = clock_ns() + contract->patience_ns, freed = before;

    do {
        ck_assert_int_eq(link->ops->freed(link, freed, wrote, &freed), 0);
        if (freed >= want)
            return freed;
        turn(1);
    } while (clock_ns() < limit);
    ck_abort_msg("%llu is free and not %llu", (unsigned long long)freed,
                 (unsigned long long)want);
}

int must_ring(int bell)
{
    uint64_t limit = clock_ns() + contract->patience_ns;
    int n;

    while ((n = bell_drain(bell)) == 0 && clock_ns() < limit) {
        turn(1);
        usleep(100);
    }
    ck_assert_int_gt(n, 0);
    return n;
}

/* Differs between neighbours, and between rounds of a ring. */
uint8_t byte_at(uint64_t off)
{
    return (uint8_t)(off * 7 + (off >> 8) * 13 + (off >> 12));
}

static void start(void)
{
    memset(left, 0, sizeof(left));
    memset(right, 0, sizeof(right));
    side_start(&here, 1);
    side_start(&there, 2);
    listen_there(true);
}

static void stop(void)
{
    for (unsigned i = 0; i < MANY; i++) {
        drop(&left[i]);
        drop(&right[i]);
    }
    turn(3);
    side_stop(&here);
    side_stop(&there);
}

void contract_skips(const char *cases, const char *why)
{
    printf("skipped: %s (%s)\n", cases, why);
}

int contract_run(const char *name, const struct contract *what)
{
    Suite *suite = suite_create(name);
    TCase *tcase = tcase_create(name);
    SRunner *runner = srunner_create(suite);
    int failed;

    contract = what;
    tcase_set_timeout(tcase, (double)what->patience_ns / 1e9 * 6);
    tcase_add_checked_fixture(tcase, start, stop);
    add_meeting_cases(tcase);
    add_link_cases(tcase);
    add_thread_cases(tcase);
    if (what->more != NULL)
        what->more(tcase);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
