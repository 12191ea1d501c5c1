/*
 * See actor.h. Client and server wait for a program, make their steps when it
 * is their turn, put everything away, and wait for the next one.
 */
#include "tests/differential/actor.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "tests/e2e/support/plain.h"

volatile int actor_pipes;
static int pair_fd = -1;
static pthread_t workers[WORKERS];

int actor_pair_fd(void)
{
    return pair_fd;
}

void actor_set_pair_fd(int fd)
{
    pair_fd = fd;
}

/* ---- slots ---- */

struct slot *slot_at(const struct actor *a, int slot)
{
    if (slot < 0 || slot >= SLOTS)
        return NULL;
    return &a->shared->slot[a->process][slot];
}

int slot_fd(const struct actor *a, int slot)
{
    const struct slot *s = slot_at(a, slot);

    return s == NULL || s->kind == SLOT_NONE ? -1 : s->fd;
}

struct conn *slot_conn(const struct actor *a, int slot, int *end)
{
    const struct slot *s = slot_at(a, slot);

    if (s == NULL || s->kind != SLOT_CONN)
        return NULL;
    *end = s->end;
    return &a->shared->conn[s->conn];
}

void slot_clear(const struct actor *a, struct slot *s)
{
    if (s->kind == SLOT_CONN) {
        struct conn *c = &a->shared->conn[s->conn];

        if (--c->holders[s->end] == 0)
            c->closed[s->end] = 1;
    }
    memset(s, 0, sizeof(*s));
    s->fd = -1;
}

void slot_set(const struct actor *a, int slot, int fd, int kind, int conn,
              int end)
{
    struct slot *s = slot_at(a, slot);

    if (s == NULL)
        return;
    memset(s, 0, sizeof(*s));
    s->fd = fd;
    s->kind = kind;
    if (kind == SLOT_CONN) {
        s->conn = conn;
        s->end = end;
        a->shared->conn[conn].holders[end]++;
    }
}

/* ---- one step ---- */

void run_step(struct actor *a, struct outcome *o)
{
    switch (a->step->op) {
    case OP_SEND:
    case OP_RECV:
    case OP_FILL:
    case OP_DRAIN:
    case OP_SENDFILE:
    case OP_UNREAD:
        step_bytes(a, o);
        break;
    case OP_POLL:
    case OP_EPOLL_NEW:
    case OP_EPOLL_ADD:
    case OP_EPOLL_MOD:
    case OP_EPOLL_DEL:
    case OP_EPOLL_WAIT:
    case OP_EVENT_NEW:
    case OP_EVENT_RING:
    case OP_EVENT_TAKE:
        step_wait(a, o);
        break;
    case OP_FORK:
    case OP_EXIT:
    case OP_IMAGE:
    case OP_SPAWN:
    case OP_PASS:
    case OP_RECEIVE:
    case OP_HANDLER:
        step_process(a, o);
        break;
    default:
        step_socket(a, o);
    }
}

static void prepare(struct actor *a, struct shared *shared, unsigned process,
                    unsigned at)
{
    a->shared = shared;
    a->process = process;
    a->at = at;
    a->step = &shared->program.step[at];
    a->expected = shared->mode == MODE_KERNEL ? NULL : &shared->expected[at];
    /* What did not go up in time may do so at any later moment. */
    a->loose = shared->program.loose || shared->mode == MODE_BREAKS ||
               atomic_load(&shared->not_up) > 0;
    a->again = false;
    a->limit_ms = 500 * (int)shared->slow;
}

static void make_step(struct actor *a, struct outcome *o)
{
    uint64_t until = now_us() + (uint64_t)a->limit_ms * 1000;

    memset(o, 0, sizeof(*o));
    o->wrong = -1;
    for (;;) {
        int pipes = actor_pipes;

        o->err = 0;
        run_step(a, o);
        o->pipes += actor_pipes - pipes;
        if (a->expected == NULL || !outcome_is_early(a, o) || now_us() > until)
            break;
        atomic_fetch_add(&a->shared->tries, 1);
        a->again = true;
        pause_us(100);
    }
    o->done = 1;
}

static void judge(const struct actor *a, unsigned at)
{
    struct actor of = *a;

    prepare(&of, a->shared, a->process, at);
    if (of.expected != NULL && !atomic_load(&a->shared->stop) &&
        !outcome_same(&of, &a->shared->seen[at]))
        atomic_store(&a->shared->stop, at + 1);
}

static void next_turn(struct shared *shared, unsigned at)
{
    atomic_store(&shared->turn, at + 1);
    futex_wake_all(&shared->turn);
}

/* ---- threads ---- */

struct place {
    struct shared *shared;
    unsigned process;
    int number;
};

