#!/bin/sh
# A one-shot is told once, also in the moment in which its connection leaves
# the kernel.
. "$(dirname "$0")/lib.inc"
limit=100
connections=$((400 / (SLOW > 1 ? 10 : 1)))
[ -n "$LONG" ] && connections=$((8 * connections))
kernel "$P/one_shots" 20 >"$dir/out" 2>&1 ||
    fail "on the kernel: $(tail -n 1 "$dir/out")"
settings="FASTSOCK_UPGRADE_AFTER=6"
shim "$P/one_shots" $connections >"$dir/out" 2>&1 ||
    fail "exit $?: $(tail -n 1 "$dir/out")"
up=$(counter streams_up)
[ "$up" -gt 0 ] || fail "no stream ever went up"
finish "$connections connections, $up ends went up"
