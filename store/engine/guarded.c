/*
 * Each call that touches the pool runs in a frame. A fault in it leaves the
 * engine's own memory as it was at that store: from then on nothing of the
 * engine is called but its close, which frees and writes nothing. So each
 * call asks first, and once more before it says that all is well, as another
 * thread or a borrowed value may have met the fault.
 *
 * Functions with a sigsetjmp() keep no variable over it but their arguments.
 */
#include "store/engine/guarded.h"

#include "config/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct guarded *of(struct kv *kv)
{
    return kv_head_of(kv)->guarded;
}

static const struct guarded *const_of(const struct kv *kv)
{
    return ((const struct kv_head *)(const void *)kv)->guarded;
}

static const struct kv_ops *plain(const struct kv *kv)
{
    return const_of(kv)->plain;
}

static bool is_lost(const struct kv *kv)
{
    uint64_t offset;
    return guard_lost(const_of(kv)->guard, &offset);
}

static enum kv_result lost(struct kv *kv)
{
    struct guarded *g = of(kv);
    uint64_t offset = 0;
    if (g->told)
        return KV_IO;
    g->told = true;
    guard_lost(g->guard, &offset);
    log_error("%s cannot be read at byte %llu: it was cut short while in use, "
              "or its medium has failed; nothing is stored any more, check "
              "both and open it again",
              g->path, (unsigned long long)offset);
    g->plain->fail(kv);
    return KV_IO;
}

/* Into a frame; false: there is nothing to go into any more. */
static bool enter(const struct kv *kv, struct guard_frame *frame)
{
    if (is_lost(kv))
        return false;
    guard_enter(frame, const_of(kv)->guard);
    return true;
}

static enum kv_result leave(struct kv *kv, const struct guard_frame *frame,
                            enum kv_result result)
{
    guard_leave(frame);
    return is_lost(kv) ? lost(kv) : result;
}

static void guarded_set_time(struct kv *kv, uint32_t now)
{
    struct guard_frame frame;
    if (sigsetjmp(frame.back, 0) != 0 || !enter(kv, &frame)) {
        lost(kv);
        return;
    }
    plain(kv)->set_time(kv, now);
    guard_leave(&frame);
}

static void guarded_hint(struct kv *kv, const void *key, size_t klen,
                         bool store)
{
    if (!is_lost(kv))
        plain(kv)->hint(kv, key, klen, store); /* a prefetch does not fault */
}

static enum kv_result guarded_get(struct kv *kv, const void *key, size_t klen,
                                  struct kv_item *out)
{
    struct guard_frame frame;
    if (sigsetjmp(frame.back, 0) != 0 || !enter(kv, &frame))
        return lost(kv);
    return leave(kv, &frame, plain(kv)->get(kv, key, klen, out));
}

static enum kv_result guarded_read(struct kv *kv, const void *key, size_t klen,
                                   bool used, size_t from, void *buffer,
                                   size_t size, struct kv_item *out)
{
    struct guard_frame frame;
    if (sigsetjmp(frame.back, 0) != 0 || !enter(kv, &frame))
        return lost(kv);
    return leave(kv, &frame,
                 plain(kv)->read(kv, key, klen, used, from, buffer, size, out));
}

static enum kv_result guarded_exists(struct kv *kv, const void *key,
                                     size_t klen)
{
    struct guard_frame frame;
    if (sigsetjmp(frame.back, 0) != 0 || !enter(kv, &frame))
        return lost(kv);
    return leave(kv, &frame, plain(kv)->exists(kv, key, klen));
}

static bool guarded_next_run(const struct kv *kv, const struct kv_item *item,
                             struct kv_run *run)
{
    struct guard_frame frame;
    if (sigsetjmp(frame.back, 0) != 0 || !enter(kv, &frame))
        return false;
    bool more = plain(kv)->next_run(kv, item, run);
    guard_leave(&frame);
    return more;
}

static size_t guarded_copy_value(const struct kv *kv,
                                 const struct kv_item *item, size_t from,
                                 void *to, size_t len)
{
    struct guard_frame frame;
    if (sigsetjmp(frame.back, 0) != 0 || !enter(kv, &frame))
        return 0;
    size_t done = plain(kv)->copy_value(kv, item, from, to, len);
    guard_leave(&frame);
    return done;
}

static void guarded_unpin_all(struct kv *kv)
{
    if (!is_lost(kv))
        plain(kv)->unpin_all(kv);
}

static enum kv_result guarded_hold(struct kv *kv, const void *key, size_t klen,
                                   struct kv_item *out)
{
    struct guard_frame frame;
    if (sigsetjmp(frame.back, 0) != 0 || !enter(kv, &frame))
        return lost(kv);
    return leave(kv, &frame, plain(kv)->hold(kv, key, klen, out));
}

