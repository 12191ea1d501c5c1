/*
 * A value too long for a buffer, received straight into the pool.
 */
#ifndef STORE_SERVER_LARGE_VALUE_H
#define STORE_SERVER_LARGE_VALUE_H

#include <stdbool.h>
#include <stddef.h>

#include "store/protocol/command.h"
#include "store/server/connection.h"

/*
 * The line of a storage command has come and its value is long. Either a
 * large_value is in progress afterwards, or the command has been refused and
 * the value will be passed over.
 */
void large_value_begin(struct connection *connection,
                       const struct command *command);

/* Where the next bytes of the value belong, and how many may be put there. */
char *large_value_room(const struct connection *connection, size_t *room);

/* n bytes have been put there. */
void large_value_added(struct connection *connection, size_t n);

/*
 * More bytes of the value and its end. Returns how many were taken; the value
 * is stored, and large is NULL again, once all of them are there.
 */
size_t large_value_feed(struct connection *connection, const char *in,
                        size_t len);

/* Give up what is in progress, if anything. */
void large_value_cancel(struct connection *connection);

#endif
