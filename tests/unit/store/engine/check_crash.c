/*
 * Crashes: for each fence of a scripted workload, images of the pool in which
 * any of the stores in flight are kept or lost are opened by the real
 * recovery and compared with what was acknowledged. And the same with a
 * recorder that leaves out a flush or a fence, which must be noticed.
 */
#include "config/log.h"
#include "store/engine/audit.h"
#include "store/engine/space.h"
#include "tests/support/pm_recorder.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define KEYS       20
#define STATES_MAX 64 /* per key since the last acknowledgement */
#define POOL       (256u << 10)
#define VALUE_MAX  3000

/* What a key may be after a crash. */
struct state {
    bool present;
    uint32_t len;
    uint32_t seed; /* of the bytes */
    uint32_t flags;
    uint32_t exptime;
    uint64_t cas;
};

struct key {
    char name[48];
    size_t len;
    struct state states[STATES_MAX]; /* [0] is acknowledged */
    int n;
};

/* The flush record that counts after a crash. */
struct flush {
    uint64_t mark;
    uint64_t when;
};

struct script {
    struct recorder recorder;
    struct kv *kv;
    struct key keys[KEYS];
    struct flush flushes[STATES_MAX]; /* [0] is acknowledged */
    int n_flushes;
    uint64_t cas_acked; /* the highest id that was acknowledged */
    uint64_t cas_given;
    uint32_t random;
    int pool_fd;
    int image_fd;
    uint64_t *image; /* mapped */
    unsigned long images;
    unsigned long wrong;
    bool reuse_at_once; /* fault: freed space does not wait for the commit */
    bool any_may_go;    /* cache mode: an item may have been evicted */
    bool repairing;     /* the pool was damaged on purpose */
    bool few;           /* images: to find a fault, not to prove its absence */
    char first_wrong[320];
};

static uint32_t next_random(struct script *s)
{
    s->random ^= s->random << 13;
    s->random ^= s->random >> 17;
    s->random ^= s->random << 5;
    return s->random;
}

static void fill(unsigned char *at, uint32_t len, uint32_t seed)
{
    for (uint32_t i = 0; i < len; i++)
        at[i] = (unsigned char)(seed * 31 + i * 7 + (i >> 8) * 13);
}

static bool matches(const struct kv *kv, const struct state *state,
                    enum kv_result result, const struct kv_item *item)
{
    unsigned char bytes[VALUE_MAX];
    if (!state->present || result != KV_OK)
        return !state->present && result == KV_MISS;
    if (item->len != state->len || item->flags != state->flags ||
        item->exptime != state->exptime || item->cas != state->cas)
        return false;
    unsigned char found[VALUE_MAX];
    fill(bytes, state->len, state->seed);
    return kv_copy_value(kv, item, 0, found, state->len) == state->len &&
           memcmp(bytes, found, state->len) == 0;
}

static void wrong(struct script *s, const char *what, int number)
{
    if (s->wrong++ == 0)
        snprintf(s->first_wrong, sizeof(s->first_wrong), "%s (%d), fence %lu",
                 what, number, s->recorder.fences);
}

static void fd_path(int fd, char out[32])
{
    snprintf(out, 32, "/proc/self/fd/%d", fd);
}

static void judge_image(struct script *s)
{
    struct kv_options options = {.durability = KV_DURABILITY_PROCESS};
    struct kv_statistics stats;
    char path[32], error[256];
    struct kv *kv;

    s->images++;
    fd_path(s->image_fd, path);
    if (kv_open(path, &options, &kv, error, sizeof(error)) < 0) {
        wrong(s, "does not open", 0);
        return;
    }
    kv_set_time(kv, 1000);
    kv_stats(kv, &stats);
    if (stats.repaired > 0 && !s->repairing)
        wrong(s, "had to be repaired", (int)stats.repaired);
    if (audit(kv, error, sizeof(error)) < 0)
        wrong(s, error, 0);
    if (stats.cas <= s->cas_acked)
        wrong(s, "a cas id would be given twice", (int)stats.cas);
    bool flush_known = false;
    for (int i = 0; i < s->n_flushes; i++)
        flush_known |= s->flushes[i].mark == kv->flush_mark &&
                       s->flushes[i].when == kv->flush_when;
    if (!flush_known)
        wrong(s, "a flush that nobody asked for", (int)kv->flush_mark);
    for (int k = 0; k < KEYS; k++) {
        const struct key *key = &s->keys[k];
        struct kv_item item;
        enum kv_result result = kv_get(kv, key->name, key->len, &item);
        bool found = s->any_may_go && result == KV_MISS;
        for (int i = 0; i < key->n && !found; i++)
            found = matches(kv, &key->states[i], result, &item);
        if (!found)
            wrong(s, "neither the old nor the new state", k);
    }
    kv_close(kv);
}

