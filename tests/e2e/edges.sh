#!/bin/sh
# Each arrival is an edge, also for a registration that is writable all the
# time: ping-pong in which a lost one stops everything.
. "$(dirname "$0")/lib.inc"
limit=50
runs=0

settings="FASTSOCK_UPGRADE_AFTER=2"
for connections in 1 4 16; do
    rounds=$((40000 / connections / (SLOW > 1 ? 10 : 1)))
    forget_reports
    kernel "$P/edges" $connections 100 >/dev/null 2>&1 ||
        fail "$connections connections: on the kernel: exit $?"
    shim "$P/edges" $connections $rounds >"$dir/out" 2>&1 ||
        fail "$connections connections: exit $?: $(tail -n 1 "$dir/out")"
    all=$(sed -n 's/.*connections, \([0-9]*\) bytes$/\1/p' "$dir/out")
    [ "$(counter link_bytes_in)" -gt "${all:-0}" ] ||
        fail "$connections connections: $(counter link_bytes_in) of 2 * $all by link"
    runs=$((runs + 1))
done
finish "$runs runs"
