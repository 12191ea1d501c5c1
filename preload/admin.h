/*
 * The administrator's say: streams are brought back to kernel TCP, and kept
 * there, by the command `fastsock down`. The helper thread alone calls this.
 */
#ifndef PRELOAD_ADMIN_H
#define PRELOAD_ADMIN_H

#include "transport/loop.h"

/* Listens for the command; without it nothing else is different. */
void admin_start(struct loop *loop);
/* In the child of a fork: its descriptors are closed already. */
void admin_after_fork(void);

#endif
