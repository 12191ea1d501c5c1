/*
 * Programs out of a seed: what the ends of sockets and processes come from
 * here, bytes from generate_bytes.c, waiting from generate_wait.c.
 *
 * What docs/limits.md names as different is left out: bad pointers, SIOCOUTQ,
 * who of several exclusive waiters wakes up, killed peers of a stream on a
 * link.
 */
#include "tests/differential/generate.h"

#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "tests/e2e/support/plain.h"

uint64_t gen_below(struct gen *g, uint64_t n)
{
    return random_below(&g->chance, n);
}

bool gen_chance(struct gen *g, unsigned of_hundred)
{
    return gen_below(g, 100) < of_hundred;
}

bool gen_emit(struct gen *g, unsigned actor, unsigned op, int a0, int a1,
              int a2, int a3, int a4)
{
    struct step *s = &g->p->step[g->p->n];

    if (g->p->n == STEPS_MOST)
        return false;
    *s = (struct step){.actor = (uint8_t)actor,
                       .op = (uint8_t)op,
                       .arg = {a0, a1, a2, a3, a4}};
    g->p->n++;
    /* docs/limits.md: an end behind bytes that a handover waits for */
    if (g->p->loose &&
        (op == OP_POLL || op == OP_EPOLL_ADD || op == OP_EPOLL_MOD))
        s->arg[2] &= ~(int)EPOLLRDHUP;
    return true;
}

int gen_pick(struct gen *g, int *end)
{
    for (int tries = 0; tries < 8 && g->conns > 0; tries++) {
        int conn = (int)gen_below(g, (uint64_t)g->conns);

        *end = (int)gen_below(g, 2);
        if (g->conn[conn].end[*end].open)
            return conn;
    }
    return NOBODY;
}

bool gen_readable(const struct gen_conn *c, int end)
{
    const struct gen_end *e = &c->end[end];

    return e->unread >= (e->lowat ? 100 : 1) || e->nonblock || e->timed ||
           e->shut_rd || c->end[!end].shut_wr;
}

void gen_shutdown(struct gen *g)
{
    int end, conn = gen_pick(g, &end), how;
    struct gen_conn *c = &g->conn[conn];

    if (conn == NOBODY || c->full[end] ||
        (g->p->loose && c->end[0].shut_wr && c->end[1].shut_wr))
        return;
    how = gen_chance(g, 65) ? SHUT_WR : (int)gen_below(g, 3);
    /* docs/limits.md: unread bytes behind SHUT_RDWR */
    if ((how != SHUT_WR || c->end[end].shut_rd) && c->end[end].unread > 0)
        return;
    gen_emit(g, (unsigned)end, OP_SHUTDOWN, conn, how, 0, 0, 0);
    c->may_rise = false;
    if (how != SHUT_RD)
        c->end[end].shut_wr = true;
    if (how != SHUT_WR)
        c->end[end].shut_rd = true;
    if (how != SHUT_WR)
        c->dead = true; /* what comes then is discarded, or answered by RST */
}

static void closed(struct gen_conn *c, int end)
{
    struct gen_end *e = &c->end[end];

    if (e->open || e->again || e->kid || e->kid_again)
        return;
    c->end[end].shut_wr = true;
    c->may_rise = false;
    c->dead = true;
}

void gen_close(struct gen *g)
{
    int end, conn = gen_pick(g, &end);
    struct gen_conn *c = &g->conn[conn];
    struct gen_end *e = &c->end[end];
    bool again;

    if (conn == NOBODY || e->read_in_background)
        return;
    if (g->p->loose && e->again)
        return; /* it would have to return first */
    again = e->again && gen_chance(g, 50);
    if (e->again || e->kid)
        c->may_rise = false; /* its registrations may outlive its number */
    gen_emit(g, (unsigned)end, OP_CLOSE, again ? AGAIN + conn : conn, 0, 0, 0,
             0);
    /* It stays in its sets as long as anybody has it open. */
    for (int i = 0; i < N_SETS && !e->again && !e->kid && !e->kid_again; i++)
        g->set[end][i].reg[conn] = 0;
    if (again)
        e->again = false;
    else
        e->open = false;
    closed(c, end);
}

void gen_dup(struct gen *g)
{
    int end, conn = gen_pick(g, &end), by = (int)gen_below(g, 3);

    if (conn == NOBODY || g->conn[conn].end[end].again)
        return;
    gen_emit(g, (unsigned)end, OP_DUP, conn, AGAIN + conn, by, 0, 0);
    g->conn[conn].end[end].again = true;
    g->conn[conn].end[end].again_cloexec = by == BY_DUPFD;
}

/* ---- kids ---- */

static void all_stay(struct gen *g)
{
    for (int i = 0; i < g->conns; i++)
        g->conn[i].may_rise = false;
}

