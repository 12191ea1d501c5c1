/*
 * Splits incoming bytes into commands, resumable at any byte.
 *
 * The caller keeps the bytes: it shows all that it has, is told how many are
 * used up, and shows the rest again with more behind it. How the bytes were
 * cut on their way never changes the commands. Pure: no memory, no I/O.
 */
#ifndef STORE_PROTOCOL_PARSE_H
#define STORE_PROTOCOL_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/protocol/command.h"

#define PARSE_LINE_MAX 2048      /* bytes without a line end, but for get */
#define PARSE_GET_MAX  (8 << 20) /* bytes of one get or gets line */

enum parse_result {
    PARSE_MORE,    /* no whole request is left: read more */
    PARSE_SKIPPED, /* *used bytes were to be passed over: go on behind them */
    PARSE_COMMAND, /* *command is complete, its value too if it has one */
    PARSE_BODY,    /* a storage command whose value is longer than inline_max:
                    * value_len + 2 bytes follow and are the caller's to take,
                    * or to pass over with parser_skip() */
    PARSE_CLOSE    /* not this protocol, or a line without end: hang up */
};

struct parser {
    size_t inline_max; /* bytes; a longer value is the caller's */
    size_t scanned;    /* bytes at the front known to hold no line end */
    size_t need;       /* bytes a request in progress will have; 0: unknown */
    uint64_t skip;     /* bytes still to pass over */
    bool begun;        /* the first byte has been looked at */
};

void parser_init(struct parser *parser, size_t inline_max);

/*
 * Parse the first request of in[0..len). *used is set whatever the result: the
 * bytes that are done with; MORE and CLOSE use none. *command is set for
 * COMMAND and BODY and points into in.
 */
enum parse_result parser_next(struct parser *parser, const char *in, size_t len,
                              size_t *used, struct command *command);

/* Pass over the next len bytes, of this buffer and later ones. */
void parser_skip(struct parser *parser, uint64_t len);

/*
 * One request line without its end into *command (text.c). false: the line
 * asks for the connection to be closed. For storage commands value_len is set
 * and value is NULL.
 */
bool text_parse(const char *line, size_t len, struct command *command);

#endif