static void *worker_main(void *arg)
{
    const struct place *place = arg;
    struct shared *shared = place->shared;
    unsigned process = place->process;
    struct worker_slot *w = &shared->worker[process][place->number];

    w->tid = (int32_t)syscall(SYS_gettid);
    atomic_store(&w->state, WORKER_IDLE);
    futex_wake_all(&w->state);
    for (;;) {
        uint32_t state = atomic_load(&w->state);
        struct actor a;

        if (state != WORKER_GIVEN) {
            futex_wait(&w->state, state, -1);
            continue;
        }
        prepare(&a, shared, process, w->step);
        atomic_store(&w->state, WORKER_INSIDE);
        make_step(&a, &shared->seen[w->step]);
        atomic_store(&w->state, WORKER_DONE);
        futex_wake_all(&w->state);
    }
    return NULL;
}

static void start_workers(struct shared *shared, unsigned process)
{
    static struct place places[WORKERS];

    for (int i = 0; i < WORKERS; i++) {
        struct worker_slot *w = &shared->worker[process][i];

        atomic_store(&w->state, WORKER_INSIDE);
        places[i] = (struct place){shared, process, i};
        if (pthread_create(&workers[i], NULL, worker_main, &places[i]) != 0)
            abort();
        while (atomic_load(&w->state) != WORKER_IDLE)
            futex_wait(&w->state, WORKER_INSIDE, 10);
    }
}

static void give(const struct actor *a)
{
    struct worker_slot *w =
        &a->shared->worker[a->process][actor_worker(a->step->actor)];
    struct outcome *o = &a->shared->seen[a->at];

    if (a->process > SERVER || atomic_load(&w->state) != WORKER_IDLE) {
        o->rc = -1; /* it has something to do already */
        o->err = EBUSY;
        o->done = 1;
        return;
    }
    w->step = a->at;
    atomic_store(&w->state, WORKER_GIVEN);
    futex_wake_all(&w->state);
    while (atomic_load(&w->state) == WORKER_GIVEN)
        pause_us(10);
}

/* What the thread was given is done, or not in time. */
static void join(struct actor *a, struct outcome *o)
{
    int k = a->step->arg[0] - 1;
    struct worker_slot *w;
    uint64_t until = now_us() + (uint64_t)a->limit_ms * 1000;
    uint32_t state;

    memset(o, 0, sizeof(*o));
    o->wrong = -1;
    o->done = 1;
    if (k < 0 || k >= WORKERS || a->process > SERVER) {
        o->err = EINVAL;
        return;
    }
    w = &a->shared->worker[a->process][k];
    while ((state = atomic_load(&w->state)) == WORKER_INSIDE &&
           now_us() < until)
        futex_wait(&w->state, state, 5);
    o->rc = state == WORKER_DONE ? 1 : state == WORKER_IDLE ? 0 : -1;
    if (state != WORKER_DONE)
        return;
    atomic_store(&w->state, WORKER_IDLE);
    judge(a, w->step);
}

static void send_signal(struct actor *a, struct outcome *o)
{
    int k = a->step->arg[0] - 1;

    memset(o, 0, sizeof(*o));
    o->wrong = -1;
    o->done = 1;
    if (k < 0 || k >= WORKERS || a->process > SERVER)
        return;
    o->rc =
        atomic_load(&a->shared->worker[a->process][k].state) == WORKER_INSIDE;
    if (o->rc)
        pthread_kill(workers[k], SIGUSR1);
}

/* ---- turns ---- */

/* The kid ends by itself: its parent sees how, and lets the others go on. */
static void bury(struct actor *a, struct outcome *o)
{
    unsigned parent = a->step->actor - CLIENT_KID;
    int status = 0;

    waitpid(a->shared->kid_pid[parent], &status, 0);
    memset(o, 0, sizeof(*o)); /* behind the last word of the kid */
    o->wrong = -1;
    o->done = 1;
    a->shared->kid_pid[parent] = 0;
    o->rc = status;
    for (int i = 0; i < SLOTS; i++) {
        struct actor kid = *a;

        kid.process = a->step->actor;
        slot_clear(&kid, &a->shared->slot[kid.process][i]);
    }
    close(pair_fd);
    pair_fd = -1;
}

/* A step of a kid that was never born or has ended. */
static bool for_the_dead(const struct actor *a)
{
    unsigned actor = a->step->actor;

    return (actor == CLIENT_KID || actor == SERVER_KID) &&
           a->process == actor - CLIENT_KID &&
           a->shared->kid_pid[a->process] == 0;
}

static void take_turn(struct actor *a)
{
    struct outcome *o = &a->shared->seen[a->at];

    settle(a);
    if (actor_worker(a->step->actor) >= 0) {
        memset(o, 0, sizeof(*o));
        give(a);
    } else if (a->step->op == OP_JOIN) {
        join(a, o);
    } else if (a->step->op == OP_SIGNAL) {
        send_signal(a, o);
    } else {
        make_step(a, o);
    }
    settle_workers(a);
    settle_moves(a);
    if (o->done)
        judge(a, a->at);
    next_turn(a->shared, a->at);
}

static bool is_mine(const struct actor *a)
{
    unsigned owner = actor_process(a->step->actor);

    if (a->step->op == OP_EXIT && owner >= CLIENT_KID &&
        a->shared->kid_pid[owner - CLIENT_KID] != 0)
        return owner == a->process || owner - CLIENT_KID == a->process;
    return owner == a->process;
}

