#!/bin/sh
# A device goes while a stream is on it: the stream returns to TCP, not a byte
# is lost or repeated. A process is killed: its peer gets an error, no end.
. "$(dirname "$0")/../guest.inc"
. "$guest/wire.sh" || fail "no RDMA devices"
export E2E_ADDRESS=10.7.0.2
export FASTSOCK_TRANSPORTS=verbs FASTSOCK_UPGRADE_AFTER=2 \
    FASTSOCK_HANDOVER_HOLD_USEC=1000000 FASTSOCK_SETTLE_MS=100 \
    FASTSOCK_RETURN_TIMEOUT_MS=$((4000 * SLOW)) FASTSOCK_LOG_LEVEL=debug

# start NAME BYTES: two processes that send, by RDMA by now; in $pid.
start() {
    of_devices sent_pkts
    before=$sum
    timeout $((60 * SLOW)) env LD_PRELOAD="$BUILD/libfastsock.so" \
        FASTSOCK_REPORT="$dir/report.%p" \
        "$BUILD/tests/e2e/streams" blocking 4 1 "$2" \
        greet=$((10000 * SLOW)) >"$dir/$1.out" 2>&1 &
    pid=$!
    until_grown sent_pkts 500 "$before" $pid ||
        fail "never on RDMA: $("$BUILD/fastsock" ss; cat "$dir/$1.out")"
}

bytes=40000000
start breaks $bytes
rdma link delete rxb
wait $pid || fail "device gone: exit $? $(cat "$dir/breaks.out")"
returns=$(counter returns) linked=$(counter link_bytes_out)
rdma link add rxb type rxe netdev vb || fail "rxb does not come back"
[ "$returns" -ge 2 ] || fail "device gone: $returns returns"
[ "$linked" -gt 0 ] && [ "$linked" -lt $((2 * bytes)) ] ||
    fail "device gone: $linked bytes by link"

start killed 2000000000
victim=$("$BUILD/fastsock" ss | sed -n 's,^\([0-9]*\)/.* verbs .*,\1,p' |
    sort -n | tail -n 1)
[ -n "$victim" ] || fail "nobody on verbs: $("$BUILD/fastsock" ss)"
kill -9 "$victim"
wait $pid && fail "killed: the other end saw nothing: $(cat "$dir/killed.out")"
# The first call is told ECONNRESET, a write of the other thread EPIPE then.
grep -q 'ECONNRESET\|EPIPE' "$dir/killed.out" ||
    fail "killed: expected a reset: $(cat "$dir/killed.out")"
[ -z "$(oops)" ] || fail "the kernel complains: $(oops | head -n 3)"
echo "a device went after $linked bytes: $returns ends returned; a kill is a reset"
