/*
 * Rows of the table in docs/handover.md, one function per kind of event.
 *
 * The happy path of an epoch: propose, accept, SWITCH both ways, link, HAVE
 * both ways, RAW and the repeat both ways, finish. Everything else is a way
 * back from one of its steps. What has no row aborts: a record that does not
 * fit proves that somebody wrote past us or that the peer breaks the rules,
 * and nothing after it can be trusted.
 */
#include "transport/stream/handover.h"

#include <errno.h>
#include <string.h>

enum { LEAVE_ROOM = 32768 };

void handover_init(struct handover *h, bool initiator)
{
    memset(h, 0, sizeof(*h));
    h->stage = STAGE_RAW;
    h->initiator = initiator;
    h->end = h->left_at = h->offer = HANDOVER_NONE;
    h->why = REASON_NONE;
    h->leave_room = LEAVE_ROOM;
}

static void say(struct handover *h, struct handover_do *d, uint8_t type,
                uint32_t epoch)
{
    d->send_message = true;
    d->message.type = type;
    d->message.epoch = epoch;
    if (type == MESSAGE_PROPOSE || type == MESSAGE_ACCEPT) {
        d->message.offset = h->leave;
        d->message.tag = h->tag_in;
        d->message.number = h->careful ? MESSAGE_CAREFUL : 0;
    }
}

static void record(struct handover *h, struct handover_do *d, uint8_t type,
                   unsigned flags, uint64_t offset, uint64_t count)
{
    struct control_record *r = &d->records[d->n_records++];

    memset(r, 0, sizeof(*r));
    r->tag = h->tag_out;
    r->type = type;
    r->flags = (uint16_t)flags;
    r->epoch = h->epoch;
    r->sequence = h->seq_out++;
    r->offset = offset;
    r->count = count;
    r->reason = type == RECORD_SWITCH ? REASON_NONE : h->why;
}

/* A new attempt begins: forget the last epoch. */
static void begin(struct handover *h, uint32_t epoch, uint64_t tag)
{
    h->epoch = epoch;
    h->tag_in = tag;
    h->leave = h->wrote;
    h->backlog = h->wrote;
    h->seq_in = h->seq_out = 0;
    h->have_sent = h->have_seen = false;
    h->end_sent = h->end_leaving = false;
    h->in_record = false;
    h->end = h->left_at = h->offer = HANDOVER_NONE;
    h->have = 0;
}

static void send_switch(struct handover *h, struct handover_do *d)
{
    h->freed = h->leave;
    h->landed = h->arrive;
    d->link_start = true;
    record(h, d, RECORD_SWITCH, 0, h->leave, 0);
}

static void to_raw(struct handover *h, struct handover_do *d)
{
    h->stage = STAGE_RAW;
    h->offer = HANDOVER_NONE;
    d->guard_off = true;
}

void handover_abort(struct handover *h, enum reason why, struct handover_do *d)
{
    if (h->stage == STAGE_DEAD)
        return;
    /* What landed precedes the event and is still delivered. */
    if (h->stage == STAGE_UP && h->landed > h->took)
        h->have = h->landed;
    h->stage = STAGE_DEAD;
    h->why = why;
    d->dead = true;
}

int handover_propose(struct handover *h, uint64_t tag, struct handover_do *d)
{
    if (!h->initiator || !handover_may_go_up(h))
        return -EBUSY;
    begin(h, h->epoch + 1, tag);
    say(h, d, MESSAGE_PROPOSE, h->epoch);
    h->stage = STAGE_PROPOSED;
    return 0;
}

/*
 * One end is careful and not all has been read: the answer waits. Nothing has
 * been promised by then, so whoever wants to return is on TCP at once.
 */
static bool put_off(struct handover *h, const struct control_message *m)
{
    if ((!h->careful && m->number != MESSAGE_CAREFUL) || h->took >= m->offset)
        return false;
    h->offer = m->offset;
    h->offer_tag = m->tag;
    return true;
}

static void busy(struct handover *h, uint32_t epoch, enum reason why,
                 struct handover_do *d)
{
    say(h, d, MESSAGE_BUSY, epoch);
    d->message.reason = why == REASON_NONE ? REASON_BUSY : why;
}

