/*
 * What each command does. Replies go to the connection's output, where they
 * wait for the commit; counters follow memcached's.
 */
#include "store/server/execute.h"

#include <string.h>

#include "config/log.h"
#include "store/server/stats.h"

#define RELATIVE_MAX  (60 * 60 * 24 * 30) /* seconds; more is a date */
#define LONG_AGO      1                   /* an exptime that is over */
#define ITEM_HEADER   59 /* bytes memcached adds to key and value */
#define ITEM_FLAGS    4  /* bytes, unless flags are 0 */
#define VERBOSITY_MAX 2

uint32_t execute_exptime(const struct shard *shard, int32_t exptime)
{
    if (exptime == 0)
        return 0;
    if (exptime < 0)
        return LONG_AGO;
    if (exptime > RELATIVE_MAX)
        return (uint32_t)exptime;
    return shard->now + (uint32_t)exptime;
}

bool execute_is_too_large(const struct shard *shard, size_t key_len,
                          uint32_t flags, size_t value_len)
{
    return ITEM_HEADER + key_len + (flags != 0 ? ITEM_FLAGS : 0) + value_len >
           shard->options->item_max;
}

enum kv_mode execute_mode(enum command_kind kind)
{
    switch (kind) {
    case COMMAND_ADD:
        return KV_ADD;
    case COMMAND_REPLACE:
        return KV_REPLACE;
    case COMMAND_APPEND:
        return KV_APPEND;
    case COMMAND_PREPEND:
        return KV_PREPEND;
    case COMMAND_CAS:
        return KV_CAS;
    default:
        return KV_SET;
    }
}

static void answer(struct connection *c, bool noreply, enum reply_text text)
{
    if (!noreply)
        connection_reply_text(c, text);
}

/* A failed pool: the commit of this turn will fail too and end it all. */
static void answer_failure(struct connection *c)
{
    c->shard->failed = true;
}

void execute_refuse_store(struct connection *c, enum command_kind kind,
                          const char *key, size_t key_len, bool noreply,
                          enum kv_result why)
{
    struct counters *n = &c->shard->counters;

    if (why == KV_TOO_LARGE) {
        n->too_large++;
        if (kind == COMMAND_SET &&
            kv_delete(c->shard->kv, key, key_len) == KV_IO)
            answer_failure(c);
        answer(c, noreply, REPLY_TOO_LARGE);
    } else {
        n->no_memory++;
        answer(c, noreply, REPLY_NO_MEMORY_STORING);
    }
}

/* Counts what became of a cas. */
static void count_cas(struct counters *n, enum kv_result result)
{
    n->cas_hits += result == KV_OK;
    n->cas_misses += result == KV_MISS;
    n->cas_badval += result == KV_EXISTS;
}

void execute_stored(struct connection *c, enum command_kind kind, bool noreply,
                    enum kv_result result)
{
    struct counters *n = &c->shard->counters;

    n->cmd_set++;
    if (kind == COMMAND_CAS)
        count_cas(n, result);
    switch (result) {
    case KV_OK:
        answer(c, noreply, REPLY_STORED);
        break;
    case KV_MISS:
        answer(c, noreply, REPLY_NOT_FOUND);
        break;
    case KV_EXISTS:
        answer(c, noreply, REPLY_EXISTS);
        break;
    case KV_NO_SPACE:
        n->no_memory++;
        answer(c, noreply, REPLY_NO_MEMORY_STORING);
        break;
    case KV_IO:
        answer_failure(c);
        break;
    case KV_TOO_LARGE:
        if (kind != COMMAND_APPEND && kind != COMMAND_PREPEND) {
            n->too_large++;
            answer(c, noreply, REPLY_TOO_LARGE);
            break;
        } /* fallthrough */
    default:
        answer(c, noreply, REPLY_NOT_STORED);
        break;
    }
}

static void do_store(struct connection *c, const struct command *command)
{
    struct shard *s = c->shard;

    if (execute_is_too_large(s, command->key_len, command->flags,
                             command->value_len)) {
        execute_refuse_store(c, command->kind, command->key, command->key_len,
                             command->noreply, KV_TOO_LARGE);
        return;
    }
    execute_stored(c, command->kind, command->noreply,
                   kv_store(s->kv, execute_mode(command->kind), command->key,
                            command->key_len, command->flags,
                            execute_exptime(s, command->exptime),
                            command->number, command->value, command->value_len,
                            NULL));
}

