#!/bin/sh
# One wait reports a connection once, and a one-shot is told once, also in the
# moment in which the connection leaves the kernel.
. "$(dirname "$0")/lib.inc"
limit=100
connections=$((400 / (SLOW > 1 ? 10 : 1)))
[ -n "$LONG" ] && connections=$((8 * connections))
all=0

young() { # PROGRAM UPGRADE_AFTER
    kernel "$P/$1" 20 >"$dir/out" 2>&1 ||
        fail "$1 on the kernel: $(tail -n 1 "$dir/out")"
    forget_reports
    settings="FASTSOCK_UPGRADE_AFTER=$2"
    shim "$P/$1" $connections >"$dir/out" 2>&1 ||
        fail "$1: exit $?: $(tail -n 1 "$dir/out")"
    up=$(counter streams_up)
    [ "$up" -gt 0 ] || fail "$1: no stream ever went up"
    all=$((all + up))
}

young told_once 2
young one_shots 6
finish "twice $connections connections, $all ends went up"