static void accept_offer(struct handover *h, uint64_t offset, uint64_t tag_out,
                         uint64_t tag, struct handover_do *d)
{
    begin(h, h->epoch, tag);
    h->arrive = offset;
    h->tag_out = tag_out;
    say(h, d, MESSAGE_ACCEPT, h->epoch);
    h->stage = STAGE_ACCEPTED;
}

static void on_propose(struct handover *h, const struct control_message *m,
                       enum reason refuse, uint64_t tag, struct handover_do *d)
{
    bool raw = h->stage == STAGE_RAW;

    if (m->epoch <= h->epoch)
        return;
    if (raw) {
        h->epoch = m->epoch;
        h->offer = HANDOVER_NONE;
    }
    if (refuse != REASON_NONE || !handover_may_go_up(h) || h->took > m->offset)
        busy(h, m->epoch, refuse, d);
    else if (!put_off(h, m))
        accept_offer(h, m->offset, m->tag, tag, d);
}

static void switch_over(struct handover *h, uint64_t offset, uint64_t tag_out,
                        struct handover_do *d)
{
    if (h->took > offset) {
        say(h, d, MESSAGE_CANCEL, h->epoch);
        to_raw(h, d);
        return;
    }
    h->offer = HANDOVER_NONE;
    h->arrive = offset;
    h->tag_out = tag_out;
    send_switch(h, d);
    h->stage = STAGE_SWITCHED;
}

static void on_accept(struct handover *h, const struct control_message *m,
                      struct handover_do *d)
{
    if (h->stage == STAGE_PROPOSED && !put_off(h, m))
        switch_over(h, m->offset, m->tag, d);
}

bool handover_offer_due(const struct handover *h)
{
    return h->offer != HANDOVER_NONE && h->took >= h->offer &&
           (h->stage == STAGE_RAW || h->stage == STAGE_PROPOSED);
}

void handover_take_offer(struct handover *h, enum reason refuse, uint64_t tag,
                         struct handover_do *d)
{
    if (!handover_offer_due(h))
        return;
    if (h->stage == STAGE_PROPOSED)
        switch_over(h, h->offer, h->offer_tag, d);
    else if (refuse == REASON_NONE && handover_may_go_up(h) &&
             h->took == h->offer)
        accept_offer(h, h->offer, h->offer_tag, tag, d);
    else
        handover_refuse_offer(h, refuse, d);
}

void handover_refuse_offer(struct handover *h, enum reason why,
                           struct handover_do *d)
{
    if (h->stage != STAGE_RAW || h->offer == HANDOVER_NONE)
        return;
    busy(h, h->epoch, why, d);
    to_raw(h, d);
}

static void on_cancel(struct handover *h, struct handover_do *d)
{
    switch ((enum handover_stage)h->stage) {
    case STAGE_RAW:
        if (h->offer != HANDOVER_NONE)
            to_raw(h, d);
        break;
    case STAGE_PROPOSED: /* the other end, in CANCELLED, waits for an answer */
        if (h->offer == HANDOVER_NONE)
            break;
        say(h, d, MESSAGE_CANCEL, h->epoch);
        to_raw(h, d);
        break;
    case STAGE_ACCEPTED:
        to_raw(h, d);
        break;
    case STAGE_SWITCHED:
        h->own_c = h->arrive;
        record(h, d, RECORD_RAW, 0, h->leave, 0);
        to_raw(h, d);
        break;
    case STAGE_CANCELLED:
    case STAGE_GAVE_UP:
        if (!h->in_record)
            to_raw(h, d);
        break;
    default:
        break;
    }
}

int handover_message(struct handover *h, const struct control_message *m,
                     enum reason refuse, uint64_t tag, struct handover_do *d)
{
    if (h->stage == STAGE_DEAD)
        return 0;
    if (m->type == MESSAGE_PROPOSE) {
        if (h->initiator)
            return -EPROTO;
        on_propose(h, m, refuse, tag, d);
        return 0;
    }
    if (m->type != MESSAGE_ACCEPT && m->type != MESSAGE_BUSY &&
        m->type != MESSAGE_CANCEL)
        return -EPROTO;
    if (m->type != MESSAGE_CANCEL && !h->initiator)
        return -EPROTO;
    if (m->epoch != h->epoch)
        return 0;
    if (m->type == MESSAGE_ACCEPT)
        on_accept(h, m, d);
    else if (m->type == MESSAGE_CANCEL)
        on_cancel(h, d);
    else if (h->stage == STAGE_PROPOSED)
        to_raw(h, d);
    return 0;
}

