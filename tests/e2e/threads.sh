#!/bin/sh
# Several threads in one socket, descriptors that change under them, cancels,
# jumps, storms of signals, forks beside busy threads, other users, roots and
# limits: as on the kernel.
. "$(dirname "$0")/lib.inc"
limit=15
# Reports are written by who has become somebody else, and is elsewhere.
chmod 777 "$dir"
export E2E_ROOT="$dir/root"
mkdir -p "$E2E_ROOT$(dirname "$dir")"
ln -s / "$E2E_ROOT$dir"
compare_cases threads
compare_cases closes
compare_cases forks_and_users
finish "$cases cases as on the kernel"
