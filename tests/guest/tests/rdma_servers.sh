#!/bin/sh
# Real servers and clients over RDMA: kvserver with libmemcached's conformance
# test, Debian's memcached with a python client.
. "$(dirname "$0")/../guest.inc"
. "$guest/wire.sh" || fail "no RDMA devices"
rmdir "$dir"
. tests/e2e/lib.inc
host=10.7.0.2 port=11222
settings="FASTSOCK_TRANSPORTS=verbs FASTSOCK_UPGRADE_AFTER=2"

packets() {
    echo $(($(wire_packets rxa) + $(wire_packets rxb)))
}

# went NAME BEFORE: both ends have sent by a link, and the device saw it
went() {
    [ "$(counter streams_up)" -gt 0 ] && [ "$(counter link_bytes_in)" -gt 0 ] ||
        fail "$1: no stream went up"
    [ "$(packets)" -gt "$2" ] || fail "$1: no RDMA packet"
    bytes=$((${bytes:-0} + $(counter link_bytes_out)))
}

end() { # pid
    kill -TERM "$1"
    wait "$1"
}

before=$(packets)
start shim kvserver "$BUILD/kvserver" --pool "$dir/pool:64M" --durability process \
    -l $host -p $port
server=$pid
wait_for_port $port || fail "kvserver does not listen: $(cat "$dir/kvserver.err")"
shim memccapable -a -h $host -p $port >"$dir/out" 2>&1 || {
    grep -v pass "$dir/out" >&2
    fail "memccapable failed against kvserver"
}
end "$server"
went kvserver "$before"
forget_reports

before=$(packets) port=11223
start shim memcached memcached -u root -l $host -p $port -U 0
server=$pid
wait_for_port $port || fail "memcached does not listen"
shim python3 - $host $port >"$dir/out" 2>&1 <<'END' || fail "python: $(tail -n 3 "$dir/out")"
import hashlib, socket, sys, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 30)
f = s.makefile("rb")
def say(words, want):
    s.sendall(words)
    got = f.readline()
    assert got == want, (words[:40], got, want)
def value(i):
    return (hashlib.sha256(b"%d" % i).digest() * (1 + i * 7 % 600))[:17000]
for i in range(300):
    say(b"set key%d 0 0 %d\r\n%s\r\n" % (i, len(value(i)), value(i)), b"STORED\r\n")
    if i == 20:
        time.sleep(2)
for i in range(300):
    say(b"get key%d\r\n" % i, b"VALUE key%d 0 %d\r\n" % (i, len(value(i))))
    assert f.read(len(value(i)) + 7) == value(i) + b"\r\nEND\r\n", i
s.close()
END
end "$server"
went memcached "$before"
! oops >"$dir/oops" || fail "the kernel complains: $(head -n 20 "$dir/oops")"
finish "memccapable against kvserver, python against memcached: $bytes bytes by link, $(packets) RDMA packets"
