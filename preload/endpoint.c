/*
 * See endpoint.h: life and membership here, waiting in endpoint_wait.c.
 */
#include "preload/endpoint.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "preload/backends.h"
#include "preload/epoll_set.h"
#include "preload/family.h"
#include "preload/helper.h"
#include "preload/kernel.h"
#include "preload/process.h"
#include "preload/stats.h"
#include "preload/waiter.h"
#include "transport/kernel_calls.h"
#include "transport/pause.h"
#include "transport/waiter_ids.h"

enum { SLAB_ENDPOINTS = 64, FREE_LEAST = 256, SHARED_LOOKS_MOST = 9 };

/*
 * First in, first out, so that a freed endpoint rests for a while. Until so
 * many rest, new ones come off a slab one by one: a page is touched when its
 * first endpoint is used. A signal handler that finds its own thread in here
 * makes one of its own, and leaves what it frees.
 */
static struct {
    struct lock lock;
    struct endpoint *head, *tail;
    unsigned n;
    struct endpoint *slab; /* the next new one, if any are left */
    _Atomic unsigned left; /* of the slab */
} pool;

/* The child of a fork goes on from whatever was done last: hence the order. */
static struct endpoint *pool_new(void)
{
    if (atomic_load(&pool.left) == 0) {
        struct endpoint *slab =
            mmap(NULL, SLAB_ENDPOINTS * sizeof(*slab), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (slab == MAP_FAILED)
            return NULL;
        pool.slab = slab;
        atomic_store(&pool.left, SLAB_ENDPOINTS);
    }
    atomic_fetch_sub(&pool.left, 1);
    return pool.slab++;
}

static struct endpoint *pool_take(void)
{
    struct endpoint *e = NULL;

    if (lock_take(&pool.lock) < 0) {
        e = mmap(NULL, sizeof(*e), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return e == MAP_FAILED ? NULL : e;
    }
    /* One that the helper was asked for late rests until it has seen it. */
    if (pool.n > FREE_LEAST && pool.head != NULL &&
        !atomic_load(&pool.head->queued)) {
        e = pool.head;
        pool.head = e->next;
        if (pool.head == NULL)
            pool.tail = NULL;
        pool.n--;
    } else {
        e = pool_new();
    }
    lock_give(&pool.lock);
    return e;
}

/*
 * Only bytes without a gap before them are kept, in the order of the counts:
 * where threads race for the same direction the log ends.
 */
void endpoint_note_proof(struct endpoint *e, bool out, const struct iovec *iov,
                         int n, size_t len, uint64_t total)
{
    enum proof_way way =
        out == e->stream.h.initiator ? PROOF_TO_SERVER : PROOF_TO_CLIENT;
    struct proof_log *log;

    if (total - len >= PROOF_BYTES)
        return;
    if (lock_take(&e->proof_lock) < 0)
        return; /* a handler in the midst of this: a gap, so the log ends */
    log = e->proof;
    if (log != NULL && log->have[way] == total - len)
        proof_note(log, way, iov, n, len);
    lock_give(&e->proof_lock);
}

void endpoint_forget_proof(struct endpoint *e)
{
    struct proof_log *log;

    if (lock_take(&e->proof_lock) < 0)
        return; /* a handler in the midst of noting: freed with the endpoint */
    log = e->proof;
    e->proof = NULL;
    lock_give(&e->proof_lock);
    free(log);
}

void endpoint_free(struct endpoint *e)
{
    if (atomic_exchange(&e->freed, true))
        return;
    stats_close_row(e);
    if (e->proof != NULL)
        endpoint_forget_proof(e);
    if (lock_take(&pool.lock) < 0)
        return;
    e->next = NULL;
    if (pool.tail != NULL)
        pool.tail->next = e;
    else
        pool.head = e;
    pool.tail = e;
    pool.n++;
    lock_give(&pool.lock);
}

void endpoint_pool_after_fork(void)
{
    lock_init(&pool.lock);
}

struct endpoint_first endpoint_first = {16, 4096};

void endpoint_plan_first(void)
{
    const struct settings *s = &process.settings;
    uint64_t bytes = s->upgrade_bytes / (s->upgrade_after + 1);

    endpoint_first.calls = s->upgrade_after;
    for (size_t i = 0; i < s->rules.n; i++)
        if ((s->rules.rule[i].set & 1u << RULE_UPGRADE_AFTER) &&
            s->rules.rule[i].value[RULE_UPGRADE_AFTER] < endpoint_first.calls)
            endpoint_first.calls = s->rules.rule[i].value[RULE_UPGRADE_AFTER];
    endpoint_first.bytes_per_call = bytes < 1            ? 1
                                    : bytes > UINT32_MAX ? UINT32_MAX
                                                         : (uint32_t)bytes;
}

struct endpoint *endpoint_create(int fd, int family, bool nonblocking,
                                 enum endpoint_state state, bool initiator)
{
    struct endpoint *e = pool_take();

