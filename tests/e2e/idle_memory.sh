#!/bin/sh
# Links that rest give their memory back: after 1 MiB each way a connection
# keeps at most 8 KiB of what two processes share. The 12 KiB at the head of each
# memory file are apart: on a busy machine connections that are made at once do
# not find each other's file, and make one more.
. "$(dirname "$0")/lib.inc"
n=$([ -n "$LONG" ] && echo 400 || echo 50)

# shared: KiB of the rings that are in memory, of the server's process
shared() {
    awk '/memfd:fastsock/ { on = !/stats/; if (on && $3 == "00000000") n -= 12 }
        /^[0-9a-f]+-/ && !/memfd:fastsock/ { on = 0 }
        on && $1 == "Rss:" { n += $2 }
        END { print n + 0 }' "/proc/$server/smaps"
}

start shim server "$P/echo_server" "$dir/port"
server=$pid
wait_for_line "$dir/port" . || fail "no port"
mkfifo "$dir/fifo"
exec 9<>"$dir/fifo"
(
    exec 9>&-
    shim "$P/idle_memory" "$(cat "$dir/port")" "$n" <"$dir/fifo" >"$dir/out" 2>&1
) &
wait_for_line "$dir/out" moved || fail "$(cat "$dir/out")"
busy=$(shared)
[ "$busy" -gt $((n * 64)) ] || fail "only $busy KiB while in use"
tries=0
until [ "$(shared)" -le $((n * 8)) ] || [ $tries -gt $((300 * SLOW)) ]; do
    tries=$((tries + 1))
    sleep 0.05
done
rest=$(shared)
[ "$rest" -le $((n * 8)) ] || fail "$rest KiB of $n connections at rest"
exec 9>&-
wait_for_line "$dir/out" moved
kill -TERM "$server"
wait
[ "$(counter link_bytes_out)" -gt $((n * 1900000)) ] ||
    fail "only $(counter link_bytes_out) bytes by link"
finish "$n connections: $busy KiB after 1 MiB each way, $rest KiB at rest"
