#include "bench/support/server.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/support/program.h"
#include "bench/support/socket.h"

void server_check(int fd, pid_t pid)
{
    char text[8192];
    size_t len = 0;
    char *answer;

    if (socket_send_all(fd, "stats\r\n", 7) < 0)
        program_die("the server closed the connection on \"stats\"");
    do {
        ssize_t n = read(fd, text + len, sizeof(text) - 1 - len);

        if (n <= 0)
            program_die("expected an answer to \"stats\" that ends with "
                        "\"END\", within %zu bytes",
                        sizeof(text) - 1);
        len += (size_t)n;
        text[len] = '\0';
    } while (len < 5 || strcmp(text + len - 5, "END\r\n") != 0);
    answer = strstr(text, "STAT pid ");
    if (!answer || strtol(answer + 9, NULL, 10) != pid)
        program_die("another server answers: expected \"STAT pid %d\", got "
                    "\"%.15s\"; is an old one still running on this port?",
                    (int)pid, answer ? answer : "no pid");
}
