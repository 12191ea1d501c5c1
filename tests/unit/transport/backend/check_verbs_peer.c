/*
 * What is kept of a peer, and until when, with a device that is made here:
 * what the library asks of it is answered below, and a completion comes when
 * the test says so.
 */
#include "transport/backend/verbs_private.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/run_suite.h"
#include "transport/pause.h"

enum { RING = 4096, ID = 1, RECEIVE = 1 /* kind of a completion */ };

static struct ibv_context context;
static struct ibv_cq queue;
static struct ibv_qp pair;
static struct rdma_event_channel channel;
static struct rdma_cm_id id;
static struct rdma_cm_event event;
static struct verbs_device device;
static struct loop *loop;
static struct verbs *v;
static int domains_left, domains; /* of them: made */
static bool completes, happens;
static int breaks, done;
static enum reason why;

/* ---- the device ---- */

struct ibv_device **ibv_get_device_list(int *n)
{
    *n = 0;
    return NULL;
}

struct ibv_pd *ibv_alloc_pd(struct ibv_context *of)
{
    ck_assert_ptr_eq(of, &context);
    if (domains_left == 0)
        return NULL;
    domains_left--;
    domains++;
    return calloc(1, sizeof(struct ibv_pd));
}

int ibv_dealloc_pd(struct ibv_pd *pd)
{
    ck_assert_uint_eq(pd->handle, 0); /* regions in it */
    domains--;
    free(pd);
    return 0;
}

#undef ibv_reg_mr
struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t length,
                          int access)
{
    struct ibv_mr *mr = calloc(1, sizeof(*mr));

    (void)access;
    ck_assert(mr != NULL && addr != NULL && length != 0);
    mr->pd = pd;
    pd->handle++;
    return mr;
}

int ibv_dereg_mr(struct ibv_mr *mr)
{
    mr->pd->handle--;
    free(mr);
    return 0;
}

int rdma_create_id(struct rdma_event_channel *from, struct rdma_cm_id **out,
                   void *arg, enum rdma_port_space space)
{
    ck_assert(from == &channel && space == RDMA_PS_TCP);
    id = (struct rdma_cm_id){.verbs = &context, .context = arg};
    *out = &id;
    return 0;
}

int rdma_resolve_addr(struct rdma_cm_id *of, struct sockaddr *from,
                      struct sockaddr *to, int timeout_ms)
{
    ck_assert(of == &id && from != NULL && to != NULL && timeout_ms > 0);
    event =
        (struct rdma_cm_event){.id = &id, .event = RDMA_CM_EVENT_ADDR_RESOLVED};
    happens = true;
    return 0;
}

int rdma_get_cm_event(struct rdma_event_channel *from,
                      struct rdma_cm_event **out)
{
    ck_assert_ptr_eq(from, &channel);
    *out = &event;
    return happens ? (happens = false, 0) : -1;
}

int rdma_ack_cm_event(struct rdma_cm_event *e)
{
    ck_assert_ptr_eq(e, &event);
    return 0;
}

int rdma_disconnect(struct rdma_cm_id *of)
{
    ck_assert_ptr_eq(of->qp, &pair);
    return 0;
}

void rdma_destroy_qp(struct rdma_cm_id *of)
{
    ck_assert_ptr_eq(of->qp, &pair);
    of->qp = NULL;
}

int rdma_destroy_id(struct rdma_cm_id *of)
{
    ck_assert_ptr_null(of->qp);
    if (of != &id)
        free(of);
    return 0;
}

static int post_receive(struct ibv_qp *qp, struct ibv_recv_wr *wr,
                        struct ibv_recv_wr **bad)
{
    ck_assert(qp == &pair && wr != NULL && bad != NULL);
    return 0;
}

/* A message in the first buffer. */
static int poll_queue(struct ibv_cq *cq, int n, struct ibv_wc *wc)
{
    ck_assert(cq == &queue && n > 0);
    if (!completes)
        return 0;
    completes = false;
    *wc = (struct ibv_wc){.wr_id = (uint64_t)ID << 48 | (uint64_t)RECEIVE << 40,
                          .status = IBV_WC_SUCCESS,
                          .opcode = IBV_WC_RECV,
                          .byte_len = VERBS_MESSAGE};
    return 1;
}

/* ---- the process ---- */

static int keep(int fd)
{
    return fd;
}

static void let_go(int fd)
{
    close(fd);
}

static void on_message(void *owner, const struct control_message *message)
{
    (void)owner;
    (void)message;
}

static void on_death(void *owner)
{
    (void)owner;
}

static void on_broken(void *owner, enum reason reason)
{
    (void)owner;
    (void)reason;
    breaks++;
}

static bool counts(void *owner, uint64_t *wrote, uint64_t *took)
{
    (void)owner;
    *wrote = *took = 0;
    return true;
}

static void on_done(struct meeting *meeting, struct link *link,
                    enum reason reason)
{
    (void)meeting;
    ck_assert_ptr_null(link);
    why = reason;
    done++;
}

