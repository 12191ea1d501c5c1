/*
 * The generator's waiting: poll, epoll in all its manners, and threads that
 * wait while others go on.
 */
#include "tests/differential/generate.h"

#include <sys/epoll.h>
#include <sys/socket.h>

/* What it says of itself is the same after a stream has moved. */
static bool is_level(const struct gen_set *set)
{
    for (int i = 0; i < SLOTS; i++)
        if (set->reg[i] & EPOLLET)
            return false;
    return set->made;
}

static int some_slots(struct gen *g, int process)
{
    int mask = 0;

    for (int i = 0; i < N_SETS; i++)
        if (is_level(&g->set[process][i]) && gen_chance(g, 20))
            mask |= 1 << (SETS + i);

    for (int i = 0; i < g->conns; i++) {
        if (g->conn[i].end[process].open && gen_chance(g, 70))
            mask |= 1 << i;
        if (g->conn[i].end[process].again && gen_chance(g, 30))
            mask |= 1 << (AGAIN + i);
    }
    if (g->event[process] && gen_chance(g, 50))
        mask |= 1 << EVENT;
    return mask;
}

void gen_poll(struct gen *g)
{
    static const int events[] = {EPOLLIN,
                                 EPOLLIN | EPOLLOUT,
                                 EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI,
                                 EPOLLIN | EPOLLRDHUP,
                                 EPOLLOUT,
                                 EPOLLIN | EPOLLRDNORM | EPOLLWRNORM};
    int process = (int)gen_below(g, 2), mask = some_slots(g, process);

    if (mask == 0)
        return;
    gen_emit(g, (unsigned)process, OP_POLL, (int)gen_below(g, 4),
             gen_chance(g, 85) ? 0 : 4,
             events[gen_below(g, sizeof(events) / sizeof(events[0]))], mask, 0);
}

static int a_set(struct gen *g, int process)
{
    int i = (int)gen_below(g, N_SETS);

    if (g->set[process][i].made)
        return i;
    gen_emit(g, (unsigned)process, OP_EPOLL_NEW, SETS + i, 0, 0, 0, 0);
    g->set[process][i] = (struct gen_set){.made = true};
    return i;
}

static uint32_t some_events(struct gen *g)
{
    uint32_t events = gen_chance(g, 85) ? EPOLLIN : 0;

    if (gen_chance(g, 40))
        events |= EPOLLOUT;
    if (gen_chance(g, 40))
        events |= EPOLLRDHUP;
    if (gen_chance(g, 5))
        events |= EPOLLPRI;
    switch (gen_below(g, 4)) {
    case 0:
        return events | EPOLLET;
    case 1:
        return events | EPOLLONESHOT;
    case 2:
        return gen_chance(g, 20) ? events | EPOLLET | EPOLLONESHOT : events;
    default:
        return events;
    }
}

/* A member of a process's own: a connection's slot, or its eventfd. */
static int a_member(struct gen *g, int process)
{
    int end, conn;

    if (g->event[process] && gen_chance(g, 15))
        return EVENT;
    conn = gen_pick(g, &end);
    if (conn == NOBODY || !g->conn[conn].end[process].open)
        return -1;
    return g->conn[conn].end[process].again && gen_chance(g, 25) ? AGAIN + conn
                                                                 : conn;
}

void gen_epoll_ctl(struct gen *g)
{
    int process = (int)gen_below(g, 2), i, slot;
    struct gen_set *set;
    uint32_t events = some_events(g);
    unsigned op;

    slot = a_member(g, process);
    if (slot < 0)
        return;
    i = a_set(g, process);
    set = &g->set[process][i];
    if (set->nested)
        events &= ~(uint32_t)EPOLLET;
    op = set->reg[slot] == 0 ? OP_EPOLL_ADD
         : gen_chance(g, 70) ? OP_EPOLL_MOD
                             : OP_EPOLL_DEL;
    if (gen_chance(g, 5)) /* EEXIST, ENOENT */
        op = OP_EPOLL_ADD + (unsigned)gen_below(g, 3);
    gen_emit(g, (unsigned)process, op, SETS + i, slot, (int)events, 0, 0);
    if (op == OP_EPOLL_DEL)
        set->reg[slot] = 0;
    else if (op == OP_EPOLL_ADD || set->reg[slot] != 0)
        set->reg[slot] = events;
}

