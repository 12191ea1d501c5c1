/*
 * What the signal handlers of this process do to a call that they interrupt.
 *
 * The kernel restarts a read(2) after a handler with SA_RESTART and ends it
 * with EINTR after one without (signal(7)). A wait of ours stands for such a
 * call and sleeps in ppoll(2), which is never restarted and does not tell which
 * handler ran. As long as all handlers are of one kind, that decides.
 *
 * A handler is asked about once and again after each call that may change it.
 * One that was changed by an instruction of the program's own, past libc, is
 * not seen. Any thread, also in a signal handler.
 */
#ifndef PRELOAD_HANDLERS_H
#define PRELOAD_HANDLERS_H

#include <stdbool.h>
#include <stdint.h>

enum handlers {
    HANDLERS_NONE,      /* a signal is ignored, or it ends or stops us */
    HANDLERS_RESTART,   /* all have SA_RESTART */
    HANDLERS_INTERRUPT, /* none has it */
    HANDLERS_OF_BOTH_KINDS,
};

enum handlers handlers_kind(void);
/* Which signals have one: bit 0 is signal 1, as in the kernel's mask. */
uint64_t handlers_signals(void);
/* None of these would end a call with EINTR. */
bool handlers_restart(enum handlers kind);
/* The action of this signal may be another one now. */
void handlers_changed(int number);

#endif
