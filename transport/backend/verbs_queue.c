/*
 * One connection's queues: what is posted, in which order, and what happens
 * when something completes.
 *
 * Whoever has something to post leaves it where the next flush finds it (the
 * outbox, or a flag of a link and the link's bit in `pending`) and kicks. One
 * thread at a time flushes: CREDIT first, out of slots that nothing else may
 * use; then messages; then, link by link, words, WANT and ROOM, and bytes.
 * What finds no slot or credit stays where it is, and whoever reads the
 * completions that bring one kicks again.
 *
 * Order is what later epochs rest on. A message PROPOSE or ACCEPT cuts what
 * its link had not posted: nobody wants these bytes any more, and the new
 * epoch begins at the same index.
 */
#include "transport/backend/verbs_private.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "transport/bell.h"
#include "transport/pause.h"
#include "transport/waiter_ids.h"

enum { KIND_RECEIVE = 1, KIND_SLOT, KIND_MESSAGE };

static uint64_t request_id(const struct verbs_peer *p, unsigned kind,
                           uint32_t number)
{
    return (uint64_t)p->id << 48 | (uint64_t)kind << 40 | number;
}

static uint32_t in_use(const struct verbs_peer *p)
{
    return p->posted - atomic_load_explicit(&p->done, memory_order_acquire);
}

void verbs_fail(struct verbs_peer *p)
{
    if (!atomic_exchange(&p->failed, true))
        verbs_tell(p->verbs);
}

/* queue_lock held, and a slot is free. False: the connection is gone. */
static bool post(struct verbs_peer *p, struct ibv_send_wr *wr, unsigned kind,
                 bool signal)
{
    struct ibv_send_wr *bad;

    wr->wr_id = request_id(p, kind, p->posted);
    if (signal || p->posted - p->signalled >= VERBS_SIGNAL_EVERY) {
        wr->send_flags |= IBV_SEND_SIGNALED;
        p->signalled = p->posted;
    }
    if (ibv_post_send(p->cm->qp, wr, &bad) != 0) {
        verbs_fail(p);
        return false;
    }
    p->posted++;
    return true;
}

/* A message of our own making. False: it has to wait. */
static bool post_message(struct verbs_peer *p, const struct control_message *m,
                         const uint8_t *body, uint32_t body_size)
{
    uint32_t idx = p->buffers_posted % VERBS_SEND_BUFFERS;
    uint8_t *at = p->buffers + (VERBS_RECVS + idx) * (size_t)VERBS_MESSAGE;
    struct ibv_sge sge = {(uintptr_t)at, MESSAGE_SIZE + body_size,
                          p->buffers_mr->lkey};
    struct ibv_send_wr wr = {
        .sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND};

    if (in_use(p) >= VERBS_SENDS ||
        p->buffers_posted - atomic_load(&p->buffers_done) >= VERBS_SEND_BUFFERS)
        return false;
    message_encode(m, at);
    if (body_size != 0)
        memcpy(at + MESSAGE_SIZE, body, body_size);
    if (!post(p, &wr, KIND_MESSAGE, true))
        return false;
    p->buffers_posted++;
    return true;
}

static bool post_counted(struct verbs_peer *p, const struct control_message *m,
                         const uint8_t *body, uint32_t body_size)
{
    if (!window_open(&p->control))
        return false;
    window_send(&p->control); /* the answer may be faster than we are */
    if (post_message(p, m, body, body_size))
        return true;
    window_unsend(&p->control);
    return false;
}

static bool flush_credit(struct verbs_peer *p)
{
    struct control_message m = {.type = MESSAGE_CREDIT};

    if (!window_due(&p->data) && !window_due(&p->control))
        return true;
    m.number = atomic_load(&p->data.seen);
    m.offset = atomic_load(&p->control.seen);
    if (!post_message(p, &m, NULL, 0))
        return false;
    p->data.told = m.number;
    p->control.told = m.offset;
    return true;
}

static void cut(struct verbs_peer *p, const struct control_message *m)
{
    struct verbs_link *l = m->stream < VERBS_LINKS ? p->link[m->stream] : NULL;

    if (l != NULL && (m->type == MESSAGE_PROPOSE || m->type == MESSAGE_ACCEPT))
        atomic_store(&l->posted, atomic_load(&l->wrote));
}

static bool flush_outbox(struct verbs_peer *p)
{
    for (;;) {
        struct verbs_out *o = &p->out[p->out_head % VERBS_OUTBOX];

        if (atomic_load_explicit(&o->turn, memory_order_acquire) !=
            p->out_head + 1)
            return true;
        if (!post_counted(p, &o->message, o->body, o->body_size))
            return false;
        cut(p, &o->message);
        free(o->body);
        o->body = NULL;
        atomic_store_explicit(&o->turn, p->out_head + VERBS_OUTBOX,
                              memory_order_release);
        p->out_head++;
    }
}

