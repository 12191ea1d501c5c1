/*
 * What a step came to, against what it came to on the kernel.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "tests/differential/actor.h"

static bool blocked(const struct outcome *o)
{
    return o->rc == -1 && o->err == EAGAIN;
}

/* Some of what is expected, and nothing else. */
static bool is_part(const struct outcome *o, const struct outcome *expected)
{
    bool less = false;

    for (int i = 0; i < VALUES; i++) {
        if (o->val[i] & ~expected->val[i])
            return false;
        less |= o->val[i] != expected->val[i];
    }
    return less;
}

static bool is_peek(const struct step *s)
{
    return s->op == OP_RECV && s->arg[1] >= BY_RECV && (s->arg[3] & MSG_PEEK);
}

/* The same, where an edge may have been told once more beside it. */
static bool is_part_beside_edges(const struct actor *a, const struct outcome *o)
{
    const struct slot *set = slot_at(a, a->step->arg[0]);
    const struct outcome *e = a->expected;
    bool less = false;

    if (set == NULL || !(a->loose || a->shared->moved) ||
        o->val[STRANGE] != e->val[STRANGE])
        return false;
    for (int i = 0; i < SLOTS; i++) {
        if ((o->val[i] & ~e->val[i]) && !(set->reg[i] & EPOLLET))
            return false;
        less |= (e->val[i] & ~o->val[i]) != 0;
    }
    return less;
}

/*
 * Nothing yet where something has come on the kernel: what the library does a
 * moment after a call has returned. Where a stream may move, also part of the
 * bytes: a read may end where the stream changes its carrier.
 */
bool outcome_is_early(const struct actor *a, const struct outcome *o)
{
    const struct outcome *e = a->expected;

    switch (a->step->op) {
    case OP_RECV:
        if (a->loose && o->rc > 0 && o->rc < e->rc)
            return true;
        if (a->loose && is_peek(a->step) && o->rc >= 0 && o->rc < e->rc)
            return true;
        return blocked(o) && !blocked(e);
    case OP_SEND:
        if (a->loose && o->rc > 0 && o->rc < e->rc)
            return true;
        return blocked(o) && !blocked(e);
    case OP_SENDFILE: /* behind what is repeated */
        return blocked(o) && !blocked(e);
    case OP_POLL:
        return o->rc >= 0 && e->rc >= 0 && is_part(o, e);
    case OP_EPOLL_WAIT:
        return o->rc >= 0 && e->rc >= 0 &&
               (is_part(o, e) || is_part_beside_edges(a, o));
    case OP_UNREAD:
        return o->rc == 0 && o->val[0] < e->val[0];
    case OP_SHUTDOWN: /* the other end's takes a moment */
        return o->rc == 0 && e->err == ENOTCONN;
    case OP_GETOPT:
        return a->step->arg[1] == OPT_ERROR && o->val[0] == 0 && e->val[0] != 0;
    default:
        return false;
    }
}

/*
 * docs/limits.md: an edge may be told once more after a stream has moved; and
 * a one-shot fires for what has come, while the rest is still on its way.
 */
static bool is_allowed(uint32_t registered, int64_t seen, int64_t expected,
                       bool loose)
{
    if (seen == expected)
        return true;
    if ((registered & EPOLLET) && !(expected & ~seen))
        return true;
    return loose && (registered & EPOLLONESHOT) && seen != 0 &&
           !(seen & ~expected);
}

static bool is_report_of_moved(const struct actor *a, const struct outcome *o)
{
    const struct slot *set = slot_at(a, a->step->arg[0]);
    const struct outcome *e = a->expected;

    if (a->step->op != OP_EPOLL_WAIT || set == NULL ||
        !(a->loose || a->shared->moved) || o->rc < 0 || e->rc < 0 ||
        o->val[STRANGE] != e->val[STRANGE])
        return false;
    for (int i = 0; i < SLOTS; i++)
        if (!is_allowed(set->reg[i], o->val[i], e->val[i], a->loose))
            return false;
    return true;
}

/* Whether what an end was told by an edge may differ so, once. */
typedef bool edge_excuse(struct conn *conn, int end, int64_t seen,
                         int64_t expected);

/*
 * docs/limits.md: Linux tells every edge once more when the peer acknowledges a
 * FIN. Mostly that is in the shutdown() itself; a delayed acknowledgement comes
 * with the peer's next bytes, or after 40 ms.
 */
