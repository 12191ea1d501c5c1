#!/bin/sh
# A signal handler's write is held while a connection moves: what its thread
# waited for meanwhile is not forgotten.
. "$(dirname "$0")/lib.inc"
limit=40
turns=$([ -n "$LONG" ] && echo 1000 || echo 200)
settings="FASTSOCK_UPGRADE_AFTER=5"
kernel "$P/held" "$turns" >"$dir/kernel" 2>&1 ||
    fail "on the kernel: $(tail -n 1 "$dir/kernel")"
shim "$P/held" "$turns" >"$dir/out" 2>&1 ||
    fail "exit $? $(tail -n 1 "$dir/out")"
ups=$(counter streams_up)
[ "$ups" -gt 10 ] || fail "only $ups connections moved"
finish "$turns turns, $ups ends moved"
