/*
 * The engine asks for random bytes, the time and its pid; all of them end up
 * in the pool. Here they are the same in every run, so that a kind and a seed
 * name one log and one set of images.
 */
#include <stddef.h>
#include <string.h>
#include <sys/random.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

ssize_t getrandom(void *buffer, size_t len, unsigned flags)
{
    (void)flags;
    memset(buffer, 0x5a, len);
    return (ssize_t)len;
}

time_t time(time_t *out)
{
    if (out)
        *out = 1000;
    return 1000;
}

pid_t getpid(void)
{
    return 4711;
}
