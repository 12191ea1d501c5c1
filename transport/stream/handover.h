/*
 * The moment the two directions of a stream move from kernel TCP to a link,
 * and back: offset arithmetic and stages, no I/O.
 *
 * Each function is one event of docs/handover.md: it changes the state and
 * says in struct handover_do what the caller has to do about it, in this
 * order: send the message, send the records, then act on the flags. The
 * caller holds the stage, receive and send locks of the stream for all of
 * it, so that an event and its actions are one critical section.
 *
 * Between events the caller counts in `wrote`, `took`, `backlog`, `landed`
 * and `freed`; everything else belongs to this module.
 */
#ifndef TRANSPORT_STREAM_HANDOVER_H
#define TRANSPORT_STREAM_HANDOVER_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/control_message.h"
#include "transport/reason.h"

#define HANDOVER_NONE UINT64_MAX /* no such offset yet */

enum handover_stage {
    STAGE_RAW,
    STAGE_PROPOSED,
    STAGE_ACCEPTED,
    STAGE_CANCELLED,
    STAGE_SWITCHED,
    STAGE_GAVE_UP,
    STAGE_UP,
    STAGE_FROZEN,
    STAGE_REPEATING,
    STAGE_DEAD,
};

/* Where the next byte for the application comes from. */
enum rx_mode {
    RX_RAW,      /* TCP, no limit */
    RX_LIMITED,  /* TCP, up to handover_rx_limit() */
    RX_RECORDS,  /* nowhere yet: TCP carries records */
    RX_LINK,     /* the link's ring, up to `landed` */
    RX_LEFTOVER, /* the link's ring, up to `have`, whatever the link says */
    RX_DEAD,
};

/* Where the next byte from the application goes. */
enum tx_mode {
    TX_RAW,
    TX_LINK,
    TX_HELD,    /* nowhere for a moment: a handover is under way */
    TX_BACKLOG, /* nowhere until the repeat has been sent */
    TX_DEAD,
};

/*
 * Changed under all of the stream's locks, read under any. `stage`, `took`,
 * `wrote` and `fin_seen` are looked at without, too: as a hint.
 */
struct handover {
    _Atomic enum handover_stage stage;
    bool initiator; /* this end called connect() */
    bool in_record; /* TCP from the peer carries records */
    bool have_sent, have_seen;
    bool end_sent, end_leaving; /* our END; the peer's END said LEAVING */
    bool fin_sent;              /* the kernel's FIN: these two ... */
    _Atomic bool fin_seen;      /* ... are set by the caller */
    bool channel_dead;          /* set by handover_channel_dead() */
    uint32_t epoch;
    uint32_t seq_in, seq_out; /* of the next record */
    uint64_t tag_in, tag_out;

    uint64_t wrote, took;   /* bytes of the application, all carriers */
    uint64_t leave, arrive; /* first byte of the link, out and in */
    uint64_t landed;        /* inbound link bytes known to be here */
    uint64_t freed;         /* the copy of ours starts here */
    uint64_t have;          /* local bytes [took, have) outlive the link */
    uint64_t own_c;         /* of our HAVE */
    uint64_t backlog;       /* next byte to repeat, `wrote` when none */
    uint64_t end;           /* of the peer's END, or HANDOVER_NONE */
    uint64_t left_at;       /* the same, kept through a freeze */
    uint64_t repeat_end;    /* inbound repeat is complete at this offset */
    uint64_t leave_room;    /* bytes that TCP surely takes from a leaving peer
                               before our application reads */
    uint64_t offer;         /* all before it is to be read first: of a PROPOSE
                               or ACCEPT not answered yet, or HANDOVER_NONE */
    uint64_t offer_tag;     /* the same message's */
    bool careful;           /* set by the caller: leave TCP with all read */
    enum reason why;        /* of the last return or death */
};

