#!/bin/sh
# kvserver on real persistent memory, in a file (fsdax) that it makes and on a
# device (devdax) that kvpool has prepared: it knows by itself what it is on,
# the mapping is synchronous, and when the machine dies in mid-traffic of both,
# the next boot finds the same namespaces, each acknowledged write is there and
# none is torn.
. "$(dirname "$0")/../../e2e/kvserver.inc"
guest=$here/..
unset PMEM_IS_PMEM_FORCE
. "$guest/pmem.sh" || fail "no persistent memory"
keys=$here/../../e2e/kvserver_kill.py

pool_of() { # medium
    case $1 in
    fsdax) echo /mnt/pmem/pool ;;
    devdax) echo /dev/dax1.0 ;;
    esac
}

stat_of() { # name
    printf 'stats\r\nquit\r\n' | timeout $((20 * SLOW)) python3 -c '
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 100)
s.sendall(sys.stdin.buffer.read())
while data := s.recv(65536):
    sys.stdout.buffer.write(data)' "$port" | tr -d '\r' |
        awk -v name="$1" '$2 == name { print $3 }'
}

# Synchronous page faults (MAP_SYNC) are the flag "sf" of the mapping.
is_synchronous() { # pool
    awk -v pool="$1" '$1 ~ /^[0-9a-f]+-[0-9a-f]+$/ { ours = $6 == pool }
        /^VmFlags:/ && ours && / sf( |$)/ { found = 1 }
        END { exit !found }' "/proc/$pid/smaps"
}

start_on() { # medium
    pool=$(pool_of "$1")
    start_server "$1" "$BUILD/kvserver" --pool "$pool" -m 64 -M -v
    [ "$(stat_of pool_durability)" = pmem ] ||
        fail "durability on $1: $(stat_of pool_durability), expected pmem"
    is_synchronous "$pool" || fail "$pool is not mapped with MAP_SYNC"
    ! grep -q 'not on persistent memory' "$dir/$1.err" ||
        fail "kvserver takes $1 for something else"
}

# Making a namespace anew gives it another uuid, even where it keeps the bytes.
ndctl list >"$dir/namespaces" || fail "ndctl lists no namespaces"
mode=$(cat /sys/bus/nd/devices/namespace1.0/mode)
[ "$mode" = dax ] || fail "the second NVDIMM is '$mode', expected dax"
device=$(pool_of devdax)

if [ "$1" = before ]; then
    cp "$dir/namespaces" "$SHARE/namespaces"
    "$BUILD/kvpool" create "$device" >"$dir/created" 2>&1 ||
        fail "kvpool create $device: $(cat "$dir/created")"
    for medium in fsdax devdax; do
        start_on $medium
        python3 "$keys" crash "$port" "$SHARE/$medium" "$dir/$medium.crash" \
            2>"$dir/$medium.keys.err" &
        servers="$servers $!"
    done
    tries=0
    until [ -e "$dir/fsdax.crash" ] && [ -e "$dir/devdax.crash" ]; do
        tries=$((tries + 1))
        [ $tries -lt $((200 * SLOW)) ] || fail "not enough was written"
        sleep 0.1
    done
    touch /run/job/CRASH
    sleep 60
    fail "no crash came"
fi
cmp -s "$dir/namespaces" "$SHARE/namespaces" ||
    fail "other namespaces than before the crash:" \
        "$(diff "$SHARE/namespaces" "$dir/namespaces")"
"$BUILD/kvpool" create "$device" >"$dir/created" 2>&1
rc=$?
[ $rc -eq 5 ] || fail "kvpool create over the pool: exit $rc, expected 5:" \
    "$(cat "$dir/created")"
for medium in fsdax devdax; do
    start_on $medium
    grep -q 'recovered after a crash' "$dir/$medium.err" ||
        fail "the pool on $medium says nothing of a crash"
    python3 "$keys" verify "$port" "$SHARE/$medium" >"$dir/verified" ||
        fail "the pool on $medium is wrong: $(tail -n 5 "$dir/verified")"
    stop_server "$pid"
    start_server $medium "$BUILD/kvserver" --pool "$pool" --durability pmem -M
    python3 "$keys" verify "$port" "$SHARE/$medium" ||
        fail "the pool on $medium is wrong after an orderly restart"
    stop_server "$pid"
    "$BUILD/kvpool" check "$pool" >"$dir/checked" 2>&1 ||
        fail "kvpool check on $medium: $(cat "$dir/checked")"
    printf '%s: %s; ' $medium "$(cat "$dir/verified")"
done
echo "none lost, none torn"