static void kid_is_born(struct gen *g, int process)
{
    for (int i = 0; i < g->conns; i++) {
        struct gen_end *e = &g->conn[i].end[process];

        e->kid = e->open;
        e->kid_again = e->again;
    }
    for (int i = 0; i < N_SETS; i++)
        g->set[process][i].shared = true;
    g->kid[process] = true;
    all_stay(g);
}

/* Something that the kid does with what it has. */
static void kid_works(struct gen *g, int process)
{
    unsigned kid = (unsigned)process + CLIENT_KID;
    int conn = g->conns > 0 ? (int)gen_below(g, (uint64_t)g->conns) : NOBODY;
    struct gen_conn *c = &g->conn[conn];
    struct gen_end *e = &c->end[process];
    int len = 1 + (int)gen_below(g, 400), slot;

    if (conn == NOBODY || (!e->kid && !e->kid_again))
        return;
    slot = e->kid ? conn : AGAIN + conn;
    switch (gen_below(g, 6)) {
    case 0:
    case 1:
        if (e->shut_wr || c->full[process] || c->end[!process].pieces > 20)
            return;
        gen_emit(g, kid, OP_SEND, slot, (int)gen_below(g, SEND_CALLS), len,
                 MSG_NOSIGNAL | MSG_DONTWAIT, 0);
        c->end[!process].unread += len;
        c->end[!process].pieces++;
        return;
    case 2:
    case 3:
        if (e->read_in_background || c->full[!process])
            return;
        gen_emit(g, kid, OP_RECV, slot, BY_RECV + (int)gen_below(g, 3), len,
                 MSG_DONTWAIT, 0);
        e->unread -= len < e->unread ? len : e->unread;
        return;
    case 4:
        gen_emit(g, kid, OP_POLL, (int)gen_below(g, 4), 0, EPOLLIN | EPOLLOUT,
                 1 << slot, 0);
        return;
    default:
        gen_emit(g, kid, OP_CLOSE, slot, 0, 0, 0, 0);
        if (e->kid)
            e->kid = false;
        else
            e->kid_again = false;
        closed(c, process);
    }
}

static void kid_ends(struct gen *g, int process)
{
    gen_emit(g, (unsigned)process + CLIENT_KID, OP_EXIT, (int)gen_below(g, 3),
             0, 0, 0, 0);
    g->kid[process] = false;
    g->image[process] = false;
    for (int i = 0; i < g->conns; i++) {
        g->conn[i].end[process].kid = g->conn[i].end[process].kid_again = false;
        closed(&g->conn[i], process);
    }
}

/* docs/limits.md: after a fork each process is told of a reset. */
static bool error_may_wait(const struct gen *g, int process)
{
    for (int i = 0; i < g->conns; i++)
        if (g->conn[i].dead &&
            (g->conn[i].end[process].open || g->conn[i].end[process].again))
            return true;
    return false;
}

static void kid_becomes_image(struct gen *g, int process)
{
    gen_emit(g, (unsigned)process + CLIENT_KID, OP_IMAGE, (int)gen_below(g, 2),
             0, 0, 0, 0);
    g->image[process] = true;
    for (int i = 0; i < g->conns; i++) {
        struct gen_end *e = &g->conn[i].end[process];

        e->kid &= !e->cloexec;
        e->kid_again &= !e->again_cloexec;
        closed(&g->conn[i], process);
    }
}

void gen_kid(struct gen *g)
{
    int process = (int)gen_below(g, 2);
    int steps = (int)gen_below(g, 4);

    if (!g->kid[process]) {
        if (g->busy[process][0] || g->busy[process][1] ||
            error_may_wait(g, process))
            return;
        gen_emit(g, (unsigned)process, OP_FORK, 0, 0, 0, 0, 0);
        kid_is_born(g, process);
    } else if (!g->image[process] && gen_chance(g, 20)) {
        kid_becomes_image(g, process);
    } else if (gen_chance(g, 20)) {
        kid_ends(g, process);
        return;
    }
    for (int i = 0; i < steps; i++)
        kid_works(g, process);
}

void gen_spawn(struct gen *g)
{
    int process = (int)gen_below(g, 2);

    if (g->busy[process][0] || g->busy[process][1])
        return;
    gen_emit(g, (unsigned)process, OP_SPAWN, (int)gen_below(g, 3), 0, 0, 0, 0);
    if (gen_chance(g, 30))
        for (int i = 0; i < g->conns; i++)
            g->conn[i].may_rise = false;
}

