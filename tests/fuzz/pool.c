/*
 * Hostile region files. A region with a pool made once is changed by the input,
 * sums and check bytes made right again in many cases, and opened: it must be
 * refused with a sentence, or repaired so that everything agrees and works.
 */
#include "store/engine/audit.h"
#include "store/engine/item.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define POOL (64u << 10) /* smaller than users can make one, for speed */

size_t fuzz_seed_input(uint64_t n, uint8_t *buf, size_t max);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
extern const uint64_t fuzz_inputs_max;

const uint64_t fuzz_inputs_max = 500000; /* half a minute */

/* One change of the file: 12 bytes of input. */
struct patch {
    uint8_t kind;   /* which field, by patch_one() */
    uint8_t fix;    /* odd: check bytes are made right again */
    uint16_t place; /* of an entry, or offset */
    uint64_t value;
};

static unsigned char *good; /* the pool that is changed */
static int file = -1;
static size_t head;     /* offset of the pool's header */
static size_t table_at; /* of the first segment */
static size_t n_places; /* in it */
static size_t chain_at; /* of the first piece of a chain */

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "pool: %s\n", what);
    abort();
}

/* Values until nothing fits, then every other one goes: room for a chain. */
static void make_chain(struct kv *kv)
{
    static char value[600];
    char key[16];
    int n = 0;
    for (enum kv_result r = KV_OK; r == KV_OK; n++) {
        snprintf(key, sizeof(key), "f%d", n);
        r = kv_store(kv, KV_SET, key, strlen(key), 0, 0, 0, value,
                     sizeof(value), NULL);
    }
    for (int i = 0; i < n; i += 2) {
        snprintf(key, sizeof(key), "f%d", i);
        kv_delete(kv, key, strlen(key));
    }
    kv_commit(kv);
    struct kv_reservation r;
    struct kv_item item;
    must(kv_reserve(kv, 5, 3000, &r) == KV_OK, "no room for a chain");
    must(kv_publish(kv, &r, KV_SET, "chain", 5, 0, 0, 0, NULL) == KV_OK,
         "no chain");
    must(kv_get(kv, "chain", 5, &item) == KV_OK && !item.value, "no chain");
    chain_at = item.chain;
    for (int i = 1; i < n / 2; i += 2) { /* and some room to work in */
        snprintf(key, sizeof(key), "f%d", i);
        kv_delete(kv, key, strlen(key));
    }
}

static void fill_pool(struct kv *kv)
{
    static char value[300];
    char key[64];
    for (int i = 0; i < 40; i++) {
        int len = snprintf(key, sizeof(key),
                           i % 3 ? "key%d"
                                 : "a-longer-key-"
                                   "number-%d",
                           i);
        kv_store(kv, KV_SET, key, (size_t)len, 0, i % 7 ? 0 : 500, 0, value,
                 (size_t)(i * 7 % 300), NULL);
    }
    make_chain(kv);
    head = (size_t)((unsigned char *)kv->pool.header - kv->pm->base);
    table_at =
        (size_t)((unsigned char *)hop_entry(&kv->table, 0) - kv->pm->base);
    n_places = kv->table.segments[0].n;
}

