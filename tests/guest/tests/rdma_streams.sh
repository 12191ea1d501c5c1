#!/bin/sh
# Unmodified programs over RDMA: their bytes go by the device and not by TCP,
# however they wait; and the stream comes back to TCP and goes up again while
# both ends send.
. "$(dirname "$0")/../guest.inc"
. "$guest/wire.sh" || fail "no RDMA devices"
export E2E_ADDRESS=10.7.0.2
bytes=1000000

# one NAME streams' arguments...
one() {
    name=$1
    shift
    rm -f "$dir"/report.*
    timeout $((60 * SLOW)) env LD_PRELOAD="$BUILD/libfastsock.so" \
        FASTSOCK_TRANSPORTS=verbs FASTSOCK_LOG_LEVEL=debug FASTSOCK_UPGRADE_AFTER=2 \
        FASTSOCK_HANDOVER_HOLD_USEC=1000000 FASTSOCK_SETTLE_MS=1 \
        FASTSOCK_RETURN_TIMEOUT_MS=$((1000 * SLOW)) \
        FASTSOCK_REPORT="$dir/report.%p" \
        "$BUILD/tests/e2e/streams" "$@" >"$dir/out" 2>&1 ||
        fail "$name: exit $? $(cat "$dir/out")"
}

n=0
for wait in blocking select poll epoll-lt epoll-et epoll-oneshot; do
    before=$(wire_packets rxa)
    one $wait $wait 4 $n $bytes greet=$((10000 * SLOW))
    n=$((n + 1))
    linked=$(counter link_bytes_out) packets=$(($(wire_packets rxa) - before))
    sent=$(awk '{ n += $8 } END { print n + 0 }' "$dir/out")
    # And the last greetings.
    [ "$linked" -ge $((2 * bytes)) ] && [ "$linked" -le $((2 * bytes + 2000)) ] ||
        fail "$wait: $linked bytes by link: $(cat "$dir/out")"
    [ $((100 * sent)) -lt $linked ] || fail "$wait: the kernel sent $sent"
    [ $packets -gt $((bytes / 4200)) ] || fail "$wait: $packets packets of RDMA"
done

returns=0
for wait in blocking epoll-et; do
    one "$wait, returns" $wait 4 $n $((3 * bytes)) greet=$((10000 * SLOW)) returns=3 delay=10
    n=$((n + 1)) returns=$((returns + $(counter returns)))
    [ "$(counter returns)" -ge 2 ] || fail "$wait: $(counter returns) returns"
    [ "$(counter broken)" -eq 0 ] || fail "$wait: $(counter broken) broken"
done
[ -z "$(oops)" ] || fail "the kernel complains: $(oops | head -n 3)"
echo "$n streams over RDMA, $returns returns"
