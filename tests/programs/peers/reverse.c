/*
 * reverse server|client PORT ...: see README.md of this folder; for a program
 * that is linked statically. The client writes a file for each connection in
 * place of its sum, FILE.0 and so on: the script makes the sum.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/poll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LARGEST = 100000, MOST = 64 };

static const unsigned sizes[] = {1, 10, 100, 1000, 10000, LARGEST};
static char buf[LARGEST + 4];

static int all_in(int fd, char *to, size_t n)
{
    for (size_t have = 0; have < n;) {
        ssize_t rc = read(fd, to + have, n - have);

        if (rc <= 0)
            return 0;
        have += (size_t)rc;
    }
    return 1;
}

static void all_out(int fd, const char *from, size_t n)
{
    for (size_t done = 0; done < n;) {
        ssize_t rc = write(fd, from + done, n - done);

        if (rc <= 0)
            exit(1);
        done += (size_t)rc;
    }
}

/* One message into buf + 4; 0 at the end of the stream. */
static int message(int fd, uint32_t *n)
{
    uint32_t length;

    if (!all_in(fd, (char *)&length, 4))
        return 0;
    *n = ntohl(length);
    return *n <= LARGEST && all_in(fd, buf + 4, *n);
}

static void send_message(int fd, uint32_t n)
{
    uint32_t length = htonl(n);

    memcpy(buf, &length, 4);
    all_out(fd, buf, n + 4);
}

static void serve(int listener)
{
    struct pollfd p[MOST] = {{.fd = listener, .events = POLLIN}};
    nfds_t used = 1;

    while (poll(p, used, -1) > 0) {
        if ((p[0].revents & POLLIN) && used < MOST) {
            p[used].fd = accept(listener, NULL, NULL);
            p[used].events = POLLIN;
            p[used++].revents = 0;
        }
        for (nfds_t i = 1; i < used; i++) {
            uint32_t n;

            if (p[i].revents == 0)
                continue;
            if (!message(p[i].fd, &n)) {
                close(p[i].fd);
                p[i--] = p[--used];
                continue;
            }
            for (uint32_t a = 4, b = n + 3; n > 0 && a < b; a++, b--) {
                char c = buf[a];

                buf[a] = buf[b];
                buf[b] = c;
            }
            send_message(p[i].fd, n);
        }
    }
}

static void ask(const struct sockaddr_in *at, char **argv)
{
    static char blob[2 * LARGEST];
    int connections = atoi(argv[4]), rounds = atoi(argv[5]), s[MOST];
    FILE *f = fopen(argv[3], "rb"), *out[MOST];

    if (f == NULL || fread(blob, 1, sizeof(blob), f) == 0 || connections > MOST)
        exit(1);
    for (int k = 0; k < connections; k++) {
        char path[256];

        snprintf(path, sizeof(path), "%s.%d", argv[3], k);
        out[k] = fopen(path, "wb");
        s[k] = socket(AF_INET, SOCK_STREAM, 0);
        if (out[k] == NULL ||
            connect(s[k], (const struct sockaddr *)at, sizeof(*at)) < 0)
            exit(1);
    }
    for (int i = 0; i < rounds; i++)
        for (int k = 0; k < connections; k++) {
            uint32_t n = sizes[i % 6];

            memcpy(buf + 4, blob + i * 37 % 5000, n);
            send_message(s[k], n);
            if (!message(s[k], &n) || fwrite(buf + 4, 1, n, out[k]) != n)
                exit(1);
        }
    for (int k = 0; k < connections; k++)
        fclose(out[k]);
}

int main(int argc, char **argv)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    int listener, one = 1;

    if (argc < 3)
        return 2;
    at.sin_port = htons((uint16_t)atoi(argv[2]));
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (strcmp(argv[1], "client") == 0 && argc > 5) {
        ask(&at, argv);
        return 0;
    }
    listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(listener, (struct sockaddr *)&at, sizeof(at)) < 0 ||
        listen(listener, MOST) < 0)
        return 1;
    serve(listener);
    return 0;
}
