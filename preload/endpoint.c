/*
 * See endpoint.h: life and membership here, waiting in endpoint_wait.c.
 */
#include "preload/endpoint.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "preload/backends.h"
#include "preload/epoll_set.h"
#include "preload/helper.h"
#include "preload/kernel.h"
#include "preload/process.h"
#include "preload/stats.h"
#include "preload/waiter.h"
#include "transport/kernel_calls.h"
#include "transport/pause.h"

enum { SLAB_ENDPOINTS = 64, FREE_LEAST = 256 };

/* First in, first out, so that a freed endpoint rests for a while. */
static struct {
    struct lock lock;
    struct endpoint *head, *tail;
    unsigned n;
} pool;

static bool pool_grow(void)
{
    size_t size = SLAB_ENDPOINTS * sizeof(struct endpoint);
    struct endpoint *slab = mmap(NULL, size, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (slab == MAP_FAILED)
        return false;
    for (int i = 0; i < SLAB_ENDPOINTS; i++) {
        slab[i].next = pool.head;
        pool.head = &slab[i];
        if (pool.tail == NULL)
            pool.tail = &slab[i];
    }
    pool.n += SLAB_ENDPOINTS;
    return true;
}

static struct endpoint *pool_take(void)
{
    struct endpoint *e = NULL;

    lock_take(&pool.lock);
    if ((pool.n > FREE_LEAST || pool_grow()) && pool.head != NULL) {
        e = pool.head;
        pool.head = e->next;
        if (pool.head == NULL)
            pool.tail = NULL;
        pool.n--;
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
    lock_take(&e->proof_lock);
    log = e->proof;
    if (log != NULL && log->have[way] == total - len)
        proof_note(log, way, iov, n, len);
    lock_give(&e->proof_lock);
}

void endpoint_forget_proof(struct endpoint *e)
{
    struct proof_log *log;

    lock_take(&e->proof_lock);
    log = e->proof;
    e->proof = NULL;
    lock_give(&e->proof_lock);
    free(log);
}

void endpoint_free(struct endpoint *e)
{
    stats_close_row(e);
    if (e->proof != NULL)
        endpoint_forget_proof(e);
    lock_take(&pool.lock);
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

void endpoint_grown_up(struct endpoint *e)
{
    atomic_store(&e->countdown, 0);
    if (atomic_load(&e->ineligible) || e->state != ENDPOINT_CONNECTED)
        return;
    if (e->not_before_ns != 0 && clock_ns() < e->not_before_ns) {
        atomic_store(&e->countdown,
                     1 + (int32_t)process.settings.upgrade_after);
        return;
    }
    helper_ask(e, WORK_MEET);
}

/* ---- what the stream tells us ---- */

static void on_wake(struct stream *s)
{
    struct endpoint *e = endpoint_of(s);

    stats_update(e);
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
    helper_ask(endpoint_of(s), WORK_PROGRESS);
}

const struct stream_calls endpoint_stream_calls = {
    .wake = on_wake,
    .managed = on_managed,
    .kick = on_kick,
};

/* ---- watchers ---- */

static bool has_watch(uint64_t ids, unsigned id)
{
    for (; ids != 0; ids >>= 16)
        if ((ids & 0xffff) == id)
            return true;
    return false;
}

/* The word with `id` in place of an empty or idle one; 0 if there is none. */
static uint64_t with_watch(uint64_t ids, unsigned id)
{
    for (int pass = 0; pass < 2; pass++)
        for (int shift = 0; shift < 64; shift += 16) {
            unsigned at = ids >> shift & 0xffff;

            if (at == 0 || (pass == 1 && waiter_is_idle(at)))
                return (ids & ~(UINT64_C(0xffff) << shift)) | (uint64_t)id
                                                                  << shift;
        }
    return 0;
}

static void set_watch(struct endpoint *e, uint64_t ids)
{
    atomic_store(&e->watch, ids);
    if (e->stream.link != NULL)
        e->stream.link->ops->watch(e->stream.link, ids);
}

/* Epoll sets hold the stream's locks already when they call these two. */
bool endpoint_watch(struct endpoint *e, unsigned waiter)
{
    bool locked;
    uint64_t ids;

    if (has_watch(atomic_load(&e->watch), waiter))
        return true;
    locked = lock_take(&e->stream.rx) == 0;
    ids = with_watch(atomic_load(&e->watch), waiter);
    if (ids != 0)
        set_watch(e, ids);
    if (locked)
        lock_give(&e->stream.rx);
    return ids != 0;
}

void endpoint_unwatch(struct endpoint *e, unsigned waiter)
{
    uint64_t ids = atomic_load(&e->watch);
    bool locked = lock_take(&e->stream.rx) == 0;

    for (int shift = 0; shift < 64; shift += 16)
        if ((ids >> shift & 0xffff) == waiter)
            ids &= ~(UINT64_C(0xffff) << shift);
    set_watch(e, ids);
    if (locked)
        lock_give(&e->stream.rx);
}

/* ---- the end ---- */

/* The application asked close() to wait for its last bytes (SO_LINGER). */
static void wait_for_linger(struct endpoint *e, int fd_kept, int seconds)
{
    uint64_t until = clock_ns() + (uint64_t)seconds * 1000000000u;
    struct timespec t = {0, 1000000};

    while (clock_ns() < until && e->stream.fd == fd_kept && e->closing)
        nanosleep(&t, NULL);
}

/*
 * The last descriptor. On TCP the kernel does it. Otherwise the helper keeps
 * a private descriptor until the peer has answered, so that no record meets a
 * closed socket and nothing under way is lost.
 */
static int close_last(struct endpoint *e, int fd)
{
    struct linger linger = {0};
    int rc, kept;

    epoll_sets_forget(e);
    if (!atomic_load(&e->queued) && !e->in_all &&
        !atomic_load(&e->stream.guard)) {
        rc = REAL(close)(fd);
        endpoint_free(e);
        return rc;
    }
    e->closing = true;
    stream_wish(&e->stream, WISH_CLOSE, REASON_CLOSED);
    if (stream_on_tcp(&e->stream)) {
        /* It will not go up again: the number may be given to another. */
        helper_detach(e);
        rc = REAL(close)(fd);
        helper_ask(e, WORK_CLOSE);
        return rc;
    }
    if (e->stream.linger_changed)
        linger = e->stream.linger;
    kept = ours_keep(kernel_fcntl(fd, F_DUPFD_CLOEXEC, 64));
    if (kept < 0)
        stream_abort(&e->stream, REASON_LIMIT);
    else
        helper_adopt(e, kept);
    rc = REAL(close)(fd);
    helper_ask(e, WORK_CLOSE);
    if (kept >= 0 && linger.l_onoff && linger.l_linger > 0)
        wait_for_linger(e, kept, linger.l_linger);
    return rc;
}

/*
 * The number that the stream goes by is about to be closed, and may soon be
 * another file's: it goes by another of the application's from now on. A
 * registration under the old number can no longer be changed in the kernel's
 * set, so a stream that has one stays on TCP.
 */
static void leave_number(struct endpoint *e, int fd)
{
    unsigned rows = fd_rows_used();

    if (epoll_sets_have(e, fd))
        endpoint_banish(e, REASON_UNSUPPORTED_CALL);
    if (e->stream.fd != fd)
        return;
    for (unsigned other = 0; other < rows; other++)
        if ((int)other != fd && fd_endpoint((int)other) == e) {
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

int endpoint_close(struct endpoint *e, int fd)
{
    if (backends_between_hosts && e->state == ENDPOINT_LISTENING &&
        atomic_load(&e->fds) == 1)
        stop_listening(fd);
    if (atomic_fetch_sub(&e->fds, 1) > 1) {
        leave_number(e, fd);
        return REAL(close)(fd);
    }
    return close_last(e, fd);
}

void endpoint_banish(struct endpoint *e, enum reason why)
{
    atomic_store(&e->ineligible, true);
    if (e->proof != NULL)
        endpoint_forget_proof(e);
    if (atomic_load(&e->stream.guard) || e->meeting.backend != NULL)
        helper_bring_back(e, why);
    else if (e->stream.h.stage == STAGE_RAW)
        e->stream.why = why;
    stats_update(e);
}
