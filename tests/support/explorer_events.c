/*
 * What can happen to two ends; see explorer_world.h.
 */
#include "tests/support/explorer_world.h"

#include <string.h>

/* ---- what an event asks for ---- */

static uint8_t tag_of(int side)
{
    return (uint8_t)(100 + side);
}

static void push(struct world *w, int me, struct item it)
{
    if (w->n_tcp[me] == CAP)
        explorer_wrong = "too many records";
    else
        w->tcp[me][w->n_tcp[me]++] = it;
}

static struct item pop(struct world *w, int from)
{
    struct item it = w->tcp[from][0];

    w->n_tcp[from]--;
    memmove(&w->tcp[from][0], &w->tcp[from][1],
            w->n_tcp[from] * sizeof(struct item));
    memset(&w->tcp[from][w->n_tcp[from]], 0, sizeof(struct item));
    return it;
}

static void carry_out(struct world *w, int me, const struct handover_do *d)
{
    struct side *s = &w->side[me];

    if (d->dead)
        explorer_wrong = "an end aborts";
    if (d->link_start) {
        s->committed = s->landed = (uint8_t)s->h.leave;
        s->released = (uint8_t)s->h.arrive;
        w->broken = false;
    }
    if (d->send_message && !w->dead) {
        struct said m = {(uint8_t)d->message.type, (uint8_t)d->message.epoch,
                         (uint8_t)d->message.offset, (uint8_t)d->message.tag,
                         (uint8_t)d->message.number};

        if (w->n_oob[me] == SAID_CAP)
            explorer_wrong = "too many messages";
        else
            w->oob[me][w->n_oob[me]++] = m;
    }
    for (int i = 0; i < d->n_records; i++) {
        const struct control_record *r = &d->records[i];
        struct item it = {(uint8_t)r->type,     (uint8_t)r->offset,
                          (uint8_t)r->flags,    (uint8_t)r->epoch,
                          (uint8_t)r->sequence, (uint8_t)r->count};

        push(w, me, it);
    }
    if (s->h.stage == STAGE_UP && w->side[!me].h.stage == STAGE_UP &&
        w->both_up < s->h.epoch)
        w->both_up = (uint8_t)s->h.epoch;
}

/* The caller's part: what is known of the link right now. */
static void look(struct world *w, int me)
{
    struct handover *h = &w->side[me].h;

    if (h->stage != STAGE_UP && h->stage != STAGE_FROZEN)
        return;
    h->landed = w->side[!me].landed;
    h->freed = w->side[!me].released;
    if (h->landed < h->took || h->freed > h->wrote)
        explorer_wrong = "the link's words make no sense";
}

/* ---- events; each returns false when it is not possible now ---- */

static void see_end(struct world *w, int me)
{
    if (w->side[me].h.took != w->side[!me].h.wrote ||
        w->side[!me].h.wrote != explorer_limits.bytes)
        explorer_wrong = "end of file before the last byte";
    w->side[me].eof = true;
}

static bool write_raw(struct world *w, int me)
{
    struct side *s = &w->side[me];
    struct item it = {.kind = KIND_BYTE, .off = (uint8_t)s->h.wrote};

    if (handover_tx_mode(&s->h) != TX_RAW || s->shut ||
        s->h.wrote == explorer_limits.bytes || w->n_tcp[me] >= BYTES_CAP)
        return false;
    push(w, me, it);
    if (s->h.stage == STAGE_REPEATING)
        s->h.backlog++;
    s->h.wrote++;
    return true;
}

static bool write_link(struct world *w, int me)
{
    struct side *s = &w->side[me];

    if (handover_tx_mode(&s->h) != TX_LINK || s->shut ||
        s->h.wrote == explorer_limits.bytes)
        return false;
    s->h.wrote++;
    s->committed++;
    return true;
}

static bool shut(struct world *w, int me)
{
    struct side *s = &w->side[me];

    if (s->shut || s->h.wrote != explorer_limits.bytes)
        return false;
    s->shut = true;
    return true;
}

static bool send_fin(struct world *w, int me)
{
    struct side *s = &w->side[me];
    struct item it = {.kind = KIND_FIN, .off = (uint8_t)s->h.wrote};

    if (!s->shut || s->h.fin_sent || w->n_tcp[me] >= BYTES_CAP ||
        (s->h.stage != STAGE_RAW && s->h.stage != STAGE_CANCELLED &&
         s->h.stage != STAGE_GAVE_UP))
        return false;
    s->h.fin_sent = true;
    push(w, me, it);
    return true;
}

