/*
 * What happens to a stream from outside: a link is given and taken, a message
 * comes, the owner wants it up or back. Each is one event of handover.c, and
 * carry_out() does what that one asks for. The rest is stream_progress.c.
 */
#include <string.h>
#include <sys/random.h>

#include "config/log.h"
#include "transport/pause.h"
#include "transport/stream/overlay.h"
#include "transport/stream/stream_private.h"

void stream_init(struct stream *s, int fd, bool initiator,
                 const struct tcp_calls *tcp, const struct stream_calls *calls,
                 struct stream_bytes *bytes)
{
    memset(s, 0, sizeof(*s));
    handover_init(&s->h, initiator);
    s->fd = fd;
    s->tcp = tcp;
    s->calls = calls;
    s->bytes = bytes;
    s->why = REASON_YOUNG;
    s->since_ns = s->tcp->now_ns();
}

void stream_bare_left_last(struct stream *s)
{
    s->calls->kick(s);
}

void stream_set_why(struct stream *s, enum reason why)
{
    if (s->why == why)
        return;
    s->why = why;
    __atomic_store_n(&s->since_ns, s->tcp->now_ns(), __ATOMIC_RELAXED);
}

/* A secret of one epoch, which only its PROPOSE and its ACCEPT tell. */
static uint64_t new_tag(void)
{
    uint64_t tag = 0;

    if (getrandom(&tag, sizeof(tag), GRND_NONBLOCK) != sizeof(tag))
        tag = clock_ns() * UINT64_C(0x9e3779b97f4a7c15);
    return tag;
}

/* A connection that is gone takes no FIN: then none has been sent. */
int stream_send_fin(struct stream *s, int how)
{
    int rc = s->tcp->shutdown(s->fd, how);

    s->fin_due = false;
    s->h.fin_sent |= rc == 0;
    return rc;
}

static void enter_managed(struct stream *s)
{
    if (s->managed)
        return;
    s->managed = true;
    s->calls->managed(s, true);
}

/*
 * An attempt goes on and nobody has waited for it: of a reader that sleeps it
 * is TCP that tells, bytes or SWITCH, and a writer that is held stays so. Sets
 * were told by managed().
 */
static bool is_no_news(enum handover_stage before, enum handover_stage now)
{
    return (before == STAGE_RAW &&
            (now == STAGE_PROPOSED || now == STAGE_ACCEPTED)) ||
           (before == STAGE_PROPOSED && now == STAGE_SWITCHED);
}

void stream_carry_out(struct stream *s, struct handover_do *d,
                      enum handover_stage before)
{
    enum handover_stage now = s->h.stage;

    if (now != STAGE_RAW)
        enter_managed(s);
    if (d->link_start) {
        s->link->ops->start(s->link, s->h.epoch, s->h.leave, s->h.arrive);
        overlay_linger_set(s);
    }
    if (d->send_message &&
        (s->link == NULL || s->link->ops->send(s->link, &d->message) < 0))
        log_debug("a channel message could not be sent");
    for (int i = 0; i < d->n_records; i++)
        overlay_put_record(s, &d->records[i]);
    if (now == STAGE_UP && before != STAGE_UP) {
        s->ups++;
        stream_set_why(s, REASON_UP);
        /* A thread of the application may have brought it up. */
        atomic_store(&s->quiet, s->link != NULL && s->link->ops->rest != NULL);
    }
    if (now == STAGE_RAW && s->in_have > 0)
        overlay_give_back(s);
    else if (now != STAGE_RAW && now != STAGE_DEAD)
        s->has_kept = false;
    if (now == STAGE_RAW && before != STAGE_RAW && s->why == REASON_MEETING)
        stream_set_why(s, REASON_HOLD_EXPIRED); /* or what BUSY says, next */
    if (before == STAGE_UP && now != STAGE_UP) {
        s->returns++;
        stream_set_why(s, s->h.why);
    }
    if (d->guard_off) {
        atomic_store(&s->up_wanted, false);
        if (!s->managed)
            atomic_store(&s->guard, 0);
    }
    if (d->dead) {
        log_info("fd %d: connection broken: %s", s->fd,
                 reason_sentence(s->h.why));
        stream_set_why(s, s->h.why);
        s->error = ECONNRESET;
        s->reset_seen = false; /* no other verdict */
        s->broken = true;
        if (s->link != NULL)
            s->link->ops->set_aborted(s->link);
        overlay_reset(s);
    }
    if (!is_no_news(before, now))
        stream_tell(s);
}

