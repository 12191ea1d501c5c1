#include "transport/control_message.h"

#include <check.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/run_suite.h"

static uint64_t state;

static uint64_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void start(void)
{
    state = 0x9e3779b97f4a7c15;
}

/* Writes the check again after a test has changed bytes before it. */
static void recheck(uint8_t *bytes, size_t at)
{
    uint32_t check = control_check(bytes, at);

    for (int i = 0; i < 4; i++)
        bytes[at + i] = (uint8_t)(check >> 8 * i);
}

static struct control_record some_record(enum record_type type)
{
    struct control_record r = {
        .tag = 0x1122334455667788,
        .type = type,
        .epoch = 3,
        .sequence = type == RECORD_SWITCH ? 0 : 9,
        .offset = 0x0102030405060708,
        .reason = REASON_FORK,
    };

    if (type == RECORD_RAW)
        r.count = 4097;
    if (type == RECORD_HAVE)
        r.flags = RECORD_LEAVING | RECORD_THIRD;
    if (type == RECORD_END)
        r.flags = RECORD_LEAVING;
    if (type == RECORD_BELL || type == RECORD_BEAT)
        r.offset = 0;
    return r;
}

static struct control_message some_message(enum message_type type)
{
    return (struct control_message){
        .type = type,
        .flags = MESSAGE_MAY_IGNORE,
        .stream = 0x01020304,
        .epoch = 0x05060708,
        .offset = 0x1122334455667788,
        .tag = 0x99aabbccddeeff00,
        .number = 0xfedcba9876543210,
        .reason = REASON_BUSY,
        .link = 0x0a0b0c0d,
    };
}

static struct hello_body some_hello(void)
{
    return (struct hello_body){
        .version_low = 1,
        .version_high = 2,
        .family = 4,
        .port_server = 80,
        .port_client = 0xc123,
        .addr_server = {127, 0, 0, 1},
        .addr_client = {10, 1, 2, 3},
        .wrote = 0x1020304050607080,
        .took = 5,
        .bell = 0xa1a2a3a4a5a6a7a8,
        .pid = 4711,
        .ring_size = 65536,
    };
}

static bool record_same(const struct control_record *a,
                        const struct control_record *b)
{
    return a->tag == b->tag && a->offset == b->offset && a->count == b->count &&
           a->epoch == b->epoch && a->sequence == b->sequence &&
           a->type == b->type && a->flags == b->flags && a->reason == b->reason;
}

START_TEST(the_check_is_crc32c_as_published)
{
    uint8_t bytes[32];

    ck_assert_uint_eq(control_check_table("123456789", 9), 0xe3069283);
    ck_assert_uint_eq(control_check("123456789", 9), 0xe3069283);
    ck_assert_uint_eq(control_check("", 0), 0);
    memset(bytes, 0, 32);
    ck_assert_uint_eq(control_check(bytes, 32), 0x8a9136aa);
    memset(bytes, 0xff, 32);
    ck_assert_uint_eq(control_check(bytes, 32), 0x62a8ab43);
    for (int i = 0; i < 32; i++)
        bytes[i] = (uint8_t)i;
    ck_assert_uint_eq(control_check_table(bytes, 32), 0x46dd794e);
}
END_TEST

START_TEST(the_table_and_the_instruction_agree)
{
    uint8_t bytes[200];
    uint32_t check;

    for (int i = 0; i < 5000; i++) {
        size_t from = next_random() % 9, len = next_random() % 180;

        for (size_t k = 0; k < sizeof(bytes); k++)
            bytes[k] = (uint8_t)(next_random() >> 32);
        if (control_check_instruction(bytes + from, len, &check) < 0)
            return; /* this processor has only the table */
        ck_assert_uint_eq(check, control_check_table(bytes + from, len));
    }
}
END_TEST

