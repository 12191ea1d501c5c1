/*
 * See held_signals.h.
 */
#include "preload/held_signals.h"

#include <sys/syscall.h>
#include <unistd.h>

#include "preload/handlers.h"
#include "preload/kernel.h"

static unsigned long bit(int number)
{
    return 1ul << (number - 1);
}

/* The kernel's mask is one word; libc's sigset_t begins with it. */
void signals_hold(struct held_signals *held)
{
    unsigned long some =
        handlers_signals() &
        ~(bit(SIGSEGV) | bit(SIGBUS) | bit(SIGFPE) | bit(SIGILL) |
          bit(SIGTRAP) | bit(SIGABRT) | bit(SIGSYS));
    unsigned long all = held->mask | some;
    int rc;

    if (some == held->some)
        return;
    if (held->on)
        rc = (int)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL,
                          sizeof(all));
    else
        rc = (int)syscall(SYS_rt_sigprocmask, SIG_BLOCK, &some, &held->mask,
                          sizeof(some));
    if (rc < 0)
        return;
    held->on = true;
    held->some = some;
}

const sigset_t *signals_mask(const struct held_signals *held,
                             const sigset_t *own)
{
    return own != NULL || !held->on ? own : (const sigset_t *)&held->mask;
}

/* By now, since it had a handler when it was held. */
static bool is_ignored(int number)
{
    struct sigaction action;

    if (REAL(sigaction)(number, NULL, &action) < 0)
        return false;
    if (action.sa_handler == SIG_DFL)
        return number == SIGCHLD || number == SIGURG || number == SIGWINCH ||
               number == SIGCONT;
    return action.sa_handler == SIG_IGN;
}

bool signals_wait(const struct held_signals *held)
{
    unsigned long pending = 0;

    if (!held->on)
        return false;
    syscall(SYS_rt_sigpending, &pending, sizeof(pending));
    pending &= ~held->mask;
    for (int number = 1; pending != 0; number++, pending >>= 1)
        if ((pending & 1) && !is_ignored(number))
            return true;
    return false;
}

void signals_release(struct held_signals *held)
{
    if (!held->on)
        return;
    held->on = false;
    held->some = 0;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &held->mask, NULL,
            sizeof(held->mask));
}
