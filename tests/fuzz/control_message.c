/*
 * Records, messages and bodies out of any bytes: nothing is read beyond the
 * end, what is accepted is within its bounds, and encodes to the same bytes.
 *
 * A damaged input hardly ever has a right check, so every input is decoded
 * twice: as it is, and with the check written again.
 */
#include "transport/control_message.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
size_t fuzz_seed_input(uint64_t n, uint8_t *buf, size_t max);

static void must(int holds)
{
    if (!holds)
        abort();
}

static void write_check(uint8_t *bytes, size_t at)
{
    uint32_t check = control_check(bytes, at);

    must(check == control_check_table(bytes, at));
    for (int i = 0; i < 4; i++)
        bytes[at + (size_t)i] = (uint8_t)(check >> 8 * i);
}

static void try_record(const uint8_t *in)
{
    struct control_record r;
    uint8_t out[RECORD_SIZE];
    int rc = record_decode(in, &r);

    must(rc == 0 || rc == -EBADMSG);
    if (rc < 0)
        return;
    must(r.type >= RECORD_SWITCH && r.type <= RECORD_BEAT);
    must(r.offset <= CONTROL_OFFSET_MOST);
    must(r.count <= CONTROL_OFFSET_MOST - r.offset);
    must(r.epoch > 0 && r.reason < REASON_COUNT);
    record_encode(&r, out);
    /* The reason may have been one that only a later release knows. */
    must(memcmp(in, out, 40) == 0);
    must(r.reason == REASON_OTHER || memcmp(in, out, RECORD_SIZE) == 0);
}

static void try_message(const uint8_t *in, size_t len)
{
    struct control_message m;
    uint8_t out[MESSAGE_SIZE];
    int rc = message_decode(in, len, &m);

    must(rc == 0 || rc == -EBADMSG || rc == -EOPNOTSUPP);
    if (rc < 0)
        return;
    must(len >= MESSAGE_SIZE);
    must(m.type >= MESSAGE_HELLO && m.type <= MESSAGE_LAST);
    must(m.offset <= CONTROL_OFFSET_MOST && m.reason < REASON_COUNT);
    message_encode(&m, out);
    must(memcmp(in, out, 40) == 0);
    must(m.reason == REASON_OTHER || memcmp(in, out, MESSAGE_SIZE) == 0);
}

static void try_hello(const uint8_t *in, size_t len)
{
    struct hello_body h;
    uint8_t out[HELLO_BODY_SIZE];
    int rc = hello_decode(in, len, &h);

    must(rc == 0 || rc == -EBADMSG);
    if (rc < 0)
        return;
    must(len >= HELLO_BODY_SIZE);
    must(h.ring_size >= RING_SIZE_LEAST && h.ring_size <= RING_SIZE_MOST);
    must((h.ring_size & (h.ring_size - 1)) == 0);
    must(h.wrote <= CONTROL_OFFSET_MOST && h.took <= CONTROL_OFFSET_MOST);
    hello_encode(&h, out);
    must(memcmp(in, out, HELLO_BODY_SIZE) == 0);
}

static void try_device(const uint8_t *in, size_t len)
{
    struct device_body d;
    uint8_t out[DEVICE_BODY_SIZE];
    int rc = device_decode(in, len, &d);

    must(rc == 0 || rc == -EBADMSG);
    if (rc < 0)
        return;
    must(len >= DEVICE_BODY_SIZE && d.index <= UINT16_MAX);
    device_encode(&d, out);
    must(memcmp(in, out, DEVICE_BODY_SIZE) == 0);
}

static void try_all(const uint8_t *bytes, size_t len)
{
    if (len >= RECORD_SIZE)
        try_record(bytes);
    try_message(bytes, len);
    try_hello(bytes, len);
    try_device(bytes, len);
    if (len > MESSAGE_SIZE)
        try_hello(bytes + MESSAGE_SIZE, len - MESSAGE_SIZE);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    uint8_t sound[HELLO_BODY_SIZE];

    try_all(bytes, len);
    if (len > sizeof(sound))
        len = sizeof(sound);
    memcpy(sound, bytes, len);
    if (len >= RECORD_SIZE) {
        write_check(sound, RECORD_SIZE - 4);
        try_record(sound);
        memcpy(sound, bytes, len);
    }
    if (len >= MESSAGE_SIZE) {
        write_check(sound, MESSAGE_SIZE - 4);
        try_message(sound, len);
        memcpy(sound, bytes, len);
    }
    if (len >= HELLO_BODY_SIZE) {
        write_check(sound, HELLO_BODY_SIZE - 4);
        try_hello(sound, len);
        try_device(sound, len); /* of the same size */
        memset(sound + 68, 0, 8);
        write_check(sound, DEVICE_BODY_SIZE - 4);
        try_device(sound, len);
    }
    return 0;
}

static size_t seed_record(uint64_t n, uint8_t *buf)
{
    enum record_type type = (enum record_type)(1 + n % RECORD_BEAT);
    struct control_record r = {
        .type = type,
        .tag = n * 0x9e3779b97f4a7c15,
        .epoch = 1 + (uint32_t)(n >> 8) % 1000,
        .sequence = type == RECORD_SWITCH ? 0 : 1 + (uint32_t)(n >> 20) % 9,
        .offset = type >= RECORD_BELL ? 0 : n >> 5,
        .count = type == RECORD_RAW ? n >> 30 : 0,
        .flags = type == RECORD_HAVE  ? n >> 3 & 3
                 : type == RECORD_END ? n >> 3 & 1
                                      : 0,
        .reason = reason_from((uint32_t)(n >> 7) % (REASON_COUNT + 3)),
    };

    record_encode(&r, buf);
    return RECORD_SIZE;
}

static size_t seed_hello(uint64_t n, uint8_t *buf)
{
    struct hello_body h = {
        .version_low = 1,
        .version_high = 1 + n % 3,
        .family = n >> 2 & 1 ? 4 : 6,
        .addr_server = {127, 0, 0, 1},
        .addr_client = {(uint8_t)n, 2, 3, 4},
        .port_server = (uint16_t)(n >> 3),
        .port_client = (uint16_t)(n >> 9),
        .wrote = n >> 1,
        .took = n >> 7,
        .bell = n * 0x9e3779b97f4a7c15,
        .pid = (uint32_t)n,
        .ring_size = 1u << (12 + n % 19),
    };

    hello_encode(&h, buf);
    return HELLO_BODY_SIZE;
}

static size_t seed_message(uint64_t n, uint8_t *buf)
{
    struct control_message m = {
        .type = (enum message_type)(1 + n % MESSAGE_LAST),
        .flags = n >> 4 & 1 ? MESSAGE_MAY_IGNORE : 0,
        .stream = (uint32_t)(n >> 5),
        .epoch = 1 + (uint32_t)(n >> 9) % 1000,
        .offset = n >> 1,
        .tag = n * 0x9e3779b97f4a7c15,
        .number = n,
        .reason = (uint32_t)(n >> 7) % (REASON_COUNT + 3),
        .link = (uint32_t)(n >> 11),
    };

    message_encode(&m, buf);
    if (message_body_size(m.type) > 0)
        return MESSAGE_SIZE + seed_hello(n >> 3, buf + MESSAGE_SIZE);
    return MESSAGE_SIZE;
}

size_t fuzz_seed_input(uint64_t n, uint8_t *buf, size_t max)
{
    if (max < HELLO_SIZE)
        return 0;
    switch (n >> 46 & 3) {
    case 0:
        return seed_hello(n, buf);
    case 1:
        return seed_record(n, buf);
    default:
        return seed_message(n, buf);
    }
}
