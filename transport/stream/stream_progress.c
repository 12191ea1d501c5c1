/*
 * The engine of a stream: carries out what handover.c decides.
 *
 * stream_progress() may be called at any time by any thread: it flushes
 * records, pushes the repeat, reads what TCP holds for the protocol (never
 * bytes of the application) and follows every consequence until nothing
 * moves. What it cannot do now (TCP is full, the application has not read up
 * to `arrive`) comes back with the next event.
 */
#include "transport/stream/overlay.h"
#include "transport/stream/stream_private.h"

enum { RESET_WAIT_NS = 1000000000, FIN_WAIT_NS = 200000000 };

/* As long as both ends are in the epoch the link's words mean something. */
static bool look_at_link(struct stream *s)
{
    if (s->h.stage != STAGE_UP && s->h.stage != STAGE_FROZEN)
        return true;
    return s->link->ops->landed(s->link, s->h.took, s->h.landed,
                                &s->h.landed) == 0 &&
           s->link->ops->freed(s->link, s->h.freed, s->h.wrote, &s->h.freed) ==
               0;
}

/* The initiator gives up without our seeing it, until it uses the link. */
static bool both_are_up(const struct handover *h)
{
    return h->stage == STAGE_UP &&
           (h->initiator || h->seq_in > 1 || h->landed > h->arrive ||
            h->freed > h->leave);
}

/* Bytes that were committed are in the peer's memory, whatever happens. */
static bool link_is_memory(const struct stream *s)
{
    return s->link->ops->delivered == NULL;
}

/*
 * TCP was reset (or closed past the protocol) in record mode. Over shared
 * memory the bytes outlive their writer: what landed is delivered. Then it
 * ends as the kernel would have ended it: in EOF if the peer said END, or if
 * its process died in stage UP having taken all of ours; else in ECONNRESET.
 * In other stages it may have written raw bytes that the reset swallowed, and
 * over a device bytes that never landed.
 */
static bool verdict(struct stream *s)
{
    bool clean = false, ended, both, said = s->link->ops->aborted(s->link);

    if (!look_at_link(s))
        clean = false;
    else if (said)
        clean = false;
    else if (s->h.left_at != HANDOVER_NONE && s->h.landed == s->h.left_at)
        clean = true;
    else if (s->link->ops->peer_alive(s->link)) {
        if (s->tcp->now_ns() < s->reset_until_ns)
            return false;
    } else {
        clean =
            link_is_memory(s) && both_are_up(&s->h) && s->h.freed == s->h.wrote;
    }
    both = stream_both_ended(s) && s->h.landed == s->h.end;
    ended = s->h.stage == STAGE_UP && s->h.landed == s->h.end;
    s->reset_seen = false;
    if (s->h.stage == STAGE_UP || s->h.in_record)
        s->h.have = s->h.landed > s->h.took ? s->h.landed : s->h.took;
    s->h.stage = STAGE_DEAD;
    s->h.why = REASON_PEER_GONE;
    s->error = clean || both ? 0 : ended ? EPIPE : ECONNRESET;
    /* A peer that says so has unread bytes, and it is the kernel's reset; or
     * it is broken there. */
    if (s->error != 0 && !said)
        s->broken = true;
    s->swallow = clean && !both;
    stream_set_why(s, REASON_PEER_GONE);
    stream_tell(s);
    return true;
}

static bool await_verdict(struct stream *s)
{
    if (!s->reset_seen) {
        s->reset_seen = true;
        s->reset_until_ns = s->tcp->now_ns() + RESET_WAIT_NS;
    }
    return verdict(s);
}

bool stream_tcp_failed(struct stream *s, int error)
{
    struct handover_do d = {0};
    enum handover_stage before = s->h.stage;

    if (error == -EAGAIN || s->h.stage == STAGE_DEAD)
        return false;
    if (s->h.stage == STAGE_UP && s->h.fin_seen)
        return false; /* nothing is expected from TCP any more */
    if (error == -EBADMSG) {
        handover_abort(&s->h, REASON_FOREIGN_BYTES, &d);
        stream_carry_out(s, &d, before);
        return true;
    }
    if (!s->h.in_record || s->link == NULL) {
        /* We took the socket's error away from the application: keep it.
         * EPIPE says that a FIN came first, which the reader will find. */
        s->raw_left = true;
        s->raw_until =
            handover_rx_mode(&s->h) == RX_LIMITED ? s->h.arrive : UINT64_MAX;
        s->h.stage = STAGE_DEAD;
        s->h.why = REASON_PEER_GONE;
        s->error = error == -EPIPE ? 0 : -error;
        stream_set_why(s, REASON_PEER_GONE);
        stream_tell(s);
        return true;
    }
    return await_verdict(s);
}

