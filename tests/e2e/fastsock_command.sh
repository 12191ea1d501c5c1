#!/bin/sh
# The fastsock command beside a server and clients that are really running.
. "$(dirname "$0")/kvserver.inc"
tool=$BUILD/fastsock
hold=$BUILD/tests/e2e/hold
host=127.0.0.1
library=$BUILD/libfastsock.so

# A program that was built for a sanitizer wants its library first.
asan=$(ldd "$library" 2>/dev/null |
    sed -n 's/.*libasan[^ ]* => \([^ ]*\).*/\1/p')
[ -z "$asan" ] || {
    echo "the library of a sanitizer must come first, which run does not know"
    exit 77
}
unset FASTSOCK_PRELOAD FASTSOCK_ENV FASTSOCK_CONFIG LD_PRELOAD

# says STATUS PATTERN command...: that exit status, and such a line.
says() {
    want=$1 pattern=$2
    shift 2
    "$@" >"$dir/said" 2>&1
    rc=$?
    if [ $rc -ne "$want" ]; then
        cat "$dir/said" >&2
        fail "$* ended with $rc, not $want"
    fi
    [ -z "$pattern" ] || grep -q -- "$pattern" "$dir/said" || {
        cat "$dir/said" >&2
        fail "$* does not say '$pattern'"
    }
}

# until_says PATTERN command...: within 30 s.
until_says() {
    pattern=$1 tries=0
    shift
    until "$@" 2>&1 | grep -q -- "$pattern"; do
        tries=$((tries + 1))
        [ $tries -lt 600 ] || {
            "$@" >&2
            fail "$* never says '$pattern'"
        }
        sleep 0.05
    done
}

# one_line command...: a mistake is one line that names the help.
one_line() {
    says 2 'expected.*' "$@"
    [ "$(wc -l <"$dir/said")" -eq 1 ] || fail "$*: more than one line"
}

# start_hold NAME command...: keeps its connections until fd 9 closes; $pid.
start_hold() {
    name=$1
    shift
    "$@" <"$dir/fifo" >"$dir/$name.out" 2>"$dir/$name.err" 9>&- &
    pid=$!
    servers="$servers $pid"
    until_says holding cat "$dir/$name.out"
}

check_arguments() {
    one_line "$tool" nonsense
    one_line "$tool" ss --nonsense
    one_line "$tool" ss -p
    one_line "$tool" ss -p 12x
    one_line "$tool" ss -S
    one_line "$tool" explain
    one_line "$tool" explain 1 2
    one_line "$tool" explain 0
    one_line "$tool" explain 12/x
    one_line "$tool" settings --nonsense
    one_line "$tool" settings --config
    one_line "$tool" doctor --nonsense
    one_line "$tool" doctor --root
    one_line "$tool" doctor --root "$dir/absent"
    one_line "$tool" run
    one_line "$tool" run --set
    one_line "$tool" run --set poll_usec true
    one_line "$tool" run --set poll_usec=many true
    one_line "$tool" run --nonsense true
    one_line "$tool" help nonsense
    one_line "$tool" version 1
    says 2 'no setting .nonsense' "$tool" run --set nonsense=1 true
    says 2 'usage: fastsock' "$tool"
    says 0 'usage: fastsock' "$tool" --help
    says 0 '^fastsock [0-9]' "$tool" version
    for command in run ss explain settings doctor version help; do
        says 0 "usage: fastsock $command" "$tool" help $command
        says 0 "usage: fastsock" "$tool" $command --help
    done
}

check_run() {
    says 0 '^argument -- two$' "$tool" run -- echo "argument" -- two
    says 7 '' "$tool" run -- sh -c 'exit 7'
    says 127 'not found' "$tool" run -- "$dir/absent"
    says 127 'not found' "$tool" run -- no-such-program-anywhere
    says 126 'cannot be executed' "$tool" run -- "$dir"
    echo >"$dir/plain"
    says 126 'cannot be executed' "$tool" run -- "$dir/plain"
    says 0 "^$library\$" "$tool" run -- printenv LD_PRELOAD
    says 0 "^$library:libc.so.6\$" \
        env LD_PRELOAD=libc.so.6:/old/libfastsock.so \
        "$tool" run -- printenv LD_PRELOAD
    says 0 '^7$' "$tool" run --set poll_usec=7 -- printenv FASTSOCK_POLL_USEC
    says 0 '^port=1,accelerate=false$' \
        "$tool" run --set rules=port=1,accelerate=false -- \
        printenv FASTSOCK_RULES
    echo 'poll_usec = 3;' >"$dir/good.conf"
    says 0 "^/.*/good.conf\$" \
        sh -c "cd '$dir' && '$tool' run --config good.conf -- \
            printenv FASTSOCK_CONFIG"
    printf 'poll_usec = 3;\nrings = 4;\n' >"$dir/bad.conf"
    says 2 'bad.conf:2: ' "$tool" run --config "$dir/bad.conf" -- env
    says 2 'absent.conf: ' "$tool" run --config "$dir/absent.conf" -- env
}

