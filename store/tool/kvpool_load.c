/*
 * kvpool load: a dump into a pool, that is made when it is not there.
 *
 * A dump that can be read twice is read once to its end before anything is
 * written. Of one that cannot, a pipe, what came before a mistake stays.
 */
#include "store/tool/dump_format.h"
#include "store/tool/json.h"
#include "store/tool/open_region.h"
#include "store/tool/progress.h"
#include "store/tool/tool.h"

#include "store/engine/engine_state.h"
#include "store/engine/restore.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BATCH 256 /* items per commit */

struct options {
    struct tool_options common;
    uint64_t size; /* of what is made; 0: as the dump says */
    bool keep;     /* what is there already stays */
};

struct loading {
    const struct options *options;
    const char *file;
    const char *dump; /* its name, for sentences */
    FILE *in;
    struct dump_head head;
    struct kv_region *region;
    struct kv *kv;
    struct progress progress;
    uint64_t total;   /* bytes of the dump, or 0 */
    uint64_t loaded;  /* items, committed or not */
    uint64_t durable; /* of them */
    uint64_t kept;    /* were there already */
    uint64_t expired; /* meanwhile */
    bool as_were;     /* cas ids are those of the dump */
    bool made_file;
    char error[512];
};

static int refuse_dump(struct loading *l, int rc, const char *why,
                       const char *after)
{
    snprintf(l->error, sizeof(l->error), "%.150s: %.250s%s", l->dump, why,
             after);
    return rc;
}

/* All of a dump that is a file: nothing is wrong with it. */
static int read_through(struct loading *l)
{
    static const char unchanged[] = "; nothing was changed";
    struct dump_reader reader;
    struct dump_head head;
    struct dump_item item;
    struct stat st;
    char why[300] = "";
    off_t begin = ftello(l->in);
    if (begin < 0 || fstat(fileno(l->in), &st) < 0 || !S_ISREG(st.st_mode))
        return 0;
    l->total = (uint64_t)(st.st_size - begin);
    progress_begin(&l->progress, "verified", l->total,
                   l->options->common.progress);
    int rc = dump_read_head(&reader, l->in, &head, why, sizeof(why));
    while (rc == 0 && (rc = dump_read_item(&reader, &item)) == 1) {
        progress_add(&l->progress, reader.at - l->progress.done);
        rc = 0;
    }
    progress_end(&l->progress);
    dump_reader_fini(&reader);
    if (rc < 0)
        return refuse_dump(l, rc, why, unchanged);
    if (fseeko(l->in, begin, SEEK_SET) < 0)
        return refuse_dump(l, -errno, strerror(errno), unchanged);
    return 0;
}

/* Room for a pool of that size, and for what a region has besides. */
static uint64_t region_size(uint64_t pool)
{
    uint64_t more = pool / 64 + (128u << 10);
    uint64_t size = pool + more + (pool >= (48u << 20) ? 4u << 20 : 0);
    return size < KV_MIN_POOL ? KV_MIN_POOL : size;
}

static int open_pool(struct loading *l, const char *name)
{
    struct kv_options how = {.max_value = KV_MAX_VALUE};
    uint64_t size = l->options->size ? l->options->size : l->head.size;
    int rc = 0;
    if (l->made_file || !pool_exists(&l->region->region, name))
        rc = kv_pool_create(l->region, name, l->made_file ? 0 : size, l->error,
                            sizeof(l->error));
    if (rc == 0)
        rc = kv_pool_open(l->region, name, &how, &l->kv, l->error,
                          sizeof(l->error));
    return rc;
}

static int open_all(struct loading *l)
{
    struct kv_region_options how = {0};
    struct stat st;
    const char *name =
        l->options->common.pool ? l->options->common.pool : l->head.pool;
    if (stat(l->file, &st) < 0 && errno == ENOENT)
        how.size =
            l->options->size ? l->options->size : region_size(l->head.size);
    int rc = open_region(l->file, &how, how.size != 0, &l->region, l->error,
                         sizeof(l->error));
    if (rc < 0)
        return rc;
    l->made_file = l->region->region.created;
    rc = open_pool(l, name);
    if (rc == 0) {
        l->as_were = restore_is_fresh(l->kv);
        kv_set_time(l->kv, (uint32_t)time(NULL));
        return 0;
    }
    if (l->made_file) /* while it is locked: then it is nobody else's */
        unlink(l->file);
    kv_region_close(l->region);
    return rc;
}

static int commit(struct loading *l)
{
    if (kv_commit(l->kv) != KV_OK) {
        snprintf(l->error, sizeof(l->error),
                 "%.200s cannot be written; %llu items are loaded", l->file,
                 (unsigned long long)l->durable);
        return -EIO;
    }
    l->durable = l->loaded;
    return 0;
}

static enum kv_result store(struct loading *l, const struct dump_item *item,
                            const unsigned char *bytes)
{
    const unsigned char *value = bytes + item->klen;
    if (l->options->keep && kv_exists(l->kv, bytes, item->klen) == KV_OK)
        return KV_EXISTS;
    if (l->as_were)
        return restore_item(l->kv, bytes, item->klen, item->flags,
                            item->exptime, item->cas, value, item->vlen);
    return kv_store(l->kv, KV_SET, bytes, item->klen, item->flags,
                    item->exptime, 0, value, item->vlen, NULL);
}