void handover_give_up(struct handover *h, struct handover_do *d)
{
    switch ((enum handover_stage)h->stage) {
    case STAGE_PROPOSED:
        say(h, d, MESSAGE_CANCEL, h->epoch);
        to_raw(h, d);
        break;
    case STAGE_ACCEPTED:
        say(h, d, MESSAGE_CANCEL, h->epoch);
        h->stage = STAGE_CANCELLED;
        if (h->channel_dead)
            d->send_message = false;
        break;
    case STAGE_SWITCHED:
        h->why = REASON_HOLD_EXPIRED;
        h->own_c = h->arrive;
        record(h, d, RECORD_RAW, 0, h->leave, 0);
        h->stage = STAGE_GAVE_UP;
        break;
    default:
        break;
    }
}

void handover_channel_dead(struct handover *h, struct handover_do *d)
{
    h->channel_dead = true;
    h->offer = HANDOVER_NONE;
    if (h->stage == STAGE_PROPOSED)
        to_raw(h, d);
}

void handover_not_switch(struct handover *h, struct handover_do *d)
{
    if (!handover_at_arrive(h))
        return;
    if (!h->channel_dead) {
        handover_abort(h, REASON_FOREIGN_BYTES, d);
        return;
    }
    if (h->stage == STAGE_SWITCHED) {
        h->own_c = h->arrive;
        record(h, d, RECORD_RAW, 0, h->leave, 0);
    }
    to_raw(h, d);
}

/* Under all locks: take and write nothing more on the link, decide c. */
static void freeze(struct handover *h, bool leaving_peer)
{
    uint64_t unread = h->landed - h->took;

    h->own_c = h->took;
    /* A leaving peer cannot wait for our application to make room. */
    if (leaving_peer && unread > h->leave_room) {
        h->own_c = h->landed;
        h->have = h->landed;
    }
    h->end = HANDOVER_NONE;
}

static void go_raw(struct handover *h, uint64_t c, struct handover_do *d)
{
    record(h, d, RECORD_RAW, 0, c, h->wrote - c);
    h->backlog = c;
#ifdef PLANT_BYTE_REPEATED
    h->backlog -= c > h->leave;
#endif
    h->end_sent = false;
    h->stage = STAGE_REPEATING;
}

static void on_switch(struct handover *h, struct handover_do *d)
{
    h->in_record = true;
    switch ((enum handover_stage)h->stage) {
    case STAGE_ACCEPTED:
        send_switch(h, d);
        h->stage = STAGE_UP;
        break;
    case STAGE_SWITCHED:
        h->stage = STAGE_UP;
        break;
    default: /* CANCELLED, GAVE_UP: RAW follows */
        break;
    }
}

static void on_have(struct handover *h, const struct control_record *r,
                    struct handover_do *d)
{
    bool leaving = r->flags & RECORD_LEAVING || h->end_leaving;

    if (h->have_seen) {
        handover_abort(h, REASON_PEER_RULE, d);
        return;
    }
    h->have_seen = true;
    if (h->stage == STAGE_GAVE_UP) {
        if (r->offset != h->leave)
            handover_abort(h, REASON_PEER_RULE, d);
        return;
    }
    if ((h->stage != STAGE_UP && h->stage != STAGE_FROZEN) ||
        r->offset < h->freed || r->offset > h->wrote) {
        handover_abort(h, REASON_PEER_RULE, d);
        return;
    }
    if (h->stage == STAGE_UP) {
        h->why = r->reason;
        freeze(h, leaving);
        h->have_sent = true;
        record(h, d, RECORD_HAVE, 0, h->own_c, 0);
    }
    go_raw(h, r->offset, d);
}