    if (e == NULL)
        return NULL;
    memset(e, 0, sizeof(*e));
    e->object.kind = OBJECT_ENDPOINT;
    atomic_store_explicit(&e->fds, 1, memory_order_relaxed);
    atomic_store_explicit(&e->nonblocking, nonblocking, memory_order_relaxed);
    e->family = (sa_family_t)family;
    e->state = state;
    stream_init(&e->stream, fd, initiator, &tcp_calls_kernel,
                &endpoint_stream_calls, &e->bytes);
    if (state == ENDPOINT_CONNECTED)
        endpoint_connected(e);
    return e;
}

void endpoint_connected(struct endpoint *e)
{
    uint64_t after = endpoint_first.calls;

    e->state = ENDPOINT_CONNECTED;
    e->row = stats_open_row(e);
    if (e->row != NULL)
        e->stream.bytes = (struct stream_bytes *)&e->row->out;
    if (!process.settings.accelerate && process.settings.rules.n == 0) {
        e->ineligible = true;
        e->stream.why = REASON_OFF_BY_SETTING;
        stats_update(e);
        return;
    }
    if (backends_between_hosts)
        e->proof = calloc(1, sizeof(*e->proof));
    if (after == 0)
        endpoint_grown_up(e); /* tests: before the first byte */
    else
        atomic_store(&e->countdown,
                     after > INT32_MAX ? INT32_MAX : (int32_t)after);
}

int32_t endpoint_calls_after(unsigned failures)
{
    uint64_t calls = (process.settings.upgrade_after + 1) << failures;

    return calls < INT32_MAX ? (int32_t)calls : INT32_MAX;
}

/* After a fork: is it ours alone again? */
static bool still_shared(struct endpoint *e)
{
    struct stream_bytes *bytes = e->stream.bytes;

    if (!atomic_load(&e->shared))
        return false;
    if (epoll_sets_inherited(e) || !family_is_alone(&e->holders)) {
        if (e->failures < SHARED_LOOKS_MOST)
            e->failures++;
        atomic_store(&e->countdown, endpoint_calls_after(e->failures));
        return true;
    }
    e->failures = 0;
    if (e->row == NULL && (e->row = stats_open_row(e)) != NULL) {
        atomic_store(&e->row->out, atomic_load(&bytes->out));
        atomic_store(&e->row->in, atomic_load(&bytes->in));
        e->stream.bytes = (struct stream_bytes *)&e->row->out;
    }
    e->stream.why = REASON_YOUNG;
    atomic_store(&e->shared, false);
    if (!family_counts(&e->holders))
        return false;
    atomic_store(&e->shared, true); /* another thread has forked meanwhile */
    return true;
}

void endpoint_grown_up(struct endpoint *e)
{
    atomic_store(&e->countdown, 0);
    if (atomic_load(&e->ineligible) || e->state != ENDPOINT_CONNECTED ||
        atomic_load(&e->freed) || still_shared(e) || epoll_sets_keep_on_tcp(e))
        return;
    if (e->not_before_ns != 0 && clock_ns() < e->not_before_ns) {
        atomic_store(&e->countdown,
                     1 + (int32_t)process.settings.upgrade_after);
        return;
    }
    helper_ask(e, WORK_MEET);
}

/* ---- what the stream tells us ---- */

static void on_changed(struct stream *s)
{
    stats_update(endpoint_of(s));
}

static void on_wake(struct stream *s)
{
    struct endpoint *e = endpoint_of(s);

    for (uint64_t ids = atomic_load(&e->watch); ids != 0; ids >>= 16)
        if ((ids & 0xffff) != 0)
            waiter_wake(ids & 0xffff);
    if (__atomic_load_n(&e->regs, __ATOMIC_RELAXED) != NULL)
        epoll_sets_told(e);
}

static void on_managed(struct stream *s, bool on)
{
    epoll_sets_managed(endpoint_of(s), on);
}

static void on_kick(struct stream *s)
{
    struct endpoint *e = endpoint_of(s);
    /* The last thread in a call of the kernel, after close(). */
    bool last = atomic_load(&e->left) && atomic_load(&e->inside) == 0 &&
                atomic_load(&s->bare) == 0;

    helper_ask(e, last ? WORK_CLOSE | WORK_LET_GO : WORK_PROGRESS);
}

/* What others have set on the file is asked last: it costs system calls. */
static bool on_stays(struct stream *s)
{
    struct endpoint *e = endpoint_of(s);

    if (endpoint_stays(e))
        return true;
    if (endpoint_options_allow(e))
        return false;
    s->why = REASON_UNSUPPORTED_CALL;
    atomic_store(&e->ineligible, true);
    return true;
}

const struct stream_calls endpoint_stream_calls = {
    .wake = on_wake,
    .changed = on_changed,
    .managed = on_managed,
    .kick = on_kick,
    .reach = &process.reach,
    .careful = &process.careful,
    .stays = on_stays,
};

/* ---- watchers ---- */

/* The word with `id` in place of an empty or idle one; 0 if there is none. */
static uint64_t with_watch(uint64_t ids, unsigned id, unsigned *instead_of)
{
    for (int pass = 0; pass < 2; pass++)
        for (int shift = 0; shift < 64; shift += 16) {
            unsigned at = ids >> shift & 0xffff;

            if (at != 0 && (pass == 0 || !waiter_is_idle(at)))
                continue;
            *instead_of = at;
            return (ids & ~(UINT64_C(0xffff) << shift)) | (uint64_t)id << shift;
        }
    return 0;
}

static void set_watch(struct endpoint *e, uint64_t ids)
{
    atomic_store(&e->watch, ids);
    if (e->stream.link != NULL)
        e->stream.link->ops->watch(e->stream.link, ids);
}

/*
 * Epoll sets hold the stream's locks already when they call these. The one
 * whose place it was may have begun to wait just now, after the look at it, and
 * seen itself there: rung, it asks again.
 */
bool endpoint_watch(struct endpoint *e, unsigned waiter)
{
    unsigned instead_of = 0;
    uint64_t ids;

    lock_enter(&e->stream.rx);
    ids = atomic_load(&e->watch);
    if (!waiter_ids_have(ids, waiter)) {
        ids = with_watch(ids, waiter, &instead_of);
        if (ids != 0)
            set_watch(e, ids);
    }
    lock_leave(&e->stream.rx);
    if (instead_of != 0 && !waiter_is_idle(instead_of))
        waiter_ring(instead_of);
    return ids != 0;
}

bool endpoint_watch_here(struct endpoint *e, unsigned waiter)
{
    return waiter_ids_have(atomic_load(&e->watch), waiter) ||
           endpoint_watch(e, waiter);
}

void endpoint_unwatch(struct endpoint *e, unsigned waiter)
{
    lock_enter(&e->stream.rx);
    set_watch(e, waiter_ids_with(atomic_load(&e->watch), waiter, false));
    lock_leave(&e->stream.rx);
}

/* ---- the end ---- */

/* The application asks close() to wait for its last bytes; 0: it does not. */
static uint64_t lingers_until(struct endpoint *e, int fd)
{
    struct linger linger = {0};
    socklen_t len = sizeof(linger);

    stream_lock_all(&e->stream);
    if (e->stream.linger_changed)
        linger = e->stream.linger;
    else
        kernel_getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &len);
    stream_unlock_all(&e->stream);
    return linger.l_onoff && linger.l_linger > 0
               ? clock_ns() + (uint64_t)linger.l_linger * 1000000000u
               : 0;
}

/* The helper closes it when TCP has sent all, or when the time is up. */
static void wait_for_linger(struct endpoint *e, int fd_kept, uint64_t until)
{
    struct timespec t = {0, 1000000};

    while (clock_ns() < until && e->stream.fd == fd_kept && e->closing)
        nanosleep(&t, NULL);
}

/* The helper perhaps holds the file, and no other process for all we know. */
static bool helper_may_have(struct endpoint *e)
{
    return (atomic_load(&e->stream.guard) || !endpoint_is_alone(e)) &&
           atomic_load(&e->stream.bare) == 0 && !family_counts(&e->holders) &&
           !atomic_load(&e->ineligible);
}

/* The stream goes on by a descriptor of ours, or not at all: that or -errno. */
static int keep_private(struct endpoint *e, int fd)
{
    int kept = ours_copy(fd);

    if (kept < 0)
        stream_abort(&e->stream, REASON_LIMIT);
    else
        helper_adopt(e, kept);
    return kept;
}

/*
 * The last descriptor. On TCP the kernel does it. Otherwise the helper keeps
 * a private descriptor until the peer has answered, so that no record meets a
 * closed socket and nothing under way is lost.
 */
static int close_last(struct endpoint *e, int fd, int (*how)(void *arg),
                      void *arg)
{
    uint64_t until;
    bool others;
    int rc, kept;

    endpoint_leave_stale();
    /* Who leaves meanwhile is not the last; who enters sees one of the two. */
    atomic_fetch_add(&e->inside, 1);
    atomic_store(&e->left, true); /* nor does a set take it any more */
    others = atomic_load(&e->inside) > 1;
    epoll_sets_forget(e, helper_may_have(e));
    if (others || stream_in_handler(&e->stream)) {
        keep_private(e, fd);
        rc = how(arg);
        endpoint_leave(e); /* who waits has left meanwhile, or will close */
        return rc;         /* for others of the family it is held for ever */
    }
    atomic_fetch_sub(&e->inside, 1);
    if (endpoint_is_alone(e) && !atomic_load(&e->stream.guard) &&
        atomic_load(&e->stream.bare) == 0) {
        rc = how(arg);
        atomic_store(&e->stream.up_wanted, true);
        if (atomic_load(&e->stream.bare) == 0) { /* else it kicks */
            family_leave(&e->holders);
            endpoint_free(e);
        }
        return rc;
    }
    e->closing = true;
    stream_wish(&e->stream, WISH_CLOSE, REASON_CLOSED);
    if (stream_on_tcp(&e->stream)) {
        /* It will not go up again: the number may be given to another. */
        helper_detach(e);
        rc = how(arg);
        /* The last thread in a call of the kernel lets go. */
        atomic_store(&e->stream.up_wanted, true);
        if (atomic_load(&e->stream.bare) == 0) {
            family_leave(&e->holders);
            helper_ask(e, WORK_CLOSE | WORK_LET_GO);
        }
        return rc;
    }
    until = lingers_until(e, fd);
    e->linger_until_ns = until;
    kept = keep_private(e, fd);
    rc = how(arg);
    helper_ask(e, WORK_CLOSE | WORK_LET_GO);
    if (kept >= 0 && until != 0)
        wait_for_linger(e, kept, until);
    return rc;
}

/*
 * Nobody may find the number between two connections: it stands for the old
 * one until how() has put the new one there, and only then does the old one
 * say to its peer, and to who waits for it, that it ends.
 */
bool endpoint_replace(struct endpoint *e, int fd, int (*how)(void *arg),
                      void *arg, int *rc)
{
    int last = 1, error;

    if (e->state != ENDPOINT_CONNECTED || stream_on_tcp(&e->stream) ||
        (e->stream.linger_changed && e->stream.linger.l_onoff) ||
        !atomic_compare_exchange_strong(&e->fds, &last, 0))
        return false;
    endpoint_leave_stale();
    epoll_sets_forget(e, helper_may_have(e));
    atomic_fetch_add(&e->inside, 1);
    keep_private(e, fd);
    *rc = how(arg);
    error = errno;
    epoll_sets_forget(e, false); /* what another thread added meanwhile */
    atomic_store(&e->left, true);
    endpoint_leave(e);
    errno = error;
    return true;
}

/*
 * The number that the stream goes by is about to be closed, and may soon be
 * another file's: it goes by another of the application's from now on. A
 * registration under the old number can no longer be changed in the kernel's
 * set, so a stream that has one stays on TCP.
 */
void endpoint_leave_number(struct endpoint *e, int fd)
{
    unsigned rows = fd_rows_used();

    if (epoll_sets_have(e, fd))
        endpoint_banish(e, REASON_UNSUPPORTED_CALL);
    epoll_sets_leave_number(e, fd);
    if (e->stream.fd != fd)
        return;
    for (unsigned other = 0; other < rows; other++)
        if ((int)other != fd && fd_endpoint((int)other) == e &&
            !fd_is_claimed((int)other)) {
            helper_move(e, (int)other);
            return;
        }
    endpoint_banish(e, REASON_UNSUPPORTED_CALL);
}

/* A listening socket goes: peers must not look for us there any more. */
static void stop_listening(int fd)
{
    struct sockaddr_storage at;
    socklen_t len = sizeof(at);

    if (kernel_getsockname(fd, &at, &len) < 0)
        return;
    if (at.ss_family == AF_INET)
        helper_stop_listening(ntohs(((struct sockaddr_in *)&at)->sin_port));
    else if (at.ss_family == AF_INET6)
        helper_stop_listening(ntohs(((struct sockaddr_in6 *)&at)->sin6_port));
}

int endpoint_close(struct endpoint *e, int fd, int (*how)(void *arg), void *arg)
{
    if (backends_between_hosts && e->state == ENDPOINT_LISTENING &&
        atomic_load(&e->fds) == 1)
        stop_listening(fd);
    if (atomic_fetch_sub(&e->fds, 1) > 1) {
        endpoint_leave_number(e, fd);
        return how(arg);
    }
    return close_last(e, fd, how, arg);
}

void endpoint_settle(struct endpoint *e, enum reason why)
{
    atomic_store(&process.careful, true);
    if (!helper_bring_back(e, why))
        return;
    stream_lock_all(&e->stream);
    if (e->stream.wish == WISH_RETURN && !atomic_load(&e->held) &&
        !atomic_load(&e->ineligible))
        e->stream.wish = WISH_NONE;
    stream_unlock_all(&e->stream);
}

void endpoint_banish(struct endpoint *e, enum reason why)
{
    atomic_store(&process.careful, true);
    atomic_store(&e->ineligible, true);
    if (family_counts(&e->holders) && !atomic_exchange(&e->given, true))
        family_grows(&e->holders); /* who else may have it now is not known */
    if (e->proof != NULL)
        endpoint_forget_proof(e);
    if (atomic_load(&e->stream.guard) || e->meeting.backend != NULL) {
        stats_count(STATS_BANISHED);
        helper_bring_back(e, why);
    } else if (e->stream.h.stage == STAGE_RAW) {
        e->stream.why = why;
    }
    stats_update(e);
}
