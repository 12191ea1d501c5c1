/*
 * The generator's bytes: connections, sends, reads, options.
 */
#include "tests/differential/generate.h"

#include <sys/epoll.h>
#include <sys/socket.h>

enum { UNREAD_MOST = 12000, PIECES_MOST = 20 };

void gen_connect(struct gen *g)
{
    int conn = g->conns, listener_flags = 0;
    struct gen_conn *c;
    bool accept4, now = !g->p->loose || gen_chance(g, 30);

    if (conn == CONNS || (conn > 0 && g->busy[0][0] + g->busy[1][0] > 0))
        return;
    c = &g->conn[g->conns++];
    *c = (struct gen_conn){.made = true, .may_rise = true};
    accept4 = gen_chance(g, 60);
    if (accept4)
        listener_flags = (gen_chance(g, 40) ? SOCK_NONBLOCK : 0) |
                         (gen_chance(g, 40) ? SOCK_CLOEXEC : 0);
    c->end[0].nonblock = gen_chance(g, 30);
    c->end[1].nonblock = listener_flags & SOCK_NONBLOCK;
    c->end[1].cloexec = listener_flags & SOCK_CLOEXEC;
    c->end[0].open = c->end[1].open = true;
    gen_emit(g, CLIENT, OP_CONNECT, conn, conn,
             c->end[0].nonblock ? SOCK_NONBLOCK : 0, 0, 0);
    gen_emit(g, SERVER, OP_ACCEPT, conn, LISTENER, conn,
             accept4 ? BY_ACCEPT4 : BY_ACCEPT, listener_flags);
    if (listener_flags || gen_chance(g, 20))
        gen_emit(g, SERVER, OP_FLAGS, conn, 0, 0, 0, 0);
    if (now) {
        gen_emit(g, CLIENT, OP_UP, conn, 0, 0, 0, 0);
        gen_emit(g, SERVER, OP_UP, conn, 0, 0, 0, 0);
    }
}

static int some_length(struct gen *g)
{
    switch (gen_below(g, 8)) {
    case 0:
        return 1 + (int)gen_below(g, 4000);
    case 1:
        return 1;
    default:
        return (int)gen_below(g, 300);
    }
}

/* One message, so that a thread that waits for it gets all of it. */
void gen_send_some(struct gen *g, int conn, int end, int len)
{
    struct gen_conn *c = &g->conn[conn];
    int slot = c->end[end].open ? conn : AGAIN + conn;

    if (c->end[end].shut_wr || c->full[end] || c->end[!end].pieces > 20 ||
        c->end[!end].shut_rd || (!c->end[end].open && !c->end[end].again))
        return;
    if (gen_emit(g, (unsigned)end, OP_SEND, slot, (int)gen_below(g, 5), len,
                 MSG_NOSIGNAL, 0)) {
        c->end[!end].unread += len;
        c->end[!end].pieces++;
    }
}

void gen_send(struct gen *g)
{
    int end, conn = gen_pick(g, &end), len, flags = 0, slot, by;
    struct gen_conn *c = &g->conn[conn];
    struct gen_end *to;

    if (conn == NOBODY || c->full[end] || (g->p->loose && c->dead))
        return;
    to = &c->end[!end];
    if (to->shut_rd)
        return; /* docs/limits.md: bytes behind a shutdown for reading */
    len = some_length(g);
    if (to->unread + len > UNREAD_MOST || to->pieces > PIECES_MOST)
        return;
    by = (int)gen_below(g, SEND_CALLS);
    if (by == BY_SENDMMSG && to->read_in_background)
        by = BY_SENDMSG; /* a reader may wake up between the two */
    if (gen_chance(g, 50))
        flags |= MSG_NOSIGNAL;
    if (gen_chance(g, 40))
        flags |= MSG_DONTWAIT;
    slot = c->end[end].again && gen_chance(g, 40) ? AGAIN + conn : conn;
    gen_emit(g, (unsigned)end, OP_SEND, slot, by, len, flags, 0);
    if (c->end[end].shut_wr)
        return;
    to->unread += len;
    to->pieces++;
}

