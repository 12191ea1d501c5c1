/*
 * What syscall() shares with the calls that lead where we cannot follow.
 */
#ifndef PRELOAD_INTERCEPT_SANDBOX_H
#define PRELOAD_INTERCEPT_SANDBOX_H

/* SECCOMP_MODE_STRICT or _FILTER is about to be set for this thread. */
void before_seccomp(unsigned long mode, const void *filter);

#endif
