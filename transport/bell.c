/*
 * See bell.h.
 */
#include "transport/bell.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "transport/kernel_calls.h"
#include "transport/pause.h"

enum {
    RINGS_AT_ONCE = 4,
    RINGS_MOST = 64,
    RING_MOST_NS = 50000 /* longer, and the thread lost its CPU meanwhile */
};

_Atomic uint32_t bell_ring_ns;

static socklen_t bell_name(struct sockaddr_un *name, uint64_t token,
                           unsigned waiter)
{
    static const char digits[] = "0123456789abcdef";
    char *p = name->sun_path + 1;

    memset(name, 0, sizeof(*name));
    name->sun_family = AF_UNIX;
    memcpy(p, "fastsock.bell.", 14);
    p += 14;
    for (int shift = 60; shift >= 0; shift -= 4)
        *p++ = digits[token >> shift & 15];
    *p++ = '.';
    for (int shift = 12; shift >= 0; shift -= 4)
        *p++ = digits[waiter >> shift & 15];
    return (socklen_t)(p - (char *)name);
}

int bell_open(uint64_t token, unsigned waiter)
{
    struct sockaddr_un name;
    socklen_t len = bell_name(&name, token, waiter);
    int fd = kernel_socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int rc;

    if (fd < 0)
        return fd;
    rc = kernel_bind(fd, &name, len);
    if (rc < 0) {
        kernel_close(fd);
        return rc;
    }
    return fd;
}

int bell_ringer_open(void)
{
    return kernel_socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

/*
 * Rings that nobody has drained count against the socket they came from: some
 * 280, and it sends no more, not even to a bell that is empty. Those of a peer
 * that is stopped, or of many threads that were woken at once, may be as many.
 * Another socket takes its place then; what is under way stays so.
 */
static void ring_anew(int ringer, const struct sockaddr_un *name, socklen_t len)
{
    int fresh = bell_ringer_open();

    if (fresh < 0)
        return;
    if (kernel_sendto(fresh, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL, name, len) !=
        -EAGAIN)
        kernel_dup3(fresh, ringer, O_CLOEXEC);
    kernel_close(fresh);
}

/* An average over some eight; two threads at once may lose one of them. */
static void note_duration(uint64_t ns)
{
    uint32_t before = atomic_load_explicit(&bell_ring_ns, memory_order_relaxed);

    if (ns < RING_MOST_NS)
        atomic_store_explicit(
            &bell_ring_ns,
            before == 0 ? (uint32_t)ns : before - before / 8 + (uint32_t)ns / 8,
            memory_order_relaxed);
}

void bell_ring(int ringer, uint64_t token, unsigned waiter)
{
    struct sockaddr_un name;
    socklen_t len = bell_name(&name, token, waiter);
    uint64_t began = clock_ns();

    /* The bell is full and rings already, or the ringer is. */
    if (kernel_sendto(ringer, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL, &name, len) ==
        -EAGAIN)
        ring_anew(ringer, &name, len);
    note_duration(clock_ns() - began);
}

static int drain_singly(int bell)
{
    char c;
    int n = 0;

    while (n < RINGS_MOST && kernel_recv(bell, &c, 1, MSG_DONTWAIT) >= 0)
        n++;
    return n;
}

/* Mostly there is one: it and the end in one call. */
int bell_drain(int bell)
{
    struct mmsghdr rings[RINGS_AT_ONCE];
    int n = 0, got;

    do {
        memset(rings, 0, sizeof(rings));
        got = kernel_recvmmsg(bell, rings, RINGS_AT_ONCE, MSG_DONTWAIT);
        if (got < 0 && got != -EAGAIN) /* a filter of system calls, perhaps */
            return n + drain_singly(bell);
        n += got > 0 ? got : 0;
    } while (got == RINGS_AT_ONCE && n < RINGS_MOST);
    return n;
}
