/*
 * The bytes of records and messages, as drawn in docs/wire.md. Positions in
 * the buffers are written out where they are used, so that an encoder and its
 * decoder can be held against the drawing line by line.
 *
 * Invariant: what a decoder accepts, the encoder turns into the same bytes
 * again (but for reasons that only a later release knows).
 */
#include "transport/control_message.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

static const uint8_t record_magic[4] = {'F', 'S', 'K', 'R'};
static const uint8_t message_magic[4] = {'F', 'S', 'K', 'C'};

static void put_u16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

static void put_u32(uint8_t *at, uint32_t value)
{
    put_u16(at, (uint16_t)value);
    put_u16(at + 2, (uint16_t)(value >> 16));
}

static void put_u64(uint8_t *at, uint64_t value)
{
    put_u32(at, (uint32_t)value);
    put_u32(at + 4, (uint32_t)(value >> 32));
}

static uint16_t get_u16(const uint8_t *at)
{
    return (uint16_t)(at[0] | at[1] << 8);
}

static uint32_t get_u32(const uint8_t *at)
{
    return get_u16(at) | (uint32_t)get_u16(at + 2) << 16;
}

static uint64_t get_u64(const uint8_t *at)
{
    return get_u32(at) | (uint64_t)get_u32(at + 4) << 32;
}

static bool all_zero(const uint8_t *at, size_t len)
{
    uint8_t any = 0;

    for (size_t i = 0; i < len; i++)
        any |= at[i];
    return any == 0;
}

/* Half a byte at a time: 64 bytes of table are enough for so few records. */
uint32_t control_check_table(const void *bytes, size_t len)
{
    static const uint32_t nibble[16] = {
        0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
        0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
        0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
    };
    const uint8_t *at = bytes;
    uint32_t crc = ~0u;

    for (size_t i = 0; i < len; i++) {
        crc ^= at[i];
        crc = crc >> 4 ^ nibble[crc & 15];
        crc = crc >> 4 ^ nibble[crc & 15];
    }
    return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t check_sse42(const uint8_t *at,
                                                              size_t len)
{
    uint64_t crc = ~0u;

    for (; len >= 8; at += 8, len -= 8) {
        uint64_t word;

        memcpy(&word, at, 8);
        crc = _mm_crc32_u64(crc, word);
    }
    for (; len > 0; at++, len--)
        crc = _mm_crc32_u8((uint32_t)crc, *at);
    return ~(uint32_t)crc;
}
#endif

int control_check_instruction(const void *bytes, size_t len, uint32_t *check)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) {
        *check = check_sse42(bytes, len);
        return 0;
    }
#else
    (void)bytes, (void)len, (void)check;
#endif
    return -EOPNOTSUPP;
}

uint32_t control_check(const void *bytes, size_t len)
{
    uint32_t check;

    if (control_check_instruction(bytes, len, &check) == 0)
        return check;
    return control_check_table(bytes, len);
}

/* The flags that a record of this type may carry. */
static uint16_t record_flags(enum record_type type)
{
    switch (type) {
    case RECORD_HAVE:
        return RECORD_LEAVING | RECORD_THIRD;
    case RECORD_END:
        return RECORD_LEAVING;
    default:
        return 0;
    }
}

static bool record_is_sound(const struct control_record *record)
{
    if (record->type < RECORD_SWITCH || record->type > RECORD_BEAT)
        return false;
    if (record->flags & ~record_flags(record->type))
        return false;
    if (record->epoch == 0)
        return false;
    if ((record->sequence == 0) != (record->type == RECORD_SWITCH))
        return false;
    if (record->offset > CONTROL_OFFSET_MOST)
        return false;
    if (record->count > CONTROL_OFFSET_MOST - record->offset)
        return false;
    if (record->count != 0 && record->type != RECORD_RAW)
        return false;
    if (record->offset != 0 &&
        (record->type == RECORD_BELL || record->type == RECORD_BEAT))
        return false;
    return true;
}