/*
 * The i-th choice of the units that survive: all combinations of a few; else
 * none, all, each alone, all but each, and random ones. False: no more.
 */
static bool choose(struct script *s, unsigned char *keep, size_t n, size_t i)
{
    size_t step = n > 32 ? n / 16 : 1; /* large values: not every unit */
    if (n <= 4) {
        for (size_t bit = 0; bit < n; bit++)
            keep[bit] = i >> bit & 1;
        return i < (size_t)1 << n;
    }
    memset(keep, i == 1, n);
    if (i < 2)
        return true;
    size_t single = (i - 2) / 2 * step;
    if (!s->few && single < n) {
        memset(keep, (int)(i % 2), n);
        keep[single] = !keep[single];
        return true;
    }
    for (size_t bit = 0; bit < n; bit++)
        keep[bit] = next_random(s) >> 13 & 1;
    return i < (s->few ? 6 : 2 + (n + step - 1) / step * 2 + 12);
}

/* Images of a crash before this fence. */
static void crash_here(void *context, struct recorder *r)
{
    struct script *s = context;
    unsigned char *keep = calloc(r->n_flight + 1, 1);
    ck_assert_ptr_nonnull(keep);
    for (size_t i = 0; choose(s, keep, r->n_flight, i); i++) {
        recorder_image(r, keep, s->image);
        judge_image(s);
    }
    free(keep);
}

/* The same hash in every run. */
static void fix_seed(const char *path)
{
    struct region_header region;
    struct pool_header header;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(pread(fd, &region, sizeof(region), 0), sizeof(region));
    off_t at = (off_t)region.first;
    ck_assert_int_eq(pread(fd, &header, sizeof(header), at), sizeof(header));
    memset(header.seed, 7, sizeof(header.seed));
    header.check = region_pool_check(&header);
    ck_assert_int_eq(pwrite(fd, &header, sizeof(header), at), sizeof(header));
    close(fd);
}

static void script_open(struct script *s, enum recorder_fault fault, bool evict)
{
    struct kv_options options = {
        .size = POOL, .durability = KV_DURABILITY_PROCESS, .evict = evict};
    char path[32], error[256] = "";

    memset(s, 0, sizeof(*s));
    s->random = 0x2545f491;
    s->n_flushes = 1;
    s->any_may_go = evict;
    for (int k = 0; k < KEYS; k++) { /* short, near and far keys */
        struct key *key = &s->keys[k];
        key->len = (size_t)snprintf(key->name, sizeof(key->name),
                                    k % 4 == 0   ? "%d"
                                    : k % 4 == 3 ? "a-key-that-is-much-longer-"
                                                   "than-an-entry-%d"
                                                 : "key-%d",
                                    k);
        key->n = 1;
    }
    s->pool_fd = memfd_create("pool", MFD_CLOEXEC);
    s->image_fd = memfd_create("image", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(s->image_fd, POOL), 0);
    s->image =
        mmap(NULL, POOL, PROT_READ | PROT_WRITE, MAP_SHARED, s->image_fd, 0);
    ck_assert_ptr_ne(s->image, MAP_FAILED);
    fd_path(s->pool_fd, path);
    ck_assert_msg(kv_open(path, &options, &s->kv, error, sizeof(error)) == 0,
                  "%s", error);
    kv_close(s->kv);
    fix_seed(path);
    ck_assert(recorder_init(&s->recorder, path));
    ck_assert_int_eq(kv_open_hooked(path, &options, &s->recorder.hook, &s->kv,
                                    error, sizeof(error)),
                     0);
    kv_set_time(s->kv, 1000);
    s->recorder.fault = fault;
    s->recorder.point = crash_here;
    s->recorder.context = s;
    recorder_start(&s->recorder);
}

static void script_close(struct script *s)
{
    s->recorder.point = NULL;
    kv_close(s->kv);
    recorder_fini(&s->recorder);
    munmap(s->image, POOL);
    close(s->pool_fd);
    close(s->image_fd);
}

/* A key may also have this state now; it has, for what follows. */
static struct state *add_state(struct key *key)
{
    ck_assert_int_lt(key->n, STATES_MAX);
    key->states[key->n] = key->states[key->n - 1];
    return &key->states[key->n++];
}