static void start(void)
{
    static const struct loop_calls calls = {keep, let_go};
    static const struct link_events events = {
        .message = on_message, .channel_dead = on_death, .broken = on_broken};
    struct backend_config config = {
        .max_memory = 1 << 30, .max_links = 100, .meet_ns = 10000000000};
    struct backend *backend;

    ck_assert_int_eq(loop_create(&calls, &loop), 0);
    ck_assert_int_eq(
        fastsock_backend_verbs.create(loop, &config, &events, &backend), 0);
    v = (struct verbs *)backend;
    v->cm = &channel;
    domains_left = 100;
    context.ops.poll_cq = poll_queue;
    context.ops.post_recv = post_receive;
    queue.context = pair.context = &context;
    queue.cqe = 1 << 20;
    device.refs = 1;
    device.verbs = v;
    device.context = &context;
    device.cq = &queue;
    v->devices = &device;
}

/* What is made here was not opened. */
static void stop(void)
{
    ck_assert_ptr_null(v->peers);
    v->cm = NULL;
    v->devices = NULL;
    fastsock_backend_verbs.destroy(&v->backend);
    loop_destroy(loop);
    ck_assert_int_eq(domains, 0);
}

static bool never_sleep(void *arg)
{
    (void)arg;
    return false;
}

static void turn(void)
{
    for (int i = 0; i < 3; i++)
        loop_turn(loop, never_sleep, NULL);
}

static struct verbs_peer *peer_make(void)
{
    size_t size = VERBS_RECVS * (size_t)VERBS_MESSAGE;
    struct verbs_peer *p = calloc(1, sizeof(*p));

    ck_assert_ptr_nonnull(p);
    p->cm = calloc(1, sizeof(*p->cm));
    ck_assert_ptr_nonnull(p->cm);
    p->cm->qp = &pair;
    p->peer.ops = &verbs_ops;
    p->refs = 1;
    p->verbs = v;
    p->device = &device;
    p->stage = VERBS_UP;
    p->established = true;
    atomic_fetch_add(&device.refs, 1);
    ck_assert_int_eq(verbs_queue_init(p), 0);
    ck_assert_int_eq(verbs_device_admit(p), 0);
    p->pd = ibv_alloc_pd(&context);
    ck_assert_int_eq(verbs_buffers_make(p, size), REASON_NONE);
    p->next = v->peers;
    v->peers = p;
    return p;
}

static void peer_ends(struct verbs_peer *p)
{
    verbs_fail(p);
    turn();
}

/* A link, or NULL for want of memory. */
static struct verbs_link *link_make(struct verbs_peer *p)
{
    enum reason reason;
    struct verbs_link *l = verbs_link_make(p, RING, &reason);

    ck_assert_str_eq(reason_token(reason), l != NULL ? "none" : "limit");
    if (l != NULL)
        l->ready = true;
    return l;
}

static void link_free(struct verbs_link *l)
{
    l->link.ops->free(&l->link);
}

static struct connection_name name(void)
{
    return (struct connection_name){.family = 4,
                                    .server = {10, 7, 0, 2},
                                    .client = {10, 7, 0, 1},
                                    .server_port = 7007,
                                    .client_port = 10000};
}

static void meeting_start(struct meeting *m, struct proof_log *proof,
                          bool initiator)
{
    char text[64] = "the first bytes of a connection";
    struct iovec iov = {text, sizeof(text)};

    memset(proof, 0, sizeof(*proof));
    proof_note(proof, PROOF_TO_SERVER, &iov, 1, iov.iov_len);
    *m = (struct meeting){.name = name(),
                          .initiator = initiator,
                          .ring_size = RING,
                          .counts = counts,
                          .proof = proof,
                          .done = on_done};
    done = 0;
    fastsock_backend_verbs.meeting_start(&v->backend, m);
}

/* As the other end asks for the connection of that name. */
static void hello_completes(struct verbs_peer *p)
{
    struct control_message m = {.type = MESSAGE_HELLO, .number = 1};
    struct connection_name n = name();
    struct hello_body hello = {.version_low = CONTROL_VERSION,
                               .version_high = CONTROL_VERSION,
                               .family = n.family,
                               .port_server = n.server_port,
                               .port_client = n.client_port,
                               .ring_size = RING};
    struct device_body asks = {.kept = {64, 0}};

    memcpy(hello.addr_server, n.server, 16);
    memcpy(hello.addr_client, n.client, 16);
    message_encode(&m, p->buffers);
    hello_encode(&hello, p->buffers + MESSAGE_SIZE);
    device_encode(&asks, p->buffers + MESSAGE_SIZE + HELLO_BODY_SIZE);
    completes = true;
    verbs_poll(&device, false);
    ck_assert(!completes);
}

static int kept_questions(void)
{
    int n = 0;

    for (int i = 0; i < VERBS_EARLY; i++)
        n += v->early[i].peer != NULL;
    return n;
}

/* ---- questions ---- */

