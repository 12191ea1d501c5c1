#!/bin/sh
# Calls that the kernel answers while the stream stays on its link, and numbers
# that are given back without close(): as on the kernel.
. "$(dirname "$0")/lib.inc"
limit=15
compare_cases passes
finish "$cases cases as on the kernel"
