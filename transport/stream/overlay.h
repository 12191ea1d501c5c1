/*
 * The kernel TCP connection below a stream: records in and out, the repeat,
 * the linger option, and the kernel's byte counts.
 *
 * Called with the stream's stage, rx and tx locks held.
 */
#ifndef TRANSPORT_STREAM_OVERLAY_H
#define TRANSPORT_STREAM_OVERLAY_H

#include "transport/stream/stream.h"

/* Queue a record; overlay_flush() sends. */
void overlay_put_record(struct stream *s, const struct control_record *r);
/* Send what is queued. 0 when nothing is left, -EAGAIN, or the error. */
int overlay_flush(struct stream *s);
/* Push the repeat. 0 when nothing is left, -EAGAIN, or the error. */
int overlay_repeat(struct stream *s);

/* 1 a record was read; 0 end of file; -EAGAIN; -EBADMSG; or the error. */
int overlay_get_record(struct stream *s, struct control_record *r);
/*
 * At `arrive`: is SWITCH next? 1 yes; -EAGAIN cannot tell yet; -EBADMSG no:
 * other bytes or the end of the stream; or the error. Get also reads it. A part
 * of it is read by both, and kept.
 */
int overlay_look_switch(struct stream *s);
int overlay_get_switch(struct stream *s);
/* What was kept is the application's, which reads it before it reads on from
 * TCP. Not from the link's ring: the peer gives its pages back as it likes. */
void overlay_give_back(struct stream *s);

/* From SWITCH until RAW a close of the last holder must be a reset. */
void overlay_linger_set(struct stream *s);
void overlay_linger_restore(struct stream *s);

/*
 * REASON_HALF_CLOSED: a FIN or RST was seen or sent. REASON_FOREIGN_BYTES: the
 * kernel moved others than the bytes that we know of. REASON_NONE: neither.
 */
enum reason overlay_why_not_up(struct stream *s);
/* A FIN was read: did it come before the end of the repeat that RAW told? */
bool overlay_repeat_is_cut(struct stream *s);
/* Sends RST now. */
void overlay_reset(struct stream *s);

#endif
