#!/bin/sh
# Calls that only the kernel can serve: the stream returns to TCP first, and
# everything is as if it had never been away. Calls by number among them.
. "$(dirname "$0")/lib.inc"
limit=15
compare_cases returns
settings="FASTSOCK_SETTLE_MS=300"
compare_case returns settles_first goes_up
[ "$(counter streams_up)" -ge 6 ] || fail "it did not go up again, and again"
settings=
compare_cases withdraws
compare_cases numbers
finish "$cases cases as on the kernel"
