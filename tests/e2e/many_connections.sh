#!/bin/sh
# Hundreds of connections in one epoll set at each end, few of them busy: every
# echo comes, by link. The long run has 10,000, and 64 descriptors more.
. "$(dirname "$0")/lib.inc"
settings="FASTSOCK_RING_SIZE=4096"
limit=60
n=300
least=1024
[ -z "$LONG" ] || n=10000 least=$((n + 64)) limit=250
[ -z "$LONG" ] && [ "$(ulimit -Sn)" -ge $least ] 2>/dev/null ||
    ulimit -Sn $least || skip "no $least descriptors allowed here"
start shim server "$P/echo_server" "$dir/port"
server=$pid
wait_for_line "$dir/port" . || fail "no port"
start shim client "$P/many" "$(cat "$dir/port")" "$n" "$(date +%s)" \
    "$([ -n "$LONG" ] && echo 30000 || echo 8000)" "$dir/go"
client=$pid
tries=0 # it takes as long as the machine needs to move them
until ! kill -0 "$client" 2>/dev/null || [ $tries -ge $((400 * SLOW)) ] ||
    [ "$("$BUILD/fastsock" ss -p "$client" 2>/dev/null |
        grep -c ' shm ')" -ge "$n" ]; do
    tries=$((tries + 1))
    sleep 0.2
done
: >"$dir/go"
wait "$client" || fail "exit $?: $(tail -n 1 "$dir/client.err")"
kill -TERM "$server"
wait "$server" || fail "the server ended with $?"
ups=$(counter streams_up)
[ "$ups" -ge $((2 * n)) ] || fail "only $ups ends were ever on a link"
linked=$(counter link_bytes_out)
moved=$(awk '/^bytes/ { print 2 * $2 }' "$dir/client")
[ "$linked" -gt $((moved * 9 / 10)) ] ||
    fail "of $moved bytes only $linked by link"
finish "$n connections, $linked of $moved bytes by link"
