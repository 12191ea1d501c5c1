#include "tests/e2e/hostile/rendezvous.h"

#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/e2e/support/plain.h"

struct hostile_peer p;

void set_name(uint16_t port)
{
    struct sockaddr_in local;
    socklen_t len = sizeof(local);
    static const uint8_t loopback[4] = {127, 0, 0, 1};

    if (getsockname(p.tcp, (struct sockaddr *)&local, &len) < 0)
        die("getsockname");
    p.name.family = 4;
    memcpy(p.name.server, loopback, 4);
    memcpy(p.name.client, loopback, 4);
    p.name.server_port = port;
    p.name.client_port = ntohs(local.sin_port);
}

void open_channel(void)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int len = meeting_address(&p.name, 'm', un.sun_path);
    uint64_t until = now_ms() + 2000;

    p.channel = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    while (connect(p.channel, (struct sockaddr *)&un,
                   (socklen_t)(sizeof(un.sun_family) + (size_t)len)) < 0) {
        if (now_ms() > until)
            die("nobody at the rendezvous");
        usleep(500);
    }
}

void say(struct control_message *m, const struct hello_body *body, int fd)
{
    uint8_t bytes[HELLO_SIZE];
    struct iovec iov = {bytes, MESSAGE_SIZE};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    message_encode(m, bytes);
    if (body != NULL) {
        hello_encode(body, bytes + MESSAGE_SIZE);
        iov.iov_len = HELLO_SIZE;
    }
    if (fd >= 0) {
        struct cmsghdr *c;

        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof(control.bytes);
        c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof(int));
    }
    sendmsg(p.channel, &msg, MSG_NOSIGNAL);
}

bool hear(struct control_message *m, struct hello_body *body, int *fd)
{
    uint8_t bytes[HELLO_SIZE];
    char control[CMSG_SPACE(sizeof(int))];
    struct iovec iov = {bytes, sizeof(bytes)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control,
                         .msg_controllen = sizeof(control)};
    struct pollfd wait = {p.channel, POLLIN, 0};
    ssize_t n;

    if (poll(&wait, 1, 2000) != 1)
        return false;
    n = recvmsg(p.channel, &msg, MSG_CMSG_CLOEXEC);
    if (n <= 0 || message_decode(bytes, (size_t)n, m) < 0)
        return false;
    if (CMSG_FIRSTHDR(&msg) != NULL)
        memcpy(fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(int));
    if (m->type == MESSAGE_WELCOME)
        hello_decode(bytes + MESSAGE_SIZE, (size_t)n - MESSAGE_SIZE, body);
    return true;
}

void hello(void)
{
    struct control_message m = {.type = MESSAGE_HELLO, .number = 1};
    struct hello_body body = {.bell = 12345,
                              .pid = 1,
                              .ring_size = 65536,
                              .version_low = 1,
                              .version_high = 1};

    body.family = p.name.family;
    memcpy(body.addr_server, p.name.server, 16);
    memcpy(body.addr_client, p.name.client, 16);
    body.port_server = p.name.server_port;
    body.port_client = p.name.client_port;
    say(&m, &body, -1);
}

void map_arena(int fd)
{
    struct shm_header *h;
    struct stat st;

    if (fstat(fd, &st) < 0)
        die("no memory was offered");
    p.size = (size_t)st.st_size;
    p.arena = mmap(NULL, p.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p.arena == MAP_FAILED)
        die("mmap");
    h = (struct shm_header *)p.arena;
    p.ring_size = h->ring_size;
    close(fd);
}

void meet(void)
{
    struct control_message m;
    struct hello_body body = {0};
    int fd = -1;

    hello();
    while (hear(&m, &body, &fd) && m.type != MESSAGE_WELCOME)
        ;
    if (m.type != MESSAGE_WELCOME || fd < 0)
        die("not welcome");
    map_arena(fd);
    p.link = m.link;
    p.bell = body.bell;
    p.words =
        (struct shm_link_words *)(p.arena + shm_words_at(m.link & 0xffff));
    p.out_ring = p.arena + shm_ring_at(m.link & 0xffff, 1, p.ring_size);
    p.in_ring = p.arena + shm_ring_at(m.link & 0xffff, 0, p.ring_size);
}
