#!/bin/sh
# epoll, poll and select: one socket in two sets, sets in sets, edges, one
# shots, hang-ups, members that are closed or have two numbers, masks, turns,
# no room for more members, in signal handlers.
. "$(dirname "$0")/lib.inc"
limit=15
compare_cases readiness
compare_cases readiness_many
compare_cases members
compare_cases nested
compare_cases watches
compare_cases signal_safe
finish "$cases cases as on the kernel"
