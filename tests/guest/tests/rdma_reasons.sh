#!/bin/sh
# A device is here, and something else is not: a route to the peer, a module,
# memory that may be locked, the library at the other end. The stream stays on
# TCP, every byte right; its ends say why and what to do; and the devices send
# nothing, or what it takes to ask for a connection.
. "$(dirname "$0")/../guest.inc"
. "$guest/wire.sh" || fail "no RDMA devices"
rmdir "$dir"
. tests/e2e/lib.inc
. tests/e2e/reasons.inc
settings="FASTSOCK_TRANSPORTS=verbs FASTSOCK_UPGRADE_AFTER=1
    FASTSOCK_LOG_LEVEL=debug"
bytes=1000000

# An ordinary user may run and write these.
user="setpriv --reuid=65533 --regid=65533 --clear-groups"
chmod 777 "$dir"
mkdir "$dir/lib"
cp "$BUILD"/libfastsock*.so "$streams" "$dir/lib/"
streams=$dir/lib/streams shim=$dir/lib/libfastsock.so
module=$dir/lib/libfastsock-verbs.so

packets() { # of both devices, in $packets
    read -r packets </sys/class/infiniband/rxa/ports/1/hw_counters/sent_pkts
    read -r sent </sys/class/infiniband/rxb/ports/1/hw_counters/sent_pkts
    packets=$((packets + sent))
}

# expect MOST PACKETS, REASON REMEDY, of server and client: "-" is not asked.
expect() {
    [ "$2" = - ] || stays "$server" "$2" "$3"
    [ "$4" = - ] || stays "$client" "$4" "$5"
    part
    packets
    [ $((packets - before)) -le "$1" ] ||
        fail "pair $pairs: $((packets - before)) packets of RDMA, not $1"
}

try() { # as pair
    packets
    before=$packets
    pair "$@"
}

# Another host, to which no device leads: neither end has an address of one;
# then the end that connects has.
ip netns add far
ip -batch - <<'END'
link add vc type veth peer name vd netns far
addr add 10.8.0.1/24 dev vc
link set vc up
END
ip -n far -batch - <<'END'
addr add 10.8.0.2/24 dev vd
link set vd up
route add 10.7.0.1 via 10.8.0.1
END
echo 0 >/proc/sys/net/ipv4/conf/vc/rp_filter
export E2E_ADDRESS=10.8.0.2
server_as='ip netns exec far' use='use those that'
try shim shim
expect 0 no_route "$use" no_route "$use"
ip route add 10.8.0.2 dev vc src 10.7.0.1
try shim shim
expect 0 no_route "$use" no_route "$use"
! grep no_peer_library "$dir/client.err" || fail 'it took the peer for plain'
ip link del vc
ip netns del far
E2E_ADDRESS=10.7.0.2 server_as=''

# A module of another release. (no_device.sh has the rest of those.)
install='install it beside'
cp "$other_release" "$module"
try shim shim
expect 0 no_module "$install" no_module "$install"
cp "$BUILD/libfastsock-verbs.so" "$module"

# An ordinary user, without a limit: nothing else is in the way.
server_as=$user client_as=$user
try shim shim
until_says '* verbs * up' ss -p "$server"
until_says '* verbs * up' ss -p "$client"
touch "$dir/go"
wait "$server" && wait "$client" || fail "$(cat "$dir/server.err" "$dir/client.err")"
[ "$(counter link_bytes_out)" -ge $bytes ] || fail "not by RDMA: $(cat "$dir"/report.*)"

# With one that is too small for the connection's messages: the end that
# connects does not ask; the end that accepts refuses.
raise='raise RLIMIT_MEMLOCK'
start='start it with the library'
small="prlimit --memlock=16384 $user"
client_as=$small
try shim shim
expect 0 no_peer_library "$start" memlock "$raise"
server_as=$small client_as=$user
try shim shim
expect 100 memlock "$raise" memlock "$raise"

# Too small for the rings, at either end.
small="prlimit --memlock=131072 $user"
server_as=$small
try shim shim
expect 100 memlock "$raise" memlock "$raise"
server_as=$user client_as=$small
try shim shim
expect 100 memlock "$raise" memlock "$raise"
server_as='' client_as=''

# The other end does not carry the library.
try kernel shim
expect 100 - - no_peer_library "$start"
try shim kernel
expect 0 no_peer_library "$start" - -

! oops >"$dir/oops" || fail "the kernel complains: $(head -n 20 "$dir/oops")"
finish "$((pairs - 1)) pairs stayed on TCP beside a device and said why"
