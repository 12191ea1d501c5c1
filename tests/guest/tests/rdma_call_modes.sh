#!/bin/sh
# Every call family over RDMA: results and bytes are those of kernel TCP while
# the stream goes up, is forced back, or is looked at before it is read. The
# same for what processes do, with the module loaded in them.
. "$(dirname "$0")/../guest.inc"
. "$guest/wire.sh" || fail "no RDMA devices"
export E2E_ADDRESS=10.7.0.2
P=$BUILD/tests/e2e
seed=$(date +%s)

over_rdma() {
    env LD_PRELOAD="$BUILD/libfastsock.so" FASTSOCK_TRANSPORTS=verbs \
        FASTSOCK_REPORT="$dir/report.%p" FASTSOCK_UPGRADE_AFTER=20 \
        FASTSOCK_SETTLE_MS=1 FASTSOCK_HANDOVER_HOLD_USEC=500 \
        timeout $((60 * SLOW)) "$@"
}

# The first to open a device here waits for its libraries.
over_rdma "$P/streams" poll 4 1 100000 greet=$((10000 * SLOW)) >"$dir/out" 2>&1 ||
    fail "streams: $(cat "$dir/out")"

linked=0
for mode in moving returns peeking; do
    rm -f "$dir"/report.*
    timeout $((20 * SLOW)) "$P/calls" 4 "$seed" 1500 0 $mode \
        >"$dir/kernel" 2>/dev/null || fail "$mode: on the kernel"
    over_rdma "$P/calls" 4 "$seed" 1500 $((80 * SLOW)) $mode \
        >"$dir/rdma" 2>"$dir/err" || fail "$mode seed $seed: $(cat "$dir/err")"
    cmp -s "$dir/kernel" "$dir/rdma" ||
        fail "$mode seed $seed: $(diff "$dir/kernel" "$dir/rdma" | head -n 5)"
    bytes=$(cat "$dir"/report.* |
        awk '$1 == "link_bytes_out" { n += $2 } END { print n + 0 }')
    [ "$bytes" -gt 0 ] || fail "$mode: nothing went by RDMA"
    linked=$((linked + bytes))
done

timeout $((20 * SLOW)) "$P/processes" >"$dir/kernel" 2>&1 ||
    fail "processes on the kernel"
cases=0
for case in $(grep '^[a-z_0-9]*$' "$dir/kernel"); do
    # It counts what is open, while the module opens files for a moment.
    [ "$case" != close_every ] || continue
    awk -v name="$case" '/^[a-z_0-9]*$/ { on = $1 == name } on' \
        "$dir/kernel" >"$dir/expected"
    # It tries a number that is closed: none is the module's for a moment once
    # the stream is up.
    patience=
    [ "$case" != close_calls ] || patience=E2E_PATIENCE=1
    # shellcheck disable=SC2086 # or none
    over_rdma env $patience "$P/processes" "$case" >"$dir/rdma" 2>"$dir/err" ||
        fail "$case: exit $? $(cat "$dir/err")"
    cmp -s "$dir/expected" "$dir/rdma" ||
        fail "$case: $(diff "$dir/expected" "$dir/rdma" | head -n 5)"
    cases=$((cases + 1))
done
echo "4500 calls as on the kernel, $linked bytes of them over RDMA;" \
    "$cases cases of processes"