/* The last set as a member of the first one, or no longer. */
void gen_nest(struct gen *g)
{
    int process = (int)gen_below(g, 2);
    struct gen_set *outer = &g->set[process][0];
    struct gen_set *inner = &g->set[process][INNER - SETS];
    uint32_t events = EPOLLIN | (gen_chance(g, 25) ? EPOLLONESHOT : 0);
    unsigned op = OP_EPOLL_DEL;

    if (!outer->made || !is_level(inner))
        return;
    if (outer->reg[INNER] == 0)
        op = OP_EPOLL_ADD;
    else if (gen_chance(g, 70))
        op = OP_EPOLL_MOD;
    gen_emit(g, (unsigned)process, op, SETS, INNER, (int)events, 0, 0);
    outer->reg[INNER] = op == OP_EPOLL_DEL ? 0 : events;
    inner->nested = true;
}

void gen_epoll_wait(struct gen *g)
{
    int process = (int)gen_below(g, 2);
    int i = (int)gen_below(g, N_SETS);

    if (!g->set[process][i].made)
        return;
    gen_emit(g, (unsigned)process, OP_EPOLL_WAIT, SETS + i,
             gen_chance(g, 85) ? 0 : 4, (int)gen_below(g, 3), 0, 0);
    if (gen_chance(g, 25))
        gen_emit(g, (unsigned)process, OP_EPOLL_WAIT, SETS + i, 0,
                 (int)gen_below(g, 3), 0, 0);
}

/* A member with edges: bytes, one report, no second one, a part, bytes. */
void gen_edge(struct gen *g)
{
    int end, conn = gen_pick(g, &end), i, set;
    struct gen_conn *c = &g->conn[conn];
    uint32_t how = gen_chance(g, 70) ? EPOLLET : EPOLLONESHOT;
    int rounds = 1 + (int)gen_below(g, 3);

    if (conn == NOBODY || c->dead || c->full[0] || c->full[1] ||
        c->end[end].read_in_background)
        return;
    i = a_set(g, end);
    set = SETS + i;
    if (g->set[end][i].nested)
        return;
    if (g->set[end][i].reg[conn] == 0)
        gen_emit(g, (unsigned)end, OP_EPOLL_ADD, set, conn,
                 (int)(EPOLLIN | EPOLLRDHUP | how), 0, 0);
    else
        gen_emit(g, (unsigned)end, OP_EPOLL_MOD, set, conn,
                 (int)(EPOLLIN | EPOLLOUT | how), 0, 0);
    g->set[end][i].reg[conn] = EPOLLIN | how;
    for (int k = 0; k < rounds; k++) {
        gen_send_some(g, conn, !end, 1 + (int)gen_below(g, 200));
        gen_emit(g, (unsigned)end, OP_EPOLL_WAIT, set, 0, (int)gen_below(g, 3),
                 0, 0);
        gen_emit(g, (unsigned)end, OP_EPOLL_WAIT, set, 0, (int)gen_below(g, 3),
                 0, 0);
        if (gen_chance(g, 50)) {
            int len = 1 + (int)gen_below(g, 100);

            gen_emit(g, (unsigned)end, OP_RECV, conn, BY_RECV, len,
                     MSG_DONTWAIT, 0);
            c->end[end].unread -=
                len < c->end[end].unread ? len : c->end[end].unread;
            gen_emit(g, (unsigned)end, OP_EPOLL_WAIT, set, 0, BY_WAIT, 0, 0);
        }
    }
}

/* What the kernel refuses with EPOLLEXCLUSIVE, and what it does not. */
void gen_exclusive(struct gen *g)
{
    int end, conn = gen_pick(g, &end), i;
    uint32_t events = EPOLLIN | EPOLLEXCLUSIVE;

    if (conn == NOBODY)
        return;
    i = a_set(g, end);
    if (g->set[end][i].reg[conn] != 0 || g->set[end][i].nested)
        return;
    if (gen_chance(g, 30))
        events |= EPOLLRDHUP;
    else if (gen_chance(g, 30))
        events |= EPOLLONESHOT;
    else if (gen_chance(g, 30))
        events |= EPOLLET;
    gen_emit(g, (unsigned)end, OP_EPOLL_ADD, SETS + i, conn, (int)events, 0, 0);
    gen_emit(g, (unsigned)end, OP_EPOLL_WAIT, SETS + i, 0, BY_WAIT, 0, 0);
    gen_emit(g, (unsigned)end, OP_EPOLL_MOD, SETS + i, conn,
             (int)(gen_chance(g, 50) ? EPOLLIN : EPOLLIN | EPOLLEXCLUSIVE), 0,
             0);
    gen_emit(g, (unsigned)end, OP_EPOLL_DEL, SETS + i, conn, 0, 0, 0);
}

