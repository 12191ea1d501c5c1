#!/bin/sh
# The demonstration: unmodified programs, without the library and with it, in
# front of kvserver and of Debian's memcached; a kill -9 in between; every
# byte compared. Ends by itself, leaves nothing running. BUILD=build
: "${BUILD:=build}"
BUILD=$(cd "$BUILD" && pwd) || exit 2
cd "$(dirname "$0")/.." || exit 2
library=$BUILD/libfastsock.so
work=$(mktemp -d) || exit 2
pids='' failed=0
rounds=${ROUNDS:-3}

# Ends only what this script started.
finish() {
    for pid in $pids; do kill "$pid" 2>/dev/null; done
    for pid in $pids; do
        for _ in $(seq 1 50); do kill -0 "$pid" 2>/dev/null && sleep 0.1; done
        kill -KILL "$pid" 2>/dev/null && echo "pid $pid did not stop by itself"
        wait "$pid" 2>/dev/null
    done
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

title() { printf '\n== %s\n' "$*"; }
forget() {
    left=''
    for pid in $pids; do [ "$pid" = "$1" ] || left="$left $pid"; done
    pids=$left
}

# start NAME LIBRARY COMMAND...: in the background; its pid in $started, the
# port that the kernel chose in $port.
start() {
    name=$1 preload=$2
    shift 2
    rm -f "$work/port"
    MEMCACHED_PORT_FILENAME=$work/port LD_PRELOAD=$preload \
        "$@" >"$work/$name.log" 2>&1 &
    started=$!
    pids="$pids $started"
    for _ in $(seq 1 100); do
        port=$(sed -n 's/^TCP INET: //p' "$work/port" 2>/dev/null)
        [ -n "$port" ] && return 0
        kill -0 "$started" 2>/dev/null || break
        sleep 0.1
    done
    echo "$name did not start:" && cat "$work/$name.log"
    exit 1
}

kvserver() { # NAME LIBRARY POOL
    start "$1" "$2" "$BUILD/kvserver" -l 127.0.0.1 -p -1 -c 4096 \
        --pool "$3:256M"
}
memcached() { # NAME LIBRARY
    start "$1" "$2" /usr/bin/memcached -u "$(id -un)" -l 127.0.0.1 -p -1 \
        -t 1 -c 4096
}

# One run of memcaslap: operations per second.
slap() { # LIBRARY PORT CONNECTIONS
    LD_PRELOAD=$1 timeout -k 1 10 memcaslap -s "127.0.0.1:$2" -T 1 -c "$3" \
        -t 1s -X 64 2>&1 | awk '
        /TPS:/ { for (i = 1; i < NF; i++) if ($i == "TPS:") tps = $(i + 1) }
        END { print tps + 0 }'
}

median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

# Both variants by turns, so that a change of the machine meets both.
compare() { # NAME PLAIN_PORT LIBRARY_PORT
    for connections in 1 16; do
        : >"$work/plain" && : >"$work/fast"
        for _ in $(seq "$rounds"); do
            slap '' "$2" "$connections" >>"$work/plain"
            slap "$library" "$3" "$connections" >>"$work/fast"
        done
        k=$(cut -d' ' -f1 "$work/plain" | median)
        l=$(cut -d' ' -f1 "$work/fast" | median)
        awk -v n="$1" -v c="$connections" -v k="$k" -v l="$l" 'BEGIN {
            if (k == 0 || l == 0) { print n ": no result"; exit 1 }
            lm = c * 1e6 / l   # a closed loop: the mean follows from the rate
            printf "%-10s %2d connection%s  %9d %9d  %5.1fx   %8.1f %8.2f  %5.1fx\n",
                n, c, (c > 1 ? "s" : " "), k, l, l / k,
                c * 1e6 / k, lm, l / k }'
    done
}

head_line() {
    printf '%-26s %9s %9s %7s   %8s %8s %7s\n' 'memcaslap, 64 bytes' \
        'TCP ops/s' 'lib ops/s' ratio 'TCP us' 'lib us' ratio
}

