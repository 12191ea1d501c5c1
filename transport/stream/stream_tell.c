/*
 * The locks of a stream, and how its owner is told what has changed under
 * them: who unlocks wakes. Somebody woken before would run into the locks, and
 * on the same CPU stop their owner as well.
 */
#include "transport/stream/stream_private.h"

void stream_lock_all(struct stream *s)
{
    lock_enter(&s->stage);
    lock_enter(&s->rx);
    lock_enter(&s->tx);
}

void stream_unlock_to_progress(struct stream *s)
{
    lock_leave(&s->tx);
    lock_leave(&s->rx);
    lock_leave(&s->stage);
}

void stream_unlock_all(struct stream *s)
{
    stream_unlock_to_progress(s);
    stream_wake_due(s);
}

/* Who finds it due wakes, whoever it was that told: that is done by then. */
void stream_wake_due(struct stream *s)
{
    if (atomic_load(&s->wake_due) && atomic_exchange(&s->wake_due, false))
        s->calls->wake(s);
}

void stream_tell(struct stream *s)
{
    atomic_fetch_add(&s->told, 1);
    if (s->calls->changed != NULL)
        s->calls->changed(s);
    atomic_store(&s->wake_due, true);
}
