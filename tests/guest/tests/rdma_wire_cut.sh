#!/bin/sh
# The wire is cut while two ends send over RDMA, until a device gives up: the
# stream goes on over TCP, at the exact byte. (Nothing crosses any more; with
# "ip link set va down" soft-RoCE, Linux 6.1, may stop without an error.)
. "$(dirname "$0")/../guest.inc"
. "$guest/wire.sh" || fail "no RDMA devices"
export E2E_ADDRESS=10.7.0.2
bytes=20000000

of_devices sent_pkts
before=$sum
timeout $((60 * SLOW)) env LD_PRELOAD="$BUILD/libfastsock.so" \
    FASTSOCK_TRANSPORTS=verbs FASTSOCK_UPGRADE_AFTER=1 \
    FASTSOCK_SETTLE_MS=60000 FASTSOCK_HANDOVER_HOLD_USEC=1000000 \
    FASTSOCK_RETURN_TIMEOUT_MS=$((4000 * SLOW)) \
    FASTSOCK_REPORT="$dir/report.%p" \
    "$BUILD/tests/e2e/streams" poll 4 "$(date +%s)" $bytes \
    greet=$((10000 * SLOW)) >"$dir/ends" 2>"$dir/err" &
pid=$!
until_grown sent_pkts 500 "$before" $pid ||
    fail "no RDMA: $(cat "$dir/ends" "$dir/err")"
of_devices retry_exceeded_err
for end in va vb; do
    tc qdisc add dev $end root netem loss 100% || fail "no cut at $end"
done
until_grown retry_exceeded_err 0 "$sum" $pid
gave_up=$?
for end in va vb; do
    tc qdisc del dev $end root
done
wait $pid || fail "exit $?: $(cat "$dir/err")"
[ $gave_up -eq 0 ] || fail "no device gave up"
linked=$(counter link_bytes_out)
sent=$(awk '{ n += $8 } END { print n + 0 }' "$dir/ends")
[ "$linked" -gt 0 ] && [ "$linked" -lt $((2 * bytes)) ] ||
    fail "$linked bytes by link"
[ "$sent" -gt $((2 * bytes - linked)) ] || fail "the kernel sent $sent"
[ "$(counter returns)" -ge 2 ] || fail "$(counter returns) returns"
[ "$(counter broken)" -eq 0 ] || fail "$(counter broken) broken"

! oops >"$dir/oops" || fail "the kernel complains: $(head -n 20 "$dir/oops")"
echo "$linked bytes by RDMA, then $sent by TCP, every one in its place"
