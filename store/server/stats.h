/*
 * The `stats` command in memcached's form.
 */
#ifndef STORE_SERVER_STATS_H
#define STORE_SERVER_STATS_H

#include "store/protocol/command.h"
#include "store/server/connection.h"

void stats_execute(struct connection *connection, struct command *command);

#endif
