/* kvpool stats: what a pool holds, how it lies there, and what is free. */
#include "store/tool/report.h"
#include "store/tool/select_pool.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define SIZES 32 /* classes by power of two: 0, 1, 2 to 3, 4 to 7 ... */

struct count {
    uint64_t n;
    uint64_t bytes;
};

struct stats {
    uint64_t now;
    uint64_t items;
    uint64_t key_bytes;
    uint64_t value_bytes;
    uint64_t expiring;
    uint64_t expired;
    uint64_t flushed;
    uint64_t inlined;
    uint64_t chained;
    uint64_t pieces;
    uint64_t most_pieces;
    uint64_t largest_value;
    struct count values[SIZES]; /* by their size */
    struct count runs[64];      /* free ones, by their size */
    uint64_t free_bytes;
    uint64_t free_runs;
    uint64_t largest_run;
    uint64_t table_bytes;
};

static unsigned class_of(uint64_t size)
{
    return size == 0 ? 0 : 64 - (unsigned)__builtin_clzll(size);
}

static void count_pieces(struct stats *st, const struct survey_pool *pool,
                         const struct hop_entry *entry)
{
    struct item_blob blob;
    uint64_t len, n = 0;
    if (!item_blob(entry, &blob, &len) || !blob.chained)
        return;
    for (uint64_t at = blob.offset; at != 0; n++) {
        const struct hop_piece *piece =
            (const void *)(pool->survey->view->base + at);
        at = piece->next;
    }
    st->chained++;
    st->pieces += n;
    st->most_pieces = n > st->most_pieces ? n : st->most_pieces;
}

static bool count_item(void *context, const struct survey_pool *pool,
                       const struct hop_entry *entry)
{
    struct stats *st = context;
    struct item_text text = item_read(pool->survey->view->base, entry);
    struct count *size = &st->values[class_of(text.vlen)];
    st->items++;
    st->key_bytes += text.klen;
    st->value_bytes += text.vlen;
    st->expiring += entry->exptime != 0;
    if (survey_flushed(pool, entry, st->now))
        st->flushed++;
    else
        st->expired += entry->exptime != 0 && entry->exptime <= st->now;
    st->inlined += item_form(entry) == HOP_INLINE_ITEM;
    if (text.vlen > st->largest_value)
        st->largest_value = text.vlen;
    size->n++;
    size->bytes += text.vlen;
    count_pieces(st, pool, entry);
    return true;
}

static void count_free(struct stats *st, const struct survey_pool *pool)
{
    const struct space_map *map = &pool->survey->space;
    for (size_t i = 0; i < pool->n_parts; i++) {
        uint64_t end = pool->parts[i].offset + pool->parts[i].size;
        uint64_t at = space_map_next(map, pool->parts[i].offset, end, false);
        while (at < end) {
            uint64_t stop = space_map_next(map, at, end, true);
            struct count *run = &st->runs[class_of(stop - at)];
            run->n++;
            run->bytes += stop - at;
            st->free_runs++;
            st->free_bytes += stop - at;
            if (stop - at > st->largest_run)
                st->largest_run = stop - at;
            at = space_map_next(map, stop, end, false);
        }
    }
    for (size_t i = 0; i < pool->n_segments; i++)
        st->table_bytes += pool->segments[i].n * sizeof(struct hop_entry);
    st->table_bytes += pool->n_pairs * sizeof(struct hop_pair);
}

static double ratio(uint64_t part, uint64_t all)
{
    return all == 0 ? 0 : (double)part / (double)all;
}

/* How much of the free space is not in the largest run. */
static double fragmentation(const struct stats *st)
{
    return ratio(st->free_bytes - st->largest_run, st->free_bytes);
}

static void print_sizes(const char *what, const struct count *counts,
                        unsigned n)
{
    char from[TOOL_SIZE_MAX], bytes[TOOL_SIZE_MAX];
    for (unsigned i = 0; i < n; i++)
        if (counts[i].n > 0)
            printf("  %-6s from %-10s %12llu  %s\n", what,
                   tool_bytes(i == 0 ? 0 : (uint64_t)1 << (i - 1), from),
                   (unsigned long long)counts[i].n,
                   tool_bytes(counts[i].bytes, bytes));
}

static void print_words(const struct survey_pool *pool, const struct stats *st)
{
    char a[TOOL_SIZE_MAX], b[TOOL_SIZE_MAX], c[TOOL_SIZE_MAX];
    printf("pool %s: %llu items, %llu of them expired and %llu flushed, %llu "
           "will expire\n",
           pool->name, (unsigned long long)st->items,
           (unsigned long long)st->expired, (unsigned long long)st->flushed,
           (unsigned long long)(st->expiring - st->expired));
    printf("keys: %s; values: %s, the largest %s\n",
           tool_bytes(st->key_bytes, a), tool_bytes(st->value_bytes, b),
           tool_bytes(st->largest_value, c));
    printf("in their entries: %llu; in pieces: %llu, of %llu pieces, %llu at "
           "most\n",
           (unsigned long long)st->inlined, (unsigned long long)st->chained,
           (unsigned long long)st->pieces, (unsigned long long)st->most_pieces);
    printf("table: %zu segments, %llu places, %.1f %% in use, %s\n",
           pool->n_segments, (unsigned long long)pool->places,
           100 * ratio(st->items, pool->places),
           tool_bytes(st->table_bytes, a));
    printf("space: %s, %s free in %llu runs, the largest %s, fragmentation "
           "%.1f %%\n",
           tool_bytes(pool->space, a), tool_bytes(st->free_bytes, b),
           (unsigned long long)st->free_runs, tool_bytes(st->largest_run, c),
           100 * fragmentation(st));
    print_sizes("values", st->values, SIZES);
    print_sizes("free", st->runs, 64);
}

