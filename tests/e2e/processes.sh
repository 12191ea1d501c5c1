#!/bin/sh
# dup, fork, vfork, exec, posix_spawn, system, popen, daemon, SCM_RIGHTS to a
# program without the library, fdopen, sendfile, close_range, EMFILE: each case
# on the kernel and with a stream that had left TCP says the same.
. "$(dirname "$0")/lib.inc"
limit=15 heads='^[a-z_0-9]*$'
kernel "$P/processes" >"$dir/kernel" 2>"$dir/kernel.err" ||
    fail "on the kernel: $(cat "$dir/kernel.err")"
cases=0
rounds=$([ -n "$LONG" ] && echo 8 || echo 1)
while [ "$rounds" -gt 0 ]; do
    rounds=$((rounds - 1))
    for case in $(grep '^[a-z_0-9]*$' "$dir/kernel"); do
        compare_case processes "$case" goes_up
        cases=$((cases + 1))
    done
done
finish "$cases cases as on the kernel"
