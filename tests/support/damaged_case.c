/* See damaged_case.h. */
#include "tests/support/damaged_case.h"

#include "store/engine/item.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Each of these has shown something that none before it had; others follow by
 * counting. */
static const uint64_t seeds[] = {0x1234567, 14, 31, 69};
#define SEEDS (sizeof(seeds) / sizeof(*seeds))

struct damaged_pool damaged;
unsigned damaged_step;

static uint64_t seed_of(unsigned nth)
{
    const char *first = getenv("MODEL_SEED");
    if (first && nth == 0)
        return strtoull(first, NULL, 0);
    return nth < SEEDS ? seeds[nth] : 1000 + nth;
}

static void begin_with(bool larger)
{
    damaged_pool_make(&damaged, larger, seed_of(0));
    damaged_step = getenv("MODEL_STEPS") ? 61 : getenv("LONG") ? 1 : 5;
}

void damaged_begin(void)
{
    begin_with(false);
}

void damaged_begin_larger(void)
{
    begin_with(true);
}

void damaged_end(void)
{
    damaged_pool_fini(&damaged);
}

int damaged_pools(void)
{
    return getenv("MODEL_STEPS") ? 1 : getenv("LONG") ? 8 : (int)SEEDS;
}

void damaged_again(int nth)
{
    bool larger = damaged.pair_at != 0;
    damaged_pool_fini(&damaged);
    damaged_pool_make(&damaged, larger, seed_of((unsigned)nth));
}

int damaged_run(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    if (failed == 0)
        return 0;
    printf("MODEL_SEED=%#llx repeats it. A test that failed as number 1 or "
           "more, as its line ends, had the pool of",
           (unsigned long long)seed_of(0));
    for (int i = 1; i < damaged_pools(); i++)
        printf(" %llu", (unsigned long long)seed_of((unsigned)i));
    puts("");
    return 1;
}

const struct region_header *damaged_header(void)
{
    return (const void *)damaged.good;
}

uint64_t damaged_state_at(size_t field)
{
    return damaged.head_at + offsetof(struct pool_header, state) + field;
}

void damaged_put(uint64_t at, uint64_t word)
{
    memcpy(damaged.bytes + at, &word, sizeof(word));
}

uint64_t damaged_get(uint64_t at)
{
    uint64_t word;
    memcpy(&word, damaged.bytes + at, sizeof(word));
    return word;
}

struct hop_entry *damaged_entry(const struct damaged_item *item)
{
    return (struct hop_entry *)(void *)(damaged.bytes + item->entry_at);
}

const struct damaged_item *damaged_of_form(enum hop_form form, unsigned nth)
{
    for (unsigned i = 0; i < damaged.n_items; i++)
        if (item_form(damaged_entry(&damaged.items[i])) == form && nth-- == 0)
            return &damaged.items[i];
    ck_abort_msg("no item of that form");
    return NULL;
}

struct damaged_outcome damaged_is_mended(enum damage_kind kind)
{
    struct damaged_outcome out = damaged_pool_judge(&damaged);
    ck_assert_msg(out.error[0] == '\0', "%s", out.error);
    ck_assert_uint_gt(out.damages, 0);
    ck_assert_uint_eq(out.beyond, 0);
    ck_assert_msg(out.kinds >> kind & 1, "other kinds: %llx",
                  (unsigned long long)out.kinds);
    ck_assert_uint_eq(out.missing + out.changed + out.strangers, 0);
    return out;
}

struct damaged_outcome damaged_loses(enum damage_kind kind, unsigned most)
{
    struct damaged_outcome out = damaged_pool_judge(&damaged);
    ck_assert_msg(out.error[0] == '\0', "%s", out.error);
    ck_assert_uint_eq(out.beyond, 0);
    ck_assert_msg(out.kinds >> kind & 1, "other kinds: %llx",
                  (unsigned long long)out.kinds);
    ck_assert_uint_le(out.missing, most);
    ck_assert_uint_le(out.missing, out.lost);
    ck_assert_uint_eq(out.changed, 0);
    return out;
}
