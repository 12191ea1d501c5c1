#!/bin/sh
# Hundreds of connections in one epoll set at each end, few of them busy: every
# echo comes, by link.
. "$(dirname "$0")/lib.inc"
settings="FASTSOCK_RING_SIZE=4096"
limit=60
n=$([ -n "$LONG" ] && echo 400 || echo 300)
start shim server "$P/echo_server" "$dir/port"
wait_for_line "$dir/port" . || fail "no port"
shim "$P/many" "$(cat "$dir/port")" "$n" "$(date +%s)" \
    "$([ -n "$LONG" ] && echo 30000 || echo 8000)" >"$dir/out" 2>&1 ||
    fail "exit $?: $(tail -n 1 "$dir/out")"
kill -TERM "$pid"
wait "$pid" || fail "the server ended with $?"
linked=$(counter link_bytes_out)
moved=$(awk '{ print 2 * $2 }' "$dir/out")
[ "$linked" -gt $((moved * 9 / 10)) ] ||
    fail "of $moved bytes only $linked by link"
finish "$n connections, $linked of $moved bytes by link"
