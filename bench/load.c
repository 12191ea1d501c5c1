/*
 * A closed-loop client of memcached's protocol or redis': every connection
 * sends a batch of requests, waits for all the replies, checks each byte of
 * them and sends the next batch.
 *
 * The main thread only keeps the phase: warm-up, measure, stop. A worker looks
 * at it between batches, so that what it counts begins and ends with a whole
 * batch. Latency is from the write of a batch to the read that completed the
 * reply. The stamp that ends a batch begins the next: what this program does
 * in between counts as latency, and is measured by -w self.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "bench/support/exchange.h"
#include "bench/support/histogram.h"
#include "bench/support/load_options.h"
#include "bench/support/program.h"
#include "bench/support/requests.h"
#include "bench/support/server.h"
#include "bench/support/socket.h"

enum {
    EVENTS = 64,
    BUF_SIZE = 1 << 18,
    IDLE_AT_ONCE = 100,
    REPLIES_BEFORE_REST = 16 /* of each connection that rests */
};
enum phase { PHASE_WARM, PHASE_MEASURE, PHASE_STOP };

struct worker {
    pthread_t thread;
    struct load *load;
    int cpu; /* -1: wherever */
    unsigned n_conns;
    unsigned n_idle; /* the last ones of n_conns */
    struct exchange *conns;
    char *buf;
    bool measuring;
    uint64_t limit; /* replies to measure, UINT64_MAX: no limit */
    uint64_t started_ns;
    uint64_t ended_ns;
    uint64_t bytes_in;     /* of all conns while measuring */
    uint64_t kernel_bytes; /* of those, through the kernel's TCP */
    struct histogram latency;
};

struct load {
    struct load_options options;
    struct requests requests;
    atomic_int phase; /* enum phase; written by main only */
    sem_t finished;   /* posted once by each worker */
};

static void count_bytes(struct worker *w, int sign)
{
    for (unsigned i = 0; i < w->n_conns; i++) {
        struct exchange *x = &w->conns[i];

        w->bytes_in += (uint64_t)sign * x->bytes_in;
        if (x->fd >= 0)
            w->kernel_bytes += (uint64_t)sign * socket_kernel_bytes(x->fd);
    }
}

/* Between two batches: follows the phase; false when it is time to stop. */
static bool go_on(struct worker *w, uint64_t now)
{
    int phase = atomic_load_explicit(&w->load->phase, memory_order_relaxed);

    if (phase == PHASE_WARM)
        return true;
    if (!w->measuring && phase == PHASE_MEASURE) {
        w->measuring = true;
        histogram_clear(&w->latency);
        count_bytes(w, -1);
        w->started_ns = now;
        return true;
    }
    return phase == PHASE_MEASURE && w->latency.n < w->limit;
}

static void fail(int rc)
{
    if (rc == -ECONNRESET)
        program_die("the server closed a connection before it had answered");
    if (rc == -EBADMSG)
        exit(1);
    program_die("connection failed: %s", strerror(-rc));
}

static uint64_t run_blocking(struct worker *w)
{
    uint64_t gap_ns = w->load->options.gap * UINT64_C(1000), until;
    struct exchange *x = &w->conns[0];
    uint64_t now = program_now_ns();
    int rc;

    while (go_on(w, now)) {
        for (until = now + gap_ns; now < until;)
            now = program_now_ns();
        x->started_ns = now;
        exchange_prepare(x);
        rc = exchange_write(x);
        if (rc < 0)
            fail(rc);
        while (!exchange_complete(x)) {
            rc = exchange_read(x, w->buf, BUF_SIZE);
            if (rc < 0)
                fail(rc);
            now = program_now_ns();
            histogram_add(&w->latency, now - x->started_ns, (unsigned)rc);
        }
    }
    return now;
}

static void watch(int epoll, struct exchange *x, uint32_t events, int op)
{
    struct epoll_event event = {.events = events, .data.ptr = x};

    if (epoll_ctl(epoll, op, x->fd, &event) < 0)
        program_die("epoll_ctl: %s", strerror(errno));
}

