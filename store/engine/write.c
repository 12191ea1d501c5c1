/*
 * Writing a part of a value: a new value out of the old one and the part, so
 * that a crash leaves all of it or nothing. It needs nothing of an engine but
 * the public calls.
 */
#include "store/engine/engine.h"

#include <string.h>

#define SMALL 512 /* bytes; a value up to here is put together on the stack */

struct part {
    size_t from; /* bytes of value before it */
    const unsigned char *bytes;
    size_t len;
};

/* The new value from one offset on: old bytes, zeroes, the part, old bytes. */
static void compose(const struct kv *kv, const struct kv_item *old,
                    const struct part *part, size_t at, unsigned char *to,
                    size_t len)
{
    size_t end = at + len, part_end = part->from + part->len;
    size_t done = kv_copy_value(kv, old, at, to, len);
    if (done < len)
        memset(to + done, 0, len - done);
    size_t first = at > part->from ? at : part->from;
    size_t last = end < part_end ? end : part_end;
    if (first < last)
        memcpy(to + (first - at), part->bytes + (first - part->from),
               last - first);
}

static enum kv_result write_large(struct kv *kv, const void *key, size_t klen,
                                  const struct kv_item *old,
                                  const struct part *part, size_t len,
                                  uint64_t *cas_out)
{
    struct kv_reservation space;
    enum kv_result result = kv_reserve(kv, klen, len, &space);
    if (result != KV_OK)
        return result;
    for (size_t at = 0, room; at < len; at += room) {
        unsigned char *to = kv_reserved(kv, &space, at, &room);
        compose(kv, old, part, at, to, room);
    }
    return kv_publish(kv, &space, KV_SET, key, klen, old->flags, old->exptime,
                      old->cas, cas_out);
}

enum kv_result kv_write(struct kv *kv, const void *key, size_t klen,
                        size_t from, const void *bytes, size_t len,
                        uint64_t cas, uint64_t *cas_out)
{
    const struct part part = {.from = from, .bytes = bytes, .len = len};
    unsigned char small[SMALL];
    struct kv_item old;
    enum kv_result result = kv_exists(kv, key, klen);
    if (result == KV_OK)
        result = kv_get(kv, key, klen, &old);
    if (result != KV_OK)
        return result;
    if (cas != 0 && old.cas != cas)
        return KV_EXISTS;
    if (from > KV_MAX_VALUE || len > KV_MAX_VALUE)
        return KV_TOO_LARGE;
    size_t size = from + len > old.len ? from + len : old.len;
    if (size > SMALL)
        return write_large(kv, key, klen, &old, &part, size, cas_out);
    compose(kv, &old, &part, 0, small, size);
    return kv_store(kv, KV_SET, key, klen, old.flags, old.exptime, old.cas,
                    small, size, cas_out);
}
