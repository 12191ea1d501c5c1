/*
 * How the fastsock command writes: addresses, times, columns, JSON, mistakes.
 */
#ifndef PRELOAD_FASTSOCK_TEXT_H
#define PRELOAD_FASTSOCK_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "preload/fastsock_segment.h"

enum { TEXT_NAME_MAX = 64, TEXT_SPAN_MAX = 32 };

/* "127.0.0.1:80", "[::1]:80", or "?" for family 0. Returns buf. */
const char *text_name(int family, const struct segment_name *name,
                      char buf[TEXT_NAME_MAX]);

/* The time since ns on CLOCK_MONOTONIC: "0.4s" "12s" "3m04s" "2h05m" "3d04h",
 * or "?" when that is in the future. Returns buf. */
const char *text_since(uint64_t ns, char buf[TEXT_SPAN_MAX]);

/* A quoted JSON string; what is not printable ASCII becomes an escape. */
void text_json(FILE *out, const char *text);

/* Cells of a table in rows of `columns`; printed when all are known. */
struct text_table {
    unsigned columns;
    unsigned right; /* 1u << column for each that is aligned to the right */
    char **cell;
    size_t n, room;
    bool failed; /* there was no memory for all cells */
};

void text_table_init(struct text_table *table, unsigned columns,
                     unsigned right);
void text_table_fini(struct text_table *table);
void text_cell(struct text_table *table, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* 0, or -ENOMEM if cells were lost: then nothing is printed. */
int text_table_print(const struct text_table *table, FILE *out);

/* "fastsock COMMAND: what happened" on standard error. */
void text_error(const char *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
