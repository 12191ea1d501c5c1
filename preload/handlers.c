/*
 * See handlers.h. A bit of a word per signal.
 */
#include "preload/handlers.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "preload/kernel.h"

static _Atomic uint64_t unasked = UINT64_MAX, restart, interrupt;
static _Atomic uint32_t changes;

static void put(_Atomic uint64_t *set, uint64_t one, bool in)
{
    if (in)
        atomic_fetch_or(set, one);
    else
        atomic_fetch_and(set, ~one);
}

/* A handler that goes when it runs is asked about each time. */
static void ask(int number)
{
    uint64_t one = UINT64_C(1) << (number - 1);
    uint32_t before = atomic_load(&changes);
    struct sigaction now;
    bool handled;

    atomic_fetch_and(&unasked, ~one);
    handled = REAL(sigaction)(number, NULL, &now) == 0 &&
              now.sa_handler != SIG_DFL && now.sa_handler != SIG_IGN;
    put(&restart, one, handled && (now.sa_flags & SA_RESTART));
    put(&interrupt, one, handled && !(now.sa_flags & SA_RESTART));
    /* What another thread has found out since may be newer. */
    if ((handled && ((unsigned)now.sa_flags & SA_RESETHAND)) ||
        atomic_load(&changes) != before)
        atomic_fetch_or(&unasked, one);
}

static void ask_all(void)
{
    uint64_t some = atomic_load(&unasked);

    for (int number = 1; some != 0; number++, some >>= 1)
        if (some & 1)
            ask(number);
}

uint64_t handlers_signals(void)
{
    ask_all();
    return atomic_load(&restart) | atomic_load(&interrupt);
}

enum handlers handlers_kind(void)
{
    ask_all();
    if (atomic_load(&interrupt) == 0)
        return atomic_load(&restart) == 0 ? HANDLERS_NONE : HANDLERS_RESTART;
    return atomic_load(&restart) == 0 ? HANDLERS_INTERRUPT
                                      : HANDLERS_OF_BOTH_KINDS;
}

bool handlers_restart(enum handlers kind)
{
    return kind == HANDLERS_NONE || kind == HANDLERS_RESTART;
}

void handlers_changed(int number)
{
    atomic_fetch_add(&changes, 1);
    if (number >= 1 && number <= 64)
        atomic_fetch_or(&unasked, UINT64_C(1) << (number - 1));
}
