/*
 * From a parsed command to the engine and back to a reply.
 */
#ifndef STORE_SERVER_EXECUTE_H
#define STORE_SERVER_EXECUTE_H

#include <stdbool.h>

#include "store/protocol/command.h"
#include "store/server/connection.h"

/*
 * Execute command and put its reply into the connection's output. false: a get
 * has been interrupted because too much output is waiting; its keys are those
 * that are left, call again with them.
 */
bool execute_command(struct connection *connection, struct command *command);

/* Whether memcached would refuse an item of this size. */
bool execute_is_too_large(const struct shard *shard, size_t key_len,
                          uint32_t flags, size_t value_len);

/* A client's exptime as the engine takes it. */
uint32_t execute_exptime(const struct shard *shard, int32_t exptime);

/* The mode of a storage command. */
enum kv_mode execute_mode(enum command_kind kind);

/* A storage command is refused: say so, and let no old value be taken for the
 * refused one. */
void execute_refuse_store(struct connection *connection, enum command_kind kind,
                          const char *key, size_t key_len, bool noreply,
                          enum kv_result why);

/* What came of a storage command. */
void execute_stored(struct connection *connection, enum command_kind kind,
                    bool noreply, enum kv_result result);

#endif
