/*
 * Options of sockets. Those that say how TCP is to behave go to the kernel,
 * which keeps them; those that make it deliver something a link cannot, and
 * those that nobody here has heard of, bring the stream back first.
 */
#include "preload/intercept_io.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/time.h>

enum { NEW_RCVTIMEO = 66, NEW_SNDTIMEO = 67 }; /* as of Linux 5.1 */

/* Options that say nothing about which bytes come and when. */
static const unsigned char socket_known[] = {
    SO_DEBUG,     SO_REUSEADDR,    SO_TYPE,     SO_ERROR,        SO_DONTROUTE,
    SO_BROADCAST, SO_SNDBUF,       SO_RCVBUF,   SO_SNDBUFFORCE,  SO_RCVBUFFORCE,
    SO_KEEPALIVE, SO_NO_CHECK,     SO_PRIORITY, SO_LINGER,       SO_BSDCOMPAT,
    SO_REUSEPORT, SO_SNDLOWAT,     SO_RCVTIMEO, SO_SNDTIMEO,     NEW_RCVTIMEO,
    NEW_SNDTIMEO, SO_BINDTODEVICE, SO_MARK,     SO_INCOMING_CPU, SO_BUSY_POLL,
};

static const unsigned char tcp_known[] = {
    TCP_NODELAY,       TCP_MAXSEG,       TCP_CORK,
    TCP_KEEPIDLE,      TCP_KEEPINTVL,    TCP_KEEPCNT,
    TCP_SYNCNT,        TCP_LINGER2,      TCP_DEFER_ACCEPT,
    TCP_WINDOW_CLAMP,  TCP_QUICKACK,     TCP_CONGESTION,
    TCP_THIN_DUPACK,   TCP_USER_TIMEOUT, TCP_THIN_LINEAR_TIMEOUTS,
    TCP_NOTSENT_LOWAT, TCP_FASTOPEN,     TCP_FASTOPEN_CONNECT,
};

/* And these, as long as they are switched off. */
static const unsigned char socket_off[] = {
    SO_OOBINLINE, SO_TIMESTAMP, SO_TIMESTAMPNS, SO_TIMESTAMPING, SO_ZEROCOPY};

static bool among(int name, const unsigned char *list, size_t n)
{
    return name >= 0 && name < 256 && memchr(list, name, n) != NULL;
}

static bool needs_kernel(int level, int name, const void *value, socklen_t len)
{
    int on = 0;

    if (value != NULL && len >= sizeof(on))
        memcpy(&on, value, sizeof(on));
    if (level == SOL_SOCKET)
        return !among(name, socket_known, sizeof(socket_known)) &&
               !(name == SO_RCVLOWAT && on <= 1) &&
               (on != 0 || !among(name, socket_off, sizeof(socket_off)));
    if (level == IPPROTO_TCP)
        return !among(name, tcp_known, sizeof(tcp_known)) &&
               !(name == TCP_INQ && on == 0);
    return level == SOL_TLS; /* IP: of packets. Others: there are none. */
}

static uint64_t time_of(const void *value, socklen_t len)
{
    struct timeval t = {0, 0};

    if (len >= sizeof(t))
        memcpy(&t, value, sizeof(t));
    return endpoint_time_of(&t);
}

/* The application's SO_LINGER while the socket carries ours. */
static bool linger_aside(struct endpoint *e, const void *value, socklen_t len)
{
    bool aside;

    if (len < sizeof(struct linger))
        return false;
    stream_lock_all(&e->stream);
    aside = e->stream.linger_changed;
    if (aside)
        memcpy(&e->stream.linger, value, sizeof(struct linger));
    stream_unlock_all(&e->stream);
    return aside;
}

static int set_time(struct endpoint *e, int fd, int name, const void *value,
                    socklen_t len)
{
    bool locked = endpoint_options_lock(e);
    int rc = REAL(setsockopt)(fd, SOL_SOCKET, name, value, len);

    if (rc == 0 && (name == SO_RCVTIMEO || name == NEW_RCVTIMEO))
        e->rcvtimeo_ns = time_of(value, len);
    else if (rc == 0)
        e->sndtimeo_ns = time_of(value, len);
    endpoint_options_unlock(e, locked);
    return rc;
}

static int set_on_socket(struct endpoint *e, int fd, int name,
                         const void *value, socklen_t len)
{
    int rc;

    if (name == SO_LINGER && linger_aside(e, value, len))
        return 0;
    if (name == SO_RCVTIMEO || name == SO_SNDTIMEO || name == NEW_RCVTIMEO ||
        name == NEW_SNDTIMEO)
        return set_time(e, fd, name, value, len);
    rc = REAL(setsockopt)(fd, SOL_SOCKET, name, value, len);
    if (rc == 0 && name == SO_RCVLOWAT) /* tcp_set_rcvlowat() of Linux */
        stream_tell_unread(&e->stream);
    return rc;
}

EXPORT int setsockopt(int fd, int level, int name, const void *value,
                      socklen_t len)
{
    struct endpoint *e = intercepted(fd);
    int rc;

    if (likely(e == NULL) || (int)len < 0 || !readable(value, len))
        return REAL(setsockopt)(fd, level, name, value, len);
    if (needs_kernel(level, name, value, len)) {
        e->needs_kernel = true;
        endpoint_banish(e, REASON_UNSUPPORTED_CALL);
    }
    if (level == SOL_SOCKET)
        return set_on_socket(e, fd, name, value, len);
    if (level != IPPROTO_TCP || name != TCP_NODELAY)
        return REAL(setsockopt)(fd, level, name, value, len);
    /* A stream that sends records plays with this one for a moment. */
    if (stream_in_handler(&e->stream)) /* a handler in its own call */
        return REAL(setsockopt)(fd, level, name, value, len);
    stream_lock_all(&e->stream);
    rc = REAL(setsockopt)(fd, level, name, value, len);
    stream_unlock_all(&e->stream);
    return rc;
}

/* What the kernel's socket would tell wrong while the stream is on a link. */
static size_t kept_aside(struct endpoint *e, int name, void *out)
{
    size_t n = 0;
    int error = name == SO_ERROR ? stream_take_error(&e->stream) : 0;

    if (error != 0) {
        memcpy(out, &error, sizeof(error));
        return sizeof(error);
    }
    if (name != SO_LINGER || stream_in_handler(&e->stream))
        return 0;
    stream_lock_all(&e->stream);
    if (e->stream.linger_changed) {
        n = sizeof(struct linger);
        memcpy(out, &e->stream.linger, n);
    }
    stream_unlock_all(&e->stream);
    return n;
}

EXPORT int getsockopt(int fd, int level, int name, void *restrict value,
                      socklen_t *restrict len)
{
    struct endpoint *e = intercepted(fd);
    struct linger aside;
    size_t n = 0;

    if (likely(e == NULL) || !writable(len, sizeof(*len)) || (int)*len < 0 ||
        !writable(value, *len))
        return REAL(getsockopt)(fd, level, name, value, len);
    if (level == IPPROTO_TCP && name == TCP_ZEROCOPY_RECEIVE)
        endpoint_banish(e, REASON_UNSUPPORTED_CALL); /* it takes bytes */
    if (level == SOL_SOCKET && atomic_load(&e->stream.guard))
        n = kept_aside(e, name, &aside);
    if (n == 0)
        return REAL(getsockopt)(fd, level, name, value, len);
    if (*len > n)
        *len = (socklen_t)n;
    memcpy(value, &aside, *len);
    return 0;
}
