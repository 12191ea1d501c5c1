#!/bin/sh
# Clients that send garbage, endless lines and half requests, that leave
# without a word or never read, and 1,000 of them at once: the server stays
# up, small and quick, and ends in order. Then start-up: what is refused.
. "$(dirname "$0")/kvserver.inc"
limit=$(ulimit -H -n)
if [ "$limit" != unlimited ] && [ "$limit" -lt 2200 ]; then
    echo "1,000 connections need 2200 descriptors: ulimit -H -n says $limit"
    exit 77
fi
ulimit -n 2200
start_kvserver kvserver -c 1200
client python3 "$here/kvserver_hostile.py" abuse "$port" "$pid" ||
    fail "abuse"
cp "$dir/pool" "$dir/copy"
before=$(cksum <"$dir/copy")

# A second server on the same pool is refused, and told why.
"$BUILD/kvserver" --pool "$dir/pool" -p -1 -l 127.0.0.1 2>"$dir/second.err"
[ $? -eq 1 ] || fail "a pool that is open was opened again"
grep -q "$pid" "$dir/second.err" || fail "no word of who has the pool open"
stop_server "$pid"

# Foreign and truncated files are refused and left as they are.
head -c 100000 /dev/urandom >"$dir/foreign"
head -c 100000 "$dir/copy" >"$dir/truncated"
: >"$dir/list"
for f in foreign truncated; do
    sum=$(cksum <"$dir/$f")
    timeout 5 "$BUILD/kvserver" --pool "$dir/$f" -p -1 -l 127.0.0.1 \
        2>"$dir/$f.err"
    [ $? -eq 1 ] || fail "a $f pool was not refused with exit 1"
    [ "$(wc -l <"$dir/$f.err")" -eq 1 ] || fail "expected one line for $f"
    [ "$(cksum <"$dir/$f")" = "$sum" ] || fail "a $f pool was changed"
done
[ "$(cksum <"$dir/copy")" = "$before" ] || fail "the copy was changed"

# Beyond -c connections wait, and come in when there is room.
start_kvserver kvserver -c 10
client python3 "$here/kvserver_hostile.py" limit "$port" || fail "limit"
stop_server "$pid"
start_kvserver kvserver -c 10 -o maxconns_fast -A
client python3 "$here/kvserver_hostile.py" refuse "$port" || fail "refuse"
client python3 "$here/kvserver_hostile.py" shutdown "$port" || fail "shutdown"
wait "$pid" || fail "shutdown ended with $?"

# end_daemon signal pidfile socket: both files are gone when it has ended.
end_daemon() {
    kill "-$1" "$(cat "$2")"
    tries=0
    while [ -e "$2" ] || [ -e "$3" ]; do
        tries=$((tries + 1))
        [ $tries -lt $((500 * SLOW)) ] ||
            fail "after $1 there is still:" "$(ls "$2" "$3" 2>&1)"
        sleep 0.01
    done
}

# UNIX socket, daemon, pid file.
"$BUILD/kvserver" --pool "$dir/pool" --durability process -s "$dir/socket" \
    -a 600 -d -P "$dir/pid" 2>"$dir/daemon.err" || fail "no daemon"
servers="$servers $(cat "$dir/pid")"
[ "$(stat -c %a "$dir/socket")" = 600 ] || fail "-a was not followed"
client python3 "$here/kvserver_hostile.py" unix "$dir/socket" || fail "unix"

# The socket of a server that runs is not taken away from it, whatever pool.
for f in pool other; do
    timeout 5 "$BUILD/kvserver" --pool "$dir/$f" --durability process \
        -s "$dir/socket" 2>"$dir/taken.err"
    rc=$?
    client python3 "$here/kvserver_hostile.py" unix "$dir/socket" ||
        fail "the first server has lost its socket"
    [ $rc -eq 71 ] || fail "a second server on the socket was not refused"
    grep -q "another process listens on it; stop" "$dir/taken.err" ||
        fail "no word of who has the socket"
done
[ ! -e "$dir/other" ] || fail "a refused start has made a pool"

# What a killed server has left of its socket is replaced.
kill -KILL "$(cat "$dir/pid")"
rm "$dir/pid"
tries=0
until "$BUILD/kvserver" --pool "$dir/pool" --durability process \
    -s "$dir/socket" -d -P "$dir/pid" 2>"$dir/daemon.err"; do
    tries=$((tries + 1)) # the killed one may still be ending
    [ $tries -lt $((500 * SLOW)) ] || fail "the socket was not replaced"
    sleep 0.01
done
servers="$servers $(cat "$dir/pid")"
client python3 "$here/kvserver_hostile.py" unix "$dir/socket" || fail "unix"
end_daemon USR1 "$dir/pid" "$dir/socket"

# Named relative to the folder of the start, which a daemon leaves.
mkdir "$dir/start"
(cd "$dir/start" && "$BUILD/kvserver" --pool pool:8M --durability process \
    -s socket -d -P pid 2>"$dir/daemon.err") || fail "no daemon, relative"
servers="$servers $(cat "$dir/start/pid")"
client python3 "$here/kvserver_hostile.py" unix "$dir/start/socket" ||
    fail "unix, relative"
[ "$(readlink "/proc/$(cat "$dir/start/pid")/cwd")" = / ] ||
    fail "the daemon has not left its folder"
end_daemon TERM "$dir/start/pid" "$dir/start/socket"
[ -e "$dir/start/pool" ] || fail "the pool is gone"

"$BUILD/kvserver" --pool "$dir/foreign" -p -1 -l 127.0.0.1 -d \
    2>"$dir/daemon.err"
[ $? -eq 1 ] || fail "a daemon that cannot start must say so"
[ -s "$dir/daemon.err" ] || fail "a daemon that cannot start must say why"
echo "garbage, half requests, slow readers, 1,000 connections: it stands"
