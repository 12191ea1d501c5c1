/*
 * One connection that sends batches of requests and checks every byte of the
 * replies. The caller keeps the time and decides when to wait. Not for two
 * threads at once.
 */
#ifndef BENCH_SUPPORT_EXCHANGE_H
#define BENCH_SUPPORT_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "bench/support/requests.h"

struct exchange {
    int fd;                          /* owned by the caller; -1: no peer */
    const struct requests *requests; /* borrowed */
    unsigned depth;                  /* requests in a batch */
    unsigned get_percent;
    uint64_t random;
    const struct bytes **expected; /* ours: depth replies in order */
    unsigned n_done;               /* replies that are complete */
    size_t checked;                /* bytes seen of expected[n_done] */
    char *batch;                   /* ours: room for depth requests */
    const char *out;               /* what is to be sent, and how far it is */
    size_t out_len;
    size_t out_done;
    uint64_t bytes_in;   /* since exchange_init */
    uint64_t started_ns; /* the caller's: when the batch was written */
};

/*
 * With fd -1 the exchange answers itself out of the prepared replies: what
 * then remains is the program's own cost. Dies without memory.
 */
void exchange_init(struct exchange *x, int fd, const struct requests *requests,
                   unsigned depth, unsigned get_percent, uint64_t seed);

void exchange_fini(struct exchange *x);

/* Chooses the next batch. The one before must be complete. */
void exchange_prepare(struct exchange *x);

/* Writes what is left: 1 all is written, 0 would block, -errno. */
int exchange_write(struct exchange *x);

/*
 * Reads once, through buf: the number of replies that became complete, 0
 * none yet, -EAGAIN would block, -ECONNRESET the server ended, -EBADMSG it
 * answered something else (printed on standard error), other -errno.
 */
int exchange_read(struct exchange *x, char *buf, size_t size);

static inline bool exchange_complete(const struct exchange *x)
{
    return x->n_done == x->depth;
}

#endif