static bool send_end(struct world *w, int me)
{
    struct side *s = &w->side[me];
    struct handover_do d = {0};

    if (!s->shut || s->h.stage != STAGE_UP || s->h.end_sent)
        return false;
    handover_end(&s->h, false, &d);
    carry_out(w, me, &d);
    return true;
}

static bool take_link(struct world *w, int me)
{
    struct side *s = &w->side[me];
    enum rx_mode mode = handover_rx_mode(&s->h);

    if (mode == RX_LINK && s->h.took < w->side[!me].landed) {
        look(w, me);
        s->h.took++;
        s->released = (uint8_t)s->h.took;
        return true;
    }
    if (mode != RX_LEFTOVER)
        return false;
    s->h.took++;
    return true;
}

static bool link_end(struct world *w, int me)
{
    if (w->side[me].eof || !handover_eof(&w->side[me].h))
        return false;
    see_end(w, me);
    return true;
}

static bool propose(struct world *w, int me)
{
    struct side *s = &w->side[me];
    struct handover_do d = {0};

    if (me != 0 || s->h.epoch >= explorer_limits.epochs || s->eof ||
        handover_propose(&s->h, tag_of(me), &d) < 0)
        return false;
    carry_out(w, me, &d);
    return true;
}

static bool hear(struct world *w, int me, enum reason refuse)
{
    struct control_message m = {0};
    struct handover_do d = {0};
    struct said said = w->oob[!me][0];

    if (w->n_oob[!me] == 0 ||
        (refuse != REASON_NONE && said.type != MESSAGE_PROPOSE))
        return false;
    w->n_oob[!me]--;
    memmove(&w->oob[!me][0], &w->oob[!me][1],
            w->n_oob[!me] * sizeof(struct said));
    memset(&w->oob[!me][w->n_oob[!me]], 0, sizeof(struct said));
    m.type = said.type;
    m.epoch = said.epoch;
    m.offset = said.off;
    m.tag = said.tag;
    m.number = said.number;
    if (w->side[me].eof)
        refuse = REASON_HALF_CLOSED;
    if (handover_message(&w->side[me].h, &m, refuse, tag_of(me), &d) < 0)
        explorer_wrong = "a message that does not belong here";
    carry_out(w, me, &d);
    return true;
}

static bool hear_message(struct world *w, int me)
{
    return hear(w, me, REASON_NONE);
}

static bool refuse_message(struct world *w, int me)
{
    return hear(w, me, REASON_BUSY);
}

static bool all_was_read(struct world *w, int me)
{
    struct handover *h = &w->side[me].h;
    struct handover_do d = {0};

    if (!handover_offer_due(h))
        return false;
    handover_take_offer(h, w->side[me].eof ? REASON_HALF_CLOSED : REASON_NONE,
                        tag_of(me), &d);
    carry_out(w, me, &d);
    return true;
}

/* It wants to return, or shuts down, or may not agree any more. */
static bool refuse_offer(struct world *w, int me)
{
    struct handover *h = &w->side[me].h;
    struct handover_do d = {0};

    if (h->stage != STAGE_RAW || h->offer == HANDOVER_NONE)
        return false;
    handover_refuse_offer(h, REASON_WANTED, &d);
    carry_out(w, me, &d);
    return true;
}

static bool become_careful(struct world *w, int me)
{
    if (!explorer_limits.become || w->side[me].h.careful)
        return false;
    w->side[me].h.careful = true;
    return true;
}

static bool hold_expires(struct world *w, int me)
{
    struct handover *h = &w->side[me].h;
    struct handover_do d = {0};

    if (h->stage != STAGE_PROPOSED && h->stage != STAGE_ACCEPTED &&
        h->stage != STAGE_SWITCHED)
        return false;
    handover_give_up(h, &d);
    carry_out(w, me, &d);
    return true;
}

static bool want_return(struct world *w, int me, unsigned flags)
{
    struct handover *h = &w->side[me].h;
    struct handover_do d = {0};

    if (h->stage != STAGE_UP || h->fin_seen)
        return false;
    look(w, me);
    handover_return(h, flags, REASON_WANTED, &d);
    carry_out(w, me, &d);
    return true;
}

static bool return_here(struct world *w, int me)
{
    return want_return(w, me, 0);
}

static bool return_leaving(struct world *w, int me)
{
    return want_return(w, me, RECORD_LEAVING);
}

static bool repeat(struct world *w, int me)
{
    struct handover *h = &w->side[me].h;
    struct item it = {.kind = KIND_BYTE, .off = (uint8_t)h->backlog};

    if (h->stage != STAGE_REPEATING || h->backlog == h->wrote ||
        w->n_tcp[me] >= BYTES_CAP)
        return false;
    h->backlog++;
    push(w, me, it);
    return true;
}