void stream_abort(struct stream *s, enum reason why)
{
    struct handover_do d = {0};
    enum handover_stage before;

    if (stream_in_handler(s)) { /* whom it has interrupted finds it reset */
        overlay_reset(s);
        s->calls->kick(s);
        return;
    }
    stream_lock_all(s);
    before = s->h.stage;
    handover_abort(&s->h, why, &d);
    if (d.dead)
        stream_carry_out(s, &d, before);
    stream_unlock_all(s);
}

/* ---- going up ---- */

void stream_set_link(struct stream *s, struct link *link)
{
    stream_lock_all(s);
    s->link = link;
    s->link_broken = false;
    s->h.channel_dead = false;
    stream_unlock_all(s);
}

/* Not while a PROPOSE waits for its answer. */
static void unguard(struct stream *s)
{
    /* Who owes a WILLING says it when the last has left, guard or not. */
    atomic_store(&s->up_wanted, s->willing_due);
    if (!s->managed && s->h.offer == HANDOVER_NONE)
        atomic_store(&s->guard, 0);
}

/* One of us may be gone at any moment, and then no byte may lie about. */
static void look_if_careful(struct stream *s)
{
    s->h.careful = s->calls->careful != NULL && atomic_load(s->calls->careful);
}

void stream_drop_link(struct stream *s)
{
    struct link *link;

    stream_lock_all(s);
    link = s->link;
    s->link = NULL;
    if (s->h.stage == STAGE_RAW && s->h.offer != HANDOVER_NONE) {
        s->h.offer = HANDOVER_NONE;
        unguard(s);
    }
    if (link != NULL)
        link->ops->free(link);
    stream_unlock_all(s);
}

/* Guard set, fence, nobody inside: docs/handover.md, section 2. */
static bool quiet(struct stream *s)
{
    atomic_store(&s->guard, 1);
    atomic_store(&s->up_wanted, true);
    full_fence();
    return atomic_load(&s->bare) == 0;
}

/* With the guard set. REASON_BUSY: the owner wants it on TCP, and says why. */
static enum reason what_forbids(struct stream *s)
{
    if (s->calls->stays != NULL && s->calls->stays(s))
        return REASON_BUSY;
    if (!handover_may_go_up(&s->h) || atomic_load(&s->shut_rd))
        return REASON_HALF_CLOSED;
    return overlay_why_not_up(s);
}

int stream_try_up(struct stream *s)
{
    struct handover_do d = {0};
    enum reason why;
    int rc = -EBUSY;

    stream_lock_all(s);
    if (s->h.stage != STAGE_RAW || s->managed || s->link == NULL ||
        s->link_broken || s->wish != WISH_NONE || s->out_have != 0)
        goto unlock;
    if (!quiet(s)) {
        stream_set_why(s, REASON_BARE_READ);
        goto unlock; /* the last one to leave kicks us */
    }
    why = what_forbids(s);
    if (why != REASON_NONE) {
        if (why != REASON_BUSY)
            stream_set_why(s, why);
        unguard(s);
        goto unlock;
    }
    rc = -EAGAIN;
    if (s->link->ops->crowded != NULL && s->link->ops->crowded(s->link)) {
        unguard(s);
        goto unlock;
    }
    s->propose_again = false;
    look_if_careful(s);
    rc = handover_propose(&s->h, new_tag(), &d);
    atomic_store(&s->up_wanted, false);
    if (rc == 0) {
        stream_set_why(s, REASON_MEETING); /* until the answer says why not */
        stream_carry_out(s, &d, STAGE_RAW);
    }
unlock:
    stream_unlock_all(s);
    return rc;
}

void stream_be_willing(struct stream *s)
{
    stream_lock_all(s);
    s->willing_due = true;
    if (s->h.stage == STAGE_RAW)
        quiet(s);
    stream_unlock_all(s);
}

/*
 * Bytes before `arrive` and bytes after it cannot be seen at once. Somebody
 * who waits for a whole request before taking any of it would wait for ever,
 * so with such a reader a stream leaves TCP only when all has been taken.
 */
static bool would_part(struct stream *s, const struct control_message *m)
{
    return atomic_load(&s->peeks) && s->h.took != m->offset;
}

/* The accepting end: may it agree now? Sets the guard for good or not. */
static enum reason may_accept(struct stream *s)
{
    if (s->h.stage != STAGE_RAW || s->managed || s->wish != WISH_NONE)
        return REASON_BUSY;
    if (s->link_broken)
        return REASON_LINK_BROKEN;
    if (!quiet(s)) {
        s->willing_due = true;
        return REASON_BARE_READ;
    }
    return what_forbids(s);
}

/* What the other end says of itself; whatever else it says will pass. */
static enum reason reason_of_busy(uint32_t said)
{
    switch (said) {
    case REASON_BARE_READ:
    case REASON_ADMINISTRATOR:
    case REASON_SHARED_AFTER_FORK:
    case REASON_UNSUPPORTED_CALL:
    case REASON_NESTED_EPOLL:
    case REASON_PASSED_ON:
    case REASON_STDIO:
    case REASON_LIMIT:
        return (enum reason)said;
    default:
        return REASON_BUSY;
    }
}