static void acknowledge(struct script *s)
{
    ck_assert_int_eq(kv_commit(s->kv), KV_OK);
    s->cas_acked = s->cas_given;
    s->flushes[0] = s->flushes[s->n_flushes - 1];
    s->n_flushes = 1;
    for (int k = 0; k < KEYS; k++) {
        s->keys[k].states[0] = s->keys[k].states[s->keys[k].n - 1];
        s->keys[k].n = 1;
    }
}

/* A store adds its state before the call, as fences may be inside. */
static void script_store(struct script *s, int k, uint32_t len, bool reserve)
{
    unsigned char bytes[VALUE_MAX];
    struct key *key = &s->keys[k];
    uint32_t seed = next_random(s);
    uint64_t cas = s->kv->next_cas;
    enum kv_result result;

    fill(bytes, len, seed);
    *add_state(key) = (struct state){.present = true,
                                     .len = len,
                                     .seed = seed,
                                     .flags = seed >> 3,
                                     .cas = cas};
    if (reserve) {
        struct kv_reservation reservation;
        result = kv_reserve(s->kv, key->len, len, &reservation);
        if (result == KV_OK) {
            size_t room;
            for (size_t at = 0; at < len; at += room) {
                void *to = kv_reserved(s->kv, &reservation, at, &room);
                memcpy(to, bytes + at, room);
            }
            result = kv_publish(s->kv, &reservation, KV_SET, key->name,
                                key->len, seed >> 3, 0, 0, &cas);
        }
    } else {
        result = kv_store(s->kv, KV_SET, key->name, key->len, seed >> 3, 0, 0,
                          bytes, len, &cas);
    }
    ck_assert_int_eq(result, KV_OK);
    ck_assert_uint_eq(cas, key->states[key->n - 1].cas);
    s->cas_given = cas;
}

static void script_delete(struct script *s, int k)
{
    struct key *key = &s->keys[k];
    bool present = key->states[key->n - 1].present;
    *add_state(key) = (struct state){0};
    enum kv_result result = kv_delete(s->kv, key->name, key->len);
    if (!s->any_may_go)
        ck_assert_int_eq(result, present ? KV_OK : KV_MISS);
}

static void script_touch(struct script *s, int k)
{
    struct key *key = &s->keys[k];
    uint32_t exptime = 2000 + next_random(s) % 1000;
    if (!key->states[key->n - 1].present)
        return;
    add_state(key)->exptime = exptime;
    enum kv_result result = kv_touch(s->kv, key->name, key->len, exptime);
    if (!s->any_may_go)
        ck_assert_int_eq(result, KV_OK);
}

static void script_flush(struct script *s)
{
    uint32_t when = next_random(s) % 2 ? 1000 : 2000 + next_random(s) % 100;
    for (int k = 0; when == 1000 && k < KEYS; k++)
        *add_state(&s->keys[k]) = (struct state){0};
    s->flushes[s->n_flushes++] = when == 1000
                                     ? (struct flush){s->kv->next_cas, 0}
                                     : (struct flush){s->kv->flush_mark, when};
    ck_assert_int_eq(kv_flush_all(s->kv, when), KV_OK);
}

static void script_step(struct script *s)
{
    int k = (int)(next_random(s) % KEYS);
    uint32_t what = next_random(s) % 20;
    if (what < 8)
        script_store(s, k, next_random(s) % 33, false);
    else if (what < 11)
        script_store(s, k, 33 + next_random(s) % 100, false);
    else if (what < 12)
        script_store(s, k, 100 + next_random(s) % 200, true);
    else if (what < 15)
        script_delete(s, k);
    else if (what < 18)
        script_touch(s, k);
    else if (what == 18)
        script_flush(s);
    if (s->reuse_at_once) {
        hop_settle(&s->kv->table);
        heap_settle(&s->kv->heap, s->kv->epoch);
    }
}

static void run(struct script *s, int turns)
{
    for (int turn = 0; turn < turns && s->wrong == 0; turn++) {
        for (uint32_t n = 1 + next_random(s) % 3; n > 0; n--)
            script_step(s);
        acknowledge(s);
    }
    if (s->recorder.past_us)
        wrong(s, "a store went past persist.h", 0);
}

START_TEST(every_crash_image_has_all_that_was_acknowledged)
{
    struct script s;
    script_open(&s, FAULT_NONE, false);
    run(&s, 200);
    ck_assert_msg(s.wrong == 0, "%lu of %lu images are wrong, first: %s",
                  s.wrong, s.images, s.first_wrong);
    ck_assert_uint_gt(s.images, 6000);
    script_close(&s);
}
END_TEST

