/*
 * What other calls share with those that lead where we cannot follow.
 */
#ifndef PRELOAD_INTERCEPT_SANDBOX_H
#define PRELOAD_INTERCEPT_SANDBOX_H

/* SECCOMP_MODE_STRICT or _FILTER is about to be set for this thread. */
void before_seccomp(unsigned long mode, const void *filter);

/* This thread gets a table of descriptors of its own. -1 and errno: not so. */
int unshare_descriptors(void);

/* A child gets memory of its own, and this process's table of descriptors. */
void before_shared_descriptors(void);

#endif
