/*
 * The memory of RDMA peers: who may write to it, how much of it there is, and
 * when it may be used again.
 */
#include "tests/contract/verbs/memory_cases.h"

#include "tests/contract/contract.h"
#include "transport/backend/verbs_private.h"

static struct verbs_link *link_of(struct party *p)
{
    return (struct verbs_link *)p->link;
}

static struct side third; /* another process that `there` knows */

static bool never_sleep(void *arg)
{
    (void)arg;
    return false;
}

/* As must_meet(), with left[n] at `third`. */
static void must_meet_third(unsigned n)
{
    uint64_t limit = clock_ns() + contract->patience_ns;

    if (third.loop == NULL)
        side_start(&third, 3);
    party_start(&right[n], &there, false, n);
    party_start(&left[n], &third, true, n);
    while ((left[n].done == 0 || right[n].done == 0) && clock_ns() < limit) {
        turn(1);
        loop_turn(third.loop, never_sleep, NULL);
    }
    ck_assert_str_eq(reason_token(left[n].why), "none");
    ck_assert_str_eq(reason_token(right[n].why), "none");
    left[n].link->ops->start(left[n].link, 1, 0, 0);
    right[n].link->ops->start(right[n].link, 1, 0, 0);
}

/* Eight bytes past the library: what the device says to it. */
static enum ibv_wc_status write_to(struct verbs_link *l, uint64_t ring,
                                   uint32_t key)
{
    uint64_t limit = clock_ns() + contract->patience_ns;
    struct ibv_sge sge = {(uintptr_t)l->link.tx.bytes, 8,
                          l->chunk->local->lkey};
    struct ibv_send_wr *bad, wr = {.wr_id = 1,
                                   .sg_list = &sge,
                                   .num_sge = 1,
                                   .opcode = IBV_WR_RDMA_WRITE,
                                   .send_flags = IBV_SEND_SIGNALED,
                                   .wr.rdma = {ring, key}};
    struct ibv_wc wc = {0};

    ck_assert_int_eq(ibv_post_send(l->peer->cm->qp, &wr, &bad), 0);
    while (wc.wr_id != 1 && clock_ns() < limit)
        ibv_poll_cq(l->peer->device->cq, 1, &wc);
    ck_assert_uint_eq(wc.wr_id, 1);
    return wc.status;
}

START_TEST(keys_of_one_peer_lead_nowhere_for_another)
{
    struct verbs_link *l;

    must_meet(0);
    must_meet_third(1);
    l = link_of(&left[1]);
    memset(l->link.tx.bytes, 77, 8);
    memset(right[0].link->rx.bytes, 5, 8);
    ck_assert_int_eq(write_to(l, l->peer_ring, l->key), IBV_WC_SUCCESS);
    ck_assert_uint_eq(right[1].link->rx.bytes[7], 77);
    ck_assert_int_eq(
        write_to(l, link_of(&left[0])->peer_ring, link_of(&left[0])->key),
        IBV_WC_REM_ACCESS_ERR);
    for (int i = 0; i < 8; i++)
        ck_assert_uint_eq(right[0].link->rx.bytes[i], 5);
    drop(&left[1]);
    side_stop(&third);
    ck_assert(turn_until(&right[1].breaks, 1));
    left[0].link->ops->commit(left[0].link, 10);
    must_land(right[0].link, 0, 10);
    ck_assert_int_eq(right[0].breaks, 0);
}
END_TEST

/* As party_start(), with rings of another size. */
static void party_wants(struct party *p, struct side *s, bool initiator,
                        unsigned n, uint32_t ring_size)
{
    party_start(p, s, initiator, n);
    contract->ops->meeting_cancel(&p->meeting);
    p->meeting.ring_size = ring_size;
    contract->ops->meeting_start(s->backend, &p->meeting);
}

