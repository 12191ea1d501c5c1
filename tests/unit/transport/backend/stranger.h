/*
 * A process that has met `there`, or pretends to, played by the test: it says
 * on its channel what it likes.
 */
#ifndef TESTS_UNIT_TRANSPORT_BACKEND_STRANGER_H
#define TESTS_UNIT_TRANSPORT_BACKEND_STRANGER_H

#include "tests/unit/transport/backend/two_processes.h"
#include "transport/shared_memory.h"

static int raw; /* the stranger's end of the channel to `there` */

static inline socklen_t name_of(unsigned n, struct sockaddr_un *un)
{
    struct party p = {0};
    uint32_t pid = (uint32_t)getpid();

    p.meeting.name = (struct connection_name){
        .family = 4,
        .server = {127, pid >> 16 & 255, pid >> 8 & 255, pid & 255},
        .client = {127, 0, 0, 1},
        .server_port = 7,
        .client_port = (uint16_t)(1000 + n)};
    un->sun_family = AF_UNIX;
    return (
        socklen_t)(sizeof(un->sun_family) +
                   (size_t)meeting_address(&p.meeting.name, 'm', un->sun_path));
}

/* Connects to the meeting that right[n] offers. */
static inline int call_at(unsigned n)
{
    struct sockaddr_un un;
    socklen_t len = name_of(n, &un);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&un, len), 0);
    turn(1);
    return fd;
}

static inline void call(void)
{
    raw = call_at(0);
    ck_assert_uint_eq(n_channels(&there), 1);
}

static inline void hang_up(void)
{
    close(raw);
    turn(2);
    ck_assert_uint_eq(n_channels(&there), 0);
}

static inline void start_stranger(void)
{
    start();
    party_start(&right[0], &there, false, 0);
    call();
}

static inline void stop_stranger(void)
{
    close(raw);
    turn(2);
    stop();
}

static inline void say(const void *bytes, size_t len, const int *fds,
                       size_t n_fds)
{
    struct iovec iov = {(void *)bytes, len};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * 16)];
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (n_fds > 0) {
        struct cmsghdr *c;

        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
    }
    ck_assert_int_eq(sendmsg(raw, &msg, MSG_NOSIGNAL), (ssize_t)len);
    turn(1);
}

static inline void say_message(struct control_message m)
{
    uint8_t bytes[MESSAGE_SIZE];

    message_encode(&m, bytes);
    say(bytes, sizeof(bytes), NULL, 0);
}

/* A HELLO or WELCOME about connection n. */
static inline size_t hello_about(unsigned n, uint8_t *out,
                                 struct control_message m, uint8_t version)
{
    uint32_t pid = (uint32_t)getpid();
    struct hello_body body = {
        .bell = 3,
        .pid = pid,
        .ring_size = RING,
        .port_server = 7,
        .port_client = (uint16_t)(1000 + n),
        .version_low = version,
        .version_high = version,
        .family = 4,
        .addr_server = {127, pid >> 16 & 255, pid >> 8 & 255, pid & 255},
        .addr_client = {127, 0, 0, 1}};

    message_encode(&m, out);
    hello_encode(&body, out + MESSAGE_SIZE);
    return HELLO_SIZE;
}

static inline size_t hello(uint8_t *out, struct control_message m,
                           uint8_t version)
{
    return hello_about(0, out, m, version);
}

/* The next message out of the channel; its descriptor or -1. */
static inline int hear(struct control_message *m)
{
    uint8_t bytes[HELLO_SIZE];
    struct iovec iov = {bytes, sizeof(bytes)};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    ssize_t n = recvmsg(raw, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    int fd = -1;

    ck_assert_int_ge(n, MESSAGE_SIZE);
    ck_assert_int_eq(message_decode(bytes, (size_t)n, m), 0);
    if (msg.msg_controllen != 0)
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(int));
    return fd;
}

/* Offers fd (or nothing) as arena id; is the channel still open? */
static inline bool offer(uint32_t id, const int *fds, size_t n_fds)
{
    struct control_message m = {
        .type = MESSAGE_RINGS, .number = RING, .link = id << 16};
    uint8_t bytes[MESSAGE_SIZE];

    message_encode(&m, bytes);
    say(bytes, sizeof(bytes), fds, n_fds);
    return n_channels(&there) == 1;
}

/* A sealed file of that size that begins like an arena. */
static inline int arena_file(uint64_t size, struct shm_header h)
{
    int fd;

    ck_assert_int_eq(memory_create("check", size, &fd), 0);
    ck_assert_int_eq(pwrite(fd, &h, 64, 0), 64);
    return fd;
}

static const struct shm_header good = {.magic = SHM_MAGIC,
                                       .version = SHM_VERSION,
                                       .ring_size = RING,
                                       .links = SHM_LINKS,
                                       .waiters = WAITERS_MAX};

/* A stranger that accepts: left[1] connects to it. */
static inline void accept_left(struct control_message *m)
{
    struct sockaddr_un un;
    socklen_t len = name_of(1, &un);
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    ck_assert_int_eq(bind(listener, (struct sockaddr *)&un, len), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    party_start(&left[1], &here, true, 1);
    close(raw);
    raw = accept(listener, NULL, NULL);
    ck_assert_int_ge(raw, 0);
    close(listener);
    hear(m);
    ck_assert_int_eq(m->type, MESSAGE_HELLO);
}

#endif
