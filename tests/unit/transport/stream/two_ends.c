/*
 * See two_ends.h.
 */
#include "tests/unit/transport/stream/two_ends.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include <check.h>

enum { PIECE_MOST = 1 << 16 };

static uint8_t piece[PIECE_MOST];
static uint64_t tag_state;

/* In place of the C library's: a seed brings back its tags as well. Here and
 * not in tests/support, as the linker would give it to every program. */
ssize_t getrandom(void *to, size_t n, unsigned flags)
{
    (void)flags;
    for (size_t done = 0; done < n; done += sizeof(uint64_t)) {
        uint64_t tag = fake_random(&tag_state);

        memcpy((char *)to + done, &tag,
               n - done < sizeof(tag) ? n - done : sizeof(tag));
    }
    return (ssize_t)n;
}

uint8_t two_ends_byte(int side, uint64_t off)
{
    return (uint8_t)(off * 167 + (off >> 8) * 59 + (side ? 101 : 0) + 1);
}

static struct end *peer_of(struct end *e)
{
    return &e->pair->end[!e->side];
}

static void on_wake(struct stream *s)
{
    ((struct end *)s)->wakes++;
}

static void on_managed(struct stream *s, bool on)
{
    ((struct end *)s)->told_managed = on;
}

static void on_kick(struct stream *s)
{
    ((struct end *)s)->kicks++;
}

static const struct stream_calls owner_calls = {
    .wake = on_wake,
    .managed = on_managed,
    .kick = on_kick,
};

static void on_message(void *owner, const struct control_message *m)
{
    struct end *e = owner;

    if (!end_is_alive(e))
        return;
    stream_message(&e->stream, m, e->refuse);
    stream_check_foreign(&e->stream);
}

static void meet(struct two_ends *t, const struct two_ends_settings *s)
{
    fake_wire_start(&t->wire, s->ring, s->link_by_hand, s->device);
    t->wire.message = on_message;
    for (int i = 0; i < 2; i++) {
        t->knows_dead[i] = false;
        stream_set_link(&t->end[i].stream,
                        fake_link_take(&t->wire, i, &t->end[i]));
    }
}

static bool on_stays(struct stream *s)
{
    return ((struct end *)s)->stays;
}

void two_ends_start(struct two_ends *t, const struct two_ends_settings *s)
{
    int fds[2];

    memset(t, 0, sizeof(*t));
    tag_state = s->seed * 2 + 1;
    fake_tcp_start(&s->tcp, s->seed);
    fake_tcp_connect(fds);
    for (int i = 0; i < 2; i++) {
        struct end *e = &t->end[i];

        e->pair = t;
        e->side = i;
        e->fd = fds[i];
        e->calls = owner_calls;
        e->calls.careful = &e->careful;
        e->calls.stays = on_stays;
        e->careful = s->careful >> i & 1;
        stream_init(&e->stream, fds[i], i == 0, &fake_tcp_calls, &e->calls,
                    &e->bytes);
    }
    meet(t, s);
}

bool end_is_alive(const struct end *e)
{
    return !e->gone && !e->closed;
}

/* ---- the application ---- */

static ssize_t count_write(struct end *e, ssize_t rc)
{
    if (rc > 0)
        e->wrote += (uint64_t)rc;
    else if (rc < 0 && rc != -EAGAIN && rc != STREAM_HELD && rc != -EINTR)
        e->write_error = (int)-rc;
    return rc;
}

ssize_t end_write(struct end *e, size_t n)
{
    struct iovec iov = {piece, n};
    ssize_t rc;

    for (size_t i = 0; i < n; i++)
        piece[i] = two_ends_byte(e->side, e->wrote + i);
    if (!stream_bare_enter(&e->stream))
        return count_write(e, stream_send(&e->stream, &iov, 1, 0, 0));
    rc = fake_tcp_calls.send(e->fd, piece, n, 0);
    if (rc > 0)
        stream_count_out(&e->stream, (size_t)rc);
    stream_bare_leave(&e->stream);
    return count_write(e, rc);
}

/* What read() gave; the bytes are compared. */
static ssize_t count_read(struct end *e, ssize_t rc)
{
    if (rc == 0)
        e->eof = true;
    else if (rc < 0 && rc != -EAGAIN && rc != -EINTR)
        e->read_error = (int)-rc;
    for (ssize_t i = 0; i < rc; i++)
        if (piece[i] != two_ends_byte(!e->side, e->took + (uint64_t)i))
            e->pair->wrong = "a byte was lost, repeated or out of order";
    if (rc > 0)
        e->took += (uint64_t)rc;
    if (e->took > peer_of(e)->wrote)
        e->pair->wrong = "a byte was read that nobody wrote";
    /* The kernel, too, tells of a reset once, to whoever comes first. */
    if (e->eof && e->took != peer_of(e)->wrote && e->write_error != ECONNRESET)
        e->pair->wrong = "end of file before the last byte";
    return rc;
}

