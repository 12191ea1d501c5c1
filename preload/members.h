/*
 * The processes of a family, by number: has one of them ended, however it did?
 *
 * A process that is killed says nothing. But the kernel then lets go of its
 * locks on files (F_SETLK), which belong to its table of descriptors and to
 * nobody who gets a copy of that; and its pid is gone when its parent has seen
 * the end. Both have to say so. What may have got its descriptors unseen is
 * its own to say beforehand.
 */
#ifndef PRELOAD_MEMBERS_H
#define PRELOAD_MEMBERS_H

#include <stdbool.h>
#include <stdint.h>

/* Of this process, until it ends and for nobody else; 0: it has none. */
uint32_t member_self(void);
/* In the child of a fork: it is another one. */
void members_forked(void);
/*
 * From here until it shows again, somebody who is not counted may get what
 * this process has: if it ends meanwhile, nobody can tell.
 */
void member_hides(void);
void member_shows(void);
/* How many of its threads hide it just now. */
unsigned member_hiding(void);
/* It has ended in plain sight: nothing is left of what it had open. */
bool member_is_gone(uint32_t number);
/* The library's own descriptor that a child keeps, or -1. */
int members_fd(void);

#endif
