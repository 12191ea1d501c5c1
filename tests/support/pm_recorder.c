/* See pm_recorder.h. All calls go on to the policy's own functions. */
#include "tests/support/pm_recorder.h"

#include "store/pm/region_layout.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct recorder *of(struct pm *pm)
{
    struct recorder *r = pm->context;
    r->pm = pm;
    return r;
}

static size_t unit_at(const struct pm *pm, const void *at)
{
    return (size_t)((const unsigned char *)at - pm->base) / 8;
}

/* What these bytes are now is in flight. */
static void note(struct recorder *r, const void *at, size_t len)
{
    if (len == 0)
        return;
    size_t first = unit_at(r->pm, at);
    size_t last = unit_at(r->pm, (const unsigned char *)at + len - 1);
    for (size_t i = first; i <= last; i++) {
        uint64_t value;
        memcpy(&value, r->pm->base + i * 8, 8);
        r->view[i] = value;
        if (r->n_flight == RECORDER_MAX)
            abort();
        r->flight[r->n_flight++] =
            (struct recorder_unit){.idx = (uint32_t)i, .value = value};
    }
}

static void mark_flushed(struct recorder *r, const void *at, size_t len)
{
    if (len == 0)
        return;
    size_t first = unit_at(r->pm, at) / 8;
    size_t last = unit_at(r->pm, (const unsigned char *)at + len - 1) / 8;
    r->flushes++;
    for (size_t i = 0; i < r->n_flight; i++)
        if (r->flight[i].idx / 8 >= first && r->flight[i].idx / 8 <= last)
            r->flight[i].flushed = true;
}

static void record_store64(struct pm *pm, uint64_t *at, uint64_t value)
{
    struct recorder *r = of(pm);
    pm->native->store64(pm, at, value);
    note(r, at, 8);
}

static bool faulty(const struct recorder *r, enum recorder_fault fault)
{
    return r->started && r->fault == fault;
}

static void record_copy(struct pm *pm, void *at, const void *from, size_t len)
{
    struct recorder *r = of(pm);
    pm->native->copy(pm, at, from, len);
    note(r, at, len);
    if (!faulty(r, FAULT_NO_COPY_FLUSH))
        mark_flushed(r, at, len);
}

static void record_filled(struct pm *pm, const void *at, size_t len)
{
    struct recorder *r = of(pm);
    pm->native->filled(pm, at, len);
    note(r, at, len);
    if (!faulty(r, FAULT_NO_FILLED_FLUSH))
        mark_flushed(r, at, len);
}

static void record_flush(struct pm *pm, const void *at, size_t len)
{
    struct recorder *r = of(pm);
    const struct region_header *region = (const void *)pm->base;
    size_t off = (size_t)((const unsigned char *)at - pm->base);
    bool state = off < REGION_HEADER_SIZE ||
                 (off >= region->first && off < region->first + 4096);
    pm->native->flush(pm, at, len);
    if (!faulty(r, state ? FAULT_NO_STATE_FLUSH : FAULT_NO_WORD_FLUSH))
        mark_flushed(r, at, len);
}

static void settle(struct recorder *r)
{
    size_t kept = 0;
    for (size_t i = 0; i < r->n_flight; i++) {
        if (r->flight[i].flushed)
            r->durable[r->flight[i].idx] = r->flight[i].value;
        else
            r->flight[kept++] = r->flight[i];
    }
    r->n_flight = kept;
}

static int record_fence(struct pm *pm)
{
    struct recorder *r = of(pm);
    int rc = pm->native->fence(pm);
    if (r->started && r->point)
        r->point(r->context, r);
    if (memcmp(r->view, pm->base, r->words * 8) != 0)
        r->past_us = true;
    if (r->started)
        r->fences++;
    if (!faulty(r,
                r->fences % 2 ? FAULT_NO_FIRST_FENCE : FAULT_NO_SECOND_FENCE))
        settle(r);
    return rc;
}

static const struct pm_ops recorder_ops = {.name = "recorder",
                                           .store64 = record_store64,
                                           .copy = record_copy,
                                           .filled = record_filled,
                                           .flush = record_flush,
                                           .fence = record_fence};

bool recorder_init(struct recorder *r, const char *path)
{
    struct stat st;
    *r = (struct recorder){.hook = {.ops = &recorder_ops}};
    r->hook.context = r;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    if (fstat(fd, &st) < 0)
        goto close_fd;
    r->words = (size_t)st.st_size / 8;
    r->durable = malloc(r->words * 8);
    r->view = malloc(r->words * 8);
    r->flight = malloc(RECORDER_MAX * sizeof(*r->flight));
    if (!r->durable || !r->view || !r->flight ||
        pread(fd, r->durable, r->words * 8, 0) != (ssize_t)(r->words * 8))
        goto close_fd;
    memcpy(r->view, r->durable, r->words * 8);
    close(fd);
    return true;

close_fd:
    close(fd);
    recorder_fini(r);
    return false;
}

void recorder_fini(struct recorder *r)
{
    free(r->durable);
    free(r->view);
    free(r->flight);
    r->durable = NULL;
    r->view = NULL;
    r->flight = NULL;
}

void recorder_start(struct recorder *r)
{
    r->started = true;
}

void recorder_image(const struct recorder *r, const unsigned char *keep,
                    uint64_t *out)
{
    memcpy(out, r->durable, r->words * 8);
    for (size_t i = 0; i < r->n_flight; i++)
        if (keep[i])
            out[r->flight[i].idx] = r->flight[i].value;
}
