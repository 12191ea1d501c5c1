/*
 * In place of preload/backends.c: transports "one", "two" and "three", and an
 * endpoint `e` that may meet. What each of them comes to is up to the test that
 * includes this.
 */
#ifndef TESTS_UNIT_PRELOAD_STAND_INS_H
#define TESTS_UNIT_PRELOAD_STAND_INS_H

#include <check.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "preload/backends.h"
#include "preload/helper_private.h"
#include "preload/process.h"

enum { N = 3 };

struct transport {
    struct backend backend; /* first */
    const char *name;
    enum reason missing;  /* it cannot be had */
    enum reason unsuited; /* for any connection */
    bool device;
    int started, cancelled, listens, ends;
    struct meeting *meeting; /* under way */
};

static struct transport transports[N];
static int order[20], n_order; /* which transports were started */

bool backends_between_hosts;

struct backend *backends_next(const char **at,
                              const struct connection_name *name,
                              enum reason *why)
{
    size_t n = strcspn(*at, ",");
    const char *word = *at;

    ck_assert_uint_eq(name->family, 4);
    ck_assert_uint_gt(n, 0);
    *at += n + (word[n] == ',');
    for (int i = 0; i < N; i++)
        if (strlen(transports[i].name) == n &&
            memcmp(transports[i].name, word, n) == 0) {
            *why = transports[i].missing;
            return *why == REASON_NONE ? &transports[i].backend : NULL;
        }
    *why = REASON_OTHER_HOST;
    return NULL;
}

bool backend_needs_proof(const struct backend *backend)
{
    return ((const struct transport *)backend)->device;
}

void backends_look(void)
{
}

void backends_start(struct loop *loop, const struct backend_config *config,
                    const struct link_events *events)
{
    (void)loop;
    (void)config;
    (void)events;
}

void backends_after_fork(void)
{
}

/* ---- the transports ---- */

static struct transport *of(struct backend *backend)
{
    return (struct transport *)backend;
}

static enum reason suits(struct backend *backend,
                         const struct connection_name *name)
{
    (void)name;
    return of(backend)->unsuited;
}

static int listen_at(struct backend *backend, const struct sockaddr *address,
                     socklen_t len, bool on)
{
    ck_assert_int_eq(address->sa_family, AF_INET);
    ck_assert_uint_eq(len, sizeof(struct sockaddr_in));
    if (on)
        of(backend)->listens++;
    else
        of(backend)->ends++;
    return 0;
}

static void meeting_start(struct backend *backend, struct meeting *m)
{
    struct transport *t = of(backend);

    ck_assert_ptr_null(m->backend);
    m->backend = backend;
    t->meeting = m;
    t->started++;
    order[n_order++] = (int)(t - transports);
}

static void meeting_cancel(struct meeting *m)
{
    struct transport *t = of(m->backend);

    t->cancelled++;
    t->meeting = NULL;
    m->backend = NULL;
}

static const struct backend_ops memory_ops[N] = {
    {"one", 1, NULL, NULL, suits, NULL, meeting_start, meeting_cancel},
    {"two", 1, NULL, NULL, suits, NULL, meeting_start, meeting_cancel},
    {"three", 1, NULL, NULL, suits, NULL, meeting_start, meeting_cancel},
};
static struct backend_ops listening_ops[N];

/* ---- who meets ---- */

static struct endpoint *e;

static int keep(int fd)
{
    return fd;
}

static void let_go(int fd)
{
    close(fd);
}

/* Connected, with names, and without a byte to anybody. */
static int connected_socket(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

static void new_endpoint(bool initiator)
{
    e = endpoint_create(connected_socket(), AF_INET, false, ENDPOINT_NEW,
                        initiator);
    ck_assert_ptr_nonnull(e);
    e->state = ENDPOINT_CONNECTED;
}

/* An endpoint that may meet, the helper's loop and no thread of its own. */
static void start(void)
{
    static const struct loop_calls calls = {keep, let_go};

    memset(transports, 0, sizeof(transports));
    n_order = 0;
    for (int i = 0; i < N; i++) {
        listening_ops[i] = memory_ops[i];
        listening_ops[i].listen = listen_at;
        transports[i].name = memory_ops[i].name;
        transports[i].backend.ops = &memory_ops[i];
    }
    settings_defaults(&process.settings);
    strcpy(process.settings.transports, "one,two,three");
    process.settings.upgrade_after = 10;
    endpoint_first.calls = 10;
    ck_assert_int_eq(loop_create(&calls, &helper.loop), 0);
    new_endpoint(true);
}

static void stop(void)
{
    helper_stop_meeting(e);
    settings_free(&process.settings);
}

#endif