START_TEST(a_pipeline_that_changes_one_key_over_and_over_crashes_well)
{
    struct script s;
    script_open(&s, FAULT_NONE, false);
    for (int turn = 0; turn < 3 && s.wrong == 0; turn++) {
        for (int i = 0; i < 12; i++) {
            script_store(&s, 5, (uint32_t)(i % 3 * 30), false);
            if (i % 4 == 3)
                script_delete(&s, 5);
            if (i % 5 == 1)
                script_touch(&s, 5);
        }
        acknowledge(&s);
    }
    ck_assert_msg(s.wrong == 0, "%s", s.first_wrong);
    script_close(&s);
}
END_TEST

/* Fill the heap with large values, so that old ones are evicted inside. */
START_TEST(a_crash_while_evicting_leaves_whole_items)
{
    struct script s;
    script_open(&s, FAULT_NONE, true);
    s.recorder.point = NULL;
    char value[2900] = "", name[16];
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof(name), "filler%d", i);
        ck_assert_int_eq(kv_store(s.kv, KV_SET, name, strlen(name), 0, 0, 0,
                                  value, sizeof(value), NULL),
                         KV_OK);
        kv_commit(s.kv);
    }
    s.cas_given = s.kv->next_cas - 1;
    acknowledge(&s);
    s.recorder.point = crash_here;
    for (int i = 0; i < 6 && s.wrong == 0; i++) {
        script_store(&s, i, 2500, i % 2 == 0);
        if (i % 3 == 2)
            acknowledge(&s);
    }
    ck_assert_msg(s.wrong == 0, "%s", s.first_wrong);
    ck_assert_uint_gt(s.kv->stats.evictions, 100);
    script_close(&s);
}
END_TEST

/* A full neighbourhood: keys of one bucket until entries are displaced. */
START_TEST(a_crash_while_displacing_loses_nothing)
{
    struct script s;
    script_open(&s, FAULT_NONE, false);
    s.recorder.point = NULL;
    char name[16];
    for (int i = 0, wanted = 20; wanted < 90; i++) { /* one per bucket */
        snprintf(name, sizeof(name), "n%d", i);
        if (hop_bucket(&s.kv->table, kv_hash(s.kv, name, strlen(name))) !=
            (uint32_t)wanted)
            continue;
        ck_assert_int_eq(
            kv_store(s.kv, KV_SET, name, strlen(name), 0, 0, 0, "v", 1, NULL),
            KV_OK);
        wanted++;
    }
    s.cas_given = s.kv->next_cas - 1;
    acknowledge(&s);
    s.recorder.point = crash_here;
    int k = 0;
    for (int i = 0; k < KEYS && i < 1000000; i++) { /* keys of bucket 20 */
        struct key *key = &s.keys[k];
        snprintf(name, sizeof(name), "m%d", i);
        if (hop_bucket(&s.kv->table, kv_hash(s.kv, name, strlen(name))) != 20)
            continue;
        key->len = strlen(name);
        memcpy(key->name, name, key->len + 1);
        k++;
    }
    ck_assert_int_eq(k, KEYS);
    for (k = 0; k < KEYS && s.wrong == 0; k++) {
        script_store(&s, k, 5, false);
        if (k % 2)
            acknowledge(&s);
    }
    ck_assert_msg(s.wrong == 0, "%s", s.first_wrong);
    ck_assert_uint_gt(s.kv->stats.displacements, 0);
    script_close(&s);
}
END_TEST

/* Items of a byte until one more is due to make a segment grow. */
static void fill_table(struct script *s, unsigned items)
{
    char name[16];
    s->recorder.point = NULL;
    for (unsigned i = 0; i < items; i++) {
        snprintf(name, sizeof(name), "f%u", i);
        ck_assert_int_eq(
            kv_store(s->kv, KV_SET, name, strlen(name), 0, 0, 0, "v", 1, NULL),
            KV_OK);
    }
    s->cas_given = s->kv->next_cas - 1;
    acknowledge(s);
    s->recorder.point = crash_here;
}

