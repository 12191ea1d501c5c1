#!/bin/sh
# Options of a listener, and from before connect; flags, options and shutdowns
# by another number or another process: as on the kernel.
. "$(dirname "$0")/lib.inc"
limit=15
compare_cases inherited
finish "$cases cases as on the kernel"