static bool is_delayed_ack(struct conn *conn, int end, int64_t seen,
                           int64_t expected)
{
    (void)expected;
    if (seen != 0 || !conn->shut[end] || conn->acked[end])
        return false;
    conn->acked[end] = true;
    return true;
}

/*
 * docs/limits.md: an end that has shut down reading is told of it, and then of
 * the peer's FIN. On loopback that is there when the peer's shutdown() returns,
 * and both are one edge; over a link it takes a moment, which nothing but the
 * edge shows.
 */
static bool is_late_fin(struct conn *conn, int end, int64_t seen,
                        int64_t expected)
{
    (void)seen;
    if (expected != 0 || !conn->shut[!end] || !conn->deaf[end] ||
        conn->ended[end])
        return false;
    conn->ended[end] = true;
    return true;
}

/* All that differs in a list of events has this excuse. */
static bool is_excused(const struct actor *a, const struct outcome *o,
                       edge_excuse *excuse)
{
    const struct slot *set = slot_at(a, a->step->arg[0]);
    const struct outcome *e = a->expected;

    if (a->step->op != OP_EPOLL_WAIT || set == NULL || o->rc < 0 || e->rc < 0 ||
        o->val[STRANGE] != e->val[STRANGE])
        return false;
    for (int i = 0; i < SLOTS; i++) {
        struct conn *conn;
        int end;

        if (o->val[i] == e->val[i])
            continue;
        conn = slot_conn(a, i, &end);
        if (!(set->reg[i] & EPOLLET) || conn == NULL ||
            !excuse(conn, end, o->val[i], e->val[i]))
            return false;
    }
    return true;
}

bool outcome_same(const struct actor *a, struct outcome *o)
{
    const struct outcome *e = a->expected;
    bool bytes = a->step->op == OP_RECV || a->step->op == OP_SEND;

    if (o->done != e->done || o->wrong != e->wrong)
        return false;
    if (is_report_of_moved(a, o)) {
        if (memcmp(o->val, e->val, sizeof(o->val)) != 0)
            atomic_fetch_add(&a->shared->edges_again, 1);
        return true;
    }
    if (is_excused(a, o, is_delayed_ack) || is_excused(a, o, is_late_fin))
        return true;
    if (o->rc != e->rc || o->err != e->err || o->pipes != e->pipes ||
        (o->early && !e->early))
        return false;
    /* How a message was cut is not decided where the stream may move. */
    return (bytes && a->loose) || memcmp(o->val, e->val, sizeof(o->val)) == 0;
}

static size_t add_events(const struct outcome *o, char *out, size_t size)
{
    size_t n = 0;

    for (int i = 0; i < SLOTS && n < size; i++) {
        char bits[80];

        if (o->val[i] == 0)
            continue;
        events_text((uint32_t)o->val[i], bits, sizeof(bits));
        n += (size_t)snprintf(out + n, size - n, "  %d:%s", i, bits);
    }
    if (o->val[STRANGE] != 0 && n < size)
        n += (size_t)snprintf(out + n, size - n, "  strange:%lld",
                              (long long)o->val[STRANGE]);
    return n;
}

void outcome_text(const struct step *s, const struct outcome *o, char *out,
                  size_t size)
{
    const char *name = o->err != 0 ? strerrorname_np(o->err) : NULL;
    size_t n;

    if (!o->done) {
        snprintf(out, size, "not done");
        return;
    }
    n = (size_t)snprintf(out, size, "%lld%s%s", (long long)o->rc,
                         o->err ? " " : "", name != NULL ? name : "");
    if (s->op == OP_POLL || s->op == OP_EPOLL_WAIT) {
        n += add_events(o, out + n, size - n);
    } else {
        for (int i = 0; i < VALUES && n < size; i++)
            if (o->val[i] != 0)
                n += (size_t)snprintf(out + n, size - n, "  v%d=%lld", i,
                                      (long long)o->val[i]);
    }
    if (o->wrong >= 0 && n < size)
        n += (size_t)snprintf(out + n, size - n, "  WRONG BYTE at %lld",
                              (long long)o->wrong);
    if (o->pipes != 0 && n < size)
        n += (size_t)snprintf(out + n, size - n, "  SIGPIPE");
    if (o->early && n < size)
        snprintf(out + n, size - n, "  too early");
}