void gen_event(struct gen *g)
{
    int process = (int)gen_below(g, 2);

    if (!g->event[process]) {
        gen_emit(g, (unsigned)process, OP_EVENT_NEW, EVENT, 0, 0, 0, 0);
        g->event[process] = true;
        return;
    }
    g->rung[process] = gen_chance(g, 60);
    gen_emit(g, (unsigned)process,
             g->rung[process] ? OP_EVENT_RING : OP_EVENT_TAKE, EVENT, 0, 0, 0,
             0);
}

/* ---- threads ---- */

static bool idle_end(const struct gen_conn *c, int end)
{
    const struct gen_end *e = &c->end[end];

    return !c->dead && !e->shut_rd && !e->lowat && e->open &&
           !e->read_in_background && !c->end[!end].shut_wr && !c->full[0] &&
           !c->full[1] && (c->end[!end].open || c->end[!end].again);
}

/* What such a thread waits for in the end. */
static void feed(struct gen *g, int conn, int end, int len)
{
    struct gen_conn *c = &g->conn[conn];

    /* Two ends in a row wake the kernel's own epoll twice, or once. */
    if (gen_chance(g, 75) || !c->end[!end].open || c->end[end].shut_wr) {
        c->end[end].pieces = 0;
        gen_send_some(g, conn, !end, len);
    } else {
        gen_emit(g, (unsigned)!end, OP_SHUTDOWN, conn, SHUT_WR, 0, 0, 0);
        c->end[!end].shut_wr = true;
        c->may_rise = false;
    }
}

static void others_go_on(struct gen *g)
{
    unsigned n = (unsigned)gen_below(g, 4);

    for (unsigned i = 0; i < n; i++)
        switch (gen_below(g, 4)) {
        case 0:
            gen_send(g);
            break;
        case 1:
            gen_poll(g);
            break;
        case 2:
            gen_ask(g);
            break;
        default:
            gen_recv(g);
        }
}

/* It waits until something comes. */
static void make_patient(struct gen *g, int conn, int end)
{
    struct gen_end *e = &g->conn[conn].end[end];

    if (e->nonblock)
        gen_emit(g, (unsigned)end, OP_NONBLOCK, conn, 0, BY_FCNTL, 0, 0);
    if (e->timed)
        gen_emit(g, (unsigned)end, OP_SETOPT, conn, OPT_RCVTIMEO, 0, 0, 0);
    e->nonblock = e->timed = false;
}

static void read_in_background(struct gen *g, int conn, int end, int k)
{
    struct gen_conn *c = &g->conn[conn];
    unsigned thread = CLIENT_1 + (unsigned)(end * WORKERS + k);
    bool all = gen_chance(g, 25);
    int len = 1 + (int)gen_below(g, 300);

    make_patient(g, conn, end);
    gen_recv_all(g, conn, end);
    gen_emit(g, thread, OP_RECV, conn,
             all ? BY_RECV + (int)gen_below(g, 3) : (int)gen_below(g, 5), len,
             all ? MSG_WAITALL : 0, 0);
    g->busy[end][k] = c->end[end].read_in_background = true;
    others_go_on(g);
    feed(g, conn, end, len);
    gen_emit(g, (unsigned)end, OP_JOIN, k + 1, 0, 0, 0, 0);
    g->busy[end][k] = c->end[end].read_in_background = false;
    c->end[end].unread =
        c->end[end].unread > len ? c->end[end].unread - len : 0;
}

