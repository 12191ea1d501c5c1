/* See recorder.h. All calls go on to the policy's own functions. */
#include "tests/crash/recorder.h"

#include "tests/crash/sites.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMPARE_ALWAYS (1u << 17) /* words; larger pools: now and then */
#define COMPARE_EVERY  64         /* fences */

static void *grow(void *old, size_t *max, size_t wanted, size_t each)
{
    if (wanted <= *max)
        return old;
    *max = wanted * 2 + 64;
    void *more = realloc(old, *max * each);
    if (!more) {
        fputs("crash: no memory for the log\n", stderr);
        exit(2);
    }
    return more;
}

/* The callers of a hook, from the nearest. */
static uint32_t site_of(const struct recorder *r, void **frame)
{
    void *callers[SITE_DEPTH];
    if (!r->sites)
        return 0;
    for (int i = 0; i < SITE_DEPTH; i++) {
        callers[i] = frame[1];
        frame = frame[0];
    }
    return sites_add(r->sites, callers);
}

static struct event *add(struct recorder *r, enum event_kind kind)
{
    r->events =
        grow(r->events, &r->max_events, r->n_events + 1, sizeof(*r->events));
    struct event *event = &r->events[r->n_events++];
    *event = (struct event){.kind = kind};
    return event;
}

static void snapshot(struct recorder *r)
{
    size_t size = r->pm->size / 8;
    if (size != r->size) {
        free(r->base);
        free(r->view);
        r->base = malloc(size * 8);
        r->view = malloc(size * 8);
        if (!r->base || !r->view) {
            fputs("crash: no memory for a copy of the pool\n", stderr);
            exit(2);
        }
    }
    r->size = size;
    memcpy(r->base, r->pm->base, size * 8);
    memcpy(r->view, r->pm->base, size * 8);
}

static struct recorder *of(struct pm *pm)
{
    struct recorder *r = pm->context;
    r->pm = pm;
    if (r->keep_base && r->size != pm->size / 8)
        snapshot(r);
    return r;
}

/* The words that hold these bytes. */
static void set_range(struct event *event, const struct pm *pm, const void *at,
                      size_t len)
{
    size_t off = (size_t)((const unsigned char *)at - pm->base);
    event->first = (uint32_t)(off / 8);
    event->n = len ? (uint32_t)((off + len - 1) / 8 - off / 8 + 1) : 0;
}

static void note(struct recorder *r, enum event_kind kind, uint32_t site,
                 const void *at, size_t len)
{
    struct event *event = add(r, kind);
    event->site = site;
    set_range(event, r->pm, at, len);
    event->data = r->n_words;
    r->words =
        grow(r->words, &r->max_words, r->n_words + event->n, sizeof(uint64_t));
    const unsigned char *from = r->pm->base + (size_t)event->first * 8;
    memcpy(r->words + r->n_words, from, (size_t)event->n * 8);
    if (r->view)
        memcpy(r->view + event->first, from, (size_t)event->n * 8);
    r->n_words += event->n;
}

static void record_store64(struct pm *pm, uint64_t *at, uint64_t value)
{
    struct recorder *r = of(pm);
    uint32_t site = site_of(r, __builtin_frame_address(0));
    pm->native->store64(pm, at, value);
    note(r, EVENT_STORE, site, at, 8);
}

static void record_copy(struct pm *pm, void *at, const void *from, size_t len)
{
    struct recorder *r = of(pm);
    uint32_t site = site_of(r, __builtin_frame_address(0));
    pm->native->copy(pm, at, from, len);
    note(r, EVENT_COPY, site, at, len);
}

static void record_filled(struct pm *pm, const void *at, size_t len)
{
    struct recorder *r = of(pm);
    uint32_t site = site_of(r, __builtin_frame_address(0));
    pm->native->filled(pm, at, len);
    note(r, EVENT_COPY, site, at, len);
}

static void record_flush(struct pm *pm, const void *at, size_t len)
{
    struct recorder *r = of(pm);
    uint32_t site = site_of(r, __builtin_frame_address(0));
    pm->native->flush(pm, at, len);
    struct event *event = add(r, EVENT_FLUSH);
    event->site = site;
    set_range(event, pm, at, len);
}

void recorder_compare(struct recorder *r)
{
    if (r->view && memcmp(r->view, r->pm->base, r->size * 8) != 0)
        r->past_us = true;
}

static int record_fence(struct pm *pm)
{
    struct recorder *r = of(pm);
    uint32_t site = site_of(r, __builtin_frame_address(0));
    if (r->fail_fence) {
        r->fail_fence = false;
        return -EIO;
    }
    int rc = pm->native->fence(pm);
    add(r, EVENT_FENCE)->site = site;
    if (r->size <= COMPARE_ALWAYS || r->n_events % COMPARE_EVERY == 0)
        recorder_compare(r);
    return rc;
}

static const struct pm_ops recorder_ops = {.name = "recorder",
                                           .store64 = record_store64,
                                           .copy = record_copy,
                                           .filled = record_filled,
                                           .flush = record_flush,
                                           .fence = record_fence};

void recorder_init(struct recorder *r, struct sites *sites, bool keep_base)
{
    *r = (struct recorder){.sites = sites, .keep_base = keep_base};
    r->hook = (struct pm_hook){.ops = &recorder_ops, .context = r};
}

void recorder_fini(struct recorder *r)
{
    free(r->events);
    free(r->words);
    free(r->base);
    free(r->view);
    *r = (struct recorder){0};
}

void recorder_restart(struct recorder *r)
{
    r->n_events = r->n_words = 0;
    if (r->keep_base && r->pm)
        snapshot(r);
}

void recorder_detach(struct recorder *r)
{
    r->n_events = r->n_words = 0;
    r->size = 0;
}

void recorder_mark(struct recorder *r, enum event_kind kind, uint32_t number)
{
    add(r, kind)->first = number;
}

void recorder_wrote(struct recorder *r, const void *at, size_t len)
{
    note(r, EVENT_STORE, 0, at, len);
}
