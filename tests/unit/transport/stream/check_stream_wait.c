/* What a thread does before it sleeps for a stream. */
#include "tests/unit/transport/stream/two_ends.h"

#include <check.h>
#include <poll.h>
#include <stdatomic.h>

#include "tests/support/run_suite.h"

enum { RING = 64, WAITER = 7 };

static struct two_ends pair;
static struct transport_ops ops;
static bool asked, was_armed;

static struct stream *stream(int side)
{
    return &pair.end[side].stream;
}

static void come_up(void)
{
    two_ends_start_by_hand(&pair, RING);
    two_ends_go_up(&pair);
}

static void note_want_room(struct link *link)
{
    struct fake_peer *peer = (struct fake_peer *)link->peer;

    asked = true;
    was_armed = atomic_load(&peer->armed[WAITER]);
}

/* The peer may take the wish at once, when another thread uses the room. */
START_TEST(who_asks_for_room_is_armed_already)
{
    struct stream *s = stream(0);
    struct peer *peer = NULL;

    come_up();
    ops = *s->link->ops;
    ops.want_room = note_want_room;
    s->link->ops = &ops;
    stream_wait_for(s, POLLIN, WAITER, &peer);
    ck_assert_ptr_nonnull(peer);
    ck_assert(atomic_load(&((struct fake_peer *)peer)->armed[WAITER]));
    ck_assert(!asked);
    peer->ops->peer_arm(peer, WAITER, false);
    peer->ops->peer_put(peer);
    stream_wait_for(s, POLLOUT, WAITER, &peer);
    ck_assert(asked);
    ck_assert(was_armed);
    peer->ops->peer_arm(peer, WAITER, false);
    peer->ops->peer_put(peer);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stream wait");
    TCase *tc = tcase_create("wait");

    tcase_add_test(tc, who_asks_for_room_is_armed_already);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