START_TEST(a_record_has_the_bytes_of_the_wire_description)
{
    static const uint8_t want[44] = {
        0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 'F', 'S', 'K',
        'R',  1,    3,    0,    0,    3,    0,    0,    0,   9,   0,
        0,    0,    8,    7,    6,    5,    4,    3,    2,   1,   0x01,
        0x10, 0,    0,    0,    0,    0,    0,    20,   0,   0,   0};
    struct control_record r = some_record(RECORD_RAW);
    uint8_t bytes[RECORD_SIZE];

    record_encode(&r, bytes);
    ck_assert_mem_eq(bytes, want, 44);
    ck_assert_uint_eq(bytes[44] | bytes[45] << 8 | bytes[46] << 16 |
                          (uint32_t)bytes[47] << 24,
                      control_check(want, 44));
}
END_TEST

START_TEST(every_type_of_record_comes_back_as_it_was)
{
    uint8_t bytes[RECORD_SIZE + 1];

    for (int type = RECORD_SWITCH; type <= RECORD_BEAT; type++) {
        struct control_record r = some_record((enum record_type)type), back;

        record_encode(&r, bytes + 1); /* not aligned */
        ck_assert_int_eq(record_decode(bytes + 1, &back), 0);
        ck_assert(record_same(&r, &back));
    }
}
END_TEST