check_library_places() {
    mkdir -p "$dir/bin" "$dir/lib" "$dir/far/a b"
    cp "$tool" "$dir/bin/" && cp "$library" "$dir/lib/"
    says 0 "^$dir/lib/libfastsock.so\$" \
        "$dir/bin/fastsock" run -- printenv LD_PRELOAD
    cp "$tool" "$library" "$dir/far/a b/"
    says 125 'space or a colon' "$dir/far/a b/fastsock" run -- env
    rm "$dir/far/a b/libfastsock.so"
    says 0 '^libfastsock.so$' env LD_LIBRARY_PATH="$dir/lib" \
        "$dir/far/a b/fastsock" run -- printenv LD_PRELOAD
    ldconfig -p 2>/dev/null | grep -q libfastsock ||
        says 125 'not found: tried ' "$dir/far/a b/fastsock" run -- env
}

check_static() {
    echo 'int pause(void); int main(int n, char **v)
        { (void)v; return n > 1 ? pause() : 5; }' >"$dir/static.c"
    "${CC:-cc}" -static -o "$dir/static" "$dir/static.c" 2>/dev/null || return
    says 5 'statically linked' "$tool" run -- "$dir/static"
    "$dir/static" wait 9>&- &
    servers="$servers $!"
    until_says 'statically linked' "$tool" explain $!
    says 0 'does not carry the library' "$tool" explain $!
    printf '#!%s\n' "$dir/static" >"$dir/script" && chmod +x "$dir/script"
    "$tool" run -- "$dir/script" 2>"$dir/said" >&2 &
    servers="$servers $!"
    until_says 'statically linked' cat "$dir/said"
}

# What another user may see, and a program with more rights.
check_other_user() {
    [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null || return
    chmod 755 "$dir" "$dir/bin" "$dir/lib"
    other="setpriv --reuid=65534 --regid=65534 --clear-groups"
    # shellcheck disable=SC2086
    {
        says 1 'cannot be read: run as root' \
            $other "$dir/bin/fastsock" explain "$server"
        says 1 'cannot be read: run as root' \
            $other "$dir/bin/fastsock" ss -p "$server"
        says 0 'processes of other users cannot be read; run as root to see' \
            $other "$dir/bin/fastsock" ss -a
        grep -q "^$server/" "$dir/said" && fail "another user sees streams"
        su=$(command -v su) && [ -u "$su" ] &&
            says 0 'more rights' $other "$dir/bin/fastsock" run -- \
                su --version
    }
}

check_ss() {
    until_says " up$" "$tool" ss -p "$client"
    says 0 '^PROCESS *FD *LOCAL *PEER *VIA *STAGE *TCP-OUT' \
        "$tool" ss -p "$client"
    awk -v me="$client/hold" -v to="$host:$port" -v server="$server" '
        NR > 1 && $1 == me && $4 == to && $5 == "shm" && $9 > 0 &&
            $10 > 0 && $12 == server && NF == 13 { n++ }
        END { exit n != 3 }' "$dir/said" || {
        cat "$dir/said" >&2
        fail "ss does not show 3 accelerated streams"
    }
    says 0 "^$server/kvserver .* no_peer_library$" "$tool" ss -a
    tail -n 1 "$dir/said" | grep -q 'cannot be read\|could be read' ||
        fail "ss -a does not end with a count"
    [ "$(grep -c "^$server/kvserver .* shm .* up$" "$dir/said")" -eq 3 ] ||
        fail "ss does not show the server's side"
    says 1 'does not carry the library' "$tool" ss -p "$plain"
    says 1 'there is no process' "$tool" ss -p 2147483647
    "$tool" ss --json >"$dir/json" || fail "ss --json ended with $?"
    python3 -m json.tool <"$dir/json" >/dev/null || fail "no JSON: ss --json"
    "$tool" ss -p 2147483647 --json 2>/dev/null |
        python3 -m json.tool >/dev/null || fail "no JSON for a dead process"
    python3 - "$dir/json" "$client" "$server" "$port" <<'END' ||
import json, sys
streams = json.load(open(sys.argv[1]))["streams"]
client, server, port = map(int, sys.argv[2:5])
mine = [s for s in streams if s["pid"] == client]
assert len(mine) == 3, mine
for s in mine:
    assert s["transport"] == "shm" and s["reason"] == "up", s
    assert s["peer"] == "127.0.0.1:%d" % port and s["initiator"], s
    other = [t for t in streams if t["local"] == s["peer"] and
             t["peer"] == s["local"]]
    assert len(other) == 1 and other[0]["pid"] == server, other
    assert other[0]["link_in"] == s["link_out"] > 0, (s, other)
    assert other[0]["tcp_out"] == s["tcp_in"], (s, other)
END
        fail "the JSON of ss is not what was done"
    says 0 '^PROCESS *STREAMS *ON-LINKS *SPINNERS *BUDGET *SPINS *GAIN' \
        "$tool" ss -s -p "$client"
    [ "$(wc -l <"$dir/said")" -eq 2 ] || fail "ss -s -p shows more than one"
    "$tool" ss -s --json >"$dir/json" || fail "ss -s --json ended with $?"
    python3 - "$dir/json" "$client" "$server" <<'END' ||
import json, sys
processes = json.load(open(sys.argv[1]))["processes"]
for pid in map(int, sys.argv[2:4]):
    p = [q for q in processes if q["pid"] == pid]
    assert len(p) == 1 and p[0]["on_links"] == 3 <= p[0]["streams"], p
    assert p[0]["spinners"] <= 2 and p[0]["spin_budget_ns"] <= 50000, p
    if p[0]["spins_missed"] == 0:
        assert p[0]["spun_in_vain_ns"] == 0, p
server = [q for q in processes if q["pid"] == int(sys.argv[3])][0]
assert server["sleeps"] > 0 and server["spins_missed"] > 0, server
END
        { cat "$dir/json" >&2; fail "ss -s does not show how they wait"; }
}