START_TEST(a_crash_while_the_table_grows_leaves_the_old_or_the_new_one)
{
    static const struct {
        unsigned items; /* before the last few */
        unsigned segments;
    } cases[] = {{105, 1}, {220, 1}, {1339, 2}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct script s;
        script_open(&s, FAULT_NONE, false);
        fill_table(&s, cases[i].items);
        uint64_t growths = s.kv->stats.growths;
        for (int k = 0; k < 10 && s.wrong == 0; k++) {
            script_store(&s, k, (uint32_t)k * 9, false);
            if (k % 4 == 3)
                acknowledge(&s);
        }
        acknowledge(&s);
        ck_assert_msg(s.wrong == 0, "%s", s.first_wrong);
        ck_assert_uint_gt(s.kv->stats.growths, growths);
        ck_assert_uint_eq(s.kv->table.live, cases[i].segments);
        script_close(&s);
    }
}
END_TEST

static void damage(int fd, const struct kv *kv, uint32_t place)
{
    off_t at =
        (off_t)((const unsigned char *)kv_entry(kv, place) - kv->pm->base) +
        (off_t)offsetof(struct hop_entry, tag);
    uint32_t tag = ~kv_entry(kv, place)->tag;
    ck_assert_int_eq(pwrite(fd, &tag, sizeof(tag), at), sizeof(tag));
}

START_TEST(a_crash_while_repairing_is_repaired_again)
{
    struct kv_options options = {.durability = KV_DURABILITY_PROCESS};
    struct script s;
    char path[32], error[256];
    script_open(&s, FAULT_NONE, false);
    s.recorder.point = NULL;
    for (int k = 0; k < KEYS; k++)
        script_store(&s, k, (uint32_t)k * 9, false);
    acknowledge(&s);
    for (int k = 0; k < 6; k++) {
        struct key *key = &s.keys[k];
        damage(s.pool_fd, s.kv,
               hop_find(&s.kv->table, kv_hash(s.kv, key->name, key->len),
                        key->name, key->len));
        key->states[0].present = false;
    }
    s.kv->failed = true; /* leave it as a crash would */
    kv_close(s.kv);
    recorder_fini(&s.recorder);
    fd_path(s.pool_fd, path);
    ck_assert(recorder_init(&s.recorder, path));
    s.recorder.point = crash_here;
    s.recorder.context = &s;
    s.repairing = true;
    recorder_start(&s.recorder);
    ck_assert_int_eq(kv_open_hooked(path, &options, &s.recorder.hook, &s.kv,
                                    error, sizeof(error)),
                     0);
    ck_assert_uint_eq(s.kv->stats.repaired, 6);
    ck_assert_msg(s.wrong == 0, "%s", s.first_wrong);
    ck_assert_uint_gt(s.images, 20);
    script_close(&s);
}
END_TEST

START_TEST(leaving_out_a_flush_or_a_fence_is_noticed)
{
    static const struct {
        enum recorder_fault fault;
        const char *name;
    } faults[] = {{FAULT_NO_FIRST_FENCE, "first fence"},
                  {FAULT_NO_SECOND_FENCE, "second fence"},
                  {FAULT_NO_COPY_FLUSH, "flush of contents"},
                  {FAULT_NO_FILLED_FLUSH, "flush of a received value"},
                  {FAULT_NO_WORD_FLUSH, "flush of commit words"},
                  {FAULT_NO_STATE_FLUSH, "flush of the state"}};
    for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); i++) {
        struct script s;
        script_open(&s, faults[i].fault, false);
        s.few = true;
        run(&s, 200);
        ck_assert_msg(s.wrong > 0, "nobody misses the %s", faults[i].name);
        script_close(&s);
    }
}
END_TEST

START_TEST(reusing_space_before_the_commit_is_noticed)
{
    struct script s;
    script_open(&s, FAULT_NONE, false);
    s.reuse_at_once = true;
    s.few = true;
    run(&s, 200);
    ck_assert_uint_gt(s.wrong, 0);
    script_close(&s);
}
END_TEST

int main(void)
{
    log_threshold = LOG_NONE;
    Suite *suite = suite_create("crash");
    TCase *tcase = tcase_create("crash");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, every_crash_image_has_all_that_was_acknowledged);
    tcase_add_test(tcase,
                   a_pipeline_that_changes_one_key_over_and_over_crashes_well);
    tcase_add_test(tcase, a_crash_while_evicting_leaves_whole_items);
    tcase_add_test(tcase, a_crash_while_displacing_loses_nothing);
    tcase_add_test(tcase,
                   a_crash_while_the_table_grows_leaves_the_old_or_the_new_one);
    tcase_add_test(tcase, a_crash_while_repairing_is_repaired_again);
    tcase_add_test(tcase, leaving_out_a_flush_or_a_fence_is_noticed);
    tcase_add_test(tcase, reusing_space_before_the_commit_is_noticed);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
