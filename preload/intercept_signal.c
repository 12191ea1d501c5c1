/*
 * Signal actions: the kernel keeps them; that one has changed is noted for the
 * waits that a handler may interrupt (preload/handlers.h).
 */
#include "preload/intercept.h"

#include <signal.h>

#include "preload/handlers.h"

EXPORT int sigaction(int number, const struct sigaction *action,
                     struct sigaction *before)
{
    int rc = REAL(sigaction)(number, action, before);

    if (action != NULL)
        handlers_changed(number);
    return rc;
}

EXPORT sighandler_t signal(int number, sighandler_t handler)
{
    sighandler_t before = REAL(signal)(number, handler);

    handlers_changed(number);
    return before;
}

EXPORT sighandler_t sysv_signal(int number, sighandler_t handler)
{
    sighandler_t before = REAL(sysv_signal)(number, handler);

    handlers_changed(number);
    return before;
}

EXPORT sighandler_t sigset(int number, sighandler_t disposition)
{
    sighandler_t before = REAL(sigset)(number, disposition);

    handlers_changed(number);
    return before;
}

EXPORT int sigignore(int number)
{
    int rc = REAL(sigignore)(number);

    handlers_changed(number);
    return rc;
}

EXPORT int siginterrupt(int number, int interrupt)
{
    int rc = REAL(siginterrupt)(number, interrupt);

    handlers_changed(number);
    return rc;
}

ALIAS(sigaction)
int __sigaction(int number, const struct sigaction *action,
                struct sigaction *before) __THROW;
ALIAS(signal) sighandler_t bsd_signal(int number, sighandler_t handler) __THROW;
ALIAS(signal) sighandler_t ssignal(int number, sighandler_t handler) __THROW;
ALIAS(sysv_signal)
sighandler_t __sysv_signal(int number, sighandler_t handler) __THROW;