/* A store that has failed frees what is not in the mapping, and no more. */
static void guarded_release(struct kv *kv, struct kv_item *item)
{
    struct guard_frame frame;
    if (sigsetjmp(frame.back, 0) != 0) {
        lost(kv);
        return;
    }
    if (is_lost(kv))
        lost(kv);
    guard_enter(&frame, of(kv)->guard);
    plain(kv)->release(kv, item);
    guard_leave(&frame);
}

static enum kv_result guarded_store(struct kv *kv, enum kv_mode mode,
                                    const void *key, size_t klen,
                                    uint32_t flags, uint32_t exptime,
                                    uint64_t cas, const void *value, size_t len,
                                    uint64_t *cas_out)
{
    struct guard_frame frame;
    if (sigsetjmp(frame.back, 0) != 0 || !enter(kv, &frame))
        return lost(kv);
    return leave(kv, &frame,
                 plain(kv)->store(kv, mode, key, klen, flags, exptime, cas,
                                  value, len, cas_out));
}

static enum kv_result guarded_reserve(struct kv *kv, size_t klen, size_t len,
                                      struct kv_reservation *out)
{
    struct guard_frame frame;
    if (sigsetjmp(frame.back, 0) != 0 || !enter(kv, &frame))
        return lost(kv);
    return leave(kv, &frame, plain(kv)->reserve(kv, klen, len, out));
}

static enum kv_result
guarded_publish(struct kv *kv, struct kv_reservation *reservation,
                enum kv_mode mode, const void *key, size_t klen, uint32_t flags,
                uint32_t exptime, uint64_t cas, uint64_t *cas_out)
{
    struct guard_frame frame;
    if (sigsetjmp(frame.back, 0) != 0 || !enter(kv, &frame))
        return lost(kv);
    return leave(kv, &frame,
                 plain(kv)->publish(kv, reservation, mode, key, klen, flags,
                                    exptime, cas, cas_out));
}

static void *guarded_reserved(const struct kv *kv,
                              const struct kv_reservation *reservation,
                              size_t from, size_t *room)
{
    struct guard_frame frame;
    *room = 0;
    if (sigsetjmp(frame.back, 0) != 0 || !enter(kv, &frame))
        return NULL;
    void *at = plain(kv)->reserved(kv, reservation, from, room);
    guard_leave(&frame);
    return at;
}

static void guarded_cancel(struct kv *kv, struct kv_reservation *reservation)
{
    struct guard_frame frame;
    if (sigsetjmp(frame.back, 0) != 0) {
        lost(kv);
        return;
    }
    if (is_lost(kv))
        lost(kv);
    guard_enter(&frame, of(kv)->guard);
    plain(kv)->cancel(kv, reservation);
    guard_leave(&frame);
}

static enum kv_result guarded_delete(struct kv *kv, const void *key,
                                     size_t klen)
{
    struct guard_frame frame;
    if (sigsetjmp(frame.back, 0) != 0 || !enter(kv, &frame))
        return lost(kv);
    return leave(kv, &frame, plain(kv)->delete (kv, key, klen));
}

static enum kv_result guarded_touch(struct kv *kv, const void *key, size_t klen,
                                    uint32_t exptime)
{
    struct guard_frame frame;
    if (sigsetjmp(frame.back, 0) != 0 || !enter(kv, &frame))
        return lost(kv);
    return leave(kv, &frame, plain(kv)->touch(kv, key, klen, exptime));
}

static enum kv_result guarded_arith(struct kv *kv, const void *key, size_t klen,
                                    bool incr, uint64_t delta, uint64_t *value,
                                    uint64_t *cas)
{
    struct guard_frame frame;
    if (sigsetjmp(frame.back, 0) != 0 || !enter(kv, &frame))
        return lost(kv);
    return leave(kv, &frame,
                 plain(kv)->arith(kv, key, klen, incr, delta, value, cas));
}

static enum kv_result guarded_flush_all(struct kv *kv, uint32_t when)
{
    struct guard_frame frame;
    if (sigsetjmp(frame.back, 0) != 0 || !enter(kv, &frame))
        return lost(kv);
    return leave(kv, &frame, plain(kv)->flush_all(kv, when));
}

static enum kv_result guarded_commit(struct kv *kv)
{
    struct guard_frame frame;
    if (sigsetjmp(frame.back, 0) != 0 || !enter(kv, &frame))
        return lost(kv);
    return leave(kv, &frame, plain(kv)->commit(kv));
}