/* Our word `release` into the peer's memory; a newer value does no harm. */
static bool post_word(struct verbs_link *l, bool signal)
{
    struct verbs_peer *p = l->peer;
    struct ibv_sge sge = {(uintptr_t)&l->words->release_out, 8,
                          l->chunk->local->lkey};
    struct ibv_send_wr wr = {.sg_list = &sge,
                             .num_sge = 1,
                             .opcode = IBV_WR_RDMA_WRITE,
                             .wr.rdma = {l->peer_word, l->key}};

    if (in_use(p) >= VERBS_SENDS_DATA)
        return false;
    atomic_store(&l->words->release_out, atomic_load(&l->took));
    return post(p, &wr, KIND_SLOT, signal);
}

static bool post_piece(struct verbs_link *l, uint64_t at, uint32_t len)
{
    struct verbs_peer *p = l->peer;
    uint32_t idx = (uint32_t)at & (l->link.tx.size - 1);
    struct ibv_sge sge = {(uintptr_t)l->link.tx.bytes + idx, len,
                          l->chunk->local->lkey};
    struct ibv_send_wr wr = {.sg_list = &sge,
                             .num_sge = 1,
                             .opcode = IBV_WR_RDMA_WRITE_WITH_IMM,
                             .imm_data = htonl(piece_make(l->peer_idx, len)),
                             .wr.rdma = {l->peer_ring + idx, l->key}};

    if (in_use(p) >= VERBS_SENDS_DATA || !window_open(&p->data))
        return false;
    atomic_store(&l->last, p->posted);
    window_send(&p->data); /* the answer may be faster than we are */
    if (post(p, &wr, KIND_SLOT, false))
        return true;
    window_unsend(&p->data);
    return false;
}

static bool flush_bytes(struct verbs_link *l)
{
    /* `wrote` first: once it is the new epoch's, so is start_at. */
    uint64_t wrote = atomic_load_explicit(&l->wrote, memory_order_acquire);
    uint64_t start = atomic_load_explicit(&l->start_at, memory_order_acquire);
    uint64_t posted = atomic_load(&l->posted);

    if (posted < start)
        posted = start;
    while (posted < wrote) {
        uint32_t len = piece_next(posted, wrote, l->link.tx.size, VERBS_PIECE);

        if (!post_piece(l, posted, len))
            break;
        posted += len;
        atomic_store(&l->posted, posted);
    }
    return posted >= wrote;
}

/* What is due is taken before it is done, and put back if it cannot be. */
static bool due(_Atomic bool *flag)
{
    return atomic_load_explicit(flag, memory_order_relaxed) &&
           atomic_exchange(flag, false);
}

static bool again(_Atomic bool *flag)
{
    atomic_store(flag, true);
    return false;
}

static bool flush_link(struct verbs_link *l)
{
    struct control_message m = {.link = l->peer_idx, .stream = l->idx};

    if (due(&l->word_due) && !post_word(l, false))
        return again(&l->word_due);
    if (due(&l->want_due)) {
        m.type = MESSAGE_WANT;
        if (!post_counted(l->peer, &m, NULL, 0))
            return again(&l->want_due);
    }
    if (due(&l->room_due)) {
        m.type = MESSAGE_ROOM;
        if (!post_counted(l->peer, &m, NULL, 0))
            return again(&l->room_due);
    }
    if (!flush_bytes(l))
        return false;
    if (due(&l->sync_due) && !post_word(l, true))
        return again(&l->sync_due);
    return true;
}

static bool flush_links(struct verbs_peer *p)
{
    bool all = true;

    for (unsigned i = 0; i < VERBS_MARK_WORDS; i++) {
        uint64_t bits =
            atomic_load_explicit(&p->pending[i], memory_order_relaxed);

        if (bits == 0)
            continue;
        bits = atomic_exchange(&p->pending[i], 0);
        for (; bits != 0; bits &= bits - 1) {
            unsigned bit = (unsigned)__builtin_ctzll(bits);
            struct verbs_link *l = p->link[i * 64 + bit];

            if (l == NULL || !l->ready)
                continue;
            if (!flush_link(l)) {
                atomic_fetch_or(&p->pending[i], UINT64_C(1) << bit);
                all = false;
            }
        }
    }
    return all;
}