static int read_flags(struct gen *g, const struct gen_conn *c, int end, int *by,
                      int *len)
{
    const struct gen_end *e = &c->end[end];
    bool wait = !e->nonblock && !e->shut_rd && !c->end[!end].shut_wr;
    int flags = 0;

    if (!gen_readable(c, end) || gen_chance(g, 40))
        flags |= MSG_DONTWAIT;
    /* docs/limits.md: the first look ahead, while a stream moves */
    if (gen_chance(g, 30) && !g->p->loose)
        flags |= MSG_PEEK;
    if (gen_chance(g, 25))
        flags |= MSG_WAITALL;
    if (gen_chance(g, 8))
        flags |= MSG_TRUNC;
    if (*by == BY_RECVMMSG)
        flags &= ~(MSG_PEEK | MSG_TRUNC | MSG_WAITALL);
    /* What waits for more than there is would wait for ever. */
    if (((flags & MSG_WAITALL) || *by == BY_RECVMMSG) &&
        *len > e->unread - (e->lowat ? 100 : 0) && wait) {
        flags |= MSG_DONTWAIT;
        if (*by < BY_RECV)
            *by = BY_RECV;
    }
    if (*len == 0 && wait)
        flags |= MSG_DONTWAIT;
    if (*by < BY_RECV && !gen_readable(c, end))
        *by = BY_RECV;
    return flags;
}

void gen_recv(struct gen *g)
{
    int end, conn = gen_pick(g, &end), by, len, flags, slot;
    struct gen_conn *c = &g->conn[conn];
    struct gen_end *e;

    if (conn == NOBODY)
        return;
    e = &c->end[end];
    if (e->read_in_background || c->full[!end])
        return;
    by = (int)gen_below(g, RECV_CALLS);
    len = gen_chance(g, 20) ? 5000 : some_length(g);
    if (by == BY_RECVMMSG && len < 2)
        len = 2; /* an empty message would look like the end */
    flags = read_flags(g, c, end, &by, &len);
    slot = e->again && gen_chance(g, 40) ? AGAIN + conn : conn;
    gen_emit(g, (unsigned)end, OP_RECV, slot, by, len, by < BY_RECV ? 0 : flags,
             0);
    if (by >= BY_RECV && (flags & MSG_PEEK))
        return;
    if (len >= e->unread)
        e->pieces = 0;
    e->unread -= len < e->unread ? len : e->unread;
}

void gen_recv_all(struct gen *g, int conn, int end)
{
    struct gen_end *e = &g->conn[conn].end[end];

    gen_emit(g, (unsigned)end, OP_RECV, conn, (int)gen_below(g, 3) + BY_RECV,
             30000, MSG_DONTWAIT, 0);
    gen_emit(g, (unsigned)end, OP_RECV, conn, BY_RECV, 100, MSG_DONTWAIT, 0);
    e->unread = e->pieces = 0;
}

/*
 * Until it is full, and until it is empty again: then there is room, and an
 * edge says so. When exactly the kernel's buffers are full is not decided.
 */
void gen_full(struct gen *g)
{
    int end, conn = gen_pick(g, &end), set = SETS + N_SETS - 1;
    struct gen_conn *c = &g->conn[conn];
    struct gen_set *its;

    if (conn == NOBODY || c->dead || c->end[0].shut_wr || c->end[1].shut_wr ||
        c->end[!end].read_in_background || !c->end[!end].open ||
        c->end[0].lowat || c->end[1].lowat)
        return;
    its = &g->set[end][N_SETS - 1];
    if (its->nested)
        return;
    if (!its->made) {
        gen_emit(g, (unsigned)end, OP_EPOLL_NEW, set, 0, 0, 0, 0);
        its->made = true;
    }
    gen_emit(g, (unsigned)end, its->reg[conn] ? OP_EPOLL_MOD : OP_EPOLL_ADD,
             set, conn, (int)(EPOLLOUT | EPOLLET), 0, 0);
    its->reg[conn] = EPOLLOUT | EPOLLET;
    gen_emit(g, (unsigned)end, OP_EPOLL_WAIT, set, 0, BY_WAIT, 0, 0);
    gen_emit(g, (unsigned)end, OP_FILL, conn, 0, 0, 0, 0);
    gen_emit(g, (unsigned)!end, OP_POLL, BY_POLL, 0, EPOLLIN, 1 << conn, 0);
    gen_emit(g, (unsigned)!end, OP_DRAIN, conn, 0, 0, 0, 0);
    c->end[!end].unread = c->end[!end].pieces = 0;
    gen_emit(g, (unsigned)end, OP_POLL, (int)gen_below(g, 4), 500, EPOLLOUT,
             1 << conn, 0);
    gen_emit(g, (unsigned)end, OP_EPOLL_WAIT, set, 500, (int)gen_below(g, 3), 0,
             0);
}

