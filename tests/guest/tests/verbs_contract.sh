#!/bin/sh
# The RDMA transport passes the suite of every transport, and its own cases:
# hostile peers, a cut wire, a killed process.
. "$(dirname "$0")/../guest.inc"
. "$guest/wire.sh" || fail "no RDMA devices"

before=$(wire_packets rxa)
CK_TIMEOUT_MULTIPLIER="$SLOW" timeout -k 5 270 \
    "$BUILD/tests/contract/check_verbs" >"$dir/out" 2>&1 || {
    cat "$dir/out"
    fail "check_verbs"
}
packets=$(($(wire_packets rxa) - before))
[ $packets -gt 1000 ] || fail "only $packets RDMA packets crossed the wire"
! oops >"$dir/oops" || fail "the kernel complains: $(head -n 20 "$dir/oops")"
echo "$(sed -n 's/.*Checks: \([0-9]*\),.*/\1/p' "$dir/out" | tail -n 1) checks, $packets RDMA packets"
