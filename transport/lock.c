/*
 * The slow half of lock.h: waiting.
 */
#include "transport/lock.h"

#include "transport/pause.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LOCK_LOOKS = 100 };
static const uint32_t SLEEPER = 1u << 31;

__thread uint32_t lock_self __attribute__((tls_model("initial-exec")));
__thread unsigned lock_entered __attribute__((tls_model("initial-exec")));

uint32_t lock_self_slow(void)
{
    lock_self = (uint32_t)syscall(SYS_gettid);
    return lock_self;
}

void lock_forget_self(void)
{
    lock_self = 0;
    lock_entered = 0;
}

int lock_take_slow(struct lock *lock, uint32_t self)
{
    for (int i = 0; i < LOCK_LOOKS; i++) {
        uint32_t word = atomic_load_explicit(&lock->word, memory_order_relaxed);

        if ((word & ~SLEEPER) == self)
            return -EDEADLK;
        if (word == 0 && atomic_compare_exchange_weak_explicit(
                             &lock->word, &word, self, memory_order_acquire,
                             memory_order_relaxed))
            return 0;
        cpu_pause();
    }
    for (;;) {
        uint32_t word = atomic_load_explicit(&lock->word, memory_order_relaxed);

        if (word == 0) {
            /* Others may sleep too: take it with the mark. */
            if (atomic_compare_exchange_weak_explicit(
                    &lock->word, &word, self | SLEEPER, memory_order_acquire,
                    memory_order_relaxed))
                return 0;
            continue;
        }
        if (!(word & SLEEPER) &&
            !atomic_compare_exchange_weak_explicit(
                &lock->word, &word, word | SLEEPER, memory_order_relaxed,
                memory_order_relaxed))
            continue;
        syscall(SYS_futex, &lock->word, FUTEX_WAIT_PRIVATE, word | SLEEPER,
                NULL, NULL, 0);
    }
}

void lock_give_slow(struct lock *lock)
{
    syscall(SYS_futex, &lock->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}
