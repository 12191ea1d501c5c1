/* kvpool grow: a region becomes larger, and with it a pool. */
#include "store/tool/json.h"
#include "store/tool/open_region.h"
#include "store/tool/tool.h"

#include "store/engine/engine_state.h"

#include <errno.h>
#include <string.h>

struct options {
    struct tool_options common;
    uint64_t size; /* 0: the region stays as it is */
    bool more;     /* size is what comes to the one there is */
    char *pool;    /* NULL: the only one */
    uint64_t by;   /* 0: all that is free */
};

struct growing {
    const struct options *options;
    const char *file;
    struct kv_region *region;
    uint64_t pool_size; /* after it has grown */
    const char *name;   /* of the pool that has grown, or NULL */
    char only[REGION_NAME_MAX + 1];
    unsigned n_pools;
    char error[512];
};

static int take_option(struct options *options, int option, char **argv)
{
    char *equals;
    switch (option) {
    case 's':
        options->more = *optarg == '+';
        if (tool_size(optarg + options->more, &options->size) == 0 &&
            options->size > 0)
            return 0;
        return tool_usage("grow",
                          "expected a size as 2G, or +512M for so much "
                          "more, not '%s'",
                          optarg);
    case 'n':
        options->pool = optarg;
        equals = strstr(optarg, "=+");
        if (!equals)
            return 0;
        if (tool_size(equals + 2, &options->by) < 0 || options->by == 0)
            return tool_usage("grow",
                              "expected --pool NAME or NAME=+SIZE, not "
                              "'%s'",
                              optarg);
        *equals = '\0';
        return 0;
    default:
        if (tool_option(&options->common, option))
            return 0;
        return tool_bad_option(argv, "--size, --pool or --json");
    }
}

static bool see_pool(void *context, const struct kv_pool_info *info)
{
    struct growing *g = context;
    g->n_pools++;
    snprintf(g->only, sizeof(g->only), "%s", info->name);
    return true;
}

static int grow_pool(struct growing *g)
{
    struct kv_options how = {0};
    uint64_t by = g->options->by;
    struct kv *kv;
    int rc =
        kv_pool_open(g->region, g->name, &how, &kv, g->error, sizeof(g->error));
    if (rc < 0)
        return rc;
    if (by == 0)
        by = kv_region_free(g->region);
    if (by > 0)
        rc = kv_pool_grow(kv, by, g->error, sizeof(g->error));
    g->pool_size = kv->pool.size;
    int closed = kv_close(kv);
    return rc < 0 ? rc : closed;
}

static int grow_all(struct growing *g, uint64_t size)
{
    int rc = 0;
    if (g->options->size != 0)
        rc = kv_region_grow(g->region, size, g->error, sizeof(g->error));
    if (rc < 0)
        return rc;
    kv_pool_each(g->region, see_pool, g);
    g->name = g->options->pool  ? g->options->pool
              : g->n_pools == 1 ? g->only
                                : NULL;
    return g->name ? grow_pool(g) : 0;
}

static void print(const struct growing *g)
{
    struct json json = {.out = stdout};
    char a[TOOL_SIZE_MAX], b[TOOL_SIZE_MAX];
    uint64_t size = g->region->region.header->size;
    uint64_t left = kv_region_free(g->region);
    if (!g->options->common.json) {
        printf("%s: %s, %s free\n", g->file, tool_bytes(size, a),
               tool_bytes(left, b));
        if (g->name)
            printf("pool %s: %s\n", g->name, tool_bytes(g->pool_size, a));
        else
            printf("none of its %u pools has grown: --pool says which\n",
                   g->n_pools);
        return;
    }
    json_begin(&json, NULL, '{');
    json_text(&json, "file", g->file);
    json_number(&json, "size", size);
    json_number(&json, "free", left);
    if (g->name) {
        json_text(&json, "pool", g->name);
        json_number(&json, "pool_size", g->pool_size);
    }
    json_end(&json, '}');
}

/* The size wanted has to be known before the region is opened for good: so
 * many addresses are set aside for it. */
static int grow(struct growing *g)
{
    struct kv_region_options how = {0};
    uint64_t size = g->options->size;
    int rc = open_region(g->file, &how, false, &g->region, g->error,
                         sizeof(g->error));
    if (rc < 0)
        return rc;
    uint64_t now = g->region->region.header->size;
    if (g->options->more)
        size = size > UINT64_MAX - now ? UINT64_MAX : now + size;
    if (size > now) {
        kv_region_close(g->region);
        how.room = size < INT64_MAX ? size : INT64_MAX;
        rc = open_region(g->file, &how, false, &g->region, g->error,
                         sizeof(g->error));
        if (rc < 0)
            return rc;
    }
    rc = grow_all(g, size);
    if (rc == 0)
        print(g);
    int closed = kv_region_close(g->region);
    return rc < 0 ? rc : closed;
}

int kvpool_grow(int argc, char **argv)
{
    static const struct option table[] = {
        TOOL_OPTION_JSON,
        TOOL_OPTION_POOL,
        {"size", required_argument, NULL, 's'},
        {NULL, 0, NULL, 0}};
    struct options options = {.size = 0};
    struct growing g = {.options = &options};
    int option;
    while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
        int status = take_option(&options, option, argv);
        if (status != 0)
            return status;
    }
    g.file = tool_file(argc, argv);
    if (!g.file)
        return TOOL_USAGE;
    if (options.size == 0 && !options.pool)
        return tool_usage("grow", "expected --size SIZE, --pool NAME[=+SIZE] "
                                  "or both");
    int rc = grow(&g);
    if (rc == 0)
        return TOOL_DONE;
    tool_error("grow", "%s", g.error[0] ? g.error : strerror(-rc));
    return rc == -ENOSPC || rc == -ENOMEM ? TOOL_FAILED : tool_status(rc);
}
