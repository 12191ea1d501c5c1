#!/bin/sh
# A process ends: its handlers and destructors use its connections as ever, and
# no other thread sees anything of the end.
. "$(dirname "$0")/lib.inc"
limit=60
compare_cases ends
finish "$cases cases as on the kernel"