void gen_sendfile(struct gen *g)
{
    int end, conn = gen_pick(g, &end), len = 1 + (int)gen_below(g, 3000);
    struct gen_conn *c = &g->conn[conn];

    if (conn == NOBODY || c->dead || c->end[end].shut_wr || c->full[end] ||
        c->end[!end].read_in_background ||
        c->end[!end].unread + len > UNREAD_MOST || c->end[!end].pieces > 15)
        return;
    gen_emit(g, (unsigned)end, OP_SENDFILE, conn, len, 0, 0, 0);
    c->end[!end].unread += len;
    c->end[!end].pieces += 2;
    c->may_rise = false;
}

void gen_ask(struct gen *g)
{
    int end, conn = gen_pick(g, &end);
    static const uint8_t asked[] = {OPT_LINGER,     OPT_ERROR,    OPT_TYPE,
                                    OPT_ACCEPTCONN, OPT_RCVTIMEO, OPT_RCVLOWAT};

    if (conn == NOBODY || g->conn[conn].full[!end])
        return;
    switch (gen_below(g, 4)) {
    case 0:
        if (!g->conn[conn].end[end].read_in_background && !g->p->loose)
            gen_emit(g, (unsigned)end, OP_UNREAD, conn, 0, 0, 0, 0);
        break;
    case 1: /* docs/limits.md: after a shutdown at each end */
        if (!g->conn[conn].end[0].shut_wr || !g->conn[conn].end[1].shut_wr)
            gen_emit(g, (unsigned)end, OP_NAMES, conn, 0, 0, 0, 0);
        break;
    case 2:
        gen_emit(g, (unsigned)end, OP_FLAGS, conn, 0, 0, 0, 0);
        break;
    default:
        gen_emit(g, (unsigned)end, OP_GETOPT, conn,
                 asked[gen_below(g, sizeof(asked))], 0, 0, 0);
    }
}

void gen_option(struct gen *g)
{
    int end, conn = gen_pick(g, &end);
    struct gen_end *e = &g->conn[conn].end[end];

    if (conn == NOBODY || e->read_in_background)
        return;
    switch (gen_below(g, 5)) {
    case 0:
    case 1:
        e->nonblock = gen_chance(g, 50);
        gen_emit(g, (unsigned)end, OP_NONBLOCK, conn, e->nonblock,
                 (int)gen_below(g, 2), 0, 0);
        break;
    case 2: /* off, at once, or for a second */
        gen_emit(g, (unsigned)end, OP_SETOPT, conn, OPT_LINGER,
                 (int)gen_below(g, 3) - 1, 0, 0);
        break;
    case 3:
        e->timed = gen_chance(g, 60);
        gen_emit(g, (unsigned)end, OP_SETOPT, conn, OPT_RCVTIMEO,
                 e->timed ? 12 : 0, 0, 0);
        break;
    default:
        if (!gen_chance(g, 20))
            break;
        e->lowat = gen_chance(g, 60);
        gen_emit(g, (unsigned)end, OP_SETOPT, conn, OPT_RCVLOWAT,
                 e->lowat ? 100 : 1, 0, 0);
        g->conn[conn].may_rise &= !e->lowat;
    }
}

/* A blocking read with a limit, and nothing to read. */
void gen_timeout(struct gen *g)
{
    int end, conn = gen_pick(g, &end);
    struct gen_conn *c = &g->conn[conn];
    struct gen_end *e;

    if (conn == NOBODY)
        return;
    e = &c->end[end];
    if (c->dead || e->shut_rd || e->lowat || e->read_in_background ||
        c->end[!end].shut_wr || c->full[!end])
        return;
    if (e->nonblock)
        gen_emit(g, (unsigned)end, OP_NONBLOCK, conn, 0, BY_FCNTL, 0, 0);
    e->nonblock = false;
    if (!e->timed)
        gen_emit(g, (unsigned)end, OP_SETOPT, conn, OPT_RCVTIMEO, 12, 0, 0);
    e->timed = true;
    gen_emit(g, (unsigned)end, OP_RECV, conn, (int)gen_below(g, 5),
             e->unread + 50, 0, 0);
    e->unread = e->pieces = 0;
    gen_emit(g, (unsigned)end, OP_RECV, conn, (int)gen_below(g, 5), 20, 0, 0);
}