ssize_t end_read(struct end *e, size_t n)
{
    struct iovec iov = {piece, n};
    ssize_t rc;

    if (e->bare != BARE_NONE)
        return -EAGAIN; /* the only reader is inside a kernel read */
    if (!stream_bare_enter(&e->stream))
        return count_read(e, stream_recv(&e->stream, &iov, 1, 0));
    rc = fake_tcp_calls.recv(e->fd, piece, n, 0);
    if (rc > 0)
        stream_count_in(&e->stream, (size_t)rc);
    stream_bare_leave(&e->stream);
    return count_read(e, rc);
}

void end_bare_step(struct end *e)
{
    ssize_t rc;

    switch (e->bare) {
    case BARE_NONE:
        if (stream_bare_enter(&e->stream))
            e->bare = BARE_INSIDE;
        return;
    case BARE_INSIDE:
        rc = fake_tcp_calls.recv(e->fd, piece, 7, 0);
        if (rc == -EAGAIN || rc == -EINTR)
            return;
        count_read(e, rc);
        e->bare_got = rc > 0 ? (size_t)rc : 0;
        e->bare = BARE_UNCOUNTED;
        return;
    case BARE_UNCOUNTED:
        stream_count_in(&e->stream, e->bare_got);
        e->bare = BARE_NONE;
        stream_bare_leave(&e->stream);
        return;
    }
}

int end_shutdown(struct end *e)
{
    e->shut = true;
    return stream_shutdown(&e->stream, SHUT_WR);
}

static void kernel_closes(struct end *e)
{
    e->closed = true;
    e->closing = false;
    if (e->stream.link != NULL)
        stream_drop_link(&e->stream);
    fake_tcp_close(e->fd);
}

static void try_to_close(struct end *e)
{
    struct stream *s = &e->stream;

    if (stream_on_tcp(s) &&
        (s->h.stage == STAGE_DEAD || !s->leave_said || !s->managed))
        kernel_closes(e);
}

void end_close(struct end *e)
{
    e->closing = true;
    e->shut = true;
    stream_wish(&e->stream, WISH_CLOSE, REASON_CLOSED);
    try_to_close(e);
}

void end_kill(struct end *e)
{
    e->gone = true;
    fake_peer_gone(&e->pair->wire, e->side);
    fake_tcp_close(e->fd);
}

void end_exit(struct end *e)
{
    if (!e->leaving) {
        e->leaving = true;
        e->shut = true;
        stream_wish(&e->stream, WISH_LEAVE, REASON_CLOSED);
    }
    if (stream_on_tcp(&e->stream))
        end_kill(e);
}

/* ---- the owner ---- */

void end_notice_dead_channel(struct end *e)
{
    if (!fake_channel_ended(&e->pair->wire, e->side) ||
        e->pair->knows_dead[e->side] || !end_is_alive(e))
        return;
    while (fake_deliver(&e->pair->wire, !e->side))
        ;
    e->pair->knows_dead[e->side] = true;
    stream_channel_dead(&e->stream);
}

static bool say_willing(struct end *e)
{
    struct control_message m = {.type = MESSAGE_WILLING};
    struct stream *s = &e->stream;

    if (!s->willing_due || atomic_load(&s->bare) != 0 || s->link == NULL)
        return false;
    s->willing_due = false;
    s->link->ops->send(s->link, &m);
    return true;
}

bool end_help(struct end *e)
{
    struct stream *s = &e->stream;
    unsigned told;
    bool moved;

    if (!end_is_alive(e))
        return false;
    told = atomic_load(&s->told);
    if (e->pair->wire.broken && s->link != NULL && !s->link_broken)
        stream_link_broken(s, REASON_LINK_BROKEN);
    moved = say_willing(e);
    moved |= stream_progress(s);
    if (stream_owes_answer(s))
        stream_answer(s, e->refuse);
    stream_check_foreign(s);
    if (s->h.initiator && s->h.stage == STAGE_RAW && !s->managed &&
        s->link != NULL && !e->no_up &&
        (s->propose_again || atomic_load(&s->up_wanted)))
        moved |= stream_try_up(s) == 0;
    if (s->link != NULL && s->h.channel_dead && s->h.stage == STAGE_RAW &&
        !s->managed)
        stream_drop_link(s);
    if (e->closing)
        try_to_close(e);
    else if (e->leaving)
        end_exit(e);
    return moved || told != atomic_load(&s->told);
}

/* ---- both ---- */

