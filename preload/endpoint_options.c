/*
 * What the application has set on the file, by whichever number, in whichever
 * process, or on the listener that it came from: while a stream is on TCP the
 * kernel has it all, so it is asked each time before the stream leaves.
 */
#include "preload/endpoint.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "transport/kernel_calls.h"

/* Options that deliver what a link cannot, if they are more than that. */
static const struct {
    int level, name, most;
} to_ask[] = {
    {SOL_SOCKET, SO_RCVLOWAT, 1},        {SOL_SOCKET, SO_OOBINLINE, 0},
    {SOL_SOCKET, SO_TIMESTAMP, 0},       {SOL_SOCKET, SO_TIMESTAMPNS, 0},
    {SOL_SOCKET, SO_TIMESTAMPING, 0},    {SOL_SOCKET, SO_TIMESTAMP_NEW, 0},
    {SOL_SOCKET, SO_TIMESTAMPNS_NEW, 0}, {SOL_SOCKET, SO_TIMESTAMPING_NEW, 0},
    {SOL_SOCKET, SO_ZEROCOPY, 0},        {IPPROTO_TCP, TCP_INQ, 0}};

/*
 * Linux counts ticks, a thousand a second at most, and what is too long for
 * that is for ever: sock_set_timeout(). Nanoseconds end earlier, after 292
 * years.
 */
uint64_t endpoint_time_of(const struct timeval *t)
{
    if (t->tv_sec < 0)
        return ENDPOINT_NO_TIME;
    if (t->tv_sec >= LONG_MAX / 1000 - 1)
        return 0;
    if (t->tv_sec >= INT64_MAX / 1000000000)
        return INT64_MAX;
    return (uint64_t)t->tv_sec * 1000000000u + (uint64_t)t->tv_usec * 1000;
}

/* "No time" and "for ever" are both told as 0. */
static void ask_time(int fd, int name, uint64_t *ns)
{
    struct timeval t = {0, 0};
    socklen_t len = sizeof(t);

    if (kernel_getsockopt(fd, SOL_SOCKET, name, &t, &len) < 0 ||
        (*ns == ENDPOINT_NO_TIME && t.tv_sec == 0 && t.tv_usec == 0))
        return;
    *ns = endpoint_time_of(&t);
}

bool endpoint_options_allow(struct endpoint *e)
{
    int fd = e->stream.fd, flags = kernel_fcntl(fd, F_GETFL, 0);

    if (flags < 0 || (flags & O_ASYNC))
        return false;
    for (size_t i = 0; i < sizeof(to_ask) / sizeof(to_ask[0]); i++) {
        int value = 0;
        socklen_t len = sizeof(value);

        if (kernel_getsockopt(fd, to_ask[i].level, to_ask[i].name, &value,
                              &len) == 0 &&
            value > to_ask[i].most)
            return false;
    }
    atomic_store(&e->nonblocking, (flags & O_NONBLOCK) != 0);
    ask_time(fd, SO_RCVTIMEO, &e->rcvtimeo_ns);
    ask_time(fd, SO_SNDTIMEO, &e->sndtimeo_ns);
    return true;
}

bool endpoint_options_lock(struct endpoint *e)
{
    if (stream_in_handler(&e->stream))
        return false;
    stream_lock_all(&e->stream);
    return true;
}

void endpoint_options_unlock(struct endpoint *e, bool locked)
{
    if (locked)
        stream_unlock_all(&e->stream);
}