/* All runs of a value, without a copy. */
static int borrow_value(struct connection *c, const struct kv_item *item)
{
    struct kv_run run = {0};
    int rc = 0;

    while (rc >= 0 && kv_next_run(c->shard->kv, item, &run))
        rc = output_borrow(&c->out, &c->shard->blocks, run.bytes, run.len);
    return rc;
}

/* Puts one found item into the output. */
static void put_item(struct connection *c, const char *key, size_t key_len,
                     const struct kv_item *item, bool with_cas)
{
    bool borrow = item->len >= OUTPUT_BORROW_FROM;
    struct block_pool *blocks = &c->shard->blocks;
    char *room = output_room(&c->out, blocks,
                             REPLY_VALUE_MAX + (borrow ? 0 : item->len + 2));
    size_t n;

    if (room == NULL) {
        connection_abort(c);
        return;
    }
    n = reply_value(room, key, key_len, item->flags, item->len, with_cas,
                    item->cas);
    if (!borrow) {
        kv_copy_value(c->shard->kv, item, 0, room + n, item->len);
        memcpy(room + n + item->len, "\r\n", 2);
        n += item->len + 2;
    }
    output_added(&c->out, n);
    if (borrow && (borrow_value(c, item) < 0 ||
                   output_put(&c->out, blocks, "\r\n", 2) < 0))
        connection_abort(c);
}

static void get_key(struct connection *c, const struct command *command,
                    const char *key, size_t key_len)
{
    bool touch = command->kind == COMMAND_GAT || command->kind == COMMAND_GATS;
    bool with_cas =
        command->kind == COMMAND_GETS || command->kind == COMMAND_GATS;
    struct shard *s = c->shard;
    struct counters *n = &s->counters;
    enum kv_result result;
    struct kv_item item;

    result = kv_get(s->kv, key, key_len, &item);
    n->cmd_get++;
    n->get_hits += result == KV_OK;
    n->get_misses += result == KV_MISS;
    if (touch) {
        n->cmd_touch++;
        n->touch_hits += result == KV_OK;
        n->touch_misses += result == KV_MISS;
    }
    if (result == KV_OK) {
        put_item(c, key, key_len, &item, with_cas);
        if (touch)
            result = kv_touch(s->kv, key, key_len,
                              execute_exptime(s, command->exptime));
    }
    if (result == KV_IO)
        answer_failure(c);
}

static bool do_get(struct connection *c, struct command *command)
{
    const char *key;
    size_t key_len;

    while (!c->dead && command_next_word(command, &key, &key_len)) {
        if (output_pending(&c->out) >= OUTPUT_LIMIT) {
            command->keys = key;
            return false;
        }
        get_key(c, command, key, key_len);
    }
    connection_reply_text(c, REPLY_END);
    return true;
}

static void do_delete(struct connection *c, const struct command *command)
{
    struct counters *n = &c->shard->counters;

    switch (kv_delete(c->shard->kv, command->key, command->key_len)) {
    case KV_OK:
        n->delete_hits++;
        answer(c, command->noreply, REPLY_DELETED);
        break;
    case KV_IO:
        answer_failure(c);
        break;
    case KV_NO_SPACE:
        answer(c, command->noreply, REPLY_NO_MEMORY);
        break;
    default:
        n->delete_misses++;
        answer(c, command->noreply, REPLY_NOT_FOUND);
        break;
    }
}

static void do_touch(struct connection *c, const struct command *command)
{
    struct shard *s = c->shard;
    struct counters *n = &s->counters;

    n->cmd_touch++;
    switch (kv_touch(s->kv, command->key, command->key_len,
                     execute_exptime(s, command->exptime))) {
    case KV_OK:
        n->touch_hits++;
        answer(c, command->noreply, REPLY_TOUCHED);
        break;
    case KV_IO:
        answer_failure(c);
        break;
    case KV_NO_SPACE:
        answer(c, command->noreply, REPLY_NO_MEMORY);
        break;
    default:
        n->touch_misses++;
        answer(c, command->noreply, REPLY_NOT_FOUND);
        break;
    }
}

