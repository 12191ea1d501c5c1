/*
 * Hostile region files. A region with a pool made once is changed by the input,
 * sums and check bytes made right again in many cases. Opened by the engine it
 * must be refused with a sentence, or repaired so that everything agrees and
 * works. For kvpool it must be clean only where the engine has nothing to
 * repair, and be clean after a repair.
 */
#include "store/engine/audit.h"
#include "store/engine/item.h"
#include "store/pm/region.h"
#include "tests/support/damaged_pool.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

size_t fuzz_seed_input(uint64_t n, uint8_t *buf, size_t max);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
extern const uint64_t fuzz_inputs_max;

const uint64_t fuzz_inputs_max = 500000; /* a minute */

/* One change of the file: 12 bytes of input. */
struct patch {
    uint8_t kind;   /* which field, by patch_one() */
    uint8_t fix;    /* odd: check bytes are made right again */
    uint16_t place; /* of an entry, or offset */
    uint64_t value;
};

static struct damaged_pool made; /* once; its good bytes are what is changed */

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "pool: %s\n", what);
    abort();
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

/* Slots, grain words, the pool's header, the root of its table, summary. */
static void patch_pool(unsigned char *pool, const struct patch *p)
{
    const struct region_header *g = (const void *)made.good;
    struct region_slot *slot =
        (void *)(pool + g->directory + p->place % 2 * sizeof(*slot));
    struct pool_header *h = (void *)(pool + made.head_at);
    struct pool_summary *summary =
        (void *)((unsigned char *)h + POOL_SUMMARY_AT);
    switch (p->kind % 5) {
    case 4: /* what the last close has left */
        memcpy((unsigned char *)summary + 16 + p->place % 16 * 8, &p->value, 8);
        if (p->fix & 1)
            summary->check = region_sum(&summary->cas, sizeof(*summary) - 16);
        return;
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
        pool[made.head_at + p->place % 192] ^= (unsigned char)p->value;
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
    struct hop_piece *piece = (void *)(pool + made.chain_at);
    if (p->place % 4 != 0 && piece->next < made.size - sizeof(*piece) &&
        piece->next % 8 == 0)
        piece = (void *)(pool + piece->next);
    if (p->fix & 2)
        piece->next = p->value % (2 * made.size);
    else
        piece->len = (uint32_t)p->value;
}

static void patch_entry(unsigned char *pool, const struct patch *p)
{
    uint64_t n = made.places;
    struct hop_entry *table =
        (struct hop_entry *)(void *)(pool + made.table_at);
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
        entry->near.offset = p->value % (2 * made.size);
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
        damaged_pool_fix_entry(entry);
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

/* The file as the input says. */
static void damage(const uint8_t *data, size_t size)
{
    unsigned char *pool = made.bytes;
    damaged_pool_restore(&made);
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
            pool[(p.place * 4 + p.kind) % made.size] ^= (unsigned char)p.value;
    }
    if (size % 61 == 60)
        must(ftruncate(made.fd, (off_t)(size * 64)) == 0, "no file");
}

static void check_and_repair(void)
{
    struct damaged_outcome out = damaged_pool_judge(&made);
    must(out.error[0] == '\0', out.error);
}

static void open_by_engine(size_t size)
{
    struct kv_options options = {.durability = KV_DURABILITY_PROCESS,
                                 .evict = size % 2};
    char error[256] = "";
    struct kv *kv;

    if (kv_open(made.path, &options, &kv, error, sizeof(error)) < 0) {
        must(error[0] != '\0', "refused without a word");
        return;
    }
    work(kv, size / 12 % 2);
    must(kv_close(kv) == 0, "no close");
    if (size / 12 % 4 != 0) /* the slow checks take turns */
        return;
    must(kv_open(made.path, &options, &kv, error, sizeof(error)) == 0, error);
    while (kv_catch_up(kv))
        continue;
    must(kv->stats.repaired == 0, "a repair did not last");
    kv_close(kv);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!made.good)
        damaged_pool_make(&made, false, 0);
    damage(data, size);
    if (size / 12 % 6 == 1) { /* in turns, and on the same file */
        check_and_repair();
        damage(data, size);
    }
    open_by_engine(size);
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