START_TEST(a_record_with_any_one_bit_changed_is_refused)
{
    for (int type = RECORD_SWITCH; type <= RECORD_BEAT; type++) {
        struct control_record r = some_record((enum record_type)type), back;
        uint8_t bytes[RECORD_SIZE];

        record_encode(&r, bytes);
        for (int bit = 0; bit < RECORD_SIZE * 8; bit++) {
            bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            ck_assert_int_eq(record_decode(bytes, &back), -EBADMSG);
            bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
    }
}
END_TEST

static int decode_of(struct control_record r)
{
    uint8_t bytes[RECORD_SIZE];
    struct control_record back;

    record_encode(&r, bytes);
    return record_decode(bytes, &back);
}

START_TEST(a_record_of_no_known_type_is_refused)
{
    for (int type = 0; type < 256; type++) {
        struct control_record r = some_record(RECORD_HAVE);

        if (type >= RECORD_SWITCH && type <= RECORD_BEAT)
            continue;
        r.flags = 0, r.type = (enum record_type)type;
        ck_assert_int_eq(decode_of(r), -EBADMSG);
    }
}
END_TEST

START_TEST(a_record_carries_only_the_flags_of_its_type)
{
    static const uint16_t may[] = {0, 0, 3, 0, 1, 0, 0};

    for (int type = RECORD_SWITCH; type <= RECORD_BEAT; type++) {
        for (int flags = 0; flags < 65536; flags += 1 + flags / 64) {
            struct control_record r = some_record((enum record_type)type);

            r.flags = (uint16_t)flags;
            if ((decode_of(r) == 0) != !(flags & ~may[type]))
                ck_abort_msg("type %d, flags %#x", type, (unsigned)flags);
        }
    }
}
END_TEST

START_TEST(only_switch_has_sequence_zero_and_no_epoch_is_zero)
{
    for (int type = RECORD_SWITCH; type <= RECORD_BEAT; type++) {
        struct control_record r = some_record((enum record_type)type);

        r.sequence = type == RECORD_SWITCH ? 1 : 0;
        ck_assert_int_eq(decode_of(r), -EBADMSG);
        r = some_record((enum record_type)type);
        r.epoch = 0;
        ck_assert_int_eq(decode_of(r), -EBADMSG);
        r.epoch = UINT32_MAX;
        ck_assert_int_eq(decode_of(r), 0);
    }
}
END_TEST

START_TEST(offsets_beyond_the_greatest_are_refused)
{
    struct control_record r = some_record(RECORD_RAW);

    r.offset = CONTROL_OFFSET_MOST, r.count = 0;
    ck_assert_int_eq(decode_of(r), 0);
    r.count = 1; /* their sum */
    ck_assert_int_eq(decode_of(r), -EBADMSG);
    r.offset = CONTROL_OFFSET_MOST - 1;
    ck_assert_int_eq(decode_of(r), 0);
    r.offset = CONTROL_OFFSET_MOST + 1, r.count = 0;
    ck_assert_int_eq(decode_of(r), -EBADMSG);
    r.offset = 0, r.count = UINT64_MAX;
    ck_assert_int_eq(decode_of(r), -EBADMSG);
    r.offset = UINT64_MAX, r.count = 1;
    ck_assert_int_eq(decode_of(r), -EBADMSG);
}
END_TEST

START_TEST(fields_that_a_type_does_not_use_are_zero)
{
    for (int type = RECORD_SWITCH; type <= RECORD_BEAT; type++) {
        struct control_record r = some_record((enum record_type)type);

        r.count = 1;
        ck_assert_int_eq(decode_of(r), type == RECORD_RAW ? 0 : -EBADMSG);
        r.count = 0, r.offset = 1;
        ck_assert_int_eq(decode_of(r), type >= RECORD_BELL ? -EBADMSG : 0);
    }
}
END_TEST

START_TEST(a_refused_record_sets_nothing)
{
    uint8_t bytes[RECORD_SIZE] = {0};
    struct control_record r = some_record(RECORD_HAVE), before = r;

    ck_assert_int_eq(record_decode(bytes, &r), -EBADMSG);
    ck_assert(record_same(&r, &before));
}
END_TEST

START_TEST(another_version_is_refused_even_with_a_right_check)
{
    struct control_record r = some_record(RECORD_HAVE);
    struct control_message m = some_message(MESSAGE_PING);
    uint8_t bytes[MESSAGE_SIZE];

    record_encode(&r, bytes);
    bytes[12] = CONTROL_VERSION + 1;
    recheck(bytes, 44);
    ck_assert_int_eq(record_decode(bytes, &r), -EBADMSG);
    message_encode(&m, bytes);
    bytes[4] = CONTROL_VERSION + 1;
    recheck(bytes, 60);
    ck_assert_int_eq(message_decode(bytes, sizeof(bytes), &m), -EBADMSG);
}
END_TEST

START_TEST(a_reason_of_a_later_release_arrives_as_other)
{
    struct control_record r = some_record(RECORD_HAVE);
    struct control_message m = some_message(MESSAGE_BUSY);
    uint8_t bytes[MESSAGE_SIZE];

    r.reason = (enum reason)1000000;
    record_encode(&r, bytes);
    ck_assert_int_eq(record_decode(bytes, &r), 0);
    ck_assert_int_eq(r.reason, REASON_OTHER);
    m.reason = UINT32_MAX;
    message_encode(&m, bytes);
    ck_assert_int_eq(message_decode(bytes, sizeof(bytes), &m), 0);
    ck_assert_uint_eq(m.reason, REASON_OTHER);
}
END_TEST

START_TEST(a_message_has_the_bytes_of_the_wire_description)
{
    static const uint8_t want[60] = {
        'F',  'S',  'K',  'C',  1,    4,    0,    0x80, 4,    3,    2,    1,
        8,    7,    6,    5,    0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
        0x00, 0xff, 0xee, 0xdd, 0xcc, 0xbb, 0xaa, 0x99, 0x10, 0x32, 0x54, 0x76,
        0x98, 0xba, 0xdc, 0xfe, 15,   0,    0,    0,    0x0d, 0x0c, 0x0b, 0x0a};
    struct control_message m = some_message(MESSAGE_PROPOSE);
    uint8_t bytes[MESSAGE_SIZE];

    message_encode(&m, bytes);
    ck_assert_mem_eq(bytes, want, 60);
    ck_assert_uint_eq(bytes[60] | bytes[61] << 8 | bytes[62] << 16 |
                          (uint32_t)bytes[63] << 24,
                      control_check(want, 60));
}
END_TEST

START_TEST(every_type_of_message_comes_back_as_it_was)
{
    uint8_t bytes[MESSAGE_SIZE + 1], again[MESSAGE_SIZE];

    for (int type = MESSAGE_HELLO; type <= MESSAGE_LAST; type++) {
        struct control_message m = some_message((enum message_type)type), back;

        message_encode(&m, bytes + 1);
        ck_assert_int_eq(message_decode(bytes + 1, MESSAGE_SIZE, &back), 0);
        ck_assert_int_eq(back.type, type);
        ck_assert(back.stream == m.stream && back.epoch == m.epoch);
        ck_assert(back.offset == m.offset && back.tag == m.tag);
        ck_assert(back.number == m.number && back.link == m.link);
        ck_assert(back.reason == m.reason && back.flags == m.flags);
        message_encode(&back, again);
        ck_assert_mem_eq(again, bytes + 1, MESSAGE_SIZE);
    }
}
END_TEST

START_TEST(a_message_with_any_one_bit_changed_is_refused)
{
    struct control_message m = some_message(MESSAGE_ACCEPT), back;
    uint8_t bytes[MESSAGE_SIZE];

    message_encode(&m, bytes);
    for (int bit = 0; bit < MESSAGE_SIZE * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        ck_assert_int_eq(message_decode(bytes, sizeof(bytes), &back), -EBADMSG);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}
END_TEST

START_TEST(a_short_message_is_refused)
{
    struct control_message m = some_message(MESSAGE_PING), back;
    uint8_t bytes[MESSAGE_SIZE];

    message_encode(&m, bytes);
    for (size_t len = 0; len < MESSAGE_SIZE; len++)
        ck_assert_int_eq(message_decode(bytes, len, &back), -EBADMSG);
    ck_assert_int_eq(message_decode(bytes, MESSAGE_SIZE, &back), 0);
}
END_TEST

START_TEST(an_unknown_message_is_skipped_only_when_it_says_so)
{
    struct control_message m = some_message(MESSAGE_PING), back;
    uint8_t bytes[MESSAGE_SIZE];

    for (int type = 0; type < 256; type++) {
        if (type >= MESSAGE_HELLO && type <= MESSAGE_LAST)
            continue;
        m.type = (enum message_type)type;
        m.flags = MESSAGE_MAY_IGNORE;
        message_encode(&m, bytes);
        ck_assert_int_eq(message_decode(bytes, sizeof(bytes), &back),
                         -EOPNOTSUPP);
        m.flags = 0;
        message_encode(&m, bytes);
        ck_assert_int_eq(message_decode(bytes, sizeof(bytes), &back), -EBADMSG);
    }
}
END_TEST

START_TEST(unknown_flags_and_reserved_bytes_of_a_message_are_refused)
{
    struct control_message m = some_message(MESSAGE_PING), back;
    uint8_t bytes[MESSAGE_SIZE];

    for (int bit = 0; bit < 15; bit++) {
        m.flags = (uint16_t)(1 << bit);
        message_encode(&m, bytes);
        ck_assert_int_eq(message_decode(bytes, sizeof(bytes), &back), -EBADMSG);
    }
    m.flags = 0;
    for (int at = 48; at < 60; at++) {
        message_encode(&m, bytes);
        bytes[at] = 1;
        recheck(bytes, 60);
        ck_assert_int_eq(message_decode(bytes, sizeof(bytes), &back), -EBADMSG);
    }
}
END_TEST

START_TEST(a_message_of_the_handover_names_its_epoch_and_a_possible_offset)
{
    uint8_t bytes[MESSAGE_SIZE];

    for (int type = MESSAGE_HELLO; type <= MESSAGE_LAST; type++) {
        struct control_message m = some_message((enum message_type)type), back;
        bool needs = type == MESSAGE_PROPOSE || type == MESSAGE_ACCEPT ||
                     type == MESSAGE_BUSY || type == MESSAGE_CANCEL;

        m.epoch = 0, m.offset = CONTROL_OFFSET_MOST;
        message_encode(&m, bytes);
        ck_assert_int_eq(message_decode(bytes, sizeof(bytes), &back),
                         needs ? -EBADMSG : 0);
        m.epoch = 1, m.offset++;
        message_encode(&m, bytes);
        ck_assert_int_eq(message_decode(bytes, sizeof(bytes), &back), -EBADMSG);
    }
}
END_TEST

START_TEST(only_hello_and_welcome_have_a_body)
{
    for (int type = 0; type < 256; type++) {
        bool has = type == MESSAGE_HELLO || type == MESSAGE_WELCOME;

        ck_assert_uint_eq(message_body_size((enum message_type)type),
                          has ? HELLO_BODY_SIZE : 0);
    }
}
END_TEST

START_TEST(a_hello_has_the_bytes_of_the_wire_description)
{
    static const uint8_t want[76] = {
        1,    2,    4,    0,    80,   0,    0x23, 0xc1, 127,  0,    0,    1,
        0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,
        10,   1,    2,    3,    0,    0,    0,    0,    0,    0,    0,    0,
        0,    0,    0,    0,    0x80, 0x70, 0x60, 0x50, 0x40, 0x30, 0x20, 0x10,
        5,    0,    0,    0,    0,    0,    0,    0,    0xa8, 0xa7, 0xa6, 0xa5,
        0xa4, 0xa3, 0xa2, 0xa1, 0x67, 0x12, 0,    0,    0,    0,    1,    0};
    struct hello_body h = some_hello();
    uint8_t bytes[HELLO_BODY_SIZE];

    hello_encode(&h, bytes);
    ck_assert_mem_eq(bytes, want, 76);
    ck_assert_uint_eq(bytes[76] | bytes[77] << 8 | bytes[78] << 16 |
                          (uint32_t)bytes[79] << 24,
                      control_check(want, 76));
}
END_TEST

START_TEST(a_hello_comes_back_as_it_was)
{
    struct hello_body h = some_hello(), back;
    uint8_t bytes[HELLO_BODY_SIZE], again[HELLO_BODY_SIZE];

    h.family = 6;
    for (int i = 0; i < 16; i++)
        h.addr_server[i] = (uint8_t)(i + 1), h.addr_client[i] = 0xff;
    hello_encode(&h, bytes);
    ck_assert_int_eq(hello_decode(bytes, sizeof(bytes), &back), 0);
    ck_assert(back.wrote == h.wrote && back.took == h.took);
    ck_assert(back.bell == h.bell && back.pid == h.pid);
    ck_assert_uint_eq(back.ring_size, h.ring_size);
    ck_assert_uint_eq(back.family, 6);
    ck_assert_mem_eq(back.addr_server, h.addr_server, 16);
    ck_assert_mem_eq(back.addr_client, h.addr_client, 16);
    hello_encode(&back, again);
    ck_assert_mem_eq(again, bytes, sizeof(bytes));
    for (size_t len = 0; len < sizeof(bytes); len++)
        ck_assert_int_eq(hello_decode(bytes, len, &back), -EBADMSG);
}
END_TEST

START_TEST(a_hello_with_any_one_bit_changed_is_refused)
{
    struct hello_body h = some_hello();
    uint8_t bytes[HELLO_BODY_SIZE];

    hello_encode(&h, bytes);
    for (int bit = 0; bit < HELLO_BODY_SIZE * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        ck_assert_int_eq(hello_decode(bytes, sizeof(bytes), &h), -EBADMSG);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}
END_TEST

static int decode_hello(struct hello_body h)
{
    uint8_t bytes[HELLO_BODY_SIZE];

    hello_encode(&h, bytes);
    return hello_decode(bytes, sizeof(bytes), &h);
}

START_TEST(a_ring_size_is_a_power_of_two_within_bounds)
{
    struct hello_body h = some_hello();

    for (int bit = 0; bit < 32; bit++) {
        h.ring_size = 1u << bit;
        ck_assert_int_eq(decode_hello(h),
                         bit >= 12 && bit <= 30 ? 0 : -EBADMSG);
        h.ring_size |= 1u << (bit + 7) % 32;
        ck_assert_int_eq(decode_hello(h), -EBADMSG);
    }
    h.ring_size = 0;
    ck_assert_int_eq(decode_hello(h), -EBADMSG);
}
END_TEST

START_TEST(a_hello_with_impossible_values_is_refused)
{
    struct hello_body h = some_hello();

    ck_assert_int_eq(decode_hello(h), 0);
    h.wrote = CONTROL_OFFSET_MOST + 1;
    ck_assert_int_eq(decode_hello(h), -EBADMSG);
    h = some_hello(), h.took = UINT64_MAX;
    ck_assert_int_eq(decode_hello(h), -EBADMSG);
    h = some_hello(), h.version_low = 0;
    ck_assert_int_eq(decode_hello(h), -EBADMSG);
    h = some_hello(), h.version_low = 3;
    ck_assert_int_eq(decode_hello(h), -EBADMSG);
    h = some_hello(), h.family = 5;
    ck_assert_int_eq(decode_hello(h), -EBADMSG);
    h = some_hello(), h.addr_client[4] = 1;
    ck_assert_int_eq(decode_hello(h), -EBADMSG);
    h = some_hello(), h.addr_server[15] = 1;
    ck_assert_int_eq(decode_hello(h), -EBADMSG);
}
END_TEST

static void add_records(TCase *t)
{
    tcase_add_test(t, the_check_is_crc32c_as_published);
    tcase_add_test(t, the_table_and_the_instruction_agree);
    tcase_add_test(t, a_record_has_the_bytes_of_the_wire_description);
    tcase_add_test(t, every_type_of_record_comes_back_as_it_was);
    tcase_add_test(t, a_record_with_any_one_bit_changed_is_refused);
    tcase_add_test(t, a_record_of_no_known_type_is_refused);
    tcase_add_test(t, a_record_carries_only_the_flags_of_its_type);
    tcase_add_test(t, only_switch_has_sequence_zero_and_no_epoch_is_zero);
    tcase_add_test(t, offsets_beyond_the_greatest_are_refused);
    tcase_add_test(t, fields_that_a_type_does_not_use_are_zero);
    tcase_add_test(t, a_refused_record_sets_nothing);
    tcase_add_test(t, another_version_is_refused_even_with_a_right_check);
    tcase_add_test(t, a_reason_of_a_later_release_arrives_as_other);
}

static void add_messages(TCase *t)
{
    tcase_add_test(t, a_message_has_the_bytes_of_the_wire_description);
    tcase_add_test(t, every_type_of_message_comes_back_as_it_was);
    tcase_add_test(t, a_message_with_any_one_bit_changed_is_refused);
    tcase_add_test(t, a_short_message_is_refused);
    tcase_add_test(t, an_unknown_message_is_skipped_only_when_it_says_so);
    tcase_add_test(t,
                   unknown_flags_and_reserved_bytes_of_a_message_are_refused);
    tcase_add_test(
        t, a_message_of_the_handover_names_its_epoch_and_a_possible_offset);
    tcase_add_test(t, only_hello_and_welcome_have_a_body);
    tcase_add_test(t, a_hello_has_the_bytes_of_the_wire_description);
    tcase_add_test(t, a_hello_comes_back_as_it_was);
    tcase_add_test(t, a_hello_with_any_one_bit_changed_is_refused);
    tcase_add_test(t, a_ring_size_is_a_power_of_two_within_bounds);
    tcase_add_test(t, a_hello_with_impossible_values_is_refused);
}

int main(void)
{
    Suite *s = suite_create("control_message");
    TCase *t = tcase_create("control_message");

    tcase_add_checked_fixture(t, start, NULL);
    add_records(t);
    add_messages(t);
    suite_add_tcase(s, t);
    return run_suite(s);
}
