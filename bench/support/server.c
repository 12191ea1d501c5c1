#include "bench/support/server.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/support/program.h"
#include "bench/support/socket.h"

/* Reads on until the text ends with end; len may not reach size. */
static void read_answer(int fd, const char *end, char *text, size_t size)
{
    size_t len = 0, tail = strlen(end);

    do {
        ssize_t n = read(fd, text + len, size - 1 - len);

        if (n <= 0)
            program_die("expected an answer of less than %zu bytes about the "
                        "server itself",
                        size);
        len += (size_t)n;
        text[len] = '\0';
    } while (len < tail || strcmp(text + len - tail, end) != 0);
}

void server_check(int fd, enum protocol protocol, pid_t pid)
{
    bool redis = protocol == PROTOCOL_REDIS;
    const char *question = redis ? "INFO server\r\n" : "stats\r\n";
    const char *mark = redis ? "process_id:" : "STAT pid ";
    char text[8192];
    char *answer;

    if (socket_send_all(fd, question, strlen(question)) < 0)
        program_die("the server closed the connection on a question");
    read_answer(fd, redis ? "\r\n\r\n" : "END\r\n", text, sizeof(text));
    answer = strstr(text, mark);
    if (!answer || strtol(answer + strlen(mark), NULL, 10) != pid)
        program_die("another server answers: expected \"%s%d\", got "
                    "\"%.17s\"; is an old one still running on this port?",
                    mark, (int)pid, answer ? answer : "no pid");
}