static bool finish(struct world *w, int me)
{
    struct handover_do d = {0};
    uint32_t epoch = w->side[me].h.epoch;

    if (!handover_finish(&w->side[me].h, true, &d))
        return false;
    carry_out(w, me, &d);
    if (epoch == explorer_limits.epochs)
        explorer_epochs++;
    return true;
}

static bool read_raw(struct world *w, int me)
{
    struct side *s = &w->side[me];
    enum rx_mode mode = handover_rx_mode(&s->h);
    struct item it;

    if (w->n_tcp[!me] == 0 || s->eof ||
        (mode != RX_RAW &&
         (mode != RX_LIMITED || handover_rx_limit(&s->h) == 0)))
        return false;
    it = pop(w, !me);
    if (it.kind == KIND_BYTE && it.off == s->h.took) {
        s->h.took++;
    } else if (it.kind == KIND_FIN) {
        s->h.fin_seen = true;
        see_end(w, me);
    } else {
        explorer_wrong = it.kind == KIND_BYTE ? "a byte out of order"
                                              : "a record was read as data";
    }
    return true;
}

static bool read_record(struct world *w, int me)
{
    struct handover *h = &w->side[me].h;
    bool arrive = handover_at_arrive(h);
    struct control_record r = {0};
    struct handover_do d = {0};
    struct item it;

    if (w->n_tcp[!me] == 0 || (!arrive && !h->in_record))
        return false;
    it = w->tcp[!me][0];
    if (it.kind == KIND_BYTE || it.kind == KIND_FIN) {
        if (!arrive)
            explorer_wrong = "data was read as a record";
        else if (!w->side[me].knows_dead)
            return false;
        else
            handover_not_switch(h, &d);
        carry_out(w, me, &d);
        return true;
    }
    pop(w, !me);
    look(w, me);
    r.type = it.kind;
    r.offset = it.off;
    r.flags = it.flags;
    r.epoch = it.epoch;
    r.sequence = it.seq;
    r.count = it.count;
    r.tag = tag_of(me);
    handover_record(h, &r, &d);
    carry_out(w, me, &d);
    return true;
}

static bool land(struct world *w, int me)
{
    struct side *s = &w->side[me];

    if (w->broken || s->landed >= s->committed)
        return false;
    s->landed++;
    return true;
}

static bool break_link(struct world *w, int me)
{
    if (!explorer_limits.breaks || w->broken || w->side[me].h.stage != STAGE_UP)
        return false;
    w->broken = true;
    return true;
}

static bool kill_channel(struct world *w, bool lose0, bool lose1)
{
    if (!explorer_limits.dies || w->dead)
        return false;
    w->dead = true;
    if (lose0)
        w->n_oob[0] = 0;
    if (lose1)
        w->n_oob[1] = 0;
    for (int i = 0; i < 2; i++)
        memset(&w->oob[i][w->n_oob[i]], 0,
               (SAID_CAP - w->n_oob[i]) * sizeof(struct said));
    return true;
}

static bool channel_dies(struct world *w, int me)
{
    return kill_channel(w, me, me);
}

static bool channel_dies_half(struct world *w, int me)
{
    return kill_channel(w, me, !me);
}

static bool notice(struct world *w, int me)
{
    struct handover_do d = {0};

    if (!w->dead || w->side[me].knows_dead || w->n_oob[!me] != 0)
        return false;
    w->side[me].knows_dead = true;
    handover_channel_dead(&w->side[me].h, &d);
    carry_out(w, me, &d);
    return true;
}

const struct explorer_event explorer_events[] = {
    {"write", write_raw},
    {"commit", write_link},
    {"shut", shut},
    {"fin", send_fin},
    {"end", send_end},
    {"take", take_link},
    {"eof", link_end},
    {"propose", propose},
    {"hear", hear_message},
    {"refuse", refuse_message},
    {"hold", hold_expires},
    {"return", return_here},
    {"leaving", return_leaving},
    {"repeat", repeat},
    {"finish", finish},
    {"read", read_raw},
    {"record", read_record},
    {"land", land},
    {"break", break_link},
    {"channel", channel_dies},
    {"half", channel_dies_half},
    {"notice", notice},
    {"answer", all_was_read},
    {"not now", refuse_offer},
    {"careful", become_careful},
};

const unsigned explorer_n_events =
    sizeof(explorer_events) / sizeof(explorer_events[0]);
