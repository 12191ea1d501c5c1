/*
 * A library of the program's: its destructor still uses a connection.
 */
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

extern int last_words_to __attribute__((visibility("default")));

int last_words_to = -1; /* its number */

__attribute__((destructor)) static void say_them(void)
{
    char word[8] = "";
    ssize_t n;

    if (last_words_to < 0)
        return;
    n = write(last_words_to, "last", 4);
    printf("  a destructor: %zd, %zd\n", n,
           recv(last_words_to, word, 4, MSG_WAITALL));
    fflush(stdout);
}