check_explain() {
    says 0 'It has been accelerated over shm for ' "$tool" explain "$client"
    says 0 "The other end is process $server (kvserver), descriptor" \
        "$tool" explain "$client"
    says 0 'It left TCP once and came back 0 times' "$tool" explain "$client"
    says 0 'start it with the library as well.*(no_peer_library)' \
        "$tool" explain "$server"
    says 0 'Not over shm: no library answers at the peer' \
        "$tool" explain "$server"
    fd=$("$tool" ss -p "$client" | awk 'NR == 2 { print $2 }')
    says 0 "^Descriptor $fd: $host:.* to $host:$port" \
        "$tool" explain "$client/$fd"
    [ "$(grep -c '^Descriptor' "$dir/said")" -eq 1 ] ||
        fail "explain PID/FD says too much"
    says 1 'no connected TCP socket' "$tool" explain "$client/0"
    says 0 'fastsock run -- hold' "$tool" explain "$plain"
    says 0 'has had no connected TCP socket so far' "$tool" explain "$idle"
    says 1 'there is no process' "$tool" explain 2147483647
}

# withdraws REASON CONNECTIONS: a program that does what the library cannot
# follow, with that many streams on a link. Not where the kernel refuses that.
withdraws() {
    out=$dir/withdraws.$1.out
    rm -f "$out"
    start_hold "withdraws.$1" "$tool" run -- python3 "$dir/withdraws.py" "$@" \
        "$port"
    grep -q refused "$out" && {
        echo "not seen here: $1: $(cat "$out")"
        return 1
    }
    return 0
}

check_withdrawn() {
    cat >"$dir/withdraws.py" <<'END'
import ctypes, os, socket, sys
why, n, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
c = ctypes.CDLL(None, use_errno=True)
streams = [socket.create_connection(("127.0.0.1", port)) for _ in range(n)]
for _ in range(3000):
    for s in streams:
        s.send(b"version\r\n")
        assert s.recv(100).startswith(b"VERSION")
if why == "io_uring":
    rc = c.syscall(425, 4, ctypes.create_string_buffer(120))
elif why == "unshared":
    rc = c.unshare(0x40000000)
else:
    class Program(ctypes.Structure):
        _fields_ = [("n", ctypes.c_ushort), ("code", ctypes.c_void_p)]
    allow = (ctypes.c_uint64 * 1)(0x7fff000000000006)
    program = Program(1, ctypes.addressof(allow))
    c.prctl(38, 1, 0, 0, 0)
    rc = c.prctl(22, 2, ctypes.byref(program), 0, 0)
print("holding" if rc >= 0 else "refused: %s; holding" %
      os.strerror(ctypes.get_errno()), flush=True)
sys.stdin.read()
END
    for why in io_uring unshared filter; do
        withdraws $why 2 || continue
        says 0 "streams are on kernel TCP for good: an\\? .*($why)" \
            "$tool" explain "$pid"
        says 0 'streams left TCP 2 times and came back 2 times' \
            "$tool" explain "$pid"
        until_says " tcp .* $why\$" "$tool" ss -p "$pid"
    done
    withdraws io_uring 0 && {
        says 0 'no connected TCP socket so far' "$tool" explain "$pid"
        says 0 'for good: .*(io_uring)' "$tool" explain "$pid"
    }
    withdraws filter 0 && says 0 'filter of system calls (seccomp) is on it' \
        "$tool" explain "$pid"
}