void record_encode(const struct control_record *record,
                   uint8_t out[RECORD_SIZE])
{
    put_u64(out + 0, record->tag);
    memcpy(out + 8, record_magic, 4);
    out[12] = CONTROL_VERSION;
    out[13] = (uint8_t)record->type;
    put_u16(out + 14, record->flags);
    put_u32(out + 16, record->epoch);
    put_u32(out + 20, record->sequence);
    put_u64(out + 24, record->offset);
    put_u64(out + 32, record->count);
    put_u32(out + 40, (uint32_t)record->reason);
    put_u32(out + 44, control_check(out, 44));
}

int record_decode(const uint8_t in[RECORD_SIZE], struct control_record *record)
{
    struct control_record seen;

    if (memcmp(in + 8, record_magic, 4) != 0 || in[12] != CONTROL_VERSION)
        return -EBADMSG;
    if (get_u32(in + 44) != control_check(in, 44))
        return -EBADMSG;
    seen = (struct control_record){
        .tag = get_u64(in + 0),
        .type = in[13],
        .flags = get_u16(in + 14),
        .epoch = get_u32(in + 16),
        .sequence = get_u32(in + 20),
        .offset = get_u64(in + 24),
        .count = get_u64(in + 32),
        .reason = reason_from(get_u32(in + 40)),
    };
    if (!record_is_sound(&seen))
        return -EBADMSG;
    *record = seen;
    return 0;
}

size_t message_body_size(enum message_type type)
{
    return type == MESSAGE_HELLO || type == MESSAGE_WELCOME ? HELLO_BODY_SIZE
                                                            : 0;
}

/* Messages of the handover itself always belong to an epoch. */
static bool message_needs_epoch(enum message_type type)
{
    return type == MESSAGE_PROPOSE || type == MESSAGE_ACCEPT ||
           type == MESSAGE_BUSY || type == MESSAGE_CANCEL;
}

void message_encode(const struct control_message *message,
                    uint8_t out[MESSAGE_SIZE])
{
    memcpy(out + 0, message_magic, 4);
    out[4] = CONTROL_VERSION;
    out[5] = (uint8_t)message->type;
    put_u16(out + 6, message->flags);
    put_u32(out + 8, message->stream);
    put_u32(out + 12, message->epoch);
    put_u64(out + 16, message->offset);
    put_u64(out + 24, message->tag);
    put_u64(out + 32, message->number);
    put_u32(out + 40, message->reason);
    put_u32(out + 44, message->link);
    memset(out + 48, 0, 12);
    put_u32(out + 60, control_check(out, 60));
}

int message_decode(const uint8_t *in, size_t len,
                   struct control_message *message)
{
    struct control_message seen;

    if (len < MESSAGE_SIZE)
        return -EBADMSG;
    if (memcmp(in, message_magic, 4) != 0 || in[4] != CONTROL_VERSION)
        return -EBADMSG;
    if (get_u32(in + 60) != control_check(in, 60))
        return -EBADMSG;
    seen = (struct control_message){
        .type = in[5],
        .flags = get_u16(in + 6),
        .stream = get_u32(in + 8),
        .epoch = get_u32(in + 12),
        .offset = get_u64(in + 16),
        .tag = get_u64(in + 24),
        .number = get_u64(in + 32),
        .reason = reason_from(get_u32(in + 40)),
        .link = get_u32(in + 44),
    };
    if (seen.type < MESSAGE_HELLO || seen.type > MESSAGE_LAST)
        return seen.flags & MESSAGE_MAY_IGNORE ? -EOPNOTSUPP : -EBADMSG;
    if (seen.flags & ~MESSAGE_MAY_IGNORE || !all_zero(in + 48, 12))
        return -EBADMSG;
    if (seen.offset > CONTROL_OFFSET_MOST)
        return -EBADMSG;
    if (seen.epoch == 0 && message_needs_epoch(seen.type))
        return -EBADMSG;
    *message = seen;
    return 0;
}