/* The user's visit runs outside of the frame: it may hold locks. */
struct visiting {
    kv_visit *visit;
    void *context;
    struct guard_frame *frame;
};

static bool visit_outside(void *context, const void *key, size_t klen,
                          const struct kv_item *item)
{
    const struct visiting *v = context;
    guard_leave(v->frame);
    bool more = v->visit(v->context, key, klen, item);
    guard_enter(v->frame, v->frame->guard);
    return more;
}

static bool guarded_catch_up(struct kv *kv)
{
    struct guard_frame frame;
    if (sigsetjmp(frame.back, 0) != 0 || !enter(kv, &frame))
        return false;
    bool more = plain(kv)->catch_up(kv);
    guard_leave(&frame);
    return more;
}

static uint64_t guarded_scan(struct kv *kv, uint64_t cursor, kv_visit *visit,
                             void *context)
{
    struct guard_frame frame;
    struct visiting v = {visit, context, &frame};
    if (sigsetjmp(frame.back, 0) != 0 || !enter(kv, &frame)) {
        lost(kv);
        return 0;
    }
    uint64_t next = plain(kv)->scan(kv, cursor, visit_outside, &v);
    guard_leave(&frame);
    return next;
}

static int guarded_grow(struct kv *kv, uint64_t more, char *error,
                        size_t error_size)
{
    if (guarded_lost(kv->region, error, error_size))
        return -EIO;
    int rc = plain(kv)->grow(kv, more, error, error_size);
    return guarded_lost(kv->region, error, error_size) ? -EIO : rc;
}

/* What is pending may meet the fault; after it nothing is called clean. */
static int guarded_close(struct kv *kv)
{
    struct guarded *g = of(kv);
    guarded_commit(kv);
    bool was_lost = is_lost(kv);
    int rc = g->plain->close(kv);
    free(g);
    return was_lost && rc >= 0 ? -EIO : rc;
}

int guarded_calls(struct kv *kv)
{
    struct kv_head *head = kv_head_of(kv);
    struct guarded *g = calloc(1, sizeof(*g));
    if (!g)
        return -ENOMEM;
    g->plain = head->ops;
    g->guard = kv->region->guard;
    g->path = kv->region->region.path;
    g->ops = *head->ops; /* stats: as it is */
    g->ops.close = guarded_close;
    g->ops.grow = guarded_grow;
    g->ops.set_time = guarded_set_time;
    g->ops.hint = guarded_hint;
    g->ops.get = guarded_get;
    g->ops.read = guarded_read;
    g->ops.exists = guarded_exists;
    g->ops.next_run = guarded_next_run;
    g->ops.copy_value = guarded_copy_value;
    g->ops.unpin_all = guarded_unpin_all;
    g->ops.hold = guarded_hold;
    g->ops.release = guarded_release;
    g->ops.store = guarded_store;
    g->ops.reserve = guarded_reserve;
    g->ops.publish = guarded_publish;
    g->ops.reserved = guarded_reserved;
    g->ops.cancel = guarded_cancel;
    g->ops.delete = guarded_delete;
    g->ops.touch = guarded_touch;
    g->ops.arith = guarded_arith;
    g->ops.flush_all = guarded_flush_all;
    g->ops.commit = guarded_commit;
    g->ops.catch_up = guarded_catch_up;
    g->ops.scan = guarded_scan;
    head->guarded = g;
    head->ops = &g->ops;
    return 0;
}

int guarded_region(struct kv_region *region, enum kv_guard guard, char *error,
                   size_t error_size)
{
    const struct pm *pm = &region->region.pm;
    const char *path = region->region.path;
    if (guard == KV_GUARD_NONE)
        return 0;
    int rc = guard_add(pm->base, pm->room, path,
                       guard == KV_GUARD_EXIT ? GUARD_EXIT : GUARD_ZEROES,
                       &region->guard);
    if (rc == -ENOSPC)
        return region_refuse(path, error, error_size, rc,
                             "cannot be guarded: a process guards %d files at "
                             "most; open it without",
                             GUARD_MAX);
    if (rc < 0)
        return region_refuse(path, error, error_size, rc,
                             "cannot be guarded: %s", strerror(-rc));
    return 0;
}

bool guarded_lost(const struct kv_region *region, char *error,
                  size_t error_size)
{
    uint64_t offset;
    if (!region->guard || !guard_lost(region->guard, &offset))
        return false;
    snprintf(error, error_size,
             "%s cannot be read at byte %llu: it was cut short while in use, "
             "or its medium has failed; restore it from a copy",
             region->region.path, (unsigned long long)offset);
    return true;
}
