/* Attacks that take what the server has: descriptors, addresses, memory. */
#include "tests/e2e/hostile/rendezvous.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/e2e/support/plain.h"

enum { CALLS = 300, TRIES = 100, OFFERS = 90, LINKS = 200 };

/* Until the test has looked, which then kills us. */
static void hold(const char *what)
{
    puts(what);
    fflush(stdout);
    for (;;)
        pause();
}

static void new_connection(void)
{
    p.tcp = tcp_connect("4", p.name.server_port);
    set_name(p.name.server_port);
}

/* Every second one says HELLO, about a connection that is nobody's. */
void callers(void)
{
    int made = 0, tries = 0;

    while (made < CALLS) {
        struct sockaddr_un un = {.sun_family = AF_UNIX};
        int len = meeting_address(&p.name, 'm', un.sun_path);

        p.channel = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        if (p.channel < 0)
            die("socket");
        if (connect(p.channel, (struct sockaddr *)&un,
                    (socklen_t)(sizeof(un.sun_family) + (size_t)len)) < 0) {
            close(p.channel);
            usleep(500);
            if (++tries % TRIES == 0)
                new_connection(); /* it is not called at this one any more */
            continue;
        }
        if (made++ % 2 == 0) {
            p.name.client_port ^= 1;
            hello();
            p.name.client_port ^= 1;
        }
    }
    hold("called");
}

/* Memory files as large as can be; they cost this process nothing. */
void huge(void)
{
    struct control_message m = {.type = MESSAGE_RINGS};
    struct shm_header h = {.magic = SHM_MAGIC,
                           .version = SHM_VERSION,
                           .links = SHM_LINKS,
                           .waiters = WAITERS_MAX};
    int answer = -1;

    meet();
    for (uint32_t i = 0; i < OFFERS; i++) {
        int fd = memfd_create("huge", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        h.ring_size = (uint32_t)RING_SIZE_MOST >> (i % 3);
        if (fd < 0 || ftruncate(fd, (off_t)shm_arena_size(h.ring_size)) < 0 ||
            fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) <
                0 ||
            pwrite(fd, &h, 64, 0) != 64)
            die("a file of %u", h.ring_size);
        m.link = i << 16;
        say(&m, NULL, fd);
        close(fd);
    }
    m = (struct control_message){
        .type = MESSAGE_PING, .link = p.link, .stream = 1};
    say(&m, NULL, -1);
    do {
        if (!hear(&m, NULL, &answer))
            die("no answer behind the offers");
    } while (m.type != MESSAGE_PONG);
    hold("offered");
}

void no_bye(void)
{
    for (int i = 0; i < LINKS; i++) {
        struct control_message m;
        struct hello_body body;
        char end;
        int fd = -1;

        hello();
        do {
            if (!hear(&m, &body, &fd))
                die("no answer to HELLO %d", i);
        } while (m.type != MESSAGE_WELCOME && m.type != MESSAGE_REFUSE);
        if (fd >= 0)
            close(fd);
        if (m.type == MESSAGE_REFUSE && m.reason != REASON_LIMIT)
            die("refused at %d for %s", i, reason_token(m.reason));
        if (m.type == MESSAGE_REFUSE)
            return;
        shutdown(p.tcp, SHUT_WR);
        while (recv(p.tcp, &end, 1, 0) > 0)
            ;
        close(p.tcp);
        new_connection();
    }
    die("never refused");
}
