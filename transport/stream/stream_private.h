/*
 * What stream_state.c (events from outside) and stream_progress.c (the
 * engine) share. All are called with the stage, rx and tx locks held.
 */
#ifndef TRANSPORT_STREAM_STREAM_PRIVATE_H
#define TRANSPORT_STREAM_STREAM_PRIVATE_H

#include "transport/stream/stream.h"

/* Readiness may be another: everybody looks again, once it is unlocked. */
void stream_tell(struct stream *s);
/* stream_unlock_all() of who calls stream_progress() next, which wakes. */
void stream_unlock_to_progress(struct stream *s);
/* Without the locks; in a handler that interrupted its thread, with them. */
void stream_wake_due(struct stream *s);
void stream_set_why(struct stream *s, enum reason why);
/* A call on TCP gave that; true if it changed anything (not -EAGAIN). */
bool stream_tcp_failed(struct stream *s, int error);
/* What an event of handover.c asks for; `before` is the stage before it. */
void stream_carry_out(struct stream *s, struct handover_do *d,
                      enum handover_stage before);
int stream_send_fin(struct stream *s, int how);
/* On the link; the kernel's connection would be closed by now. */
bool stream_both_ended(const struct stream *s);
/* The same on the way back to TCP. */
bool stream_was_ended(const struct stream *s);

#endif
