#!/bin/sh
# More threads wait on one stream, one after the other, than it has places for
# those that it wakes: whoever waits is woken.
. "$(dirname "$0")/lib.inc"
limit=60
seconds=$([ -n "$LONG" ] && echo 20 || echo 4)
kernel "$P/turns" 1 >"$dir/kernel" 2>&1 ||
    fail "on the kernel: $(tail -n 1 "$dir/kernel")"
for ring in 4096 65536; do
    settings="FASTSOCK_RING_SIZE=$ring"
    shim "$P/turns" "$seconds" >"$dir/out" 2>&1 ||
        fail "ring $ring: exit $? $(tail -n 1 "$dir/out")"
    turns=$((turns + $(sed -n 's/ turns$//p' "$dir/out")))
done
[ "$(counter link_bytes_in)" -gt $((turns * 10000)) ] ||
    fail "only $(counter link_bytes_in) bytes by link in $turns turns"
finish "$turns turns, $(counter link_bytes_in) bytes by link"
