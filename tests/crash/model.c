/* See model.h. */
#include "tests/crash/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *must(void *memory)
{
    if (!memory) {
        fputs("crash: no memory for the model\n", stderr);
        exit(2);
    }
    return memory;
}

static const char *prefix(int k)
{
    static const char far[] = "a-key-that-is-much-longer-than-an-entry-and-"
                              "therefore-lies-with-its-value-";
    switch (k % 8) {
    case 0:
        return "";
    case 3:
        return "beside-an-it"; /* with its number: some 14 bytes */
    case 5:
        return far;
    case 7:
        return far + 44;
    default:
        return "key";
    }
}

void model_init(struct model *model, int n_keys)
{
    *model = (struct model){
        .n_keys = n_keys, .n_pools = MODEL_POOLS, .ops = 1, .acked = 1};
    model->keys =
        must(calloc((size_t)(n_keys + model->n_pools), sizeof(*model->keys)));
    for (int k = 0; k < n_keys + model->n_pools; k++) {
        struct key *key = &model->keys[k];
        if (k < n_keys)
            key->len = (size_t)snprintf(key->name, sizeof(key->name), "%s%d",
                                        prefix(k), k);
        else if (k == n_keys)
            strcpy(key->name, "default");
        else
            snprintf(key->name, sizeof(key->name), "pool%d", k - n_keys);
        key->max = 4;
        key->states = must(calloc(4, sizeof(*key->states)));
        key->n = 1;
    }
}

void model_fini(struct model *model)
{
    for (int k = 0; k < model->n_keys + model->n_pools; k++) {
        for (int i = 0; i < model->keys[k].n; i++)
            free(model->keys[k].states[i].bytes);
        free(model->keys[k].states);
    }
    free(model->keys);
    free(model->flushes);
    free(model->cas);
    *model = (struct model){0};
}

int model_find(const struct model *model, const void *name, size_t len)
{
    const char *at = name;
    size_t digits = 0;
    int k = 0, power = 1;
    while (digits < len && digits < 7 && at[len - digits - 1] >= '0' &&
           at[len - digits - 1] <= '9') {
        k += (at[len - digits - 1] - '0') * power;
        power *= 10;
        digits++;
    }
    if (digits == 0 || k >= model->n_keys || model->keys[k].len != len ||
        memcmp(model->keys[k].name, name, len) != 0)
        return -1;
    return k;
}

int model_find_pool(const struct model *model, const char *name)
{
    for (int k = model->n_keys; k < model->n_keys + model->n_pools; k++)
        if (strcmp(model->keys[k].name, name) == 0)
            return k;
    return -1;
}

uint32_t model_begin(struct model *model)
{
    return model->ops++;
}

void model_add(struct model *model, int k, const struct state *state)
{
    struct key *key = &model->keys[k];
    if (key->n == key->max) {
        key->max *= 2;
        key->states =
            must(realloc(key->states, (size_t)key->max * sizeof(*key->states)));
    }
    key->states[key->n++] = *state;
}

void model_add_flush(struct model *model, uint32_t op, uint32_t when)
{
    size_t n = (size_t)model->n_flushes + 1;
    model->flushes = must(realloc(model->flushes, n * sizeof(*model->flushes)));
    model->flushes[model->n_flushes++] = (struct flush_mark){op, when};
}

void model_give_cas(struct model *model, uint32_t op, uint64_t cas)
{
    if (op >= model->max_cas) {
        uint32_t max = op * 2 + 64;
        model->cas = must(realloc(model->cas, max * sizeof(*model->cas)));
        memset(model->cas + model->max_cas, 0,
               (max - model->max_cas) * sizeof(*model->cas));
        model->max_cas = max;
    }
    model->cas[op] = cas;
}

const struct state *model_now(const struct model *model, int k)
{
    return &model->keys[k].states[model->keys[k].n - 1];
}

static bool same(const struct state *a, const struct state *found)
{
    if (!a->present || !found)
        return !a->present && !found;
    return a->len == found->len && a->flags == found->flags &&
           a->exptime == found->exptime && a->cas == found->cas &&
           (a->len == 0 || memcmp(a->bytes, found->bytes, a->len) == 0);
}

bool model_allows(const struct model *model, struct window w, int k,
                  const struct state *found)
{
    const struct key *key = &model->keys[k];
    if (!found && model->cache && w.begun > w.acked)
        return true;
    for (int i = key->n - 1; i >= 0; i--) {
        const struct state *state = &key->states[i];
        if (state->op >= w.begun)
            continue;
        if (same(state, found))
            return true;
        if (state->op < w.acked)
            return false;
    }
    return false;
}

bool model_allows_region(const struct model *model, struct window w,
                         uint64_t bytes)
{
    bool may_be_old = model->grown == 0 || model->grown >= w.acked;
    bool may_be_new = model->grown != 0 && model->grown < w.begun;
    return (may_be_old && bytes == model->region) ||
           (may_be_new && bytes == model->region + model->grown_by);
}

bool model_changed(const struct model *model, struct window w, int k)
{
    const struct key *key = &model->keys[k];
    for (int i = key->n - 1; i >= 0 && key->states[i].op >= w.acked; i--)
        if (key->states[i].op < w.begun)
            return true;
    return false;
}

bool model_flush_only(const struct model *model, struct window w, int k)
{
    const struct key *key = &model->keys[k];
    bool flushed = false;
    for (int i = key->n - 1; i >= 0; i--) {
        const struct state *state = &key->states[i];
        if (state->op >= w.begun)
            continue;
        if (state->op < w.acked)
            return flushed && state->present;
        if (!state->by_flush)
            return false;
        flushed = true;
    }
    return false;
}

void model_flush_range(const struct model *model, struct window w,
                       uint32_t *low, uint32_t *high)
{
    *low = UINT32_MAX;
    *high = 0;
    for (int i = model->n_flushes - 1; i >= -1; i--) {
        uint32_t op = i < 0 ? 0 : model->flushes[i].op;
        uint32_t when = i < 0 ? 0 : model->flushes[i].when;
        if (op >= w.begun)
            continue;
        if (when < *low)
            *low = when;
        if (when > *high)
            *high = when;
        if (op < w.acked)
            break;
    }
}

uint64_t model_cas(const struct model *model, struct window w)
{
    uint64_t highest = 0;
    for (uint32_t op = 0; op < w.acked && op < model->max_cas; op++)
        if (model->cas[op] > highest)
            highest = model->cas[op];
    return highest;
}
