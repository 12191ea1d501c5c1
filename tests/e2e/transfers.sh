#!/bin/sh
# Every MSG_ flag, odd lengths and vectors, huge and empty transfers, lists of
# messages with their time-outs, addresses that lead nowhere: as on the kernel.
. "$(dirname "$0")/lib.inc"
limit=15
compare_cases transfers
compare_cases messages
finish "$cases cases as on the kernel"
