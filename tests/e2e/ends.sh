#!/bin/sh
# A process ends: no other thread sees anything of it.
. "$(dirname "$0")/lib.inc"
limit=60
compare_cases ends
finish "$cases cases as on the kernel"
