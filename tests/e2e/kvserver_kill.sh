#!/bin/sh
# kill -9 at any moment: every acknowledged write is there after a restart on
# the same pool, none is torn, and one that was not acknowledged is there whole
# or not at all; kvpool check finds no damage. 5 rounds; LONG=1: 200.
. "$(dirname "$0")/kvserver.inc"
rounds=$([ -n "$LONG" ] && echo 200 || echo 5)
round=0
while [ $round -lt "$rounds" ]; do
    round=$((round + 1))
    start_kvserver kvserver -M -m 128
    if [ $round -gt 1 ]; then
        client python3 "$here/kvserver_kill.py" verify "$port" \
            "$dir/journal" || fail "round $round: the pool is wrong"
    fi
    client python3 "$here/kvserver_kill.py" write "$port" "$dir/journal" \
        "$pid" >>"$dir/writes" || fail "round $round: the writer failed"
    wait "$pid"
    [ $? -eq 137 ] || fail "round $round: the server ended before it was killed"
    "$BUILD/kvpool" check "$dir/pool" >"$dir/check.err" 2>&1 ||
        fail "round $round: what a kill has left is damage"
done
start_kvserver kvserver -M
client python3 "$here/kvserver_kill.py" verify "$port" "$dir/journal" ||
    fail "the pool is wrong after the last round"
stop_server "$pid"
start_kvserver kvserver -M
client python3 "$here/kvserver_kill.py" verify "$port" "$dir/journal" ||
    fail "the pool is wrong after an orderly restart"
stop_server "$pid"
awk -v rounds="$rounds" '{ n += $1; u += $2 } END { print rounds \
    " kills, " n " acknowledged and " u " unacknowledged writes: none lost, " \
    "none torn" }' "$dir/writes"
