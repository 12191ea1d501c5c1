/*
 * A lock of one word, for the threads of one process.
 *
 * Uncontended it is one compare-exchange to take and one exchange to give
 * back. A thread that waits looks for a moment, then sleeps in futex(2).
 * Never placed in memory that a peer can write. The word is the thread id of
 * the owner, so that a signal handler that interrupted its own thread inside
 * the lock is told -EDEADLK instead of waiting for ever.
 */
#ifndef TRANSPORT_LOCK_H
#define TRANSPORT_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "transport/delay.h"

struct lock {
    _Atomic uint32_t word; /* 0 free; owner's tid; bit 31: somebody sleeps */
    uint32_t again;        /* the owner's: times it is inside once more */
};

extern __thread uint32_t lock_self __attribute__((tls_model("initial-exec")));

uint32_t lock_self_slow(void);
int lock_take_slow(struct lock *lock, uint32_t self);
void lock_give_slow(struct lock *lock);
/* In the child of a fork: its one thread has another id. */
void lock_forget_self(void);

static inline uint32_t lock_my_id(void)
{
    uint32_t self = lock_self;

    return __builtin_expect(self != 0, 1) ? self : lock_self_slow();
}

/* 0, or -EDEADLK when the calling thread holds it already. */
static inline int lock_take(struct lock *lock)
{
    uint32_t self = lock_my_id();
    uint32_t free_word = 0;

    delay_here(DELAY_AT_LOCK);
    if (__builtin_expect(atomic_compare_exchange_strong_explicit(
                             &lock->word, &free_word, self,
                             memory_order_acquire, memory_order_relaxed),
                         1))
        return 0;
    return lock_take_slow(lock, self);
}

/* False when anybody holds it. */
static inline bool lock_try(struct lock *lock)
{
    uint32_t free_word = 0;

    return atomic_compare_exchange_strong_explicit(
        &lock->word, &free_word, lock_my_id(), memory_order_acquire,
        memory_order_relaxed);
}

static inline void lock_give(struct lock *lock)
{
    uint32_t was =
        atomic_exchange_explicit(&lock->word, 0, memory_order_release);

    if (__builtin_expect(was >> 31, 0))
        lock_give_slow(lock);
    delay_here(DELAY_AT_LOCK);
}

/* The calling thread holds it: an outer frame of a signal handler. */
static inline bool lock_is_mine(struct lock *lock)
{
    return (atomic_load_explicit(&lock->word, memory_order_relaxed) &
            ~(1u << 31)) == lock_my_id();
}

/* How many locks the calling thread has entered and not left. */
extern __thread unsigned lock_entered
    __attribute__((tls_model("initial-exec")));

/* As lock_take(), but a handler whose thread holds it is inside once more. */
static inline void lock_enter(struct lock *lock)
{
    lock_entered++;
    if (lock_take(lock) < 0)
        lock->again++;
}

/*
 * As lock_enter(), but false, and nothing is entered, when anybody holds it.
 * What a handler finds in the midst of it counts from before it is taken.
 */
static inline bool lock_try_enter(struct lock *lock)
{
    lock_entered++;
    if (lock_try(lock))
        return true;
    if (lock_entered > 0) /* as in lock_leave() */
        lock_entered--;
    return false;
}

/* Undoes either: what an outer frame holds it goes on holding. */
static inline void lock_leave(struct lock *lock)
{
    if (lock->again > 0)
        lock->again--;
    else
        lock_give(lock);
    if (lock_entered > 0) /* none in the child of a fork in a handler */
        lock_entered--;
}

static inline void lock_init(struct lock *lock)
{
    lock->again = 0;
    atomic_store_explicit(&lock->word, 0, memory_order_relaxed);
}

#endif
