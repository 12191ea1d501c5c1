#!/bin/sh
# Half-close, shutdown, linger, unread data, time-outs, EPIPE and SIGPIPE,
# ECONNRESET, FIONREAD, SIOCOUTQ, SO_ERROR, EINTR, odd arguments: each case on
# the kernel and on a link says the same. A case that was meant to run on a
# link and did not counts as a failure.
. "$(dirname "$0")/lib.inc"
limit=15
kernel "$P/semantics" >"$dir/kernel" 2>"$dir/kernel.err" ||
    fail "on the kernel: $(cat "$dir/kernel.err")"
cases=0
rounds=$([ -n "$LONG" ] && echo 8 || echo 1)
while [ "$rounds" -gt 0 ]; do
    rounds=$((rounds - 1))
    for case in $(grep -v '^ ' "$dir/kernel"); do
        [ "$case" = urgent ] && path=returns || path=stays
        compare_case semantics "$case" $path
        cases=$((cases + 1))
    done
done
finish "$cases cases as on the kernel"
