/* kvpool create: a region with its pools, or more pools in one. */
#include "store/tool/json.h"
#include "store/tool/open_region.h"
#include "store/tool/tool.h"

#include "store/engine/engine_state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define POOLS_MAX 128

struct wanted {
    char *name;    /* in argv, cut at '=' */
    uint64_t size; /* 0: all that is free */
};

struct options {
    struct tool_options common;
    struct kv_region_options region;
    struct wanted pools[POOLS_MAX];
    unsigned n_pools;
    unsigned n_rests; /* pools without a size */
    long mode;        /* -1: not given */
    bool add;
};

static int want_pool(struct options *options, char *text)
{
    struct wanted *pool = &options->pools[options->n_pools];
    char *equals = strrchr(text, '=');
    if (options->n_pools == POOLS_MAX)
        return tool_usage("create", "expected at most %d pools", POOLS_MAX);
    *pool = (struct wanted){.name = text};
    if (equals) {
        if (tool_size(equals + 1, &pool->size) < 0 || pool->size == 0)
            return tool_usage(
                "create", "expected --pool NAME or NAME=SIZE, not '%s'", text);
        *equals = '\0';
    } else if (++options->n_rests > 1) {
        return tool_usage("create", "expected a size for each pool but one: "
                                    "the one without gets all that is free");
    }
    options->n_pools++;
    return 0;
}

static int take_option(struct options *options, int option, char **argv)
{
    char *end;
    switch (option) {
    case 's':
        if (tool_size(optarg, &options->region.size) == 0)
            return 0;
        return tool_usage("create", "expected a size as 64M or 2G, not '%s'",
                          optarg);
    case 'g':
        if (tool_size(optarg, &options->region.grain) == 0)
            return 0;
        return tool_usage("create", "expected a size as 64K, not '%s'", optarg);
    case 'n':
        return want_pool(options, optarg);
    case 'm':
        options->mode = strtol(optarg, &end, 8);
        if (*optarg != '\0' && *end == '\0' && options->mode >= 0 &&
            options->mode <= 0777)
            return 0;
        return tool_usage("create", "expected a mode as 0640, not '%s'",
                          optarg);
    case 'a':
        options->add = true;
        return 0;
    default:
        if (tool_option(&options->common, option))
            return 0;
        return tool_bad_option(argv, "--size, --grain, --pool, --mode, --add "
                                     "or --json");
    }
}

/* Whether there is something that must not be written over. */
static int check_absent(const char *file, struct options *options, char *error,
                        size_t error_size)
{
    uint64_t magic = 0;
    struct stat st;
    if (stat(file, &st) < 0)
        return 0;
    if (S_ISCHR(st.st_mode)) {
        options->region.size = KV_MIN_POOL; /* it has its own */
        return 0;
    }
    if (!S_ISREG(st.st_mode) || st.st_size == 0)
        return 0;
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : pread(fd, &magic, sizeof(magic), 0);
    if (fd >= 0)
        close(fd);
    if (n == sizeof(magic) && magic == REGION_MAGIC_UNBUILT)
        return 0;
    return region_refuse(file, error, error_size, -EEXIST,
                         "exists already; remove it, or put pools into it with "
                         "--add");
}

/* Those with a size first, so that the other one gets what they leave. */
static int create_pools(struct kv_region *region, const struct options *options,
                        char *error, size_t error_size)
{
    int rc = 0;
    for (int rest = 0; rest < 2; rest++)
        for (unsigned i = 0; i < options->n_pools && rc == 0; i++)
            if ((options->pools[i].size == 0) == (rest == 1))
                rc = kv_pool_create(region, options->pools[i].name,
                                    options->pools[i].size, error, error_size);
    return rc;
}

static bool print_pool(void *context, const struct kv_pool_info *info)
{
    struct json *json = context;
    char size[TOOL_SIZE_MAX];
    if (!json) {
        printf("pool %s: %s\n", info->name, tool_bytes(info->size, size));
        return true;
    }
    json_begin(json, NULL, '{');
    json_text(json, "name", info->name);
    json_number(json, "size", info->size);
    json_end(json, '}');
    return true;
}

static void print(const struct kv_region *region, const char *file,
                  bool as_json)
{
    struct json json = {.out = stdout};
    char size[TOOL_SIZE_MAX], left[TOOL_SIZE_MAX];
    const struct region_header *h = region->region.header;
    if (!as_json) {
        printf("%s: %s, %s free\n", file, tool_bytes(h->size, size),
               tool_bytes(kv_region_free(region), left));
        kv_pool_each(region, print_pool, NULL);
        return;
    }
    json_begin(&json, NULL, '{');
    json_text(&json, "file", file);
    json_number(&json, "size", h->size);
    json_number(&json, "free", kv_region_free(region));
    json_begin(&json, "pools", '[');
    kv_pool_each(region, print_pool, &json);
    json_end(&json, ']');
    json_end(&json, '}');
}

static int create(const char *file, struct options *options)
{
    char error[512] = "";
    struct kv_region *region;
    int rc = 0;
    if (!options->add)
        rc = check_absent(file, options, error, sizeof(error));
    if (rc == 0 && !options->add && options->region.size == 0)
        return tool_usage("create", "expected --size SIZE for a new file");
    if (rc == 0)
        rc = open_region(file, &options->region, !options->add, &region, error,
                         sizeof(error));
    if (rc < 0)
        goto report;
    bool made = region->region.created;
    if (!made && !options->add)
        rc = region_refuse(file, error, sizeof(error), -EEXIST,
                           "holds a region already; put pools into it with "
                           "--add");
    if (rc == 0)
        rc = create_pools(region, options, error, sizeof(error));
    if (rc == 0 && options->mode >= 0 && !region->region.device &&
        fchmod(region->region.fd, (mode_t)options->mode) < 0)
        rc = region_refuse(file, error, sizeof(error), -errno,
                           "cannot get that mode: %s", strerror(errno));
    if (rc == 0)
        print(region, file, options->common.json);
    else if (made && !region->region.device)
        unlink(file);
    rc = end_region(region, file, rc, error, sizeof(error));

report:
    if (rc == 0)
        return TOOL_DONE;
    tool_error("create", "%s", error[0] != '\0' ? error : strerror(-rc));
    return rc == -EEXIST || rc == -ENOSPC ? TOOL_FAILED : tool_status(rc);
}

int kvpool_create(int argc, char **argv)
{
    static const struct option table[] = {
        TOOL_OPTION_JSON,
        TOOL_OPTION_POOL,
        {"size", required_argument, NULL, 's'},
        {"grain", required_argument, NULL, 'g'},
        {"mode", required_argument, NULL, 'm'},
        {"add", no_argument, NULL, 'a'},
        {NULL, 0, NULL, 0}};
    static char all[] = "default";
    struct options options = {.mode = -1};
    int option;
    while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
        int status = take_option(&options, option, argv);
        if (status != 0)
            return status;
    }
    const char *file = tool_file(argc, argv);
    if (!file)
        return TOOL_USAGE;
    if (options.add && (options.region.size || options.region.grain))
        return tool_usage("create", "expected no --size and no --grain with "
                                    "--add: the region has them");
    if (options.add && options.n_pools == 0)
        return tool_usage("create", "expected --pool NAME[=SIZE] with --add");
    if (options.n_pools == 0)
        options.pools[options.n_pools++].name = all;
    return create(file, &options);
}