static void on_raw(struct handover *h, const struct control_record *r,
                   struct handover_do *d)
{
    switch ((enum handover_stage)h->stage) {
    case STAGE_CANCELLED:
    case STAGE_GAVE_UP:
        if (r->offset != h->arrive)
            break;
        h->in_record = false;
        h->repeat_end = h->arrive + r->count;
        to_raw(h, d);
        return;
    case STAGE_REPEATING:
        if (r->offset != h->own_c)
            break;
        h->in_record = false;
        h->repeat_end = h->own_c + r->count;
        return;
    case STAGE_UP:
    case STAGE_FROZEN: /* row 17: the initiator gave up before it was up */
        if (h->initiator || h->have_seen || r->offset != h->arrive ||
            h->took != h->arrive)
            break;
        h->in_record = false;
        h->repeat_end = h->arrive + r->count;
        h->end = HANDOVER_NONE;
        h->own_c = h->arrive;
        if (h->stage == STAGE_UP)
            h->why = REASON_HOLD_EXPIRED;
        go_raw(h, h->leave, d);
        return;
    default:
        break;
    }
    handover_abort(h, REASON_PEER_RULE, d);
}

static void on_end(struct handover *h, const struct control_record *r,
                   struct handover_do *d)
{
    if (h->left_at != HANDOVER_NONE || h->have_seen) {
        handover_abort(h, REASON_PEER_RULE, d);
        return;
    }
    if (h->stage != STAGE_UP && h->stage != STAGE_FROZEN)
        return; /* after giving up */
    if (r->offset < h->landed) {
        handover_abort(h, REASON_PEER_RULE, d);
        return;
    }
    /* Crossed with our HAVE it says only what a peer that died has said. */
    h->left_at = r->offset;
    h->end_leaving = r->flags & RECORD_LEAVING;
    if (h->stage != STAGE_UP)
        return;
    h->end = r->offset;
    d->end_seen = true;
}

void handover_record(struct handover *h, const struct control_record *r,
                     struct handover_do *d)
{
    bool first = handover_at_arrive(h) && r->type == RECORD_SWITCH;

    if (h->stage == STAGE_DEAD)
        return;
    if (r->tag != h->tag_in || r->epoch != h->epoch ||
        (!h->in_record && !first)) {
        handover_abort(h, REASON_FOREIGN_BYTES, d);
        return;
    }
    if (r->sequence != h->seq_in) {
        handover_abort(h, REASON_FOREIGN_READER, d);
        return;
    }
    h->seq_in++;
    if (h->stage == STAGE_CANCELLED && !first && r->type != RECORD_RAW) {
        handover_abort(h, REASON_PEER_RULE, d);
        return;
    }
    switch (r->type) {
    case RECORD_SWITCH:
        if (!first || r->offset != h->arrive)
            handover_abort(h, REASON_PEER_RULE, d);
        else
            on_switch(h, d);
        break;
    case RECORD_HAVE:
        on_have(h, r, d);
        break;
    case RECORD_RAW:
        on_raw(h, r, d);
        break;
    case RECORD_END:
        on_end(h, r, d);
        break;
    case RECORD_BELL:
    case RECORD_BEAT:
        break;
    default:
        handover_abort(h, REASON_PEER_RULE, d);
    }
}

void handover_return(struct handover *h, unsigned flags, enum reason why,
                     struct handover_do *d)
{
    if (h->stage != STAGE_UP || h->fin_seen)
        return;
    h->why = why;
    freeze(h, h->end_leaving);
    h->have_sent = true;
    record(h, d, RECORD_HAVE, flags, h->own_c, 0);
    h->stage = STAGE_FROZEN;
}

void handover_end(struct handover *h, bool leaving, struct handover_do *d)
{
    if (h->stage != STAGE_UP || h->end_sent || h->fin_seen)
        return;
    h->end_sent = true;
    record(h, d, RECORD_END, leaving ? RECORD_LEAVING : 0, h->wrote, 0);
}

void handover_fin(struct handover *h, struct handover_do *d)
{
    h->fin_seen = true;
    if (!h->in_record)
        return;
    if ((h->stage == STAGE_UP || h->stage == STAGE_FROZEN) && h->end_leaving &&
        h->landed == h->left_at) {
        h->have = h->landed;
        h->end = h->left_at;
        h->stage = STAGE_UP; /* local memory serves; nothing can return */
        return;
    }
    handover_abort(
        h, h->end_leaving ? REASON_PEER_GONE : REASON_FIN_WITHOUT_END, d);
}

bool handover_finish(struct handover *h, bool records_flushed,
                     struct handover_do *d)
{
    if (h->stage != STAGE_REPEATING || h->in_record ||
        handover_rx_mode(h) == RX_LEFTOVER || h->backlog != h->wrote ||
        !records_flushed)
        return false;
    to_raw(h, d);
    return true;
}
