#!/bin/sh
# The guest is what the other tests take it for: RDMA crosses the wire between
# rxa and rxb, there is persistent memory in both forms, and no complaint of
# the kernel's.
. "$(dirname "$0")/../guest.inc"
. "$guest/wire.sh" || fail "no RDMA devices"
. "$guest/pmem.sh" || fail "no persistent memory"

before=$(wire_packets rxa)
timeout 60 rping -s -a 10.7.0.2 -C 3 >"$dir/server" 2>&1 &
server=$!
tries=0
until rdma resource show cm_id | grep -q 'state LISTEN'; do
    tries=$((tries + 1))
    [ $tries -lt 200 ] || fail "rping does not listen: $(cat "$dir/server")"
    sleep 0.05
done
timeout 60 rping -c -a 10.7.0.2 -C 3 >"$dir/client" 2>&1 ||
    fail "rping from 10.7.0.1 to 10.7.0.2: $(cat "$dir/client")"
wait $server
packets=$(($(wire_packets rxa) - before))
[ $packets -gt 0 ] || fail "rping sent no RDMA packet through rxa"

grep -q '^/dev/pmem0 /mnt/pmem ext4 .*dax' /proc/mounts ||
    fail "/mnt/pmem is not mounted with dax"
[ -c /dev/dax1.0 ] || fail "no /dev/dax1.0"
! oops >"$dir/oops" || fail "the kernel complains: $(head -n 20 "$dir/oops")"
echo "Linux $(uname -r), $packets RDMA packets, fsdax and devdax"
