/*
 * Slots are claimed by their base; the handler reads them without a lock. All
 * that it calls is safe in a handler: mmap, write, sigaction and _exit are
 * system calls, and a frame's thread was between two stores to the mapping.
 */
#include "store/pm/guard.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE       ((uintptr_t)4096)
#define LARGE_PAGE ((uintptr_t)2 << 20)
#define NOT_LOST   UINT64_MAX

struct guard {
    _Atomic uintptr_t base; /* 0: nobody's; 1: being filled in */
    _Atomic size_t len;
    _Atomic uint64_t lost; /* offset of the first fault, or NOT_LOST */
    enum guard_outside outside;
    char sentence[256]; /* ready to be written */
};

static struct guard guards[GUARD_MAX];
static struct sigaction before;
static atomic_int installed; /* 0: no, 1: being done, 2: yes */

/* Known without a call into the dynamic linker, which a handler must not
 * make. */
static _Thread_local struct guard_frame *top
    __attribute__((tls_model("initial-exec")));

static struct guard *guard_of(uintptr_t at)
{
    for (int i = 0; i < GUARD_MAX; i++) {
        uintptr_t base =
            atomic_load_explicit(&guards[i].base, memory_order_acquire);
        size_t len = atomic_load_explicit(&guards[i].len, memory_order_relaxed);
        if (base > 1 && at >= base && at - base < len)
            return &guards[i];
    }
    return NULL;
}

/* Zeroes in the place of the page. On a device only large ones can go. */
static bool put_zeroes(uintptr_t at)
{
    static const uintptr_t sizes[] = {PAGE, LARGE_PAGE};
    for (size_t i = 0; i < 2; i++) {
        void *page = (void *)(at / sizes[i] * sizes[i]); /* NOLINT */
        if (mmap(page, sizes[i], PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED)
            return true;
    }
    return false;
}

/* Not ours: as if we were not there. */
static void pass_on(int sig, siginfo_t *info, void *context)
{
    if ((before.sa_flags & SA_SIGINFO) != 0) {
        before.sa_sigaction(sig, info, context);
    } else if (before.sa_handler == SIG_DFL || before.sa_handler == SIG_IGN) {
        struct sigaction usual = {.sa_handler = SIG_DFL};
        sigaction(sig, &usual, NULL);
        if (info->si_code <= 0) /* sent, so it does not come again by itself */
            raise(sig);
    } else {
        before.sa_handler(sig);
    }
}

static void on_bus_error(int sig, siginfo_t *info, void *context)
{
    uintptr_t at = (uintptr_t)info->si_addr;
    struct guard *guard = info->si_code > 0 ? guard_of(at) : NULL;
    struct guard_frame *frame = top;
    int error = errno;
    uint64_t none = NOT_LOST;
    if (!guard || !put_zeroes(at)) {
        pass_on(sig, info, context);
        return;
    }
    atomic_compare_exchange_strong(&guard->lost, &none,
                                   (uint64_t)(at - guard->base));
    if (frame && frame->guard == guard) {
        top = frame->outer;
        siglongjmp(frame->back, 1);
    }
    if (guard->outside == GUARD_EXIT) {
        if (write(2, guard->sentence, strlen(guard->sentence)) < 0)
            _exit(EXIT_FAILURE); /* as below: nobody hears it */
        _exit(EXIT_FAILURE);
    }
    errno = error;
}

static int install(void)
{
    struct sigaction ours = {.sa_sigaction = on_bus_error,
                             .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    int none = 0;
    if (atomic_load_explicit(&installed, memory_order_acquire) == 2)
        return 0;
    if (!atomic_compare_exchange_strong(&installed, &none, 1)) {
        while (atomic_load(&installed) == 1)
            sched_yield();
        return atomic_load(&installed) == 2 ? 0 : -EAGAIN;
    }
    sigemptyset(&ours.sa_mask);
    if (sigaction(SIGBUS, &ours, &before) < 0) {
        atomic_store(&installed, 0);
        return -errno;
    }
    atomic_store_explicit(&installed, 2, memory_order_release);
    return 0;
}

int guard_add(void *base, size_t len, const char *path,
              enum guard_outside outside, struct guard **out)
{
    int rc = install();
    if (rc < 0)
        return rc;
    for (int i = 0; i < GUARD_MAX; i++) {
        struct guard *guard = &guards[i];
        uintptr_t nobody = 0;
        if (!atomic_compare_exchange_strong(&guard->base, &nobody, 1))
            continue;
        atomic_store(&guard->len, len);
        atomic_store(&guard->lost, NOT_LOST);
        guard->outside = outside;
        snprintf(guard->sentence, sizeof(guard->sentence),
                 "%.120s was cut short while in use, or its medium has failed; "
                 "check both, and start again\n",
                 path);
        atomic_store_explicit(&guard->base, (uintptr_t)base,
                              memory_order_release);
        *out = guard;
        return 0;
    }
    return -ENOSPC;
}

void guard_remove(struct guard *guard)
{
    if (guard)
        atomic_store_explicit(&guard->base, 0, memory_order_release);
}

bool guard_lost(const struct guard *guard, uint64_t *offset)
{
    uint64_t lost = atomic_load_explicit(&guard->lost, memory_order_relaxed);
    if (lost == NOT_LOST)
        return false;
    *offset = lost;
    return true;
}

void guard_enter(struct guard_frame *frame, const struct guard *guard)
{
    frame->guard = guard;
    frame->outer = top;
    atomic_signal_fence(memory_order_seq_cst);
    top = frame;
    atomic_signal_fence(memory_order_seq_cst);
}

void guard_leave(const struct guard_frame *frame)
{
    atomic_signal_fence(memory_order_seq_cst);
    top = frame->outer;
}
