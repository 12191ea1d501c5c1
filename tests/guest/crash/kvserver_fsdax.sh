#!/bin/sh
# kvserver on real persistent memory (fsdax): it knows by itself what it is on,
# the mapping is synchronous, and when the machine dies in mid-traffic, each
# acknowledged write is there after the next boot and none is torn.
. "$(dirname "$0")/../../e2e/kvserver.inc"
guest=$here/..
unset PMEM_IS_PMEM_FORCE
pool=/mnt/pmem/pool
. "$guest/pmem.sh" || fail "no persistent memory"

stat_of() { # name
    printf 'stats\r\nquit\r\n' | timeout 20 python3 -c '
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10)
s.sendall(sys.stdin.buffer.read())
while data := s.recv(65536):
    sys.stdout.buffer.write(data)' "$port" | tr -d '\r' |
        awk -v name="$1" '$2 == name { print $3 }'
}

# Synchronous page faults (MAP_SYNC) are the flag "sf" of the mapping.
is_synchronous() {
    awk -v pool="$pool" '$1 ~ /^[0-9a-f]+-[0-9a-f]+$/ { ours = $6 == pool }
        /^VmFlags:/ && ours && / sf( |$)/ { found = 1 }
        END { exit !found }' "/proc/$pid/smaps"
}

start_server kvserver "$BUILD/kvserver" --pool $pool -m 64 -M -v
[ "$(stat_of pool_durability)" = pmem ] ||
    fail "durability on fsdax: $(stat_of pool_durability), expected pmem"
is_synchronous || fail "$pool is not mapped with MAP_SYNC"
! grep -q 'not on persistent memory' "$dir/kvserver.err" ||
    fail "kvserver takes fsdax for something else"

if [ "$1" = before ]; then
    python3 "$here/../../e2e/kvserver_kill.py" crash "$port" "$SHARE/journal" \
        /run/job/CRASH
    fail "no crash came"
fi
grep -q 'recovered after a crash' "$dir/kvserver.err" ||
    fail "the pool says nothing of a crash"
python3 "$here/../../e2e/kvserver_kill.py" verify "$port" "$SHARE/journal" \
    >"$dir/verified" || fail "the pool is wrong: $(tail -n 5 "$dir/verified")"
stop_server "$pid"
start_server kvserver "$BUILD/kvserver" --pool $pool --durability pmem -M
python3 "$here/../../e2e/kvserver_kill.py" verify "$port" "$SHARE/journal" ||
    fail "the pool is wrong after an orderly restart"
stop_server "$pid"
echo "$(cat "$dir/verified"): none lost, none torn"