START_TEST(a_question_that_was_kept_goes_with_its_peer)
{
    struct verbs_peer *p = peer_make();

    hello_completes(p);
    turn();
    ck_assert_int_eq(kept_questions(), 1);
    peer_ends(p);
    ck_assert_int_eq(kept_questions(), 0);
}
END_TEST

/* Another thread was reading completions while the helper buried the peer. */
START_TEST(a_question_that_completes_after_the_end_is_not_answered)
{
    struct verbs_peer *p = peer_make();
    struct verbs_link *l = link_make(p);
    struct proof_log proof;
    struct meeting m;

    peer_ends(p);
    ck_assert_int_eq(breaks, 1);
    hello_completes(p);
    turn();
    ck_assert_ptr_eq(v->peers, p);
    link_free(l);
    turn();
    ck_assert_ptr_null(v->peers);
    ck_assert_int_eq(kept_questions(), 0);
    meeting_start(&m, &proof, false);
    ck_assert(m.active && m.with == NULL);
    fastsock_backend_verbs.meeting_cancel(&m);
}
END_TEST

/* ---- protection domains ---- */

START_TEST(a_domain_goes_after_all_that_was_registered_in_it)
{
    struct verbs_peer *p = peer_make(), *q = peer_make();

    link_free(link_make(p));
    ck_assert_int_eq(domains, 2);
    peer_ends(q);
    peer_ends(p);
    ck_assert_int_eq(domains, 0);
}
END_TEST

START_TEST(a_device_that_has_no_domain_left_is_a_limit)
{
    struct proof_log proof;
    struct meeting m;

    domains_left = 0;
    meeting_start(&m, &proof, true);
    v->cm_watch.arg = v;
    verbs_cm_ready(&v->cm_watch, 0);
    turn();
    ck_assert_int_eq(done, 1);
    ck_assert_str_eq(reason_token(why), "limit");
}
END_TEST

/* ---- memory ---- */

static uint64_t registered(void)
{
    uint64_t size = 0;

    for (struct verbs_peer *p = v->peers; p != NULL; p = p->next)
        for (struct verbs_chunk *c = p->chunks; c != NULL; c = c->next)
            size += c->links * verbs_link_size(c->ring_size);
    return size;
}

START_TEST(a_link_counts_until_both_ends_have_left_it)
{
    struct verbs_peer *p = peer_make();

    v->config.max_memory = verbs_link_size(RING);
    link_free(link_make(p));
    ck_assert_ptr_null(link_make(p));
    verbs_slot_clear(p, 0, VERBS_SLOT_PEER);
    link_free(link_make(p));
    peer_ends(p);
    ck_assert_uint_eq(v->memory, 0);
}
END_TEST

START_TEST(what_a_peer_keeps_is_no_other_ones_until_it_goes)
{
    struct verbs_peer *p = peer_make(), *q = peer_make();

    v->config.max_memory = 3 * verbs_link_size(RING);
    for (int i = 0; i < 3; i++)
        link_free(link_make(p));
    ck_assert_ptr_null(link_make(q));
    peer_ends(p);
    for (int i = 0; i < 3; i++)
        link_free(link_make(q));
    peer_ends(q);
    ck_assert_uint_eq(v->memory, 0);
}
END_TEST

START_TEST(what_nobody_uses_is_given_back_when_another_peer_wants_it)
{
    struct verbs_peer *p = peer_make(), *q = peer_make();
    struct verbs_link *l[4];

    v->config.max_memory = 4 * verbs_link_size(RING);
    for (int i = 0; i < 3; i++)
        l[i] = link_make(p);
    p->posted = 7; /* the device may still read from its rings */
    for (unsigned i = 0; i < 3; i++) {
        link_free(l[i]);
        verbs_slot_clear(p, i, VERBS_SLOT_PEER);
    }
    for (int i = 0; i < 4; i++) {
        if (i == 1) {
            ck_assert_ptr_null(link_make(q));
            p->done = 6;
            ck_assert_ptr_null(link_make(q));
            p->done = 7;
        }
        l[i] = link_make(q);
        ck_assert_ptr_nonnull(l[i]);
        ck_assert_uint_le(registered(), v->config.max_memory);
    }
    ck_assert_uint_eq(v->memory, registered());
    for (int i = 0; i < 4; i++)
        link_free(l[i]);
    peer_ends(p);
    peer_ends(q);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("verbs_peer");
    TCase *tc = tcase_create("verbs_peer");

    tcase_add_checked_fixture(tc, start, stop);
    tcase_add_test(tc, a_question_that_was_kept_goes_with_its_peer);
    tcase_add_test(tc, a_question_that_completes_after_the_end_is_not_answered);
    tcase_add_test(tc, a_domain_goes_after_all_that_was_registered_in_it);
    tcase_add_test(tc, a_device_that_has_no_domain_left_is_a_limit);
    tcase_add_test(tc, a_link_counts_until_both_ends_have_left_it);
    tcase_add_test(tc, what_a_peer_keeps_is_no_other_ones_until_it_goes);
    tcase_add_test(tc,
                   what_nobody_uses_is_given_back_when_another_peer_wants_it);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