/* Begins a batch; asks for EPOLLOUT when the socket takes only a part. */
static void begin(int epoll, struct exchange *x, uint64_t now)
{
    int rc;

    x->started_ns = now;
    exchange_prepare(x);
    rc = exchange_write(x);
    if (rc < 0)
        fail(rc);
    if (rc == 0)
        watch(epoll, x, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
}

/* True when the batch became complete. */
static bool advance(struct worker *w, int epoll, struct exchange *x,
                    uint32_t events, uint64_t *now)
{
    int rc;

    if (events & EPOLLOUT) {
        rc = exchange_write(x);
        if (rc < 0)
            fail(rc);
        if (rc == 1)
            watch(epoll, x, EPOLLIN, EPOLL_CTL_MOD);
    }
    if (!(events & ~(uint32_t)EPOLLOUT))
        return false;
    rc = exchange_read(x, w->buf, BUF_SIZE);
    if (rc == -EAGAIN)
        return false;
    if (rc < 0)
        fail(rc);
    *now = program_now_ns();
    histogram_add(&w->latency, *now - x->started_ns, (unsigned)rc);
    return exchange_complete(x);
}

static uint64_t run_epoll(struct worker *w)
{
    struct epoll_event ready[EVENTS];
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    uint64_t now = program_now_ns();
    bool more = true;

    if (epoll < 0)
        program_die("epoll_create1: %s", strerror(errno));
    for (unsigned i = 0; i < w->n_conns; i++) {
        socket_set_nonblocking(w->conns[i].fd);
        watch(epoll, &w->conns[i], EPOLLIN, EPOLL_CTL_ADD);
        if (i < w->n_conns - w->n_idle)
            begin(epoll, &w->conns[i], now);
    }
    while (more) {
        int n = epoll_wait(epoll, ready, EVENTS, 1000);

        if (n < 0 && errno != EINTR)
            program_die("epoll_wait: %s", strerror(errno));
        if (n <= 0)
            more = go_on(w, program_now_ns());
        for (int i = 0; i < n && more; i++) {
            struct exchange *x = ready[i].data.ptr;

            if (!advance(w, epoll, x, ready[i].events, &now))
                continue;
            more = go_on(w, now);
            if (more)
                begin(epoll, x, now);
        }
    }
    close(epoll);
    return now;
}

static void *work(void *arg)
{
    struct worker *w = arg;

    if (w->cpu >= 0)
        program_pin(w->cpu);
    if (w->load->options.mode == WAIT_EPOLL)
        w->ended_ns = run_epoll(w);
    else
        w->ended_ns = run_blocking(w);
    if (w->measuring)
        count_bytes(w, 1);
    sem_post(&w->load->finished);
    return NULL;
}

static void fill_server(int fd, const struct requests *r)
{
    char reply[8];

    for (unsigned i = 0; i < r->n; i++) {
        if (socket_send_all(fd, r->set[i].at, r->set[i].len) < 0 ||
            socket_recv_all(fd, reply, r->stored.len) < 0 ||
            memcmp(reply, r->stored.at, r->stored.len) != 0)
            program_die("key %u was not stored: expected \"%.*s\"; is the "
                        "value of %zu bytes too large for this server?",
                        i, (int)r->stored.len - 2, r->stored.at, r->set[i].len);
    }
}

/* A batch over each of n connections. */
static void use_once(struct worker *w, struct exchange *x, unsigned n)
{
    int rc = 0;

    for (unsigned i = 0; i < n && rc >= 0; i++) {
        exchange_prepare(&x[i]);
        rc = exchange_write(&x[i]);
    }
    for (unsigned i = 0; i < n && rc >= 0; i++) {
        while (rc >= 0 && !exchange_complete(&x[i]))
            rc = exchange_read(&x[i], w->buf, BUF_SIZE);
    }
    if (rc < 0)
        fail(rc);
}

/* Those that are to rest move bytes before, some of them at once. */
static void use_idle(struct worker *w)
{
    struct exchange *idle = &w->conns[w->n_conns - w->n_idle];

    for (unsigned first = 0; first < w->n_idle; first += IDLE_AT_ONCE) {
        unsigned n = w->n_idle - first;

        for (unsigned i = 0; i < REPLIES_BEFORE_REST; i++)
            use_once(w, idle + first, n < IDLE_AT_ONCE ? n : IDLE_AT_ONCE);
    }
}

static void open_conn(struct load *load, struct worker *w, unsigned number)
{
    const struct load_options *o = &load->options;
    int fd = -1;

    if (o->mode != WAIT_SELF) {
        fd = socket_connect(o->host, o->port);
        if (fd < 0)
            program_die("cannot connect to %s port %s: %s; start the server "
                        "first",
                        o->host, o->port, strerror(-fd));
        if (number == 0 && o->server)
            server_check(fd, o->protocol, o->server);
        if (number == 0)
            fill_server(fd, &load->requests);
    }
    exchange_init(&w->conns[w->n_conns++], fd, &load->requests, o->depth,
                  o->get_percent, number + 1);
}

static void open_conns(struct load *load, struct worker *workers)
{
    const struct load_options *o = &load->options;
    unsigned i;

    for (i = 0; i < o->conns; i++)
        open_conn(load, &workers[i % o->threads], i);
    for (; i < o->conns + o->idle; i++) {
        struct worker *w = &workers[i % o->threads];

        open_conn(load, w, i);
        w->n_idle++;
    }
    for (i = 0; i < o->threads; i++)
        use_idle(&workers[i]);
}

static struct worker *make_workers(struct load *load)
{
    const struct load_options *o = &load->options;
    struct worker *workers = calloc(o->threads, sizeof(*workers));

    for (unsigned i = 0; workers && i < o->threads; i++) {
        struct worker *w = &workers[i];

        w->load = load;
        w->cpu = o->n_cpus ? o->cpus[i % o->n_cpus] : -1;
        w->limit = o->requests ? o->requests / o->threads : UINT64_MAX;
        w->conns =
            calloc((o->conns + o->idle) / o->threads + 2, sizeof(*w->conns));
        w->buf = malloc(BUF_SIZE);
        if (!w->conns || !w->buf)
            program_die("no memory for the connections: fewer of them (-c)");
    }
    if (!workers)
        program_die("no memory for the threads: fewer of them (-t)");
    return workers;
}

/* Waits until n workers have finished; false when the time is over. */
static bool wait_finished(struct load *load, double seconds, unsigned *n)
{
    uint64_t end = program_now_ns() + (uint64_t)(seconds * 1e9);
    struct timespec deadline = {.tv_sec = (time_t)(end / 1000000000u),
                                .tv_nsec = (long)(end % 1000000000u)};

    while (*n > 0) {
        if (sem_clockwait(&load->finished, CLOCK_MONOTONIC, &deadline) == 0)
            (*n)--;
        else if (errno == ETIMEDOUT)
            return false;
    }
    return true;
}

/* Goes through the phases; cpu[0] and [1]: time used by us, by the server. */
static void conduct(struct load *load, struct worker *workers, uint64_t cpu[2])
{
    const struct load_options *o = &load->options;
    unsigned left = o->threads;

    for (unsigned i = 0; i < o->threads; i++) {
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            program_die("cannot start thread %u: fewer of them (-t)", i + 1);
    }
    program_sleep_ns((uint64_t)(o->warm_seconds * 1e9));
    cpu[0] = program_cpu_ns(0);
    cpu[1] = o->server ? program_cpu_ns(o->server) : 0;
    atomic_store(&load->phase, PHASE_MEASURE);
    wait_finished(load, o->seconds, &left);
    atomic_store(&load->phase, PHASE_STOP);
    cpu[0] = program_cpu_ns(0) - cpu[0];
    cpu[1] = o->server ? program_cpu_ns(o->server) - cpu[1] : 0;
    if (!wait_finished(load, 10, &left))
        program_die("%u threads got no answer within 10 seconds", left);
    for (unsigned i = 0; i < o->threads; i++)
        pthread_join(workers[i].thread, NULL);
}

static void report(const struct load *load, const struct worker *workers,
                   const uint64_t cpu[2])
{
    struct histogram *all = calloc(1, sizeof(*all));
    uint64_t in = 0, kernel = 0;
    double rate = 0;

    if (!all)
        program_die("no memory for the report");
    for (unsigned i = 0; i < load->options.threads; i++) {
        const struct worker *w = &workers[i];

        if (!w->measuring || w->latency.n == 0)
            program_die("a thread measured nothing: longer (-s)");
        histogram_merge(all, &w->latency);
        rate +=
            (double)w->latency.n * 1e9 / (double)(w->ended_ns - w->started_ns);
        in += w->bytes_in;
        kernel += w->kernel_bytes;
    }
    const struct figure figures[] = {
        {"requests", (double)all->n},
        {"per_second", rate},
        {"mean_ns", histogram_mean(all)},
        {"p1_ns", histogram_quantile(all, 0.01)},
        {"p10_ns", histogram_quantile(all, 0.1)},
        {"p25_ns", histogram_quantile(all, 0.25)},
        {"p50_ns", histogram_quantile(all, 0.5)},
        {"p75_ns", histogram_quantile(all, 0.75)},
        {"p90_ns", histogram_quantile(all, 0.9)},
        {"p99_ns", histogram_quantile(all, 0.99)},
        {"p999_ns", histogram_quantile(all, 0.999)},
        {"p9999_ns", histogram_quantile(all, 0.9999)},
        {"max_ns", (double)all->max},
        {"client_cpu_ns", (double)cpu[0] / (double)all->n},
        {"server_cpu_ns", (double)cpu[1] / (double)all->n},
        {"kernel_share", in ? (double)kernel / (double)in : 0},
    };
    program_print(figures, sizeof(figures) / sizeof(figures[0]),
                  load->options.json);
    free(all);
}

int main(int argc, char **argv)
{
    static struct load load;
    struct worker *workers;
    uint64_t cpu[2];

    load_options_parse(&load.options, argc, argv);
    requests_init(&load.requests, load.options.protocol, load.options.keys,
                  load.options.key_len, load.options.value_len);
    program_all_descriptors();
    sem_init(&load.finished, 0, 0);
    workers = make_workers(&load);
    open_conns(&load, workers);
    conduct(&load, workers, cpu);
    report(&load, workers, cpu);
    for (unsigned i = 0; i < load.options.threads; i++) {
        for (unsigned j = 0; j < workers[i].n_conns; j++) {
            if (workers[i].conns[j].fd >= 0)
                close(workers[i].conns[j].fd);
            exchange_fini(&workers[i].conns[j]);
        }
        free(workers[i].conns);
        free(workers[i].buf);
    }
    free(workers);
    requests_fini(&load.requests);
    return 0;
}
