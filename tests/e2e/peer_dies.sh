#!/bin/sh
# kill -9, exit, close, _exit and abort of either end, with and without bytes
# unread: the survivor sees what it sees on the kernel. At random moments, also
# while the stream leaves TCP or returns, and with the peer stopped for a
# while: all bytes, then the end or ECONNRESET, and never a hang.
. "$(dirname "$0")/lib.inc"
limit=50
rounds=$([ -n "$LONG" ] && echo 500 || echo 90)
# An end in the middle of a handover needs the other end's helper in time.
settings="FASTSOCK_RETURN_TIMEOUT_MS=8000"
seed=$(date +%s)
kernel "$P/peer_dies" fixed >"$dir/kernel" 2>"$dir/err" ||
    fail "on the kernel: $(cat "$dir/err")"
for try in 1 4 20; do # a busy machine may be late to move the streams
    forget_reports
    shim E2E_PATIENCE=$try "$P/peer_dies" fixed >"$dir/got" 2>"$dir/err" ||
        fail "fixed cases: exit $? $(cat "$dir/err")"
    if ! cmp -s "$dir/kernel" "$dir/got"; then
        fail "the survivor does not see what it sees on the kernel"
        diff "$dir/kernel" "$dir/got" >&2
    fi
    ups=$(counter streams_up)
    [ "$ups" -lt 30 ] || break
done
[ "$ups" -ge 30 ] || fail "only $ups of the fixed cases on a link"
cases=$(wc -l <"$dir/got")
forget_reports
limit=600
for after in 0 1 9; do
    settings="FASTSOCK_UPGRADE_AFTER=$after FASTSOCK_RING_SIZE=65536"
    shim "$P/peer_dies" random $((seed + after)) $((rounds / 3)) \
        >"$dir/got" 2>&1 ||
        fail "seed $((seed + after)) upgrade_after $after: $(tail -n 2 "$dir/got")"
done
[ "$(counter streams_up)" -ge $((rounds / 6)) ] || fail "too few on a link"
finish "$cases cases as on the kernel, $rounds rounds at random moments," \
    "$(counter streams_up) times on a link"
