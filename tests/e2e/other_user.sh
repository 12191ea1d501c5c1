#!/bin/sh
# Another user's process that claims a connection: it binds the abstract name
# of the rendezvous before the accepting end can, or comes to it as a caller.
# The stream stays on TCP, says why, and its bytes are right. Needs root, to be
# another user for a moment.
[ "$(id -u)" = 0 ] || { echo 'needs root to start a process of another user'; exit 77; }
umask 022 # the other user reads a script here
dir=$(mktemp -d /tmp/other_user.XXXXXX) || exit 2
chmod 755 "$dir"
pids=""
python=/usr/bin/python3 # one that every user may start
[ -x "$python" ] || python=python3
finish() {
    for pid in $pids; do kill "$pid" 2>/dev/null; done
    rm -rf "$dir"
}
trap finish EXIT
fail() { echo "other_user.sh: $*"; cat "$dir"/*.err 2>/dev/null; exit 1; }

# The name is public: family, server address and port, client address and port.
cat >"$dir/claim.py" <<'PY'
import select, socket, sys, time
server, client, how = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
name = b"\0fastsock.%s." + b"04" + (b"7f000001%04x" % server) + (b"7f000001%04x" % client)
end = time.time() + 8
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
if how == "squat":
    s.bind(name % b"m")
    s.listen(8)
    print("ready", flush=True)
    while time.time() < end:
        if select.select([s], [], [], 0.2)[0]:
            s.accept()
else:
    print("ready", flush=True)
    while time.time() < end:
        try:
            s.connect(name % b"m")
            s.send(b"x" * 64)
            time.sleep(0.05)
        except OSError:
            time.sleep(0.002)
        s.close()
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
PY
cat >"$dir/talk.py" <<'PY'
import os, socket, sys, time
role = sys.argv[1]
if role == "server":
    l = socket.socket()
    l.bind(("127.0.0.1", 0))
    l.listen(1)
    print("ready", l.getsockname()[1], flush=True)
    c, _ = l.accept()
    while True:
        b = c.recv(4096)
        if not b:
            break
        c.sendall(b)
else:
    c = socket.socket()
    c.bind(("127.0.0.1", 0))
    print("ready", c.getsockname()[1], flush=True)
    while not os.path.exists(sys.argv[3]):
        time.sleep(0.01)
    c.connect(("127.0.0.1", int(sys.argv[2])))
    for i in range(400):
        b = bytes([i & 255]) * 50
        c.sendall(b)
        got = b""
        while len(got) < len(b):
            got += c.recv(4096)
        assert got == b, "bytes differ"
        if i > 100:
            time.sleep(0.002)
PY

ready() { # file: sets $port, if it names one
    for _ in $(seq 1 200); do
        grep -q ready "$1" 2>/dev/null && {
            port=$(sed -n 's/^ready //p' "$1")
            return 0
        }
        sleep 0.05
    done
    fail "not ready: $1"
}

one() { # how, other user?
    how=$1 as=$2
    rm -f "$dir"/*.out "$dir"/*.err "$dir"/report.* "$dir/go"
    for role in server client; do
        LD_PRELOAD=$BUILD/libfastsock.so FASTSOCK_LOG_LEVEL=debug \
            FASTSOCK_UPGRADE_AFTER=4 FASTSOCK_REPORT="$dir/report.$role" \
            timeout 20 "$python" "$dir/talk.py" "$role" "$server" "$dir/go" \
            >"$dir/$role.out" 2>"$dir/$role.err" &
        eval "${role}_pid=$!"
        pids="$pids $!"
        ready "$dir/$role.out"
        [ "$role" = client ] || server=$port
    done
    if [ "$as" = other ]; then
        setpriv --reuid=65533 --clear-groups "$python" "$dir/claim.py" \
            "$server" "$port" "$how" >"$dir/claim.out" 2>"$dir/claim.err" &
        pids="$pids $!"
        ready "$dir/claim.out"
    fi
    : >"$dir/go" # both ports are known, and are no connection's yet
    wait "$client_pid" || fail "$how: the client's bytes were not right"
    wait "$server_pid" || fail "$how: the server failed"
    ups=$(cat "$dir"/report.* | awk '$1 == "streams_up" { n += $2 } END { print n + 0 }')
}

for _ in 1 2 3; do # a busy machine may be late to move the stream
    one nobody same
    [ "$ups" -lt 2 ] || break
done
[ "$ups" -ge 2 ] || fail "without a stranger it went up $ups times, expected 2"
one squat other
[ "$ups" -eq 0 ] || fail "went up although another user holds the name"
grep -q 'last known: other_user' "$dir/server.err" "$dir/client.err" ||
    fail 'squat: the reason is not other_user'
one call other
echo "a squatter keeps it on TCP (other_user), a caller of another user" \
    "changes nothing (up $ups times)"
