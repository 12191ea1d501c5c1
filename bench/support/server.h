/*
 * The memcached-protocol server that is measured.
 */
#ifndef BENCH_SUPPORT_SERVER_H
#define BENCH_SUPPORT_SERVER_H

#include <sys/types.h>

/*
 * Asks "stats" on the connection fd; dies unless the process pid answers. An
 * old server on a port that was used before would be measured unnoticed.
 */
void server_check(int fd, pid_t pid);

#endif
