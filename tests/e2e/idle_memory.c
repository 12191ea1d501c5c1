/*
 * usage: idle_memory PORT CONNECTIONS [FILE]
 *
 * Moves 1 MiB each way over each of them, by an echo server, then says so and
 * keeps all open until its standard input ends. Before that it exchanges a
 * few bytes over each until FILE is there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/e2e/support/plain.h"

enum { MOST = 1000, PIECE = 16384, EACH = 1 << 20 };

static uint8_t buf[PIECE];

static void move(int fd, uint64_t seed, uint64_t at, size_t len)
{
    pattern_fill(seed, at, buf, len);
    if (write(fd, buf, len) != (ssize_t)len ||
        recv(fd, buf, len, MSG_WAITALL) != (ssize_t)len ||
        pattern_check(seed, at, buf, len) >= 0)
        die("connection %llu at %llu", (unsigned long long)seed,
            (unsigned long long)at);
}

int main(int argc, char **argv)
{
    int fd[MOST], n = argc > 2 ? atoi(argv[2]) : 0;

    if (n < 1 || n > MOST)
        die("usage: idle_memory PORT CONNECTIONS");
    time_limit(60);
    for (int i = 0; i < n; i++)
        fd[i] = tcp_connect("4", (uint16_t)atoi(argv[1]));
    for (; argc > 3 && access(argv[3], F_OK) != 0; sleep_ms(2))
        for (int i = 0; i < n; i++)
            move(fd[i], (uint64_t)i, 0, 7);
    for (int at = 0; at < EACH; at += PIECE)
        for (int i = 0; i < n; i++)
            move(fd[i], (uint64_t)i, (uint64_t)at, PIECE);
    printf("moved\n");
    fflush(stdout);
    while (read(STDIN_FILENO, buf, 1) > 0)
        ;
    return 0;
}