/* To the kid, which may be an image that knows nothing. */
void gen_pass(struct gen *g)
{
    int end, conn = gen_pick(g, &end);
    struct gen_conn *c = &g->conn[conn];
    struct gen_end *e = &c->end[end];

    if (conn == NOBODY || e->read_in_background || e->kid_again || c->dead ||
        c->full[0] || c->full[1])
        return;
    if (!g->kid[end]) {
        gen_kid(g);
        return;
    }
    if (gen_chance(g, 60))
        gen_send_some(g, conn, !end, 1 + (int)gen_below(g, 300));
    gen_emit(g, (unsigned)end, OP_PASS, conn, 0, 0, 0, 0);
    gen_emit(g, (unsigned)end + CLIENT_KID, OP_RECEIVE, AGAIN + conn, 0, 0, 0,
             0);
    e->kid_again = true;
    c->may_rise = false;
    if (gen_chance(g, 50))
        gen_emit(g, (unsigned)end + CLIENT_KID, OP_SEND, AGAIN + conn, BY_SEND,
                 50, MSG_NOSIGNAL | MSG_DONTWAIT, 0),
            c->end[!end].unread += 50;
    gen_emit(g, (unsigned)end + CLIENT_KID, OP_RECV, AGAIN + conn, BY_RECV, 200,
             MSG_DONTWAIT, 0);
    e->unread -= e->unread < 200 ? e->unread : 200;
}

/* ---- whole programs ---- */

struct action {
    void (*make)(struct gen *g);
    uint8_t weight[6]; /* by theme */
};

static const struct action actions[] = {
    /*               bytes ready ends threads processes all */
    {gen_send, {40, 25, 15, 15, 15, 25}},
    {gen_recv, {40, 15, 15, 12, 15, 25}},
    {gen_poll, {6, 15, 12, 5, 5, 10}},
    {gen_epoll_ctl, {1, 20, 4, 5, 3, 8}},
    {gen_epoll_wait, {1, 25, 8, 5, 5, 10}},
    {gen_nest, {0, 6, 1, 2, 1, 3}},
    {gen_edge, {0, 12, 2, 2, 1, 4}},
    {gen_exclusive, {0, 3, 0, 0, 0, 1}},
    {gen_event, {0, 5, 0, 2, 0, 2}},
    {gen_full, {2, 2, 0, 1, 0, 1}},
    {gen_sendfile, {1, 0, 0, 0, 0, 1}},
    {gen_ask, {6, 2, 6, 2, 4, 5}},
    {gen_option, {4, 2, 4, 3, 2, 4}},
    {gen_timeout, {3, 0, 1, 3, 0, 2}},
    {gen_connect, {1, 2, 3, 2, 3, 3}},
    {gen_shutdown, {1, 2, 8, 2, 2, 3}},
    {gen_close, {0, 2, 8, 1, 2, 2}},
    {gen_dup, {1, 2, 4, 1, 3, 2}},
    {gen_background, {1, 2, 3, 25, 1, 5}},
    {gen_interrupted, {0, 0, 0, 8, 0, 1}},
    {gen_kid, {0, 0, 0, 0, 20, 3}},
    {gen_spawn, {1, 1, 1, 1, 8, 2}},
    {gen_pass, {0, 0, 0, 0, 10, 1}},
};

enum { N_ACTIONS = sizeof(actions) / sizeof(actions[0]), THEMES = 6 };

/*
 * docs/limits.md: who is to return before the last byte of TCP was read. The
 * rest is for streams that move while they are used, not while they rest.
 */
static bool moves_it(const struct action *a)
{
    return a->make == gen_kid || a->make == gen_spawn || a->make == gen_pass ||
           a->make == gen_sendfile || a->make == gen_option;
}

static void one_action(struct gen *g, unsigned theme)
{
    unsigned all = 0, at;

    for (int i = 0; i < N_ACTIONS; i++)
        all += actions[i].weight[theme];
    at = (unsigned)gen_below(g, all);
    for (int i = 0; i < N_ACTIONS; i++) {
        if (at < actions[i].weight[theme]) {
            if (!g->p->loose || !moves_it(&actions[i]))
                actions[i].make(g);
            return;
        }
        at -= actions[i].weight[theme];
    }
}

/* What both ends have not read yet, to the last byte. */
static void finish(struct gen *g)
{
    for (int i = 0; i < g->conns; i++)
        for (int end = 0; end < 2; end++)
            if (g->conn[i].end[end].open && !g->conn[i].full[!end] &&
                !g->conn[i].end[end].read_in_background)
                gen_recv_all(g, i, end);
}

void program_generate(struct program *p, uint64_t seed)
{
    struct gen g = {.p = p, .chance = seed};
    unsigned theme, steps;

    program_init(p);
    p->seed = seed;
    next_random(&g.chance);
    p->family = (uint32_t[]){4, 4, 6, 46}[gen_below(&g, 4)];
    p->loose = gen_chance(&g, 15);
    if (gen_chance(&g, 85))
        p->break_at[gen_below(&g, 2)] = 1 + (uint32_t)gen_below(&g, 5);
    if (gen_chance(&g, 30))
        p->break_at[gen_below(&g, 2)] = 1 + (uint32_t)gen_below(&g, 5);
    gen_emit(&g, SERVER, OP_LISTEN, LISTENER, 0, 0, 0, 0);
    gen_connect(&g);
    theme = (unsigned)gen_below(&g, THEMES);
    steps = 8 + (unsigned)gen_below(&g, 36);
    for (int i = 0; i < 400 && p->n < steps; i++)
        one_action(&g, theme);
    finish(&g);
}
