#!/bin/sh
# A stream leaves TCP for RDMA, and returns, at offsets of its first kilobytes
# while both ends send: a sample that moves with the date, and where the ring
# begins again. LONG=1 takes more of them.
. "$(dirname "$0")/../guest.inc"
. "$guest/wire.sh" || fail "no RDMA devices"
export E2E_ADDRESS=10.7.0.2
more=$([ -n "$LONG" ] && echo 60 || echo 6)
at=$(($(date +%s) % 3900))
offsets=0

# some WAY RING FIRST LAST
some() {
    timeout $((60 * SLOW)) env LD_PRELOAD="$BUILD/libfastsock.so" \
        FASTSOCK_TRANSPORTS=verbs FASTSOCK_RING_SIZE="$2" \
        FASTSOCK_UPGRADE_AFTER=3 FASTSOCK_SETTLE_MS=1 \
        FASTSOCK_HANDOVER_HOLD_USEC=1000000 \
        FASTSOCK_RETURN_TIMEOUT_MS=$((1000 * SLOW)) \
        FASTSOCK_REPORT="$dir/report.%p" \
        "$BUILD/tests/e2e/offsets" "$3" "$4" "$1" wait >"$dir/out" 2>&1 ||
        fail "$1 ring $2 offsets $3-$4: exit $? $(tail -n 1 "$dir/out")"
    offsets=$((offsets + $4 - $3 + 1))
}

before=$(wire_packets rxa)
for way in up return; do
    some $way 4096 4094 4097
    some $way 65536 $at $((at + more - 1))
done
some return 4096 0 $((more - 1))
packets=$(($(wire_packets rxa) - before))
returns=$(counter returns)
# Both ends of each come back twice; of those of "return" once more.
[ "$returns" -ge $((4 * offsets)) ] ||
    fail "$offsets connections, only $returns returns"
[ "$(counter broken)" -eq 0 ] || fail "$(counter broken) broken"
[ "$(counter link_bytes_out)" -gt 0 ] && [ $packets -gt 0 ] ||
    fail "nothing went by RDMA"
[ -z "$(oops)" ] || fail "the kernel complains: $(oops | head -n 3)"
echo "$offsets connections, $returns ends returned, $packets RDMA packets"
