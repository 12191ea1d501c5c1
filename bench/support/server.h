/*
 * The server that is measured.
 */
#ifndef BENCH_SUPPORT_SERVER_H
#define BENCH_SUPPORT_SERVER_H

#include <sys/types.h>

#include "bench/support/requests.h"

/*
 * Asks the server on the connection fd who it is; dies unless the process pid
 * answers. An old one on a port that was used before would be measured
 * unnoticed.
 */
void server_check(int fd, enum protocol protocol, pid_t pid);

#endif
