/*
 * The two transports of tests/support, over which streams are tested: what
 * they do is what a transport does.
 */
#include "tests/contract/contract.h"
#include "tests/support/fake_backend.h"

static void name(unsigned n, struct connection_name *out)
{
    *out = (struct connection_name){.family = 4,
                                    .server = {192, 0, 2, 1},
                                    .client = {192, 0, 2, 2},
                                    .server_port = 7,
                                    .client_port = (uint16_t)(10000 + n)};
}

START_TEST(a_wire_that_breaks_is_told_to_both_ends_and_leaves_the_copy)
{
    uint64_t landed = 0;

    must_meet(0);
    left[0].link->ops->commit(left[0].link, 10);
    must_land(right[0].link, 0, 10);
    fake_wire_break(fake_wire_of(left[0].link));
    for (uint64_t i = 10; i < 500; i++)
        left[0].link->tx.bytes[i] = byte_at(i);
    left[0].link->ops->commit(left[0].link, 500);
    ck_assert(turn_until(&left[0].deaths, 1));
    ck_assert(turn_until(&right[0].deaths, 1));
    turn(5);
    ck_assert_int_eq(left[0].breaks, 1);
    ck_assert_int_eq(right[0].breaks, 1);
    ck_assert_str_eq(reason_token(left[0].why), "link_broken");
    ck_assert_int_eq(right[0].link->ops->landed(right[0].link, 0, 0, &landed),
                     0);
    ck_assert_uint_eq(landed, 10);
    for (uint64_t i = 10; i < 500; i++)
        ck_assert_uint_eq(left[0].link->tx.bytes[i], byte_at(i));
    ck_assert_int_eq(left[0].link->ops->drain(left[0].link), -EPIPE);
    drop(&left[0]);
    drop(&right[0]);
    must_meet(5);
    left[5].link->ops->commit(left[5].link, 3);
    must_land(right[5].link, 0, 3);
}
END_TEST

static void more(TCase *tcase)
{
    tcase_add_test(tcase,
                   a_wire_that_breaks_is_told_to_both_ends_and_leaves_the_copy);
}

int main(void)
{
    struct contract fake = {.ops = &fake_backend,
                            .name = name,
                            .patience_ns = 4000000000,
                            .n_links = 200,
                            .more = more};
    int rc = contract_run("fake", &fake);

    fake.ops = &fake_device_backend;
    fake.device = fake.asks = true;
    return contract_run("fake device", &fake) | rc;
}
