/*
 * SIGBUS in a mapping: its file was cut short, or its medium has failed.
 *
 * A guarded mapping is known to the one handler that a process can have. A
 * fault in it marks it as lost, for good, and puts zeroes in the place of the
 * page. A thread that has a frame for the mapping goes back there, as by
 * longjmp; without one it goes on with the zeroes, or the process ends with a
 * sentence on standard error, as the mapping was added. Faults elsewhere go to
 * the handler that was there before.
 *
 * The registry is the one thing in store/ that belongs to the process rather
 * than to a shard, as the signal does. It has no locks: threads may add,
 * remove and fault at the same time.
 */
#ifndef STORE_PM_GUARD_H
#define STORE_PM_GUARD_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUARD_MAX 64 /* mappings */

enum guard_outside {
    GUARD_ZEROES, /* outside of a frame the thread reads zeroes */
    GUARD_EXIT    /* there the process ends */
};

struct guard;

/* Where a thread goes back to. On its stack. */
struct guard_frame {
    sigjmp_buf back;
    const struct guard *guard;
    struct guard_frame *outer;
};

/* len bytes at base; path is for the sentence and copied. 0, -ENOSPC, or
 * -errno of sigaction(). The handler is installed the first time and stays. */
int guard_add(void *base, size_t len, const char *path,
              enum guard_outside outside, struct guard **out);

/* Before it is unmapped. NULL is allowed. */
void guard_remove(struct guard *guard);

/* Whether a fault has happened; then *offset is where the first one was. */
bool guard_lost(const struct guard *guard, uint64_t *offset);

/*
 * In this order, in one function:
 *
 *     if (sigsetjmp(frame.back, 0) != 0)
 *         ...                               a fault: the frame is gone
 *     guard_enter(&frame, guard);
 *     ...                                   touches the mapping, takes no lock
 *     guard_leave(&frame);
 */
void guard_enter(struct guard_frame *frame, const struct guard *guard);
void guard_leave(const struct guard_frame *frame);

#endif