static int load_item(struct loading *l, const struct dump_item *item,
                     const unsigned char *bytes)
{
    if (item->exptime != 0 && item->exptime <= l->kv->now) {
        l->expired++;
        return 0;
    }
    enum kv_result result = store(l, item, bytes);
    if (result == KV_NO_SPACE && commit(l) == 0)
        result = store(l, item, bytes);
    if (result == KV_EXISTS) {
        l->kept++;
        return 0;
    }
    if (result == KV_OK)
        return ++l->loaded % BATCH == 0 ? commit(l) : 0;
    commit(l);
    snprintf(l->error, sizeof(l->error),
             "%.200s: %s; %llu items are loaded and stay", l->file,
             result == KV_NOT_STORED ? "the dump has a cas id that is none"
             : result == KV_IO       ? "it cannot be written"
                                     : "there is no room for more: make it "
                                       "larger with 'kvpool grow'",
             (unsigned long long)l->durable);
    return result == KV_NOT_STORED ? -EBADMSG : -ENOSPC;
}

static int load_items(struct loading *l, struct dump_reader *reader,
                      const char *why)
{
    struct dump_item item;
    char after[64];
    int rc;
    progress_begin(&l->progress, "loaded", l->total,
                   l->options->common.progress);
    while ((rc = dump_read_item(reader, &item)) == 1) {
        rc = load_item(l, &item, reader->buf);
        if (rc < 0)
            return rc;
        progress_add(&l->progress, reader->at - l->progress.done);
    }
    progress_end(&l->progress);
    int committed = commit(l);
    if (rc == 0 || committed < 0)
        return committed;
    snprintf(after, sizeof(after), "; %llu items are loaded and stay",
             (unsigned long long)l->durable);
    return refuse_dump(l, rc, why, after);
}

static void print(const struct loading *l, const char *name, int status)
{
    struct json json = {.out = stdout};
    if (!l->options->common.json) {
        printf("%s, pool %s: %llu items loaded, with %s cas ids; %llu left as "
               "they were, %llu expired meanwhile\n",
               l->file, name, (unsigned long long)l->durable,
               l->as_were ? "their" : "new", (unsigned long long)l->kept,
               (unsigned long long)l->expired);
        return;
    }
    json_begin(&json, NULL, '{');
    json_text(&json, "file", l->file);
    json_text(&json, "pool", name);
    json_number(&json, "loaded", l->durable);
    json_number(&json, "left", l->kept);
    json_number(&json, "expired", l->expired);
    json_bool(&json, "cas_ids_kept", l->as_were);
    json_number(&json, "status", (unsigned)status);
    json_end(&json, '}');
}

/* The dump is the caller's mistake only where the pool is not. */
static int load(struct loading *l)
{
    struct dump_reader reader;
    char why[300] = "";
    int rc = read_through(l);
    if (rc < 0)
        return TOOL_FAILED;
    rc = dump_read_head(&reader, l->in, &l->head, why, sizeof(why));
    if (rc < 0) {
        refuse_dump(l, rc, why, "; nothing was changed");
        return TOOL_FAILED;
    }
    rc = open_all(l);
    if (rc < 0) {
        dump_reader_fini(&reader);
        return rc == -ENOSPC ? TOOL_FAILED : tool_status(rc);
    }
    rc = load_items(l, &reader, why);
    dump_reader_fini(&reader);
    int closed = kv_close(l->kv);
    char why_not[300] = "";
    int end = close_region(l->region, l->file, why_not, sizeof(why_not));
    if (rc == 0 && (closed < 0 || end < 0)) {
        snprintf(l->error, sizeof(l->error), "%s",
                 why_not[0] ? why_not : strerror(-closed));
        rc = -EIO;
    }
    print(l, l->options->common.pool ? l->options->common.pool : l->head.pool,
          rc < 0 ? TOOL_FAILED : TOOL_DONE);
    return rc < 0 ? TOOL_FAILED : TOOL_DONE;
}

static int take_option(struct options *options, int option, char **argv)
{
    if (option == 's' && tool_size(optarg, &options->size) == 0)
        return 0;
    if (option == 's')
        return tool_usage("load", "expected a size as 64M or 2G, not '%s'",
                          optarg);
    if (option == 'k')
        options->keep = true;
    else if (!tool_option(&options->common, option))
        return tool_bad_option(argv, "--pool NAME, --size SIZE, --keep, --json "
                                     "or --progress");
    return 0;
}

int kvpool_load(int argc, char **argv)
{
    static const struct option table[] = {
        TOOL_OPTION_JSON,
        TOOL_OPTION_PROGRESS,
        TOOL_OPTION_POOL,
        {"size", required_argument, NULL, 's'},
        {"keep", no_argument, NULL, 'k'},
        {NULL, 0, NULL, 0}};
    struct options options = {.size = 0};
    struct loading l = {.options = &options, .in = stdin};
    int option;
    while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
        int status = take_option(&options, option, argv);
        if (status != 0)
            return status;
    }
    if (argc - optind < 1 || argc - optind > 2)
        return tool_usage("load",
                          "expected FILE and perhaps a DUMP, not %d "
                          "arguments",
                          argc - optind);
    l.file = argv[optind];
    l.dump = argc - optind == 2 ? argv[optind + 1] : "-";
    if (strcmp(l.dump, "-") == 0)
        l.dump = "standard input";
    else
        l.in = fopen(l.dump, "re");
    int status = TOOL_FAILED;
    if (l.in)
        status = load(&l);
    else
        snprintf(l.error, sizeof(l.error), "%.200s cannot be opened: %s",
                 l.dump, strerror(errno));
    if (l.error[0] != '\0')
        tool_error("load", "%s", l.error);
    if (l.in && l.in != stdin)
        fclose(l.in);
    return status;
}
