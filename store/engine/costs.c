/* Runs that end, commits that several of them share, and telling. */
#include "store/engine/costs.h"

#include "store/engine/engine_ops.h"

#include <string.h>

#define FENCES 2.0  /* of a commit */
#define LINE   64.0 /* bytes */

void costs_init(struct costs *costs, const struct commit *commit)
{
    memset(costs, 0, sizeof(*costs));
    costs->commit = commit;
}

/* Of the run, what is durable and all that it stored and flushed. */
static void add_run(const struct costs *costs, struct kv_cost *sum)
{
    uint64_t runs = costs->commit->runs - costs->runs;
    uint64_t lines = costs->commit->lines - costs->lines;
    sum->n += costs->durable;
    sum->stored += costs->stored;
    sum->fences += FENCES * (double)runs;
    sum->flushed += (double)costs->flushed + LINE * (double)lines;
}

void costs_turn_to(struct costs *costs, enum kv_kind kind)
{
    uint64_t left = costs->n - costs->durable;
    struct kv_cost *sum = &costs->of[costs->kind];
    if (costs->runs == costs->commit->runs) { /* the middle of a turn */
        sum->stored += costs->stored;
        sum->flushed += (double)costs->flushed;
    } else {
        add_run(costs, sum);
        costs->durable = 0;
        costs->runs = costs->commit->runs;
        costs->lines = costs->commit->lines;
    }
    costs->pending[costs->kind] += left;
    costs->mixed = costs->mixed || left > 0;
    costs->kind = kind;
    costs->n = costs->stored = costs->flushed = 0;
}

/* The run began in this turn, so there was one commit since. */
void costs_share(struct costs *costs)
{
    double flushed = LINE * (double)(costs->commit->lines - costs->lines);
    uint64_t all = 0;
    costs->pending[costs->kind] += costs->n;
    for (int kind = 0; kind < KV_KINDS; kind++)
        all += costs->pending[kind];
    for (int kind = 0; kind < KV_KINDS; kind++) {
        if (costs->pending[kind] == 0)
            continue;
        double part = (double)costs->pending[kind] / (double)all;
        costs->of[kind].fences += FENCES * part;
        costs->of[kind].flushed += flushed * part;
        costs->of[kind].n += costs->pending[kind];
        costs->pending[kind] = 0;
    }
    costs->n = costs->durable = 0;
    costs->mixed = false;
    costs->runs = costs->commit->runs;
    costs->lines = costs->commit->lines;
}

void costs_tell(const struct costs *costs, struct kv_cost out[KV_KINDS])
{
    memcpy(out, costs->of, sizeof(costs->of));
    add_run(costs, &out[costs->kind]);
}

static bool stores(enum kv_kind kind)
{
    return kind <= KV_KIND_NUMBER;
}

void costs_stored(const struct costs *costs, uint64_t *items, uint64_t *bytes)
{
    *items = stores(costs->kind) ? costs->n : 0;
    *bytes = costs->stored;
    for (int kind = 0; stores((enum kv_kind)kind); kind++) {
        *items += costs->of[kind].n + costs->pending[kind];
        *bytes += costs->of[kind].stored;
    }
}

void kv_costs(const struct kv *kv, struct kv_cost out[KV_KINDS])
{
    memset(out, 0, KV_KINDS * sizeof(*out));
    if (kv_ops_of(kv)->costs)
        kv_ops_of(kv)->costs(kv, out);
}

const char *kv_kind_name(enum kv_kind kind)
{
    static const char *const names[KV_KINDS] = {
        [KV_KIND_INSERT] = "insert",   [KV_KIND_REPLACE] = "replace",
        [KV_KIND_JOIN] = "append",     [KV_KIND_NUMBER] = "incr",
        [KV_KIND_TOUCH] = "touch",     [KV_KIND_DELETE] = "delete",
        [KV_KIND_FLUSH] = "flush_all", [KV_KIND_EXPIRE] = "expire",
        [KV_KIND_EVICT] = "evict",     [KV_KIND_DISPLACE] = "displace",
        [KV_KIND_GROW] = "grow",       [KV_KIND_SHRINK] = "shrink"};
    return (unsigned)kind < KV_KINDS ? names[kind] : "";
}