static void do_arithmetic(struct connection *c, const struct command *command)
{
    bool incr = command->kind == COMMAND_INCR;
    struct counters *n = &c->shard->counters;
    char text[REPLY_NUMBER_MAX];
    uint64_t value;

    switch (kv_arith(c->shard->kv, command->key, command->key_len, incr,
                     command->number, &value, NULL)) {
    case KV_OK:
        *(incr ? &n->incr_hits : &n->decr_hits) += 1;
        if (!command->noreply)
            connection_reply(c, text, reply_number(text, value));
        break;
    case KV_MISS:
        *(incr ? &n->incr_misses : &n->decr_misses) += 1;
        answer(c, command->noreply, REPLY_NOT_FOUND);
        break;
    case KV_NOT_NUMBER:
        answer(c, command->noreply, REPLY_NOT_NUMBER);
        break;
    case KV_IO:
        answer_failure(c);
        break;
    default:
        n->no_memory++;
        answer(c, command->noreply, REPLY_NO_MEMORY);
        break;
    }
}

/* A delay of n seconds ends a second earlier, as in memcached. */
static void do_flush_all(struct connection *c, const struct command *command)
{
    struct shard *s = c->shard;
    uint32_t when = s->now;

    s->counters.cmd_flush++;
    if (!s->options->flush_allowed) {
        answer(c, command->noreply, REPLY_NO_FLUSH);
        return;
    }
    if (command->has_exptime && command->exptime > 0)
        when = execute_exptime(s, command->exptime) - 1;
    if (kv_flush_all(s->kv, when) == KV_OK)
        answer(c, command->noreply, REPLY_OK);
    else
        answer_failure(c);
}

static void do_verbosity(struct connection *c, const struct command *command)
{
    uint32_t level = (uint32_t)command->number;

    c->shard->verbosity = level > VERBOSITY_MAX ? VERBOSITY_MAX : (int)level;
    log_threshold = (enum log_level)(LOG_WARN + c->shard->verbosity);
    answer(c, command->noreply, REPLY_OK);
}

static void do_shutdown(struct connection *c, struct command *command)
{
    const char *word;
    size_t len;

    if (!c->shard->options->shutdown_allowed) {
        connection_reply_text(c, REPLY_NO_SHUTDOWN);
    } else if (!command_next_word(command, &word, &len)) {
        c->shard->stop = SHARD_STOPS;
    } else if (len == 8 && memcmp(word, "graceful", 8) == 0 &&
               !command_next_word(command, &word, &len)) {
        c->shard->stop = SHARD_STOPS_GRACEFULLY;
    } else {
        connection_reply_text(c, REPLY_BAD_SHUTDOWN);
    }
}

bool execute_command(struct connection *c, struct command *command)
{
    switch (command->kind) {
    case COMMAND_GET:
    case COMMAND_GETS:
    case COMMAND_GAT:
    case COMMAND_GATS:
        return do_get(c, command);
    case COMMAND_SET:
    case COMMAND_ADD:
    case COMMAND_REPLACE:
    case COMMAND_APPEND:
    case COMMAND_PREPEND:
    case COMMAND_CAS:
        do_store(c, command);
        break;
    case COMMAND_DELETE:
        do_delete(c, command);
        break;
    case COMMAND_INCR:
    case COMMAND_DECR:
        do_arithmetic(c, command);
        break;
    case COMMAND_TOUCH:
        do_touch(c, command);
        break;
    case COMMAND_FLUSH_ALL:
        do_flush_all(c, command);
        break;
    case COMMAND_VERSION:
        connection_replyf(c, "VERSION %s\r\n", OPTIONS_PROTOCOL);
        break;
    case COMMAND_VERBOSITY:
        do_verbosity(c, command);
        break;
    case COMMAND_STATS:
        stats_execute(c, command);
        break;
    case COMMAND_QUIT:
        c->closing = true;
        break;
    case COMMAND_SHUTDOWN:
        do_shutdown(c, command);
        break;
    case COMMAND_REFUSED:
        answer(c, command->noreply, command->refusal);
        break;
    }
    return true;
}
