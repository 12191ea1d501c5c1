#!/bin/sh
# One wait reports a connection once, also in the moment in which it leaves
# the kernel.
. "$(dirname "$0")/lib.inc"
limit=100
connections=$((400 / (SLOW > 1 ? 10 : 1)))
[ -n "$LONG" ] && connections=$((8 * connections))
kernel "$P/told_once" 20 >"$dir/out" 2>&1 ||
    fail "on the kernel: $(tail -n 1 "$dir/out")"
settings="FASTSOCK_UPGRADE_AFTER=2"
shim "$P/told_once" $connections >"$dir/out" 2>&1 ||
    fail "exit $?: $(tail -n 1 "$dir/out")"
up=$(counter streams_up)
[ "$up" -gt 0 ] || fail "no stream ever went up"
finish "$connections connections, $up ends went up"