/* Posts what can be posted. Any thread, also a signal handler. */
void verbs_kick(struct verbs_peer *p)
{
    atomic_store(&p->work, true);
    do {
        bool all;

        if (!lock_try_enter(&p->queue_lock))
            return; /* its holder looks at `work` again */
        atomic_store(&p->work, false);
        if (atomic_load(&p->up) && !atomic_load(&p->failed)) {
            all = flush_credit(p) && flush_outbox(p);
            all = flush_links(p) && all;
            atomic_store(&p->starved, !all);
        }
        lock_leave(&p->queue_lock);
        full_fence();
    } while (atomic_load(&p->work));
}

void verbs_pend(struct verbs_link *l)
{
    atomic_fetch_or(&l->peer->pending[l->idx >> 6], UINT64_C(1)
                                                        << (l->idx & 63));
}

/*
 * Queues a message; the body becomes ours. Any thread. -EPIPE: the connection
 * is gone, or the peer reads so little that it may as well be.
 */
int verbs_say(struct verbs_peer *p, struct control_message *m,
              const uint8_t *body, uint32_t body_size)
{
    uint32_t at = atomic_load(&p->out_tail);
    struct verbs_out *o;
    uint8_t *copy = NULL;

    if (atomic_load(&p->failed))
        return -EPIPE;
    if (body_size != 0) {
        copy = malloc(body_size);
        if (copy == NULL)
            return -ENOMEM;
        memcpy(copy, body, body_size);
    }
    do {
        o = &p->out[at % VERBS_OUTBOX];
        if (atomic_load_explicit(&o->turn, memory_order_acquire) != at) {
            uint32_t now = atomic_load(&p->out_tail);

            if (now != at) {
                at = now;
                continue;
            }
            free(copy);
            verbs_fail(p);
            return -EPIPE;
        }
        if (atomic_compare_exchange_weak(&p->out_tail, &at, at + 1))
            break;
    } while (true);
    o->message = *m;
    o->body = copy;
    o->body_size = body_size;
    atomic_store_explicit(&o->turn, at + 1, memory_order_release);
    verbs_kick(p);
    return 0;
}

/* ---- what arrives; poll_lock held ---- */

static bool receive(struct verbs_peer *p, uint32_t idx)
{
    uint8_t *at = p->buffers + idx * (size_t)VERBS_MESSAGE;
    struct ibv_sge sge = {(uintptr_t)at, VERBS_MESSAGE, p->buffers_mr->lkey};
    struct ibv_recv_wr *bad, wr = {.wr_id = request_id(p, KIND_RECEIVE, idx),
                                   .sg_list = &sge,
                                   .num_sge = 1};

    if (ibv_post_recv(p->cm->qp, &wr, &bad) != 0)
        return false;
    atomic_fetch_add(&p->receives, 1);
    return true;
}

int verbs_queue_receive(struct verbs_peer *p)
{
    for (uint32_t i = 0; i < VERBS_RECVS; i++)
        if (!receive(p, i))
            return -ENOMEM;
    return 0;
}

static void mark(struct verbs_waiter *w, unsigned idx)
{
    uint64_t bit = UINT64_C(1) << (idx & 63);
    uint64_t word = UINT64_C(1) << (idx >> 6);

    if (!(atomic_load(&w->mark[idx >> 6]) & bit))
        atomic_fetch_or(&w->mark[idx >> 6], bit);
    if (!(atomic_load(&w->marked) & word))
        atomic_fetch_or(&w->marked, word);
}

/* After something that a waiter of this link may wait for. */
void verbs_notify(struct verbs_link *l)
{
    const struct backend_config *config = &l->peer->verbs->config;
    uint64_t ids, markers;

    full_fence();
    ids = atomic_load_explicit(&l->watchers, memory_order_relaxed);
    markers = atomic_load_explicit(&l->markers, memory_order_relaxed);
    for (; ids != 0; ids >>= 16) {
        unsigned id = ids & 0xffff;
        struct verbs_waiter *w;

        if (id == 0 || id >= WAITERS_MAX)
            continue;
        w = &l->peer->waiter[id];
        if (markers != 0 && waiter_ids_have(markers, id))
            mark(w, l->idx);
        if (atomic_load_explicit(&w->armed, memory_order_relaxed) != 0 &&
            atomic_exchange(&w->armed, 0) != 0)
            bell_ring(config->ringer, config->bell_token, id);
    }
}

static void land(struct verbs_peer *p, uint32_t piece)
{
    struct verbs_link *l = p->link[piece_index(piece)];
    uint64_t landed;

    window_see(&p->data);
    if (l == NULL)
        return; /* freed while it was under way */
    landed = atomic_load_explicit(&l->landed, memory_order_relaxed);
    if (piece_land(atomic_load_explicit(&l->took, memory_order_acquire),
                   l->link.rx.size, piece_length(piece), &landed) < 0)
        atomic_store(&l->fault, true);
    else
        atomic_store_explicit(&l->landed, landed, memory_order_release);
    verbs_notify(l);
}

