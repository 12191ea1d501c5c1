/*
 * hold PORT CONNECTIONS ROUNDS [COMMAND]: opens that many connections to
 * 127.0.0.1, sends the line COMMAND (default "version") and reads one line of
 * answer that many times on each, prints "holding PID" and keeps all open
 * until its standard input ends.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 512 };

static int fail(const char *what)
{
    fprintf(stderr, "hold: %s: %s\n", what, strerror(errno));
    return 1;
}

static int open_connection(int port)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    struct timeval limit = {.tv_sec = 10};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0)
        return fd;
    close(fd);
    return -1;
}

static int round_trip(int fd, const char *line)
{
    char answer[4096];
    ssize_t n = (ssize_t)strlen(line);

    if (send(fd, line, (size_t)n, MSG_NOSIGNAL) != n)
        return -1;
    do {
        n = recv(fd, answer, sizeof(answer), 0);
        if (n <= 0)
            return -1;
    } while (answer[n - 1] != '\n');
    return 0;
}

int main(int argc, char **argv)
{
    int fd[CONNECTIONS_MAX], n = argc > 2 ? atoi(argv[2]) : 0;
    int rounds = argc > 3 ? atoi(argv[3]) : 0;
    char line[256], end;

    if (argc < 4 || n < 0 || n > CONNECTIONS_MAX) {
        fprintf(stderr, "usage: hold PORT CONNECTIONS ROUNDS [COMMAND]\n");
        return 2;
    }
    snprintf(line, sizeof(line), "%s\r\n", argc > 4 ? argv[4] : "version");
    for (int i = 0; i < n; i++) {
        fd[i] = open_connection(atoi(argv[1]));
        if (fd[i] < 0)
            return fail("connect");
    }
    for (int r = 0; r < rounds; r++)
        for (int i = 0; i < n; i++)
            if (round_trip(fd[i], line) < 0)
                return fail("round trip");
    printf("holding %d\n", (int)getpid());
    fflush(stdout);
    while (read(STDIN_FILENO, &end, 1) > 0)
        ;
    return 0;
}
