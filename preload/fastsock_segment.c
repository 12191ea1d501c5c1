/*
 * See fastsock_segment.h. The mapping may change under us at any time, so
 * every word of it is read once, into a copy, and only the copy is judged.
 */
#include "preload/fastsock_segment.h"

#include <errno.h>
#include <string.h>

#include "transport/shared_memory.h"

/* Word by word: the counters are never seen half written. */
static void copy_words(void *to, const void *from, size_t size)
{
    const volatile uint64_t *source = from;
    unsigned char *out = to;

    for (size_t i = 0; i < size / sizeof(*source); i++) {
        uint64_t word = source[i];

        memcpy(out + i * sizeof(word), &word, sizeof(word));
    }
}

void segment_printable(const char *text, size_t size, char *out)
{
    size_t n = 0;

    for (; n < size && text[n] != '\0'; n++)
        out[n] = text[n] >= ' ' && text[n] <= '~' ? text[n] : '?';
    out[n] = '\0';
}

int segment_open(int fd, struct segment *segment)
{
    struct stats_header head;
    size_t size;
    void *at;
    int rc;

    rc = memory_check(fd, stats_size(), SIZE_MAX, &size);
    if (rc < 0)
        return rc;
    rc = memory_map(fd, stats_size(), false, &at);
    if (rc < 0)
        return rc;
    copy_words(&head, at, sizeof(head));
    rc = -EAGAIN;
    if (head.magic == 0)
        goto unmap;
    rc = -EPROTO;
    if (head.magic != STATS_MAGIC)
        goto unmap;
    rc = -EPROTONOSUPPORT;
    if (head.version != STATS_VERSION)
        goto unmap;
    rc = -EPROTO;
    if (head.rows == 0 || head.rows > STATS_ROWS)
        goto unmap;
    segment->at = at;
    segment->rows = head.rows;
    return 0;

unmap:
    memory_unmap(at, stats_size());
    return rc;
}

void segment_close(struct segment *segment)
{
    memory_unmap((void *)segment->at, stats_size());
    segment->at = NULL;
    segment->rows = 0;
}

void segment_head(const struct segment *segment, struct segment_head *out)
{
    struct stats_header h;

    copy_words(&h, segment->at, sizeof(h));
    *out = (struct segment_head){
        .pid = h.pid,
        .started_ns = h.started_ns,
        .streams_seen = h.streams_seen,
        .streams_up = h.streams_up,
        .returns = h.returns,
        .broken = h.broken,
        .unlisted = h.unlisted,
        .withdrawn = reason_from(h.withdrawn),
        .closed_out = h.closed_out,
        .closed_in = h.closed_in,
        .closed_link_out = h.closed_link_out,
        .closed_link_in = h.closed_link_in,
        .sleeps = h.sleeps,
        .spins_hit = h.spins_hit,
        .spins_missed = h.spins_missed,
        .spun_in_vain_ns = h.spun_in_vain_ns,
        .bells = h.bells,
        .spinners = h.spinners,
        .spin_budget_ns = h.spin_budget_ns,
        .cpu_quota = h.cpu_quota,
    };
    segment_printable(h.program, sizeof(h.program), out->program);
}

unsigned segment_highest(const struct segment *segment)
{
    const volatile struct stats_header *h = segment->at;
    unsigned highest = h->highest;

    return highest < segment->rows ? highest : segment->rows;
}

/* Counts are written one after the other: a part may be ahead of the whole. */
static uint64_t rest(uint64_t whole, uint64_t part)
{
    return part < whole ? whole - part : 0;
}

static void take_names(const struct stats_row *row, struct segment_row *out)
{
    if (row->family != 4 && row->family != 6)
        return;
    out->family = row->family;
    out->local.port = row->local_port;
    out->peer.port = row->peer_port;
    memcpy(out->local.address, row->local, sizeof(row->local));
    memcpy(out->peer.address, row->peer, sizeof(row->peer));
    if (row->family == 4) {
        memset(out->local.address + 4, 0, 12);
        memset(out->peer.address + 4, 0, 12);
    }
}

bool segment_row(const struct segment *segment, unsigned i,
                 struct segment_row *out)
{
    const volatile struct stats_row *live;
    struct stats_row row;

    if (i >= segment->rows)
        return false;
    live = (const volatile struct stats_row *)((const char *)segment->at +
                                               sizeof(struct stats_header)) +
           i;
    if (live->used != 1)
        return false;
    copy_words(&row, (const void *)live, sizeof(row));
    atomic_thread_fence(memory_order_acquire);
    if (row.used != 1 || live->used != 1 || live->opened_ns != row.opened_ns)
        return false;
    if (row.fd > INT32_MAX || row.stage > STATS_STAGE_DEAD)
        return false;
    *out = (struct segment_row){
        .fd = row.fd,
        .stage = row.stage,
        .reason = reason_from(row.reason),
        .last_return = reason_from(row.last_return),
        .since_ns = row.since_ns > row.opened_ns ? row.since_ns : row.opened_ns,
        .opened_ns = row.opened_ns,
        .initiator = row.initiator != 0,
        .peer_pid = row.peer_pid <= INT32_MAX ? row.peer_pid : 0,
        .ups = row.ups,
        .returns = row.returns,
        .tcp_out = rest(row.out, row.link_out),
        .tcp_in = rest(row.in, row.link_in),
        .link_out = row.link_out,
        .link_in = row.link_in,
    };
    for (unsigned t = 0; t < STATS_TRANSPORTS; t++)
        out->not_over[t] = reason_from(row.not_over[t]);
    segment_printable(row.transport, sizeof(row.transport), out->transport);
    take_names(&row, out);
    return true;
}