/* It left in order, and its last bytes may be a moment behind its FIN. */
static bool is_still_landing(const struct stream *s)
{
    return !link_is_memory(s) && s->h.end_leaving &&
           (s->h.stage == STAGE_UP || s->h.stage == STAGE_FROZEN) &&
           s->h.landed < s->h.left_at;
}

/* One step of reading what belongs to the protocol. */
static bool read_tcp(struct stream *s)
{
    enum handover_stage before = s->h.stage;
    struct handover_do d = {0};
    struct control_record r;
    int rc;

    if (s->reset_seen)
        return verdict(s);
    if (handover_at_arrive(&s->h)) {
        rc = overlay_get_switch(s);
        if (rc == 1) {
            handover_expected_switch(&s->h, &r);
            handover_record(&s->h, &r, &d);
        } else if (rc == -EBADMSG) {
            /* A CANCEL is always under way before such bytes: look. */
            if (!s->h.channel_dead) {
                s->suspect = s->h.epoch;
                return false;
            }
            handover_not_switch(&s->h, &d);
        } else {
            return stream_tcp_failed(s, rc);
        }
        stream_carry_out(s, &d, before);
        return true;
    }
    if (!s->h.in_record || s->h.stage == STAGE_DEAD || s->leave_said ||
        (s->h.stage == STAGE_UP && s->h.fin_seen))
        return false;
    if (!look_at_link(s)) {
        handover_abort(&s->h, REASON_PEER_RULE, &d);
        stream_carry_out(s, &d, before);
        return true;
    }
    rc = overlay_get_record(s, &r);
    if (rc == 0 && s->in_have == 0) {
        look_at_link(s);
        if (is_still_landing(s))
            return await_verdict(s);
        handover_fin(&s->h, &d);
        if (s->h.stage == STAGE_UP) {
            s->out_have = s->out_done = 0; /* nobody is there to read it */
            s->swallow = true;             /* and RST may be here, for HAVE */
        }
    } else if (rc == 1) {
        look_at_link(s);
        handover_record(&s->h, &r, &d);
        if (d.end_seen && s->h.end_leaving && s->h.stage == STAGE_UP)
            handover_return(&s->h, 0, REASON_PEER_GONE, &d);
    } else {
        return stream_tcp_failed(s, rc);
    }
    stream_carry_out(s, &d, before);
    return true;
}

/*
 * Both ends have shut down, as the application knows, and the kernel has not
 * heard the peer's FIN, which follows: it would take back a part of what was
 * told. Behind more bytes than TCP takes before they are read it comes when it
 * can.
 */
static bool awaits_fin(struct stream *s)
{
    struct pollfd p = {.fd = s->fd, .events = POLLRDHUP};

    if (!stream_was_ended(s) || s->h.fin_seen || s->wish > WISH_RETURN ||
        s->h.repeat_end > s->h.took + s->h.leave_room ||
        s->tcp->poll(&p, 1, 0) != 0)
        return false;
    if (s->fin_until_ns == 0) {
        s->fin_until_ns = s->tcp->now_ns() + FIN_WAIT_NS;
        s->calls->kick(s);
    }
    return s->tcp->now_ns() < s->fin_until_ns;
}

bool stream_awaits_fin(const struct stream *s)
{
    return s->managed && s->fin_until_ns != 0;
}