check_settings() {
    says 0 '^poll_usec  *9  *usec  *environment  *50  *a number 0 to 1000000' \
        env FASTSOCK_POLL_USEC=9 FASTSOCK_CONFIG= "$tool" settings
    says 0 '^poll_usec  *3  *usec  *file  *50' \
        "$tool" settings --config "$dir/good.conf"
    says 0 'There are no rules' env FASTSOCK_CONFIG= "$tool" settings
    says 0 '^1 rule from the environment' env FASTSOCK_CONFIG= \
        FASTSOCK_RULES=port=1,accelerate=false "$tool" settings
    says 1 'bad.conf:2: ' "$tool" settings --config "$dir/bad.conf"
    says 1 'FASTSOCK_POLL_USEC: ' \
        env FASTSOCK_CONFIG= FASTSOCK_POLL_USEC=x "$tool" settings
}

# This machine, whatever it has, and a saved one with a device of RDMA.
check_doctor() {
    says 0 '^shared memory: ready$' \
        env FASTSOCK_CONFIG= FASTSOCK_TRANSPORTS=shm "$tool" doctor
    grep -q '^RDMA: ' "$dir/said" || fail "doctor has no verdict on RDMA"
    grep -v '^ok  \|^missing  \|^hint  \|^RDMA: \|^shared memory: \|^$' \
        "$dir/said" && fail "doctor: a line of no kind"
    says 1 'not used: the setting accelerate is false$' \
        env FASTSOCK_CONFIG= FASTSOCK_ACCELERATE=no "$tool" doctor
    says 1 'there are mistakes' "$tool" doctor --config "$dir/bad.conf"

    saved=$dir/saved
    device=$saved/sys/class/infiniband/rxa
    mkdir -p "$device/ports/1/gids" "$saved/dev/infiniband" \
        "$saved/sys/class/infiniband_verbs/uverbs0" "$saved/usr/lib" \
        "$saved/sys/module/rdma_ucm" "$saved/etc"
    echo rxa >"$saved/sys/class/infiniband_verbs/uverbs0/ibdev"
    echo '4: ACTIVE' >"$device/ports/1/state"
    echo Ethernet >"$device/ports/1/link_layer"
    echo 0000:0000:0000:0000:0000:ffff:0a07:0001 >"$device/ports/1/gids/0"
    touch "$saved/dev/infiniband/rdma_cm" "$saved/usr/lib/libibverbs.so.1" \
        "$saved/usr/lib/librdmacm.so.1" "$saved/usr/lib/libfastsock-verbs.so"
    echo 'transports = "verbs";' >"$saved/etc/fastsock.conf"
    says 1 '^missing  access .*--device=/dev/infiniband/uverbs0' \
        "$tool" doctor --root "$saved"
    says 1 '^RDMA: not here: rxa: its device file is not there$' \
        "$tool" doctor --root "$saved"
    touch "$saved/dev/infiniband/uverbs0"
    says 0 '^RDMA: would be used through rxa (10.7.0.1)$' \
        "$tool" doctor --root "$saved"
}

# A process that pretends to have statistics.
check_pretender() {
    python3 -c '
import os, time
fd = os.memfd_create("fastsock.stats")
os.write(fd, b"FASSTAT1" + b"\xff" * 100000)
print("made", flush=True)
time.sleep(60)' >"$dir/pretender" 9>&- &
    servers="$servers $!"
    until_says made cat "$dir/pretender"
    says 1 'cannot be understood' "$tool" explain $!
    says 1 'cannot be understood' "$tool" ss -p $!
    says 0 '^PROCESS' "$tool" ss
}

check_arguments
check_run
check_library_places
check_static
check_pretender
check_settings
check_doctor

mkfifo "$dir/fifo"
start_server kvserver "$tool" run -- "$BUILD/kvserver" --pool "$dir/pool" \
    --durability process
server=$pid
exec 9<>"$dir/fifo"
start_hold client "$tool" run -- "$hold" "$port" 3 3000 && client=$pid
start_hold plain "$hold" "$port" 1 100 && plain=$pid
start_hold idle "$tool" run -- "$hold" "$port" 0 0 && idle=$pid
until_says no_peer_library "$tool" ss -p "$server"
check_ss
check_explain
check_withdrawn
check_other_user
"$tool" ss >/dev/full 2>"$dir/said" && fail "output that is lost is no success"

exec 9>&-
kill "$client" "$plain" "$idle" 2>/dev/null
wait "$client" "$plain" "$idle" 2>/dev/null
until_says "there is no process $client" "$tool" explain "$client"
until_says "No stream is open" "$tool" explain "$server"
stop_server "$server"
echo "run, ss, explain, settings, doctor, help and version say what they should"