echo "fastsock demonstration on $(nproc) CPUs:" \
    "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)," \
    "Linux $(uname -r)$(grep -q '^flags.* hypervisor' /proc/cpuinfo &&
        echo ', a virtual machine')"

title 'kvserver, twice: once as it is, once with LD_PRELOAD=libfastsock.so'
kvserver plain '' "$work/plain.pool" && plain=$started plain_port=$port
kvserver fast "$library" "$work/fast.pool" && fast=$started fast_port=$port
cat "$work/fast.log"
echo "Debian's memcaslap against each, by turns (median of $rounds):"
head_line
compare kvserver "$plain_port" "$fast_port"

title 'What fastsock ss says of the streams while they run'
LD_PRELOAD=$library timeout 20 memcaslap -s "127.0.0.1:$fast_port" -T 1 -c 2 \
    -t 2s -X 64 >"$work/slap.log" 2>&1 &
slap_pid=$!
fd=0
while [ "$fd" -lt 2 ] && kill -0 $slap_pid 2>/dev/null; do
    sleep 0.2
    fd=$("$BUILD/fastsock" ss -p "$fast" 2>/dev/null | grep -c shm)
done
"$BUILD/fastsock" ss
[ "$fd" -ge 2 ] || { echo 'FAILED: the streams are not on shm'; failed=1; }
echo && "$BUILD/fastsock" explain "$fast" | head -n 12
wait "$slap_pid"

title 'Real files through the library, a kill -9, and every byte back'
mkdir "$work/files" "$work/back"
n=0
{
    git ls-files 2>/dev/null || find . -type f -not -path './.git/*' -not -path './build*'
    find /usr/share/doc -type f -size -500k 2>/dev/null | sort
} | while read -r file && [ "$n" -lt 400 ]; do
    # Values of memcached end at 1 MB.
    [ -s "$file" ] && [ "$(wc -c <"$file")" -lt 900000 ] || continue
    n=$((n + 1))
    cp "$file" "$work/files/$(printf 'file%04d' "$n")"
done
files=$(ls "$work/files" | wc -l)
bytes=$(cat "$work/files"/* | wc -c)
(cd "$work/files" && sha256sum -- *) >"$work/sums"
(cd "$work/files" && LD_PRELOAD=$library FASTSOCK_UPGRADE_AFTER=2 \
    timeout 60 memccp --servers="127.0.0.1:$fast_port" -- *) ||
    { echo 'FAILED: memccp'; failed=1; }
echo "stored $files files, $bytes bytes, with memccp; SIGKILL to kvserver $fast"
kill -KILL "$fast" && wait "$fast" 2>/dev/null
forget "$fast"
kvserver again "$library" "$work/fast.pool" && fast=$started fast_port=$port
echo "started again on the same pool as $fast; reading back with memccat"
for file in "$work/files"/*; do
    key=${file##*/}
    (cd "$work/back" && LD_PRELOAD=$library FASTSOCK_UPGRADE_AFTER=2 \
        timeout 10 memccat --servers="127.0.0.1:$fast_port" --file="$key" "$key") ||
        failed=1
done
if (cd "$work/back" && sha256sum --quiet -c "$work/sums"); then
    echo "all $files checksums agree"
else
    echo 'FAILED: checksums differ'
    failed=1
fi

title "Any server works: Debian's memcached $(/usr/bin/memcached -V | tr -dc 0-9.)"
memcached mplain '' && mplain_port=$port
memcached mfast "$library" && mfast=$started mfast_port=$port
head_line
compare memcached "$mplain_port" "$mfast_port"
LD_PRELOAD=$library timeout 20 memcaslap -s "127.0.0.1:$mfast_port" -T 1 \
    -c 1 -t 1s -X 64 >"$work/slap.log" 2>&1 &
slap_pid=$!
sleep 0.6
"$BUILD/fastsock" ss -p "$mfast"
wait "$slap_pid"

echo
if [ "$failed" -eq 0 ]; then
    echo 'done: everything was as it should be'
else
    echo 'done, with failures (above)'
fi
exit "$failed"