/* The stage is RAW and nothing of ours is under way on TCP. False: later. */
static bool leave_managed(struct stream *s)
{
    overlay_linger_restore(s);
#ifndef PLANT_EOF_LOST
    if (s->fin_due) /* a closed end takes no byte behind its FIN */
        stream_send_fin(s, s->wish == WISH_CLOSE ? SHUT_RDWR : SHUT_WR);
#endif
    if (handover_rx_mode(&s->h) == RX_LEFTOVER)
        return false;
    if (atomic_load(&s->shut_rd))
        s->tcp->shutdown(s->fd, SHUT_RD);
    if (awaits_fin(s))
        return false;
    s->fin_until_ns = 0;
    if (s->managed) {
        s->managed = false;
        s->calls->managed(s, false);
    }
    if (!atomic_load(&s->up_wanted))
        atomic_store(&s->guard, 0);
    stream_tell(s);
    return true;
}

static bool write_tcp(struct stream *s)
{
    struct handover_do d = {0};
    enum handover_stage before = s->h.stage;
    int rc;

    if (s->h.stage == STAGE_DEAD)
        return false;
    if (s->out_done < s->out_have) {
        rc = overlay_flush(s);
        if (rc < 0)
            return stream_tcp_failed(s, rc);
        if (s->h.stage == STAGE_RAW && s->managed)
            leave_managed(s);
        return true;
    }
    if (s->h.stage == STAGE_REPEATING && s->h.backlog < s->h.wrote) {
        rc = overlay_repeat(s);
        if (rc < 0)
            return stream_tcp_failed(s, rc);
        stream_tell(s);
        return true;
    }
    if (handover_finish(&s->h, true, &d)) {
        stream_carry_out(s, &d, before);
        return true;
    }
    if (s->h.stage == STAGE_RAW && s->managed)
        return leave_managed(s);
    if (s->fin_due &&
        (s->h.stage == STAGE_CANCELLED || s->h.stage == STAGE_GAVE_UP)) {
        stream_send_fin(s, SHUT_WR);
        return true;
    }
    return false;
}

/* Bytes, or an end, before `arrive`, where nobody will read any more. */
static bool unread_before_arrive(struct stream *s)
{
    struct pollfd p = {.fd = s->fd, .events = POLLIN | POLLRDHUP};

    return handover_rx_mode(&s->h) == RX_LIMITED &&
           handover_rx_limit(&s->h) > 0 && s->tcp->poll(&p, 1, 0) == 1;
}

/* Unread bytes or linger {1,0}: the kernel would reset, so do we. */
static bool close_is_reset(struct stream *s)
{
    if (!s->managed)
        return false;
    if (unread_before_arrive(s))
        return true;
    if (s->linger_changed && s->linger.l_onoff && s->linger.l_linger == 0)
        return true;
    if (s->h.stage != STAGE_UP)
        return handover_rx_mode(&s->h) == RX_LEFTOVER;
    look_at_link(s);
    return s->h.landed > s->h.took;
}

/* The peer has left for good; what it wrote is here, or was taken. */
static bool leave_after_fin(struct stream *s)
{
    if (s->h.took < s->h.have)
        return false; /* nobody else can be given these bytes */
    s->h.stage = STAGE_RAW;
    s->h.in_record = false;
    atomic_store(&s->up_wanted, false);
    leave_managed(s);
    return true;
}

static void leave_link(struct stream *s, struct handover_do *d)
{
    if (s->wish == WISH_LEAVE && s->leave_said) {
        if (s->out_have == 0)
            overlay_linger_restore(s); /* the process may go: FIN follows */
        return;
    }
    if (s->wish == WISH_LEAVE && !s->h.end_sent && !s->link_broken) {
        /* Once the bytes are in the peer's memory nothing is waited for. */
        if (!link_is_memory(s) && !s->link->ops->delivered(s->link, s->h.wrote))
            return;
        handover_end(&s->h, true, d);
        s->leave_said = true;
        return;
    }
    if (s->wish != WISH_RETURN)
        handover_end(&s->h, true, d);
    handover_return(&s->h,
                    s->wish == WISH_RETURN ? RECORD_THIRD : RECORD_LEAVING,
                    s->wish_why, d);
}

