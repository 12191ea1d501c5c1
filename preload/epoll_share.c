/*
 * See epoll_set.h: sets that another process has, too, after a fork.
 *
 * In the kernel such a set is one: what either of them puts in is reported to
 * both. So the streams in it stay on TCP, with their registrations in the
 * kernel's set, until this process has it alone again, as family.h counts.
 */
#include "preload/endpoint.h"
#include "preload/epoll_private.h"
#include "preload/process.h"
#include "preload/stats.h"

enum { LOOKS_MOST = 9 };

/* Registry lock held. */
static bool is_shared(struct epoll_set *set)
{
    if (set->shared && family_is_alone(&set->holders))
        set->shared = false;
    return set->shared;
}

/* Registry lock held. */
static bool is_in_shared(const struct endpoint *e)
{
    for (struct epoll_reg *r = e->regs; r != NULL; r = r->next)
        if (!r->lingers && is_shared(r->set))
            return true;
    return false;
}

static void look_again(struct endpoint *e, unsigned failures)
{
    e->failures = failures;
    atomic_store(&e->countdown, endpoint_calls_after(failures));
}

bool epoll_keeps_on_tcp(struct epoll_set *set, struct endpoint *e)
{
    struct stream *s = &e->stream;

    if (!is_shared(set))
        return false;
    if (!atomic_exchange(&e->set_shared, true))
        look_again(e, 0);
    if (e->state == ENDPOINT_CONNECTED && !s->managed &&
        !atomic_load(&e->ineligible) && !atomic_load(&e->held)) {
        s->why = REASON_SHARED_AFTER_FORK;
        stats_update(e);
    }
    return s->managed || atomic_load(&s->guard);
}

bool epoll_sets_keep_on_tcp(struct endpoint *e)
{
    bool kept;

    if (!atomic_load(&e->set_shared))
        return false;
    epoll_registry_lock();
    kept = is_in_shared(e);
    if (!kept)
        atomic_store(&e->set_shared, false);
    epoll_registry_unlock();
    if (kept) {
        e->stream.why = REASON_SHARED_AFTER_FORK;
        look_again(e, e->failures < LOOKS_MOST ? e->failures + 1 : LOOKS_MOST);
    } else {
        e->failures = 0;
        e->stream.why = REASON_YOUNG;
    }
    stats_update(e);
    return kept;
}

bool epoll_sets_inherited(struct endpoint *e)
{
    bool found = false;

    epoll_registry_lock();
    for (struct epoll_reg *r = e->regs; r != NULL; r = r->next)
        found |= r->set->inherited && !r->lingers;
    epoll_registry_unlock();
    return found;
}

void epoll_share(struct epoll_set *set)
{
    set->inherited = set->shared = true;
    if (!atomic_load(&set->alone))
        family_grows(&set->holders);
}

/* When its second descriptor is closed is not known: held until the end. */
void epoll_share_ends(struct epoll_set *set)
{
    if (!atomic_load(&set->alone))
        family_leave(&set->holders);
}

void epoll_sets_exit(void)
{
    epoll_registry_lock();
    for (struct epoll_set *set = epoll_all_sets; set != NULL; set = set->next)
        if (atomic_load(&set->inside) == 0) /* nobody takes an event yet */
            epoll_share_ends(set);
    epoll_registry_unlock();
}

unsigned epoll_sets_exec(unsigned most)
{
    unsigned n = 0;

    epoll_registry_lock();
    for (struct epoll_set *set = epoll_all_sets; set != NULL; set = set->next)
        if (n < most && !atomic_load(&set->alone) &&
            family_counts(&set->holders) &&
            process_closes_by_exec(atomic_load(&set->epfd)) &&
            family_execs(&set->holders))
            n++;
    epoll_registry_unlock();
    return n;
}

void epoll_sets_exec_failed(void)
{
    epoll_registry_lock();
    for (struct epoll_set *set = epoll_all_sets; set != NULL; set = set->next)
        family_exec_failed(&set->holders);
    epoll_registry_unlock();
}
