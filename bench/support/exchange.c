/*
 * A batch is complete when n_done = depth. Replies come in the order of the
 * requests, in pieces of any size: expected[n_done] and checked say where the
 * next byte belongs.
 */
#include "bench/support/exchange.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/support/program.h"

void exchange_init(struct exchange *x, int fd, const struct requests *requests,
                   unsigned depth, unsigned get_percent, uint64_t seed)
{
    size_t longest = requests->get[0].len;

    if (get_percent < 100)
        longest = requests->set[0].len;
    memset(x, 0, sizeof(*x));
    x->fd = fd;
    x->requests = requests;
    x->depth = depth;
    x->get_percent = get_percent;
    x->random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    x->expected = calloc(depth, sizeof(*x->expected));
    x->batch = depth > 1 ? malloc(depth * longest) : NULL;
    if (!x->expected || (depth > 1 && !x->batch))
        program_die("no memory for %u requests of %zu bytes: a smaller depth "
                    "(-d)",
                    depth, longest);
    x->n_done = depth;
}

void exchange_fini(struct exchange *x)
{
    free(x->batch);
    free(x->expected);
}

static uint64_t next_random(struct exchange *x)
{
    x->random ^= x->random << 13;
    x->random ^= x->random >> 7;
    x->random ^= x->random << 17;
    return x->random >> 16;
}

static const struct bytes *choose(struct exchange *x,
                                  const struct bytes **reply)
{
    uint64_t random = next_random(x);
    uint64_t key = (uint32_t)random * (uint64_t)x->requests->n >> 32;

    if (x->get_percent == 100 || (random >> 32) % 100 < x->get_percent) {
        *reply = &x->requests->value[key];
        return &x->requests->get[key];
    }
    *reply = &x->requests->stored;
    return &x->requests->set[key];
}

void exchange_prepare(struct exchange *x)
{
    x->n_done = 0;
    x->checked = 0;
    x->out_done = 0;
    if (x->depth == 1) {
        const struct bytes *request = choose(x, &x->expected[0]);

        x->out = request->at;
        x->out_len = request->len;
        return;
    }
    x->out = x->batch;
    x->out_len = 0;
    for (unsigned i = 0; i < x->depth; i++) {
        const struct bytes *request = choose(x, &x->expected[i]);

        memcpy(x->batch + x->out_len, request->at, request->len);
        x->out_len += request->len;
    }
}

int exchange_write(struct exchange *x)
{
    if (x->fd < 0)
        x->out_done = x->out_len;
    while (x->out_done < x->out_len) {
        ssize_t n = send(x->fd, x->out + x->out_done, x->out_len - x->out_done,
                         MSG_NOSIGNAL);

        if (n >= 0)
            x->out_done += (size_t)n;
        else if (errno == EAGAIN)
            return 0;
        else if (errno != EINTR)
            return -errno;
    }
    return 1;
}

static void show(const char *what, const char *at, size_t len)
{
    fprintf(stderr, "%s: %s \"", program_invocation_short_name, what);
    for (size_t i = 0; i < len && i < 80; i++) {
        if (isprint((unsigned char)at[i]) && at[i] != '\\')
            fputc(at[i], stderr);
        else
            fprintf(stderr, "\\x%02x", (unsigned char)at[i]);
    }
    fprintf(stderr, "\"%s\n", len > 80 ? "..." : "");
}

/* Says where the reply differs from what it should be. */
static int refuse(const struct exchange *x, const char *at, size_t len)
{
    if (exchange_complete(x)) {
        show("bytes that nobody asked for:", at, len);
        return -EBADMSG;
    }
    fprintf(stderr, "%s: wrong reply %u of %u, at or after its byte %zu\n",
            program_invocation_short_name, x->n_done + 1, x->depth, x->checked);
    show("expected", x->expected[x->n_done]->at + x->checked,
         x->expected[x->n_done]->len - x->checked);
    show("got", at, len);
    return -EBADMSG;
}

static int check(struct exchange *x, const char *at, size_t len)
{
    unsigned done_before = x->n_done;

    while (len > 0) {
        const struct bytes *reply;
        size_t n;

        if (exchange_complete(x))
            return refuse(x, at, len);
        reply = x->expected[x->n_done];
        n = reply->len - x->checked;
        if (n > len)
            n = len;
        if (memcmp(at, reply->at + x->checked, n) != 0)
            return refuse(x, at, n);
        at += n;
        len -= n;
        x->checked += n;
        if (x->checked == reply->len) {
            x->checked = 0;
            x->n_done++;
        }
    }
    return (int)(x->n_done - done_before);
}

static ssize_t answer_itself(struct exchange *x, char *buf, size_t size)
{
    const struct bytes *reply = x->expected[x->n_done];
    size_t n = reply->len - x->checked;

    if (n > size)
        n = size;
    memcpy(buf, reply->at + x->checked, n);
    return (ssize_t)n;
}

int exchange_read(struct exchange *x, char *buf, size_t size)
{
    ssize_t n;

    do {
        n = x->fd < 0 ? answer_itself(x, buf, size) : read(x->fd, buf, size);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    if (n == 0)
        return -ECONNRESET;
    x->bytes_in += (uint64_t)n;
    return check(x, buf, (size_t)n);
}