/* What the owner asked for, as far as the stage allows it. */
static bool follow_wish(struct stream *s)
{
    struct handover_do d = {0};
    enum handover_stage before = s->h.stage;

    if (s->wish == WISH_NONE || s->reset_seen)
        return false;
    if (s->wish != WISH_RETURN && before != STAGE_DEAD && close_is_reset(s)) {
        if (s->link != NULL)
            s->link->ops->set_aborted(s->link);
        s->h.stage = STAGE_DEAD;
        overlay_reset(s);
        stream_tell(s);
        return true;
    }
    if (before == STAGE_UP && s->h.fin_seen)
        return leave_after_fin(s);
    if (before == STAGE_UP)
        leave_link(s, &d);
    else if (before == STAGE_RAW)
        handover_refuse_offer(&s->h, s->wish_why, &d);
    else
        handover_give_up(&s->h, &d);
    if (s->h.stage == before && d.n_records == 0 && !d.send_message)
        return false;
    stream_carry_out(s, &d, before);
    return true;
}

/* The ACCEPT of a careful end waits until all before it has been read. */
static bool take_accept(struct stream *s)
{
    struct handover_do d = {0};

    if (s->h.stage != STAGE_PROPOSED || !handover_offer_due(&s->h))
        return false;
    handover_take_offer(&s->h, REASON_NONE, 0, &d);
    stream_carry_out(s, &d, STAGE_PROPOSED);
    return true;
}

/* What a handler in the midst of its thread's own call has left to others. */
static void take_due_shutdown(struct stream *s)
{
    unsigned due;

    if (atomic_load_explicit(&s->shut_due, memory_order_relaxed) == 0)
        return;
    due = atomic_exchange(&s->shut_due, 0);
    for (int how = SHUT_RD; how <= SHUT_RDWR; how++)
        if (due & 1u << how)
            stream_shutdown(s, how);
}

bool stream_progress(struct stream *s)
{
    bool any = false, again = true;

    if (stream_in_handler(s)) {
        stream_wake_due(s);
        s->calls->kick(s);
        return false;
    }
    take_due_shutdown(s);
    for (int i = 0; again && i < 64; i++) {
        stream_lock_all(s);
        again = write_tcp(s) || follow_wish(s) || read_tcp(s) || take_accept(s);
        stream_unlock_to_progress(s);
        any |= again;
    }
    stream_wake_due(s);
    return any;
}

void stream_hold_expired(struct stream *s)
{
    struct handover_do d = {0};
    enum handover_stage before;

    stream_lock_all(s);
    before = s->h.stage;
    handover_give_up(&s->h, &d);
    if (s->h.stage != before)
        stream_carry_out(s, &d, before);
    stream_unlock_to_progress(s);
    stream_progress(s);
}

/*
 * Back on TCP it needs nothing of its link before it goes up again, nor does
 * its peer: but for one that leaves, which may have said that it takes what
 * has landed, and reads it from there.
 */
static void rest_on_tcp(struct stream *s)
{
    stream_lock_all(s);
    if (s->h.stage == STAGE_RAW && !s->managed && s->wish <= WISH_RETURN) {
        s->link->ops->rest(s->link, true);
        atomic_store(&s->quiet, true);
    }
    stream_unlock_all(s);
}

bool stream_rest(struct stream *s)
{
    uint64_t wrote = __atomic_load_n(&s->h.wrote, __ATOMIC_RELAXED);
    uint64_t took = __atomic_load_n(&s->h.took, __ATOMIC_RELAXED), freed;

    if (atomic_load(&s->quiet) || s->link == NULL || s->link->ops->rest == NULL)
        return false;
    if (!stream_is_up(s)) {
        rest_on_tcp(s);
        return false;
    }
    if (wrote != s->seen_wrote || took != s->seen_took) {
        s->seen_wrote = wrote;
        s->seen_took = took;
        return true;
    }
    lock_take(&s->tx);
    if (s->h.stage == STAGE_UP && s->h.wrote == wrote &&
        s->link->ops->freed(s->link, s->h.freed, wrote, &freed) == 0 &&
        freed == wrote) {
        __atomic_store_n(&s->h.freed, freed, __ATOMIC_RELAXED);
        s->link->ops->rest(s->link, true);
    }
    atomic_store(&s->quiet, true); /* also when the peer does not read */
    lock_give(&s->tx);
    return false;
}

void stream_stir(struct stream *s)
{
    if (s->link == NULL || s->link->ops->rest == NULL || atomic_load(&s->quiet))
        return;
    lock_take(&s->tx);
    s->link->ops->rest(s->link, false);
    lock_give(&s->tx);
}