void stream_message(struct stream *s, const struct control_message *m,
                    enum reason refuse)
{
    struct handover_do d = {0};
    enum handover_stage before;

    stream_lock_all(s);
    before = s->h.stage;
    if (s->link == NULL)
        goto unlock;
    if (m->type == MESSAGE_WILLING) {
        s->propose_again = true;
        goto unlock;
    }
    if (m->type == MESSAGE_PONG) {
        s->answered = s->asked;
        goto unlock;
    }
    if (m->type == MESSAGE_PROPOSE && refuse == REASON_NONE && !s->h.initiator)
        refuse = may_accept(s);
    if (m->type == MESSAGE_PROPOSE && refuse == REASON_NONE && would_part(s, m))
        refuse = REASON_BUSY;
    look_if_careful(s);
    if (m->type == MESSAGE_ACCEPT && before == STAGE_PROPOSED &&
        m->epoch == s->h.epoch && would_part(s, m))
        handover_give_up(&s->h, &d);
    else if (handover_message(
                 &s->h, m, refuse,
                 m->type == MESSAGE_PROPOSE && refuse == REASON_NONE ? new_tag()
                                                                     : 0,
                 &d) < 0)
        goto unlock; /* not a message for this end: ignored */
    if (m->type == MESSAGE_PROPOSE && refuse != REASON_BARE_READ &&
        s->h.stage == STAGE_RAW)
        unguard(s);
    else if (m->type == MESSAGE_PROPOSE && s->h.stage == STAGE_ACCEPTED)
        atomic_store(&s->up_wanted, false);
    if (m->type == MESSAGE_BUSY && before == STAGE_PROPOSED)
        stream_set_why(s, reason_of_busy(m->reason));
    stream_carry_out(s, &d, before);
unlock:
    stream_unlock_to_progress(s);
    stream_progress(s);
}

/* At a SWITCH there is something else, or an offer is due. */
bool stream_awaits_helper(struct stream *s)
{
    bool awaits;

    if (stream_in_handler(s))
        return false; /* whom the handler has interrupted asks again */
    stream_lock_all(s);
    awaits = handover_at_arrive(&s->h) || handover_offer_due(&s->h);
    stream_unlock_all(s);
    return awaits;
}

bool stream_owes_answer(struct stream *s)
{
    bool owes;

    stream_lock_all(s);
    owes = s->h.stage == STAGE_RAW && handover_offer_due(&s->h);
    stream_unlock_all(s);
    return owes;
}

void stream_answer(struct stream *s, enum reason refuse)
{
    struct handover_do d = {0};

    stream_lock_all(s);
    if (s->link == NULL || s->h.stage != STAGE_RAW ||
        !handover_offer_due(&s->h))
        goto unlock;
    if (refuse == REASON_NONE)
        refuse = may_accept(s);
    if (refuse == REASON_BARE_READ) {
        s->willing_due = false;
        goto unlock; /* one that is just turning round, and then kicks us */
    }
    look_if_careful(s);
    handover_take_offer(&s->h, refuse, new_tag(), &d);
    atomic_store(&s->up_wanted, false);
    stream_carry_out(s, &d, STAGE_RAW);
unlock:
    stream_unlock_to_progress(s);
    stream_progress(s);
}

void stream_channel_dead(struct stream *s)
{
    struct handover_do d = {0};
    enum handover_stage before;

    stream_lock_all(s);
    before = s->h.stage;
    handover_channel_dead(&s->h, &d);
    if (before == STAGE_RAW)
        unguard(s);
    stream_carry_out(s, &d, before);
    stream_unlock_to_progress(s);
    stream_progress(s);
}

void stream_wish(struct stream *s, enum stream_wish wish, enum reason why)
{
    stream_lock_all(s);
    if (wish > s->wish || wish == WISH_NONE) {
        s->wish = wish;
        s->wish_why = why;
    }
    if (s->h.stage == STAGE_RAW)
        unguard(s);
    stream_unlock_to_progress(s);
    stream_progress(s);
}

void stream_link_broken(struct stream *s, enum reason why)
{
    stream_lock_all(s);
    s->link_broken = s->link != NULL;
    stream_unlock_all(s);
    stream_wish(s, WISH_RETURN, why);
}

bool stream_on_tcp(struct stream *s)
{
    bool on_tcp;

    stream_lock_all(s);
    on_tcp = (s->h.stage == STAGE_RAW && !s->managed) ||
             s->h.stage == STAGE_DEAD || (s->leave_said && !s->linger_changed);
    stream_unlock_all(s);
    return on_tcp;
}