static void wanted(struct verbs_link *l)
{
    uint64_t held;

    atomic_store(&l->peer_wants, true);
    full_fence();
    held = atomic_load(&l->landed) - atomic_load(&l->took);
    if (held > l->link.rx.size - l->link.rx.size / 3)
        return;
    if (!atomic_exchange(&l->peer_wants, false))
        return;
    atomic_store(&l->word_due, true);
    atomic_store(&l->room_due, true);
    verbs_pend(l);
}

static void keep_message(struct verbs_peer *p, const uint8_t *bytes,
                         uint32_t len)
{
    uint32_t tail = atomic_load(&p->in_tail);

    if (tail - atomic_load(&p->in_head) >= VERBS_CONTROL) {
        verbs_fail(p); /* beyond its credit */
        return;
    }
    memset(p->inbox[tail % VERBS_CONTROL], 0, VERBS_MESSAGE);
    memcpy(p->inbox[tail % VERBS_CONTROL], bytes, len);
    atomic_store(&p->in_tail, tail + 1);
    verbs_tell(p->verbs);
}

static void hear(struct verbs_peer *p, const uint8_t *bytes, uint32_t len)
{
    struct control_message m;
    struct verbs_link *l;
    int rc = message_decode(bytes, len, &m);

    if (rc == 0 && m.type == MESSAGE_CREDIT) {
        if (window_return(&p->data, m.number) < 0 ||
            window_return(&p->control, m.offset) < 0)
            verbs_fail(p);
        return;
    }
    if (rc == 0 && m.type != MESSAGE_WANT && m.type != MESSAGE_ROOM) {
        keep_message(p, bytes, len);
        return;
    }
    window_see(&p->control);
    if (rc < 0) {
        if (rc != -EOPNOTSUPP)
            verbs_fail(p);
        return;
    }
    l = m.link < VERBS_LINKS ? p->link[m.link] : NULL;
    if (l == NULL)
        return;
    if (m.type == MESSAGE_WANT) {
        wanted(l);
    } else {
        atomic_store(&l->asked, false);
        verbs_notify(l);
    }
}

static void received(struct verbs_peer *p, const struct ibv_wc *wc)
{
    uint32_t idx = (uint32_t)wc->wr_id;

    atomic_fetch_sub(&p->receives, 1);
    if (wc->status != IBV_WC_SUCCESS) {
        verbs_fail(p);
        return;
    }
    if (wc->opcode == IBV_WC_RECV_RDMA_WITH_IMM)
        land(p, ntohl(wc->imm_data));
    else if (wc->byte_len <= VERBS_MESSAGE)
        hear(p, p->buffers + idx * (size_t)VERBS_MESSAGE, wc->byte_len);
    if (!atomic_load(&p->failed) && !receive(p, idx))
        verbs_fail(p);
}

void verbs_completed(struct verbs_device *d, const struct ibv_wc *wc)
{
    uint16_t id = (uint16_t)(wc->wr_id >> 48);
    struct verbs_peer *p = d->peer[id % VERBS_PEERS];

    if (p == NULL || p->id != id)
        return; /* of a queue pair that is gone */
    p->touched = true;
    switch (wc->wr_id >> 40 & 0xff) {
    case KIND_RECEIVE:
        received(p, wc);
        return;
    case KIND_MESSAGE:
        atomic_fetch_add(&p->buffers_done, 1);
        break;
    }
    if (wc->status == IBV_WC_SUCCESS)
        atomic_store_explicit(&p->done, (uint32_t)wc->wr_id + 1,
                              memory_order_release);
    else
        verbs_fail(p);
}

/* ---- memory ---- */

int verbs_queue_init(struct verbs_peer *p)
{
    p->data.size = VERBS_DATA;
    p->control.size = VERBS_CONTROL;
    p->out = calloc(VERBS_OUTBOX, sizeof(*p->out));
    p->inbox = calloc(VERBS_CONTROL, sizeof(*p->inbox));
    p->waiter = calloc(WAITERS_MAX, sizeof(*p->waiter));
    if (p->out == NULL || p->inbox == NULL || p->waiter == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < VERBS_OUTBOX; i++)
        atomic_init(&p->out[i].turn, i);
    return 0;
}

void verbs_queue_fini(struct verbs_peer *p)
{
    for (uint32_t i = 0; p->out != NULL && i < VERBS_OUTBOX; i++)
        free(p->out[i].body);
    free(p->out);
    free(p->inbox);
    free(p->waiter);
}
