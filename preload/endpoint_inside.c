/*
 * Who is inside a call that waits on an endpoint, and close() beside it.
 */
#include <pthread.h>
#include <signal.h>

#include "preload/endpoint.h"
#include "preload/helper.h"

/*
 * Where this thread is. One that is cancelled in the midst of a wait never
 * comes back, and leaves as it ends; one that jumps out leaves with its next
 * call that waits or closes: what was noted by a frame below the present one
 * is of a call that has been left.
 */
enum { PLACES = 16 };

static __thread struct {
    struct endpoint *endpoint;
    uintptr_t frame;
    struct peer *peer; /* armed for the waiter, with a reference */
    unsigned waiter;
} places[PLACES] __attribute__((tls_model("initial-exec")));
static __thread unsigned n_places __attribute__((tls_model("initial-exec")));
static __thread bool will_be_told __attribute__((tls_model("initial-exec")));
static pthread_key_t thread_key;

static void leave_last(void)
{
    unsigned at = n_places - 1;
    struct endpoint *e = places[at].endpoint;

    endpoint_disarm(e, places[at].peer, places[at].waiter);
    endpoint_leave(e);
}

static void thread_ends(void *arg)
{
    (void)arg;
    while (n_places > 0)
        leave_last();
}

int endpoint_places_start(void)
{
    return -pthread_key_create(&thread_key, thread_ends);
}

void endpoint_forget_places(void)
{
    n_places = 0;
}

/* A handler's own stack says nothing of the frames of who it interrupted. */
static bool is_on_other_stack(void)
{
    stack_t stack;

    return sigaltstack(NULL, &stack) < 0 || (stack.ss_flags & SS_ONSTACK);
}

void endpoint_leave_stale(void)
{
    uintptr_t frame = (uintptr_t)__builtin_frame_address(0);

    if (__builtin_expect(n_places == 0, 1) || is_on_other_stack())
        return;
    while (n_places > 0 && places[n_places - 1].frame < frame)
        leave_last();
}

/* A handler before the claim may have left what it had there. */
static void note_place(struct endpoint *e)
{
    unsigned at = n_places;

    if (at == PLACES)
        return;
    if (__builtin_expect(!will_be_told, 0))
        will_be_told = pthread_setspecific(thread_key, &places) == 0;
    for (int i = 0; i < 2; i++) {
        places[at].endpoint = e;
        places[at].frame = (uintptr_t)__builtin_frame_address(0);
        places[at].peer = NULL;
        atomic_signal_fence(memory_order_seq_cst);
        n_places = at + 1;
        atomic_signal_fence(memory_order_seq_cst);
    }
}

/* The last place with it. -1: none was left for it. */
static int place_of(const struct endpoint *e)
{
    int at = (int)n_places - 1;

    while (at >= 0 && places[at].endpoint != e)
        at--;
    return at;
}

static void forget_place(const struct endpoint *e)
{
    int at = place_of(e);

    for (; at >= 0 && at + 1 < (int)n_places; at++)
        places[at] = places[at + 1];
    if (at >= 0)
        n_places = (unsigned)at;
}

void endpoint_armed(struct endpoint *e, struct peer *peer, unsigned waiter)
{
    int at = place_of(e);

    if (at < 0)
        return;
    places[at].waiter = waiter;
    atomic_signal_fence(memory_order_seq_cst);
    places[at].peer = peer;
}

void endpoint_disarm(struct endpoint *e, struct peer *peer, unsigned waiter)
{
    endpoint_armed(e, NULL, 0);
    if (peer == NULL)
        return;
    peer_ops(peer)->peer_arm(peer, waiter, false);
    peer_ops(peer)->peer_put(peer);
}

bool endpoint_enter(struct endpoint *e)
{
    endpoint_leave_stale();
    if (atomic_load(&e->left))
        return false;
    atomic_fetch_add(&e->inside, 1);
    if (!atomic_load(&e->left)) {
        note_place(e);
        return true;
    }
    endpoint_leave(e);
    return false;
}

void endpoint_leave(struct endpoint *e)
{
    int inside;

    forget_place(e);
    inside = atomic_fetch_sub(&e->inside, 1);
    if (inside == 1 && atomic_load(&e->left))
        helper_ask(e, WORK_CLOSE | WORK_LET_GO);
    else if (inside <= 0)
        atomic_store(&e->inside, 0); /* as in stream_bare_leave() */
}
