/*
 * The happy path: reserve room for the value, let read() fill it, see "\r\n",
 * publish. Refusals (too large, no space, too much reserved already) leave
 * nothing behind but the order to pass the value over; a wrong end gives the
 * room back.
 */
#include "store/server/large_value.h"

#include <stdlib.h>
#include <string.h>

#include "store/server/execute.h"

struct large_value {
    struct kv_reservation space;
    enum command_kind kind;
    bool noreply;
    uint32_t flags;
    uint32_t exptime; /* unix seconds, 0 = never */
    uint32_t len;     /* bytes of the value */
    uint32_t got;     /* bytes of it that have come */
    uint64_t cas;
    size_t key_len;
    char key[COMMAND_KEY_MAX];
};

static enum kv_result reserve(struct shard *s, const struct command *command,
                              struct kv_reservation *space)
{
    enum kv_result result;

    if (execute_is_too_large(s, command->key_len, command->flags,
                             command->value_len))
        return KV_TOO_LARGE;
    if (s->reserved + command->value_len > s->reserve_max)
        return KV_NO_SPACE;
    result = kv_reserve(s->kv, command->key_len, command->value_len, space);
    if (result == KV_OK)
        s->reserved += command->value_len;
    if (result == KV_IO)
        s->failed = true;
    return result;
}

void large_value_begin(struct connection *c, const struct command *command)
{
    struct large_value *large = malloc(sizeof(*large));
    enum kv_result result = KV_NO_SPACE;

    if (large != NULL)
        result = reserve(c->shard, command, &large->space);
    if (result != KV_OK) {
        free(large);
        parser_skip(&c->parser, (uint64_t)command->value_len + 2);
        execute_refuse_store(c, command->kind, command->key, command->key_len,
                             command->noreply, result);
        return;
    }
    large->kind = command->kind;
    large->noreply = command->noreply;
    large->flags = command->flags;
    large->exptime = execute_exptime(c->shard, command->exptime);
    large->len = command->value_len;
    large->got = 0;
    large->cas = command->number;
    large->key_len = command->key_len;
    memcpy(large->key, command->key, command->key_len);
    c->large = large;
}

char *large_value_room(const struct connection *c, size_t *room)
{
    return kv_reserved(c->shard->kv, &c->large->space, c->large->got, room);
}

void large_value_added(struct connection *c, size_t n)
{
    c->large->got += (uint32_t)n;
}

/* The value and its end are there. */
static void finish(struct connection *c, bool good)
{
    struct large_value *large = c->large;
    enum kv_result result;

    if (!good) {
        bool noreply = large->noreply;

        large_value_cancel(c);
        c->shard->counters.cmd_set++;
        if (!noreply)
            connection_reply_text(c, REPLY_BAD_CHUNK);
        return;
    }
    c->large = NULL;
    c->shard->reserved -= large->len;
    result = kv_publish(c->shard->kv, &large->space, execute_mode(large->kind),
                        large->key, large->key_len, large->flags,
                        large->exptime, large->cas, NULL);
    execute_stored(c, large->kind, large->noreply, result);
    free(large);
}

size_t large_value_feed(struct connection *c, const char *in, size_t len)
{
    size_t n = 0, room;

    for (char *to = large_value_room(c, &room); room > 0 && n < len;
         to = large_value_room(c, &room)) {
        size_t step = room < len - n ? room : len - n;
        memcpy(to, in + n, step);
        large_value_added(c, step);
        n += step;
    }
    if (c->large->got < c->large->len || len - n < 2)
        return n;
    finish(c, in[n] == '\r' && in[n + 1] == '\n');
    return n + 2;
}

void large_value_cancel(struct connection *c)
{
    struct large_value *large = c->large;

    if (large == NULL)
        return;
    c->large = NULL;
    c->shard->reserved -= large->len;
    kv_cancel(c->shard->kv, &large->space);
    free(large);
}
