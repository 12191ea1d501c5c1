/*
 * One parsed request of the memcached text protocol.
 *
 * All pointers point into the bytes that were parsed and live as long as they
 * do. Numbers are as the client sent them: relative times are not resolved,
 * limits of the store are not applied.
 */
#ifndef STORE_PROTOCOL_COMMAND_H
#define STORE_PROTOCOL_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/protocol/reply.h"

#define COMMAND_KEY_MAX 250 /* bytes */

enum command_kind {
    COMMAND_GET,
    COMMAND_GETS,
    COMMAND_GAT,
    COMMAND_GATS,
    COMMAND_SET,
    COMMAND_ADD,
    COMMAND_REPLACE,
    COMMAND_APPEND,
    COMMAND_PREPEND,
    COMMAND_CAS,
    COMMAND_DELETE,
    COMMAND_INCR,
    COMMAND_DECR,
    COMMAND_TOUCH,
    COMMAND_FLUSH_ALL,
    COMMAND_VERSION,
    COMMAND_VERBOSITY,
    COMMAND_STATS,
    COMMAND_QUIT,
    COMMAND_SHUTDOWN,
    COMMAND_REFUSED /* answer with `refusal`, do nothing */
};

struct command {
    enum command_kind kind;
    bool noreply;            /* nothing is answered, refusals included */
    bool has_exptime;        /* flush_all: exptime was given */
    enum reply_text refusal; /* of COMMAND_REFUSED */
    const char *line;        /* the request line without its end, for logs */
    uint32_t line_len;       /* bytes */
    uint32_t key_len;        /* bytes, 1 to COMMAND_KEY_MAX */
    const char *key;         /* of commands on one key */
    const char *keys;        /* gets, stats, shutdown: words not taken yet */
    const char *keys_end;    /* behind the last of them */
    uint32_t flags;          /* storage: the client's, opaque */
    int32_t exptime;         /* seconds from now, or a date; < 0: over */
    uint32_t value_len;      /* bytes of the value, without its line end */
    const char *value;       /* NULL when the value has not been received */
    uint64_t number;         /* cas: the id; incr, decr: delta; verbosity */
};

/*
 * The next word of command->keys (a key of a get, an argument of stats): 1 and
 * *word, *len, or 0 when none is left. Keys of a get are checked already: none
 * is longer than COMMAND_KEY_MAX.
 */
int command_next_word(struct command *command, const char **word, size_t *len);

#endif