static void sizes_json(struct json *json, const char *key,
                       const struct count *counts, unsigned n)
{
    json_begin(json, key, '[');
    for (unsigned i = 0; i < n; i++) {
        if (counts[i].n == 0)
            continue;
        json_begin(json, NULL, '{');
        json_number(json, "from", i == 0 ? 0 : (uint64_t)1 << (i - 1));
        json_number(json, "n", counts[i].n);
        json_number(json, "bytes", counts[i].bytes);
        json_end(json, '}');
    }
    json_end(json, ']');
}

static void print_json(struct json *json, const struct survey_pool *pool,
                       const struct stats *st)
{
    json_begin(json, NULL, '{');
    json_text(json, "pool", pool->name);
    json_number(json, "items", st->items);
    json_number(json, "expired", st->expired);
    json_number(json, "flushed", st->flushed);
    json_number(json, "expiring", st->expiring);
    json_number(json, "key_bytes", st->key_bytes);
    json_number(json, "value_bytes", st->value_bytes);
    json_number(json, "largest_value", st->largest_value);
    json_number(json, "inline_items", st->inlined);
    json_number(json, "chained_items", st->chained);
    json_number(json, "pieces", st->pieces);
    json_number(json, "segments", pool->n_segments);
    json_number(json, "places", pool->places);
    json_ratio(json, "load", ratio(st->items, pool->places));
    json_number(json, "table_bytes", st->table_bytes);
    json_number(json, "space", pool->space);
    json_number(json, "free", st->free_bytes);
    json_number(json, "free_runs", st->free_runs);
    json_number(json, "largest_free_run", st->largest_run);
    json_ratio(json, "fragmentation", fragmentation(st));
    sizes_json(json, "value_sizes", st->values, SIZES);
    sizes_json(json, "free_sizes", st->runs, 64);
    json_end(json, '}');
}

static int look_at_pool(struct survey *s, uint32_t slot, struct json *json)
{
    struct stats st = {.now = (uint64_t)time(NULL)};
    struct survey_pool pool;
    int rc = survey_pool_open(s, slot, &pool);
    if (rc < 0)
        return rc == -EUCLEAN ? 0 : rc;
    rc = survey_pool(&pool);
    if (rc == 0) {
        survey_each(&pool, count_item, &st);
        count_free(&st, &pool);
        if (json)
            print_json(json, &pool, &st);
        else
            print_words(&pool, &st);
    }
    survey_pool_close(&pool);
    return rc;
}

static int look_at_pools(struct survey *s, const struct tool_options *options,
                         struct json *json, char *error, size_t error_size)
{
    uint32_t slots = view_header(s->view)->slots, slot;
    int rc = 0;
    if (options->pool) {
        rc = select_pool(s, options->pool, &slot, error, error_size);
        return rc == 0 ? look_at_pool(s, slot, json) : rc;
    }
    for (uint32_t i = 0; i < slots && rc == 0; i++)
        if (survey_slot(s, i)->state == REGION_SLOT_POOL)
            rc = look_at_pool(s, i, json);
    return rc;
}

static int look(struct view *view, const struct tool_options *options)
{
    struct json json = {.out = stdout};
    struct fixes fixes;
    struct survey s;
    char error[512] = "";
    fixes_init(&fixes);
    int rc = survey_init(&s, view, &fixes);
    s.lines = options->progress;
    if (options->json) {
        json_begin(&json, NULL, '{');
        json_text(&json, "file", view->path);
        json_begin(&json, "pools", '[');
    }
    if (rc == 0)
        rc = survey_region(&s);
    if (rc == 0)
        rc = look_at_pools(&s, options, options->json ? &json : NULL, error,
                           sizeof(error));
    int status =
        rc < 0 && rc != -EUCLEAN ? tool_status(rc) : (int)report_status(&s);
    if (options->json) {
        json_end(&json, ']');
        json_number(&json, "damages", s.damages);
        json_number(&json, "status", (unsigned)status);
        json_end(&json, '}');
    }
    if (rc < 0 && rc != -EUCLEAN)
        tool_error("stats", "%s", error[0] ? error : strerror(-rc));
    else if (s.damages > 0)
        tool_error("stats",
                   "%s is damaged, what is whole was counted; 'kvpool "
                   "check' says more",
                   view->path);
    survey_fini(&s);
    fixes_fini(&fixes);
    return status;
}

int kvpool_stats(int argc, char **argv)
{
    static const struct option table[] = {TOOL_OPTION_JSON,
                                          TOOL_OPTION_PROGRESS,
                                          TOOL_OPTION_POOL,
                                          {NULL, 0, NULL, 0}};
    struct tool_options options = {0};
    char error[512] = "";
    struct view view;
    int option;
    while ((option = getopt_long(argc, argv, "", table, NULL)) != -1)
        if (!tool_option(&options, option))
            return tool_bad_option(argv, "--json, --progress or --pool NAME");
    const char *file = tool_file(argc, argv);
    if (!file)
        return TOOL_USAGE;
    int rc = view_open(&view, file, VIEW_READ, error, sizeof(error));
    if (rc < 0)
        return report_refusal("stats", &options, file, rc, error);
    int status = look(&view, &options);
    view_close(&view);
    return status;
}
