/*
 * Epoll sets, for cases that say what each of them reports.
 */
#ifndef TESTS_E2E_SUPPORT_SETS_H
#define TESTS_E2E_SUPPORT_SETS_H

#include <stddef.h>
#include <stdint.h>

extern int set; /* what the next three are about */

void new_set(void);
int ctl(int op, int fd, uint32_t events, uint64_t data);
/* EPOLL_CTL_ADD; dies where it fails. */
void add(int fd, uint32_t events, uint64_t data);
/* Prints all that one call reports, in the order of the data. */
void waits(const char *what, int epfd, int ms);

/* All of it, or they die. */
void put(int fd, const char *text);
void take(int fd, size_t n);

#endif
