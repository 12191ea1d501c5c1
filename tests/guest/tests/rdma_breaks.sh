#!/bin/sh
# A device goes while a stream is on it: the stream returns to TCP, not a byte
# is lost or repeated. A process is killed: its peer gets an error, no end.
. "$(dirname "$0")/../guest.inc"
. "$guest/wire.sh" || fail "no RDMA devices"
export E2E_ADDRESS=10.7.0.2
export FASTSOCK_TRANSPORTS=verbs FASTSOCK_UPGRADE_AFTER=2 \
    FASTSOCK_HANDOVER_HOLD_USEC=1000000 FASTSOCK_SETTLE_MS=100 \
    FASTSOCK_RETURN_TIMEOUT_MS=$((1000 * SLOW)) FASTSOCK_LOG_LEVEL=debug

# until_up: waits for two ends on verbs, as the command shows them.
until_up() {
    tries=0
    until [ "$("$BUILD/fastsock" ss | grep -c ' verbs ')" -eq 2 ]; do
        tries=$((tries + 1))
        [ $tries -lt $((20 * SLOW)) ] ||
            fail "never on RDMA: $("$BUILD/fastsock" ss; cat "$dir"/*.out)"
        sleep 0.1
    done
}

# start NAME BYTES: two processes that greet, rest, and send
start() {
    timeout $((60 * SLOW)) env LD_PRELOAD="$BUILD/libfastsock.so" \
        FASTSOCK_REPORT="$dir/$1.report.%p" \
        "$BUILD/tests/e2e/streams" blocking 4 1 "$2" greet=$((400 * SLOW)) \
        >"$dir/$1.out" 2>&1 &
    pid=$!
    until_up
}

start breaks 60000000
sleep $((SLOW / 2))
rdma link delete rxb
wait $pid || fail "device gone: exit $? $(cat "$dir/breaks.out")"
returns=$(awk '$1 == "returns" { n += $2 } END { print n + 0 }' "$dir"/breaks.report.*)
linked=$(awk '$1 == "link_bytes_out" { n += $2 } END { print n + 0 }' "$dir"/breaks.report.*)
rdma link add rxb type rxe netdev vb || fail "rxb does not come back"
[ "$returns" -ge 2 ] || fail "device gone: $returns returns"
[ "$linked" -gt 0 ] && [ "$linked" -lt 120000000 ] ||
    fail "device gone: $linked bytes by link"

start killed 200000000
victim=$("$BUILD/fastsock" ss | sed -n 's,^\([0-9]*\)/.* verbs .*,\1,p' | sort -n | tail -n 1)
kill -9 "$victim"
wait $pid && fail "killed: the other end saw nothing: $(cat "$dir/killed.out")"
grep -q 'reset by peer\|ECONNRESET' "$dir/killed.out" ||
    fail "killed: expected a reset: $(cat "$dir/killed.out")"
[ -z "$(oops)" ] || fail "the kernel complains: $(oops | head -n 3)"
echo "a device went after $linked bytes: $returns ends returned; a kill is a reset"
