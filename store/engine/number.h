/* Numbers as memcached's incr and decr understand them. Pure. */
#ifndef STORE_ENGINE_NUMBER_H
#define STORE_ENGINE_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NUMBER_MAX_DIGITS 20 /* of 2^64-1 */

/* Longer values are none, as memcached keeps them in several pieces. */
#define NUMBER_VALUE_MOST 524288 /* bytes */

/*
 * The unsigned decimal number at the start of text: white space before it and
 * a sign are allowed, after it comes the end or white space. A negative one is
 * taken modulo 2^64 unless that is 2^63 or more, as strtoull() has it there.
 */
bool number_read(const void *text, size_t len, uint64_t *out);

/* Write the digits; their count, 1 to NUMBER_MAX_DIGITS. */
size_t number_write(uint64_t number, char out[NUMBER_MAX_DIGITS]);

/* incr wraps at 2^64, decr stops at 0. */
uint64_t number_step(uint64_t number, bool incr, uint64_t delta);

/*
 * The same with the number that a value of len bytes begins with, in place;
 * text has room for NUMBER_MAX_DIGITS at least. What becomes shorter is padded
 * with spaces. The new length, or 0: it begins with none.
 */
size_t number_step_text(char *text, size_t len, bool incr, uint64_t delta,
                        uint64_t *number);

#endif
