#!/bin/sh
# Calls that wait: signals with and without SA_RESTART, time-outs, what has
# been done by then; full connections, and what is left after a reset.
. "$(dirname "$0")/lib.inc"
limit=15
compare_cases blocking
finish "$cases cases as on the kernel"