/*
 * Has all been heard that the peer said before it wrote what lies on TCP? If
 * the link has to ask, that is so once the peer has answered a question that
 * was asked after these bytes were seen; of an earlier epoch's question it is
 * not. What drain() reads may lead here again, and may be the answer.
 */
static bool heard_all(struct stream *s, struct link *link, uint32_t epoch)
{
    int rc;

    if (s->answered == epoch)
        return true;
    if (s->asked == epoch)
        return false;
    s->asked = epoch;
    rc = link->ops->drain(link);
    if (rc != -EAGAIN)
        s->asked = 0;
    return rc == 0; /* -EPIPE: the stream will be told, and decides */
}

/*
 * Helper. Other bytes lie where SWITCH is due. Whoever goes on raw says CANCEL
 * on the channel first; if the channel holds none, a stranger wrote them.
 */
void stream_check_foreign(struct stream *s)
{
    struct handover_do d = {0};
    enum handover_stage before;
    struct link *link;
    uint32_t epoch;
    bool suspect;
    int rc;

    stream_lock_all(s);
    link = s->link;
    epoch = s->h.epoch;
    suspect = s->suspect == epoch && link != NULL && !s->h.channel_dead &&
              handover_at_arrive(&s->h);
    if (handover_at_arrive(&s->h))
        s->suspect = 0;
    stream_unlock_all(s);
    if (!suspect || !heard_all(s, link, epoch))
        return;
    stream_lock_all(s);
    before = s->h.stage;
    if (s->link == link && s->h.epoch == epoch && handover_at_arrive(&s->h)) {
        rc = overlay_look_switch(s);
        if (rc == -EBADMSG) {
            handover_not_switch(&s->h, &d);
            stream_carry_out(s, &d, before);
        } else if (rc < 0) {
            stream_tcp_failed(s, rc);
        }
    }
    stream_unlock_to_progress(s);
    stream_progress(s);
}

int stream_take_error(struct stream *s)
{
    socklen_t len = sizeof(int);
    int error = 0;

    if (stream_in_handler(s))
        return 0; /* the next one takes it */
    stream_lock_all(s);
    if (s->h.stage == STAGE_DEAD) {
        error = s->error;
        s->error = 0;
    } else if (s->h.stage == STAGE_RAW &&
               s->tcp->getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len) <
                   0) {
        error = 0;
    }
    stream_unlock_all(s);
    return error;
}

void stream_keep_error(struct stream *s, int error)
{
    stream_lock_all(s);
    if (s->h.stage == STAGE_DEAD && s->error == 0)
        s->error = error;
    stream_unlock_all(s);
}

bool stream_both_ended(const struct stream *s)
{
    return s->h.stage == STAGE_UP && s->h.end != HANDOVER_NONE &&
           atomic_load(&s->shut_wr);
}

bool stream_was_ended(const struct stream *s)
{
    return s->h.left_at != HANDOVER_NONE && atomic_load(&s->shut_wr);
}

int stream_shutdown(struct stream *s, int how)
{
    struct handover_do d = {0};
    enum handover_stage before;
    int rc = 0;

    if (stream_in_handler(s)) { /* the helper does it */
        atomic_fetch_or(&s->shut_due, 1u << how);
        s->calls->kick(s);
        return 0;
    }
    stream_lock_all(s);
    before = s->h.stage;
    if (stream_both_ended(s) || (before == STAGE_DEAD && !s->swallow)) {
        rc = -ENOTCONN;
        goto unlock;
    }
    if (how != SHUT_WR)
        atomic_store(&s->shut_rd, true); /* nor does it go up any more */
    if (how == SHUT_RD) {
        if (before == STAGE_RAW)
            rc = s->tcp->shutdown(s->fd, how);
        goto unlock;
    }
    switch (before) {
    case STAGE_RAW:
        handover_refuse_offer(&s->h, REASON_HALF_CLOSED, &d);
        if (s->out_have != 0) {
            s->fin_due = true;
            break;
        }
        rc = stream_send_fin(s, how);
        break;
    case STAGE_DEAD: /* in order: it is as after the peer's FIN */
        atomic_store(&s->shut_wr, true);
        break;
    case STAGE_UP:
        handover_end(&s->h, false, &d);
        break;
    default:
        handover_give_up(&s->h, &d);
    }
    if (before != STAGE_RAW && before != STAGE_DEAD) {
        atomic_store(&s->shut_wr, true);
        s->fin_due = true;
    }
    stream_carry_out(s, &d, before);
unlock:
    stream_tell(s); /* an error wakes as well: inet_shutdown() of Linux */
    stream_unlock_to_progress(s);
    stream_progress(s);
    return rc;
}