static bool hello_is_sound(const struct hello_body *body)
{
    if (body->version_low == 0 || body->version_low > body->version_high)
        return false;
    if (body->family != 4 && body->family != 6)
        return false;
    if (body->family == 4 && !(all_zero(body->addr_server + 4, 12) &&
                               all_zero(body->addr_client + 4, 12)))
        return false;
    if (body->wrote > CONTROL_OFFSET_MOST || body->took > CONTROL_OFFSET_MOST)
        return false;
    if (body->ring_size < RING_SIZE_LEAST || body->ring_size > RING_SIZE_MOST)
        return false;
    return (body->ring_size & (body->ring_size - 1)) == 0;
}

void hello_encode(const struct hello_body *body, uint8_t out[HELLO_BODY_SIZE])
{
    out[0] = body->version_low;
    out[1] = body->version_high;
    out[2] = body->family;
    out[3] = 0;
    put_u16(out + 4, body->port_server);
    put_u16(out + 6, body->port_client);
    memcpy(out + 8, body->addr_server, 16);
    memcpy(out + 24, body->addr_client, 16);
    put_u64(out + 40, body->wrote);
    put_u64(out + 48, body->took);
    put_u64(out + 56, body->bell);
    put_u32(out + 64, body->pid);
    put_u32(out + 68, body->ring_size);
    memset(out + 72, 0, 4);
    put_u32(out + 76, control_check(out, 76));
}

int hello_decode(const uint8_t *in, size_t len, struct hello_body *body)
{
    struct hello_body seen;

    if (len < HELLO_BODY_SIZE || in[3] != 0 || !all_zero(in + 72, 4))
        return -EBADMSG;
    if (get_u32(in + 76) != control_check(in, 76))
        return -EBADMSG;
    seen = (struct hello_body){
        .version_low = in[0],
        .version_high = in[1],
        .family = in[2],
        .port_server = get_u16(in + 4),
        .port_client = get_u16(in + 6),
        .wrote = get_u64(in + 40),
        .took = get_u64(in + 48),
        .bell = get_u64(in + 56),
        .pid = get_u32(in + 64),
        .ring_size = get_u32(in + 68),
    };
    memcpy(seen.addr_server, in + 8, 16);
    memcpy(seen.addr_client, in + 24, 16);
    if (!hello_is_sound(&seen))
        return -EBADMSG;
    *body = seen;
    return 0;
}

void device_encode(const struct device_body *body,
                   uint8_t out[DEVICE_BODY_SIZE])
{
    put_u64(out + 0, body->nonce[0]);
    put_u64(out + 8, body->nonce[1]);
    memcpy(out + 16, body->proof, 16);
    put_u32(out + 32, body->kept[0]);
    put_u32(out + 36, body->kept[1]);
    put_u64(out + 40, body->ring);
    put_u64(out + 48, body->word);
    put_u64(out + 56, body->key);
    put_u32(out + 64, body->index);
    memset(out + 68, 0, 8);
    put_u32(out + 76, control_check(out, 76));
}

int device_decode(const uint8_t *in, size_t len, struct device_body *body)
{
    struct device_body seen;

    if (len < DEVICE_BODY_SIZE || !all_zero(in + 68, 8))
        return -EBADMSG;
    if (get_u32(in + 76) != control_check(in, 76))
        return -EBADMSG;
    seen = (struct device_body){
        .nonce = {get_u64(in + 0), get_u64(in + 8)},
        .kept = {get_u32(in + 32), get_u32(in + 36)},
        .ring = get_u64(in + 40),
        .word = get_u64(in + 48),
        .key = get_u64(in + 56),
        .index = get_u32(in + 64),
    };
    memcpy(seen.proof, in + 16, 16);
    if (seen.index > UINT16_MAX)
        return -EBADMSG;
    *body = seen;
    return 0;
}
