/*
 * Two levels: a small cache in memory over a large durable one.
 *
 * What the upper cache evicts goes down; what it misses is fetched from below
 * and goes up again. The lower one is committed by the application when it
 * likes: here after each hundred requests. An item that is deleted has to be
 * deleted in both; after a crash the lower one has what had gone down.
 *
 *     cc -o two_level two_level.c -lkvpool
 *     ./two_level /mnt/pmem/cache
 */
#include <kvpool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define SESSIONS 5000

struct levels {
    struct kv *upper;
    struct kv *lower;
    unsigned long down;
    unsigned long up;
};

static void go_down(void *context, const void *key, size_t klen,
                    const struct kv_item *item)
{
    struct levels *l = context;
    l->down += kv_store(l->lower, KV_SET, key, klen, item->flags, item->exptime,
                        0, item->value, item->len, NULL) == KV_OK;
}

/* False: the upper cache looks again, and finds what came up. */
static bool come_up(void *context, const void *key, size_t klen,
                    struct kv_item *out)
{
    struct levels *l = context;
    char value[1024];
    struct kv_item item;
    (void)out;
    if (kv_get(l->lower, key, klen, &item) != KV_OK || item.len > sizeof(value))
        return false;
    kv_copy_value(l->lower, &item, 0, value, item.len);
    l->up += kv_store(l->upper, KV_SET, key, klen, item.flags, item.exptime, 0,
                      value, item.len, NULL) == KV_OK;
    return false;
}

static int open_levels(struct levels *l, const char *path)
{
    struct kv_options small = {
        .size = 1 << 19, .evict = true, .engine = KV_ENGINE_MEMORY};
    struct kv_options large = {.size = 16 << 20, .evict = true};
    char error[256] = "";
    if (kv_open("upper cache", &small, &l->upper, error, sizeof(error)) < 0 ||
        kv_open(path, &large, &l->lower, error, sizeof(error)) < 0) {
        fprintf(stderr, "two_level: %s\n", error);
        return -1;
    }
    kv_set_time(l->upper, (uint32_t)time(NULL));
    kv_set_time(l->lower, (uint32_t)time(NULL));
    if (kv_on_evict(l->upper, go_down, l) < 0 ||
        kv_on_miss(l->upper, come_up, l) < 0)
        return -1;
    return 0;
}

static int end_turn(struct levels *l)
{
    return kv_commit(l->upper) == KV_OK && kv_commit(l->lower) == KV_OK ? 0
                                                                        : -1;
}

int main(int argc, char **argv)
{
    struct levels l = {0};
    unsigned long hits = 0;
    char key[32], value[200];
    struct kv_item item;
    if (argc != 2 || open_levels(&l, argv[1]) < 0)
        return 1;
    for (int i = 0; i < SESSIONS; i++) {
        snprintf(key, sizeof(key), "session-%d", i);
        memset(value, 'a' + i % 26, sizeof(value));
        if (kv_store(l.upper, KV_SET, key, strlen(key), 0, 0, 0, value,
                     sizeof(value), NULL) != KV_OK ||
            (i % 100 == 99 && end_turn(&l) < 0))
            return 1;
    }
    for (int i = 0; i < SESSIONS; i++) {
        snprintf(key, sizeof(key), "session-%d", i);
        memset(value, 'a' + i % 26, sizeof(value));
        hits += kv_get(l.upper, key, strlen(key), &item) == KV_OK &&
                item.len == sizeof(value) &&
                memcmp(item.value, value, sizeof(value)) == 0;
        if (i % 100 == 99 && end_turn(&l) < 0)
            return 1;
    }
    printf("%d sessions: %lu found, %lu went down, %lu came up\n", SESSIONS,
           hits, l.down, l.up);
    kv_close(l.upper);
    return kv_close(l.lower) < 0 || hits != SESSIONS || l.down == 0 ||
           l.up == 0;
}
