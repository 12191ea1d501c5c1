#!/bin/sh
# epoll, poll and select: one socket in two sets, sets in sets, edges, one
# shots, hang-ups, members that are closed or have two numbers, masks, turns.
. "$(dirname "$0")/lib.inc"
limit=15
compare_cases readiness
compare_cases nested
finish "$cases cases as on the kernel"