/* Two new sets, the connection in the inner one; waits for the outer one. */
static void wait_for_nested(struct gen *g, int conn, int end, unsigned thread)
{
    struct gen_set *set = g->set[end];

    for (int i = 0; i < N_SETS; i++) {
        gen_emit(g, (unsigned)end, OP_EPOLL_NEW, SETS + i, 0, 0, 0, 0);
        set[i] = (struct gen_set){.made = true, .nested = i > 0};
    }
    gen_emit(g, (unsigned)end, OP_EPOLL_ADD, INNER, conn, EPOLLIN, 0, 0);
    gen_emit(g, (unsigned)end, OP_EPOLL_ADD, SETS, INNER, EPOLLIN, 0, 0);
    set[INNER - SETS].reg[conn] = set[0].reg[INNER] = EPOLLIN;
    if (gen_chance(g, 50))
        gen_emit(g, thread, OP_EPOLL_WAIT, SETS, -1, (int)gen_below(g, 3), 0,
                 0);
    else
        gen_emit(g, thread, OP_POLL, (int)gen_below(g, 4), -1, EPOLLIN,
                 1 << (SETS + (int)gen_below(g, 2)), 0);
}

static void wait_in_background(struct gen *g, int conn, int end, int k)
{
    struct gen_conn *c = &g->conn[conn];
    unsigned thread = CLIENT_1 + (unsigned)(end * WORKERS + k);
    bool poll = gen_chance(g, 40);
    uint32_t events;
    int i = 0;

    gen_recv_all(g, conn, end);
    if (!poll && !g->set[end][0].made && !g->set[end][1].made &&
        gen_chance(g, 50)) {
        wait_for_nested(g, conn, end, thread);
    } else if (poll) {
        gen_emit(g, thread, OP_POLL, (int)gen_below(g, 4), -1,
                 (int)(EPOLLIN | EPOLLRDHUP), 1 << conn, 0);
    } else {
        i = g->set[end][0].made ? 1 : 0;
        if (g->set[end][i].made)
            return;
        a_set(g, end);
        if (!g->set[end][i].made)
            return;
        events = EPOLLIN | (gen_chance(g, 50) ? EPOLLET : 0) |
                 (gen_chance(g, 30) ? EPOLLONESHOT : 0);
        gen_emit(g, (unsigned)end, OP_EPOLL_ADD, SETS + i, conn, (int)events, 0,
                 0);
        g->set[end][i].reg[conn] = events;
        gen_emit(g, thread, OP_EPOLL_WAIT, SETS + i, -1, (int)gen_below(g, 3),
                 0, 0);
    }
    g->busy[end][k] = true;
    if (gen_chance(g, 50))
        gen_ask(g);
    feed(g, conn, end, 1 + (int)gen_below(g, 300));
    gen_emit(g, (unsigned)end, OP_JOIN, k + 1, 0, 0, 0, 0);
    g->busy[end][k] = false;
    (void)c;
}

void gen_background(struct gen *g)
{
    int end, conn = gen_pick(g, &end), k = (int)gen_below(g, WORKERS);

    if (conn == NOBODY || !idle_end(&g->conn[conn], end) || g->busy[end][k])
        return;
    if (gen_chance(g, 60))
        read_in_background(g, conn, end, k);
    else
        wait_in_background(g, conn, end, k);
}

/* A signal comes while a thread waits; then what it waits for. */
void gen_interrupted(struct gen *g)
{
    int end, conn = gen_pick(g, &end), len = 1 + (int)gen_below(g, 100);
    struct gen_conn *c = &g->conn[conn];
    unsigned thread;

    if (conn == NOBODY || !idle_end(c, end) || g->busy[end][0])
        return;
    thread = CLIENT_1 + (unsigned)end * WORKERS;
    make_patient(g, conn, end);
    gen_emit(g, (unsigned)end, OP_HANDLER, gen_chance(g, 50), 0, 0, 0, 0);
    gen_recv_all(g, conn, end);
    if (gen_chance(g, 70))
        gen_emit(g, thread, OP_RECV, conn, (int)gen_below(g, 5), len, 0, 0);
    else
        gen_emit(g, thread, OP_POLL, (int)gen_below(g, 4), -1, EPOLLIN,
                 1 << conn, 0);
    gen_emit(g, (unsigned)end, OP_SIGNAL, 1, 0, 0, 0, 0);
    c->end[end].pieces = 0;
    gen_send_some(g, conn, !end, len);
    gen_emit(g, (unsigned)end, OP_JOIN, 1, 0, 0, 0, 0);
    gen_recv_all(g, conn, end);
}