START_TEST(rings_are_as_large_as_the_end_wants_that_wants_less)
{
    must_meet(0);
    for (unsigned n = 1; n <= 2; n++) {
        party_wants(&right[n], &there, false, n, n == 1 ? RING : 2 * RING);
        party_wants(&left[n], &here, true, n, n == 1 ? 2 * RING : RING);
        ck_assert(turn_until(&left[n].done, 1));
        ck_assert(turn_until(&right[n].done, 1));
        ck_assert_ptr_nonnull(left[n].link);
        ck_assert_ptr_nonnull(right[n].link);
        ck_assert_uint_eq(left[n].link->rx.size, RING);
        ck_assert_uint_eq(right[n].link->rx.size, RING);
    }
}
END_TEST

START_TEST(a_welcome_with_larger_rings_than_wanted_breaks_a_rule)
{
    must_meet(0);
    party_wants(&right[1], &there, false, 1, 2 * RING);
    party_wants(&left[1], &here, true, 1, 2 * RING);
    left[1].meeting.ring_size = RING; /* it has said the other one */
    ck_assert(turn_until(&left[1].done, 1));
    ck_assert(turn_until(&right[1].done, 1));
    ck_assert_str_eq(reason_token(left[1].why), "peer_rule");
    ck_assert_str_eq(reason_token(right[1].why), "peer_rule");
    ck_assert_int_eq(left[0].breaks + right[0].breaks, 0);
    must_meet(2);
}
END_TEST

static bool is_busy(const struct verbs_peer *p)
{
    for (const struct verbs_chunk *c = p->chunks; c != NULL; c = c->next)
        if (c->used != 0)
            return true;
    return atomic_load(&p->done) != p->posted;
}

/* Until both ends have left all links and what was posted has completed. */
static void must_be_idle(const struct verbs_peer *p)
{
    uint64_t limit = clock_ns() + contract->patience_ns;

    while (is_busy(p) && clock_ns() < limit)
        turn(1);
    ck_assert(!is_busy(p));
}

START_TEST(a_link_counts_until_the_peer_has_left_it_too)
{
    struct verbs *v = (struct verbs *)there.backend;
    struct verbs_peer *p;

    must_meet(0);
    p = link_of(&right[0])->peer;
    v->config.max_memory = v->memory;
    drop(&right[0]);
    party_start(&right[1], &there, false, 1);
    party_start(&left[1], &here, true, 1);
    ck_assert(turn_until(&right[1].done, 1));
    ck_assert_str_eq(reason_token(right[1].why), "limit");
    ck_assert(turn_until(&left[0].deaths, 1));
    drop(&left[0]);
    must_be_idle(p);
    must_meet(2);
}
END_TEST

static uint64_t registered(const struct verbs *v)
{
    uint64_t size = 0;

    for (struct verbs_peer *p = v->peers; p != NULL; p = p->next)
        for (struct verbs_chunk *c = p->chunks; c != NULL; c = c->next)
            size += c->links * verbs_link_size(c->ring_size);
    return size;
}

START_TEST(memory_that_one_peer_leaves_is_there_for_the_next)
{
    struct verbs *v = (struct verbs *)there.backend;
    struct verbs_peer *p;

    must_meet(0);
    must_meet(1);
    p = link_of(&right[0])->peer;
    v->config.max_memory = v->memory;
    for (int i = 0; i < 2; i++) {
        drop(&left[i]);
        ck_assert(turn_until(&right[i].deaths, 1));
        drop(&right[i]);
    }
    must_be_idle(p);
    must_meet_third(2);
    ck_assert_uint_le(registered(v), v->config.max_memory);
    drop(&left[2]);
    side_stop(&third);
    ck_assert(turn_until(&right[2].breaks, 1));
    must_meet(3);
}
END_TEST

void add_verbs_memory_cases(TCase *tcase)
{
    tcase_add_test(tcase, keys_of_one_peer_lead_nowhere_for_another);
    tcase_add_test(tcase, rings_are_as_large_as_the_end_wants_that_wants_less);
    tcase_add_test(tcase,
                   a_welcome_with_larger_rings_than_wanted_breaks_a_rule);
    tcase_add_test(tcase, a_link_counts_until_the_peer_has_left_it_too);
    tcase_add_test(tcase, memory_that_one_peer_leaves_is_there_for_the_next);
}
