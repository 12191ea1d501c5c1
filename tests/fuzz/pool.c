/*
 * Hostile pool files. A pool made once is changed by the input, sums and check
 * bytes made right again in many cases, and opened: it must be refused with a
 * sentence, or repaired so that everything agrees and works.
 */
#include "store/engine/audit.h"
#include "store/engine/item.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define POOL  (32u << 10) /* smaller than users can make one, for speed */
#define TABLE (128u * sizeof(struct hop_entry))

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

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "pool: %s\n", what);
    abort();
}

static void make_good(void)
{
    struct region_options small = {
        .size = POOL, .table_size = TABLE, .policy = PM_PROCESS};
    struct kv_options options = {.durability = KV_DURABILITY_PROCESS};
    static char value[300];
    char path[32], error[256], key[64];
    struct region region;
    struct kv *kv;

    file = memfd_create("pool", MFD_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
    must(region_open(&region, path, &small, error, sizeof(error)) == 0, error);
    region_close(&region, true);
    must(kv_open(path, &options, &kv, error, sizeof(error)) == 0, error);
    for (int i = 0; i < 40; i++) {
        int len = snprintf(key, sizeof(key),
                           i % 3 ? "key%d"
                                 : "a-longer-key-"
                                   "number-%d",
                           i);
        kv_store(kv, KV_SET, key, (size_t)len, 0, i % 7 ? 0 : 500, 0, value,
                 (size_t)(i * 7 % 300), NULL);
    }
    kv_close(kv);
    good = mmap(NULL, POOL, PROT_READ, MAP_PRIVATE, file, 0);
    must(good != MAP_FAILED, "no memory");
    unsigned char *copy = malloc(POOL);
    must(copy != NULL, "no memory");
    memcpy(copy, good, POOL);
    munmap(good, POOL);
    good = copy;
}

static void fix_entry(struct hop_entry *entry)
{
    for (int check = 1; check < 256; check += 2) {
        entry->check = (uint8_t)check;
        if (item_valid(entry, 0, UINT64_MAX))
            return;
    }
}

static void patch_header(unsigned char *pool, const struct patch *p)
{
    struct region_header *h = (struct region_header *)(void *)pool;
    switch (p->kind % 8) {
    case 0:
        h->size = p->value;
        break;
    case 1:
        h->table.size = p->place % 2 ? (uint64_t)64 << p->value % 64 : p->value;
        break;
    case 2:
        h->table.offset = p->value;
        break;
    case 3:
        h->heap.offset = p->value;
        break;
    case 4:
        h->heap.size = p->value;
        break;
    case 5:
        memcpy((unsigned char *)&h->state + p->place % 8 * 8, &p->value, 8);
        break;
    default:
        pool[p->place % 256] ^= (unsigned char)p->value;
    }
    if (p->fix & 1)
        h->check = region_check(h);
}

static void patch_entry(unsigned char *pool, const struct patch *p)
{
    const struct region_header *h = (const struct region_header *)(void *)good;
    uint64_t n = h->table.size / sizeof(struct hop_entry);
    struct hop_entry *table =
        (struct hop_entry *)(void *)(pool + h->table.offset);
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
        entry->form = (uint8_t)(p->value % 5);
        entry->klen = (uint8_t)(p->value >> 8);
        entry->vlen = (uint8_t)(p->value >> 16);
        break;
    default:
        entry->cas = p->value;
    }
    if (p->fix & 1)
        fix_entry(entry);
}

static bool look(void *context, const void *key, size_t klen,
                 const struct kv_item *item)
{
    const unsigned char *bytes = item->value;
    unsigned *sum = context;
    *sum += ((const unsigned char *)key)[klen - 1] + bytes[0];
    if (item->len > 0)
        *sum += bytes[item->len - 1];
    return true;
}

static void work(struct kv *kv, bool audit_first)
{
    char fault[128] = "no memory", key[16];
    static char value[700];
    unsigned sum = 0;
    if (audit_first)
        must(audit(kv, fault, sizeof(fault)) == 0, fault);
    kv_set_time(kv, 1000);
    kv_each(kv, look, &sum);
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
        else if (p.kind < 240)
            patch_entry(pool, &p);
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
    options.size = 0;
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
