/*
 * What a stage means for the bytes of the application: where they come from,
 * where they go, and how far.
 */
#include "transport/stream/handover.h"

#include <string.h>

const char *handover_stage_name(enum handover_stage stage)
{
    static const char *const names[] = {
        [STAGE_RAW] = "raw",
        [STAGE_PROPOSED] = "proposed",
        [STAGE_ACCEPTED] = "accepted",
        [STAGE_CANCELLED] = "cancelled",
        [STAGE_SWITCHED] = "switched",
        [STAGE_GAVE_UP] = "gave-up",
        [STAGE_UP] = "up",
        [STAGE_FROZEN] = "frozen",
        [STAGE_REPEATING] = "repeat",
        [STAGE_DEAD] = "dead",
    };
    return (unsigned)stage <= STAGE_DEAD ? names[stage] : "?";
}

/* A reader may count while another thread looks at the stage. */
static uint64_t took_so_far(const struct handover *h)
{
    return __atomic_load_n(&h->took, __ATOMIC_RELAXED);
}

static bool leftover(const struct handover *h)
{
    return h->stage != STAGE_UP && took_so_far(h) < h->have;
}

static bool limited(const struct handover *h)
{
    return h->stage == STAGE_ACCEPTED || h->stage == STAGE_CANCELLED ||
           h->stage == STAGE_SWITCHED || h->stage == STAGE_GAVE_UP;
}

enum rx_mode handover_rx_mode(const struct handover *h)
{
    if (h->stage == STAGE_DEAD)
        return RX_DEAD;
    if (h->stage == STAGE_UP)
        return RX_LINK;
    if (leftover(h))
        return RX_LEFTOVER;
    if (h->in_record)
        return RX_RECORDS;
    return limited(h) ? RX_LIMITED : RX_RAW;
}

enum tx_mode handover_tx_mode(const struct handover *h)
{
    switch ((enum handover_stage)h->stage) {
    case STAGE_RAW:
    case STAGE_CANCELLED:
    case STAGE_GAVE_UP:
        return TX_RAW;
    case STAGE_UP:
        return h->fin_seen ? TX_RAW : TX_LINK;
    case STAGE_PROPOSED:
    case STAGE_ACCEPTED:
    case STAGE_SWITCHED:
        return TX_HELD;
    case STAGE_FROZEN:
        return TX_BACKLOG;
    case STAGE_REPEATING:
        return h->backlog == h->wrote ? TX_RAW : TX_BACKLOG;
    case STAGE_DEAD:
        break;
    }
    return TX_DEAD;
}

bool handover_end_is_raw(const struct handover *h)
{
    return !h->in_record && !limited(h) && h->stage != STAGE_UP &&
           h->stage != STAGE_DEAD;
}

uint64_t handover_rx_limit(const struct handover *h)
{
    uint64_t took = took_so_far(h);

    return took < h->arrive ? h->arrive - took : 0;
}

bool handover_at_arrive(const struct handover *h)
{
    return limited(h) && !h->in_record && !leftover(h) && h->took == h->arrive;
}

void handover_expected_switch(const struct handover *h,
                              struct control_record *out)
{
    memset(out, 0, sizeof(*out));
    out->tag = h->tag_in;
    out->type = RECORD_SWITCH;
    out->epoch = h->epoch;
    out->offset = h->arrive;
}

bool handover_eof(const struct handover *h)
{
    if (h->stage == STAGE_UP || (h->fin_seen && h->have >= h->end))
        return h->end != HANDOVER_NONE && h->took == h->end;
    return false;
}

bool handover_ended(const struct handover *h)
{
    return h->left_at != HANDOVER_NONE && took_so_far(h) == h->left_at &&
           h->stage != STAGE_DEAD;
}

bool handover_may_go_up(const struct handover *h)
{
    return h->stage == STAGE_RAW && !h->fin_sent && !h->fin_seen &&
           !leftover(h) && !h->channel_dead && h->epoch < UINT32_MAX - 1;
}