static bool arrive(struct two_ends *t)
{
    bool moved = false;

    for (int i = 0; i < 2; i++) {
        moved |= fake_tcp_deliver(t->end[i].fd, SIZE_MAX) > 0;
        fake_land(&t->wire, i, UINT64_MAX);
        while (fake_deliver(&t->wire, i))
            moved = true;
        end_notice_dead_channel(&t->end[i]);
    }
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 10 && end_help(&t->end[i]); k++)
            moved = true;
    return moved;
}

void two_ends_settle(struct two_ends *t)
{
    for (int i = 0; i < 200 && arrive(t); i++)
        ;
}

void two_ends_start_by_hand(struct two_ends *t, uint32_t ring)
{
    struct two_ends_settings s = {
        .tcp = {.buffer = 4096, .by_hand = true}, .ring = ring, .seed = 11};

    two_ends_start(t, &s);
    t->end[0].no_up = true;
}

void two_ends_go_up(struct two_ends *t)
{
    for (int i = 0; i < 4 && !stream_is_up(&t->end[0].stream); i++) {
        stream_try_up(&t->end[0].stream);
        two_ends_settle(t);
        for (int k = 0; k < 2; k++)
            end_read(&t->end[k], PIECE_MOST);
        two_ends_settle(t);
    }
    if (!stream_is_up(&t->end[0].stream) || !stream_is_up(&t->end[1].stream))
        ck_abort_msg("they did not go up: %s", two_ends_where(t));
}

void two_ends_talk(struct two_ends *t, int from, size_t n)
{
    struct end *w = &t->end[from], *r = &t->end[!from];
    uint64_t until = w->wrote + n;

    for (int i = 0; i < 1000 && r->took < until; i++) {
        if (w->wrote < until)
            end_write(w, (size_t)(until - w->wrote));
        two_ends_settle(t);
        end_read(r, PIECE_MOST);
    }
    if (r->took != until || t->wrong != NULL)
        ck_abort_msg("%d bytes came of %d: %s, %s", (int)r->took, (int)until,
                     two_ends_where(t), t->wrong ? t->wrong : "");
}

static bool is_done(const struct end *e)
{
    return !end_is_alive(e) || e->eof || e->read_error != 0;
}

/* One turn of an application that wants to be done. */
static void wind_up(struct end *e, uint64_t total, int round)
{
    struct stream *s = &e->stream;
    ssize_t rc;

    if (!end_is_alive(e) || e->closing || e->leaving)
        return;
    if (s->wish == WISH_RETURN && stream_on_tcp(s))
        stream_wish(s, WISH_NONE, REASON_NONE);
    if (e->pair->wire.broken && s->wish == WISH_NONE)
        stream_wish(s, WISH_RETURN, REASON_LINK_BROKEN);
    if (!e->shut && e->wrote < total && e->write_error == 0) {
        rc = end_write(e, (size_t)(total - e->wrote));
        if (rc == STREAM_HELD && round % 4 == 3)
            stream_hold_expired(s);
    } else if (!e->shut) {
        end_shutdown(e);
    }
    if (e->bare != BARE_NONE)
        end_bare_step(e);
    else if (!is_done(e))
        end_read(e, PIECE_MOST);
}

bool two_ends_finish(struct two_ends *t, uint64_t total)
{
    for (int i = 0; i < 400; i++) {
        if (is_done(&t->end[0]) && is_done(&t->end[1]))
            return true;
        if (t->wrong != NULL)
            return true;
        for (int k = 0; k < 2; k++)
            wind_up(&t->end[k], total, i);
        two_ends_settle(t);
        if (t->end[0].stream.reset_seen || t->end[1].stream.reset_seen)
            fake_clock_advance(1000000000);
    }
    return false;
}

const char *two_ends_where(const struct two_ends *t)
{
    static char text[600];
    size_t at = 0;

    for (int i = 0; i < 2; i++) {
        const struct end *e = &t->end[i];
        const struct handover *h = &e->stream.h;

        at += (size_t)snprintf(
            text + at, sizeof(text) - at,
            "%s%s epoch %u wrote %d took %d leave %d arrive %d out %u tcp %d "
            "msg %u%s%s err %d/%d%s%s wish %d why %s",
            i ? " | " : "", handover_stage_name(h->stage), h->epoch,
            (int)e->wrote, (int)e->took, (int)h->leave, (int)h->arrive,
            e->stream.out_have - e->stream.out_done,
            (int)fake_tcp_unread(e->fd), fake_messages(&t->wire, i),
            e->eof ? " eof" : "", h->in_record ? " records" : "", e->read_error,
            e->write_error, e->closed ? " closed" : "", e->gone ? " gone" : "",
            e->stream.wish, reason_token(h->why));
    }
    return text;
}