static void make_good(void)
{
    struct region_options small = {.size = POOL, .policy = PM_PROCESS};
    struct kv_options options = {.durability = KV_DURABILITY_PROCESS};
    char path[32], error[256];
    struct region region;
    struct kv *kv;

    file = memfd_create("pool", MFD_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
    must(region_open(&region, path, &small, error, sizeof(error)) == 0, error);
    must(pool_create(&region, "default", 0, error, sizeof(error)) == 0, error);
    region_close(&region);
    must(kv_open(path, &options, &kv, error, sizeof(error)) == 0, error);
    fill_pool(kv);
    kv_close(kv);
    good = malloc(POOL);
    must(good != NULL, "no memory");
    must(pread(file, good, POOL, 0) == POOL, "no file");
}

static void fix_entry(struct hop_entry *entry)
{
    for (int check = 1; check < 256; check += 2) {
        entry->check = (uint8_t)check;
        if (item_valid(entry))
            return;
    }
}

static void patch_region(unsigned char *pool, const struct patch *p)
{
    struct region_header *h = (struct region_header *)(void *)pool;
    switch (p->kind % 8) {
    case 0:
        h->size = p->value;
        break;
    case 1:
        h->grain = p->place % 2 ? (uint64_t)1 << p->value % 64 : p->value;
        break;
    case 2:
        h->words = p->value;
        break;
    case 3:
        h->first = p->value;
        break;
    case 4:
        h->slots = (uint32_t)p->value;
        break;
    case 5:
        h->max_grains = (uint32_t)p->value;
        break;
    default:
        pool[p->place % 256] ^= (unsigned char)p->value;
    }
    if (p->fix & 1)
        h->check = region_header_check(h);
}

/* Slots, grain words, the pool's header and the root of its table. */
static void patch_pool(unsigned char *pool, const struct patch *p)
{
    const struct region_header *g = (const void *)good;
    struct region_slot *slot =
        (void *)(pool + g->directory + p->place % 2 * sizeof(*slot));
    struct pool_header *h = (void *)(pool + head);
    switch (p->kind % 4) {
    case 0:
        memcpy((unsigned char *)slot + p->place / 2 % 16 * 8, &p->value, 8);
        if (p->fix & 1)
            slot->check = region_slot_check(slot);
        return;
    case 1:
        memcpy(pool + g->words + p->place % 32 * 8, &p->value, 8);
        return;
    case 2:
        memcpy((unsigned char *)&h->state + p->place % 8 * 8, &p->value, 8);
        break;
    default:
        pool[head + p->place % 192] ^= (unsigned char)p->value;
    }
    if (p->fix & 1)
        h->check = region_pool_check(h);
}

static void patch_header(unsigned char *pool, const struct patch *p)
{
    if (p->kind < 8)
        patch_region(pool, p);
    else
        patch_pool(pool, p);
}

static void patch_chain(unsigned char *pool, const struct patch *p)
{
    struct hop_piece *piece = (void *)(pool + chain_at);
    if (p->place % 4 != 0 && piece->next < POOL - sizeof(*piece) &&
        piece->next % 8 == 0)
        piece = (void *)(pool + piece->next);
    if (p->fix & 2)
        piece->next = p->value % (2 * POOL);
    else
        piece->len = (uint32_t)p->value;
}

static void patch_entry(unsigned char *pool, const struct patch *p)
{
    uint64_t n = n_places;
    struct hop_entry *table = (struct hop_entry *)(void *)(pool + table_at);
    struct hop_entry *entry = &table[p->place % n];
    switch (p->kind % 8) {
    case 0:
        entry->owner = p->value;
        return;
    case 1:
        entry->owner ^= (uint64_t)1 << p->value % 64;
        return;
    case 2:
        *entry = table[p->value % n]; /* the same blob twice */
        return;
    case 3: /* the same item twice in a bucket */
        memcpy((unsigned char *)entry + 8,
               (unsigned char *)&table[p->value % n] + 8, 56);
        return;
    case 4:
        entry->near.offset = p->value % (2 * POOL);
        break;
    case 5:
        entry->near.vlen = (uint32_t)p->value;
        break;
    case 6:
        entry->shape = (uint8_t)p->value;
        entry->vlen = (uint8_t)(p->value >> 16);
        break;
    default:
        entry->cas = p->value;
    }
    if (p->fix & 1)
        fix_entry(entry);
}

struct look {
    struct kv *kv;
    unsigned sum;
};

static bool look(void *context, const void *key, size_t klen,
                 const struct kv_item *item)
{
    struct look *seen = context;
    struct kv_run run = {0};
    seen->sum += ((const unsigned char *)key)[klen - 1];
    while (kv_next_run(seen->kv, item, &run))
        seen->sum += ((const unsigned char *)run.bytes)[run.len - 1];
    must(run.end == item->len, "a value has not all of its bytes");
    return true;
}

static void work(struct kv *kv, bool audit_first)
{
    char fault[128] = "no memory", key[16];
    static char value[700];
    struct look seen = {kv, 0};
    if (audit_first)
        must(audit(kv, fault, sizeof(fault)) == 0, fault);
    kv_set_time(kv, 1000);
    kv_each(kv, look, &seen);
    for (int i = 0; i < 10; i++) {
        int len = snprintf(key, sizeof(key), "key%d", i * 5);
        struct kv_item item;
        uint64_t cas;
        kv_store(kv, KV_SET, key, (size_t)len, 0, 0, 0, value, (size_t)(i * 30),
                 &cas);
        kv_delete(kv, key, (size_t)len - 1);
        kv_get(kv, key, (size_t)len, &item);
        kv_arith(kv, key, (size_t)len, true, 1, NULL, NULL);
        kv_touch(kv, key, (size_t)len, 2000);
    }
    must(kv_commit(kv) == KV_OK, "no commit");
    must(audit(kv, fault, sizeof(fault)) == 0, fault);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kv_options options = {.durability = KV_DURABILITY_PROCESS};
    static unsigned char pool[POOL];
    char path[32], error[256] = "";
    struct kv *kv;

    if (!good)
        make_good();
    memcpy(pool, good, POOL);
    options.evict = size % 2;
    for (size_t at = 0, n = 0; at + 12 <= size && n < 12; at += 12, n++) {
        struct patch p = {.kind = data[at], .fix = data[at + 1]};
        memcpy(&p.place, data + at + 2, 2);
        memcpy(&p.value, data + at + 4, 8);
        if (p.kind < 16 && n == 0)
            patch_header(pool, &p);
        else if (p.kind < 224)
            patch_entry(pool, &p);
        else if (p.kind < 240)
            patch_chain(pool, &p);
        else
            pool[(p.place * 4 + p.kind) % POOL] ^= (unsigned char)p.value;
    }
    must(ftruncate(file, POOL) == 0 && pwrite(file, pool, POOL, 0) == POOL,
         "no file");
    if (size % 61 == 60)
        must(ftruncate(file, (off_t)(size * 64)) == 0, "no file");
    snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
    if (kv_open(path, &options, &kv, error, sizeof(error)) < 0) {
        must(error[0] != '\0', "refused without a word");
        return 0;
    }
    work(kv, size / 12 % 2);
    must(kv_close(kv) == 0, "no close");
    if (size / 12 % 4 != 0) /* the slow checks take turns */
        return 0;
    must(kv_open(path, &options, &kv, error, sizeof(error)) == 0, error);
    must(kv->stats.repaired == 0, "a repair did not last");
    kv_close(kv);
    return 0;
}

size_t fuzz_seed_input(uint64_t n, uint8_t *buf, size_t max)
{
    size_t len = 12 * (1 + n % 12);
    for (size_t i = 0; i < len && i < max; i++) {
        n = n * 6364136223846793005u + 1442695040888963407u;
        buf[i] = (uint8_t)(n >> 33);
        if (i % 12 == 0 && i > 0)
            buf[i] = (uint8_t)(16 + buf[i] % 224);
        if (i % 12 == 1)
            buf[i] |= 1;
        if (i % 12 >= 6 && n >> 62 != 0) /* small numbers are nearer */
            buf[i] = 0;
    }
    return len < max ? len : max;
}