struct handover_do {
    struct control_message message;
    struct control_record records[2];
    bool send_message;
    int n_records;
    bool link_start; /* prepare the link's words: out at leave, in at arrive */
    bool guard_off;  /* the attempt or the epoch is over, stage is RAW */
    bool dead;       /* abort: reset the connection, reason in `why` */
    bool end_seen;   /* the peer's END arrived: wake readers */
};

void handover_init(struct handover *h, bool initiator);
const char *handover_stage_name(enum handover_stage stage);

enum rx_mode handover_rx_mode(const struct handover *h);
enum tx_mode handover_tx_mode(const struct handover *h);
/* An end or a reset that TCP shows is the application's, not the protocol's. */
bool handover_end_is_raw(const struct handover *h);
/* Bytes that may be read raw before `arrive`, in RX_LIMITED. */
uint64_t handover_rx_limit(const struct handover *h);
/* The next bytes on TCP must be the record SWITCH (or a CANCEL comes). */
bool handover_at_arrive(const struct handover *h);
/* The record the peer will send at `arrive`, known in advance. */
void handover_expected_switch(const struct handover *h,
                              struct control_record *out);
/* The application has had all and may be told so. */
bool handover_eof(const struct handover *h);
/* The same off the link: the FIN of an end that said END may still come. */
bool handover_ended(const struct handover *h);
/* May this end start an epoch now, as far as offsets tell? */
bool handover_may_go_up(const struct handover *h);

/* Row 1. -EBUSY when it may not go up now. */
int handover_propose(struct handover *h, uint64_t tag, struct handover_do *d);

/*
 * A message of the channel: rows 2 to 5, 8, 12, 14. PROPOSE is accepted
 * only when `refuse` is REASON_NONE; otherwise it is the reason of BUSY.
 * Messages of another epoch change nothing. -EPROTO when the type does not
 * belong here.
 */
int handover_message(struct handover *h, const struct control_message *m,
                     enum reason refuse, uint64_t tag, struct handover_do *d);

/*
 * Rows 2b and 4c: `took` has reached the offset of a message that has not been
 * answered, since one of the two ends is careful. The rest is as above.
 */
bool handover_offer_due(const struct handover *h);
void handover_take_offer(struct handover *h, enum reason refuse, uint64_t tag,
                         struct handover_do *d);
/* Stage RAW: it is not going to be; BUSY if a PROPOSE waits. */
void handover_refuse_offer(struct handover *h, enum reason why,
                           struct handover_do *d);

/*
 * Rows 5b, 7, 12: the writer that is held may wait no longer, or this end
 * wants to shut down. Afterwards the tx mode is TX_RAW (or what it was).
 */
void handover_give_up(struct handover *h, struct handover_do *d);

/* The channel is gone and what it still delivered has been handled. */
void handover_channel_dead(struct handover *h, struct handover_do *d);

/*
 * Rows 8, 12, 14: at `arrive` lies something that is no SWITCH. With a
 * living channel whose messages have all been read that is a foreign writer.
 */
void handover_not_switch(struct handover *h, struct handover_do *d);

/* A decoded record from TCP: rows 6, 9 to 11, 13, 14, 16 to 19; or abort. */
void handover_record(struct handover *h, const struct control_record *r,
                     struct handover_do *d);

/* Row 15. flags: RECORD_LEAVING, RECORD_THIRD. Only in stage UP. */
void handover_return(struct handover *h, unsigned flags, enum reason why,
                     struct handover_do *d);

/* END(wrote) in stage UP, after shutdown(SHUT_WR) or close. */
void handover_end(struct handover *h, bool leaving, struct handover_do *d);

/* The kernel's FIN came in record mode: legal only after END + LEAVING. */
void handover_fin(struct handover *h, struct handover_do *d);

/* Row 20, when nothing is left of the epoch. True when it was taken. */
bool handover_finish(struct handover *h, bool records_flushed,
                     struct handover_do *d);

/* Stage DEAD with that reason; the first reason stays. */
void handover_abort(struct handover *h, enum reason why, struct handover_do *d);

#endif
