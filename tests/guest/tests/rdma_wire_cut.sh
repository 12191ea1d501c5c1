#!/bin/sh
# The wire is cut for some seconds while two ends send over RDMA: the device
# gives up, the stream goes on over TCP, at the exact byte.
. "$(dirname "$0")/../guest.inc"
. "$guest/wire.sh" || fail "no RDMA devices"
rmdir "$dir"
. tests/e2e/lib.inc
export E2E_ADDRESS=10.7.0.2
bytes=6000000
settings="FASTSOCK_TRANSPORTS=verbs FASTSOCK_UPGRADE_AFTER=1
    FASTSOCK_SETTLE_MS=60000"

packets=$(wire_packets rxa)
start shim ends "$P/streams" poll 4 "$(date +%s)" $bytes greet=$((200 * SLOW))
ends=$pid tries=0
until [ $(($(wire_packets rxa) - packets)) -gt 300 ]; do
    tries=$((tries + 1))
    kill -0 "$ends" && [ $tries -lt 300 ] || {
        fail "no RDMA: $(cat "$dir/ends" "$dir/ends.err")"
        break
    }
done
ip link set va down
sleep 3
ip link set va up
# With the link its routes and neighbours went.
ip neigh replace 10.7.0.2 lladdr 02:00:00:00:07:02 dev va nud permanent
ip route replace 10.7.0.2 dev va src 10.7.0.1 table 71
wait "$ends" || fail "exit $?: $(cat "$dir/ends.err")"
linked=$(counter link_bytes_out)
sent=$(awk '{ n += $8 } END { print n + 0 }' "$dir/ends")
[ "$linked" -gt 0 ] && [ "$linked" -lt $((2 * bytes)) ] ||
    fail "$linked bytes by link"
[ "$sent" -gt $((2 * bytes - linked)) ] || fail "the kernel sent $sent"
[ "$(counter returns)" -ge 2 ] || fail "$(counter returns) returns"
[ "$(counter broken)" -eq 0 ] || fail "$(counter broken) broken"

# rxe's connection manager is dead after that until its devices are made anew
# (Linux 6.1: rping fails as well).
rdma link delete rxa
rdma link delete rxb
wire_devices || fail "rxa and rxb do not come back"
! oops >"$dir/oops" || fail "the kernel complains: $(head -n 20 "$dir/oops")"
finish "$linked bytes by RDMA, then $sent by TCP, every one in its place"
