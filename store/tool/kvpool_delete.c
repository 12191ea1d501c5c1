/* kvpool delete: a pool goes, and what it had is free. */
#include "store/tool/json.h"
#include "store/tool/open_region.h"
#include "store/tool/tool.h"

#include "store/engine/engine_state.h"

#include <string.h>

struct options {
    struct tool_options common;
    bool zero;
    bool yes;
};

static int take_option(struct options *options, int option, char **argv)
{
    switch (option) {
    case 'z':
        options->zero = true;
        return 0;
    case 'y':
        options->yes = true;
        return 0;
    default:
        if (tool_option(&options->common, option))
            return 0;
        return tool_bad_option(argv, "--pool, --zero, --yes or --json");
    }
}

static bool count_pool(void *context, const struct kv_pool_info *info)
{
    unsigned *left = context;
    (void)info;
    (*left)++;
    return true;
}

static void print(const struct kv_region *region, const char *file,
                  const struct options *options)
{
    struct json json = {.out = stdout};
    unsigned left = 0;
    char size[TOOL_SIZE_MAX];
    kv_pool_each(region, count_pool, &left);
    if (!options->common.json) {
        printf("%s: pool %s is deleted%s; %u left, %s free\n", file,
               options->common.pool, options->zero ? " and zeroed" : "", left,
               tool_bytes(kv_region_free(region), size));
        return;
    }
    json_begin(&json, NULL, '{');
    json_text(&json, "file", file);
    json_text(&json, "pool", options->common.pool);
    json_bool(&json, "zeroed", options->zero);
    json_number(&json, "pools", left);
    json_number(&json, "free", kv_region_free(region));
    json_end(&json, '}');
}

static int delete_pool(const char *file, const struct options *options)
{
    const struct kv_region_options how = {0};
    struct kv_region *region;
    char error[512] = "";
    int rc = open_region(file, &how, false, &region, error, sizeof(error));
    if (rc < 0)
        goto report;
    rc = kv_pool_delete(region, options->common.pool, options->zero, error,
                        sizeof(error));
    if (rc == 0)
        print(region, file, options);
    rc = end_region(region, file, rc, error, sizeof(error));

report:
    if (rc == 0)
        return TOOL_DONE;
    tool_error("delete", "%s", error[0] != '\0' ? error : strerror(-rc));
    return tool_status(rc);
}

int kvpool_delete(int argc, char **argv)
{
    static const struct option table[] = {TOOL_OPTION_JSON,
                                          TOOL_OPTION_POOL,
                                          {"zero", no_argument, NULL, 'z'},
                                          {"yes", no_argument, NULL, 'y'},
                                          {NULL, 0, NULL, 0}};
    struct options options = {.zero = false};
    int option;
    while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
        int status = take_option(&options, option, argv);
        if (status != 0)
            return status;
    }
    const char *file = tool_file(argc, argv);
    if (!file)
        return TOOL_USAGE;
    if (!options.common.pool)
        return tool_usage("delete", "expected --pool NAME");
    if (!options.yes)
        return tool_usage("delete",
                          "expected --yes: all that pool %s holds is lost, "
                          "keep it with 'kvpool dump' first",
                          options.common.pool);
    return delete_pool(file, &options);
}
