/*
 * Threads, also such as have come to sleep, for cases that do something to a
 * thread in the middle of a call. A thread under the library looks around for
 * a while before it sleeps; on a busy machine one that was started may not
 * have begun.
 */
#ifndef TESTS_E2E_SUPPORT_ASLEEP_H
#define TESTS_E2E_SUPPORT_ASLEEP_H

#include <pthread.h>
#include <sys/types.h>

/* Starts a thread; dies if there can be none. */
pthread_t run_thread(void *(*body)(void *), void *arg);
/* Waits for its end; what it returned. */
void *end_of(pthread_t thread);
/* Until this thread of the process is found asleep for a while; 2 s at most. */
void until_asleep(pid_t tid);
/* run_thread(), and waits until it is asleep. */
pthread_t start_asleep(void *(*body)(void *), void *arg);

#endif