/*
 * docs/limits.md: what a reset comes to is not decided while a link breaks or
 * a stream moves: such a program ends where the kernel's connection is closed.
 */
static bool ends_here(const struct shared *shared, uint32_t at)
{
    bool decided = shared->mode == MODE_KERNEL ||
                   (shared->mode != MODE_BREAKS && !shared->program.loose);

    for (int i = 0; i < CONNS && !decided; i++)
        if (shared->expected_state[at][i][0] == TCP_CLOSE ||
            shared->expected_state[at][i][1] == TCP_CLOSE)
            return true;
    return false;
}

static void run_program(struct shared *shared, unsigned process)
{
    for (;;) {
        uint32_t at = atomic_load(&shared->turn);
        struct actor a;

        if (at >= shared->program.n || atomic_load(&shared->stop))
            return;
        if (ends_here(shared, at)) {
            next_turn(shared, shared->program.n);
            return;
        }
        prepare(&a, shared, process, at);
        if (for_the_dead(&a)) {
            shared->seen[at] = (struct outcome){
                .done = 1, .err = ESRCH, .rc = -1, .wrong = -1};
            judge(&a, at);
            next_turn(shared, at);
        } else if (!is_mine(&a)) {
            futex_wait(&shared->turn, at, 1000);
        } else if (a.step->op == OP_EXIT && process < CLIENT_KID &&
                   a.step->actor >= CLIENT_KID) {
            bury(&a, &shared->seen[at]);
            judge(&a, at);
            next_turn(shared, at);
        } else {
            take_turn(&a);
        }
    }
}

/* ---- the end of a program ---- */

static void on_pipe(int number)
{
    (void)number;
    actor_pipes++;
}

static void on_nothing(int number)
{
    (void)number;
}

static void set_handlers(void)
{
    struct sigaction pipe = {.sa_handler = on_pipe};
    struct sigaction nothing = {.sa_handler = on_nothing};

    sigaction(SIGPIPE, &pipe, NULL);
    sigaction(SIGUSR1, &nothing, NULL);
    sigaction(SIGUSR2, &nothing, NULL);
}

static void end_kid(struct shared *shared, unsigned process)
{
    int pid = shared->kid_pid[process];

    if (pid == 0)
        return;
    for (int i = 0; i < 200; i++) {
        if (waitpid(pid, NULL, WNOHANG) == pid)
            goto gone;
        pause_us(1000);
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
gone:
    shared->kid_pid[process] = 0;
    close(pair_fd);
    pair_fd = -1;
}

static void end_workers(struct shared *shared, unsigned process)
{
    for (int i = 0; i < WORKERS; i++) {
        struct worker_slot *w = &shared->worker[process][i];

        for (int k = 0; atomic_load(&w->state) == WORKER_INSIDE; k++) {
            pthread_kill(workers[i], SIGUSR2);
            pause_us(1000);
            if (k == 1000)
                _exit(3); /* the runner starts a new pair */
        }
        atomic_store(&w->state, WORKER_IDLE);
    }
}

static void put_away(struct shared *shared, unsigned process)
{
    struct linger reset = {1, 0};

    set_handlers();
    end_kid(shared, process);
    settle_count(shared);
    for (int i = 0; i < SLOTS; i++) {
        struct slot *s = &shared->slot[process][i];

        if (s->kind == SLOT_CONN)
            shutdown(s->fd, SHUT_RDWR);
    }
    end_workers(shared, process);
    for (int i = 0; i < SLOTS; i++) {
        struct slot *s = &shared->slot[process][i];

        if (s->kind == SLOT_NONE)
            continue;
        if (s->kind == SLOT_CONN) /* no port is to rest in TIME_WAIT */
            setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        close(s->fd);
        s->kind = SLOT_NONE;
    }
    settle_forget();
}

/* ---- processes ---- */

_Noreturn void actor_main(struct shared *shared, unsigned process)
{
    uint32_t round = 0;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    start_workers(shared, process);
    for (;;) {
        set_handlers();
        while (atomic_load(&shared->round) == round)
            futex_wait(&shared->round, round, -1);
        round = atomic_load(&shared->round);
        settle_plan_break(shared->program.break_at[process]);
        run_program(shared, process);
        put_away(shared, process);
        atomic_fetch_add(&shared->finished, 1);
        futex_wake_all(&shared->finished);
    }
}

_Noreturn void actor_become_kid(struct shared *shared, unsigned process)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    settle_forget();
    run_program(shared, process);
    _exit(0);
}

_Noreturn void actor_image(struct shared *shared, unsigned process, unsigned at)
{
    struct outcome *o = &shared->seen[at];
    struct actor a;

    set_handlers();
    prepare(&a, shared, process, at);
    memset(o, 0, sizeof(*o));
    o->wrong = -1;
    o->done = 1;
    for (int i = 0; i < SLOTS; i++) {
        struct slot *s = &shared->slot[process][i];

        if (s->kind != SLOT_NONE && fcntl(s->fd, F_GETFD) < 0)
            slot_clear(&a, s);
    }
    judge(&a, at);
    next_turn(shared, at);
    actor_become_kid(shared, process);
}
