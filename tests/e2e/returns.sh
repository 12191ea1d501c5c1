#!/bin/sh
# Calls that only the kernel can serve: the stream returns to TCP first, and
# everything is as if it had never been away.
. "$(dirname "$0")/lib.inc"
limit=15
compare_cases returns
compare_cases withdraws
finish "$cases cases as on the kernel"
