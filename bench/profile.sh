#!/bin/sh
# Where the time goes at both ends of a few rows, and what a library that costs
# nothing would reach: the limit of these ratios on this machine.
# usage: bench/profile.sh [row/config ...]      for instance memcached/32
#   BUILD=build, SERVER_CPU, CLIENT_CPU: as for run.sh; ROUNDS=3
# Needs perf (Debian's linux-perf). Exit 1: a measurement failed.
: "${BUILD:=build}" "${ROUNDS:=3}" "${SECONDS_EACH:=0.5}"
BUILD=$(cd "$BUILD" && pwd) || exit 2
cd "$(dirname "$0")/.." || exit 2
# shellcheck source=bench/machine.sh
. bench/machine.sh
# shellcheck source=bench/rows.sh
. bench/rows.sh
# shellcheck source=bench/servers.sh
. bench/servers.sh

cpus=$(nproc --all)
: "${SERVER_CPU:=$((cpus > 2 ? 1 : 0))}"
: "${CLIENT_CPU:=$((cpus > 2 ? 2 : cpus - 1))}"
warm=0.2 length=3
user=$(id -un)
cases=${*:-memcached/1 kvserver/1 redis/1 memcached/4 kvserver/4 \
memcached/32 kvserver/32 redis/32 pipelined/memcached tools/memcaslap-32 tools/redis-benchmark-32}

say() { echo "bench/profile.sh: $*" >&2; }

[ "$cpus" -gt 1 ] || { say "two CPUs are needed, one for each end"; exit 2; }
command -v perf >/dev/null || {
    say "perf is missing: apt-get install linux-perf"
    exit 2
}
unset LD_PRELOAD
for name in $(env | sed -n 's/^\(FASTSOCK_[A-Z_]*\)=.*/\1/p'); do
    unset "$name"
done
tmp=$(mktemp -d) || exit 2
mkdir "$tmp/report"
ln -s "$BUILD/libfastsock.so" "$tmp/libfastsock.so"
MEMCACHED_PORT_FILENAME=$tmp/port
export MEMCACHED_PORT_FILENAME
trap 'stop_server; rm -rf "$tmp"' EXIT
trap 'exit 130' HUP INT PIPE TERM

# What one measurement says: nanoseconds for an operation.
cost() { # row config letter
    measure "$@" || return 1
    awk -v alone="$([ "$2" = 1 ] && echo 1)" '
        alone && match($0, /"p50_ns":[0-9.e+]*/) {
            print substr($0, RSTART + 9, RLENGTH - 9); exit
        }
        match($0, /"per_second":[0-9.e+]*/) {
            print 1e9 / substr($0, RSTART + 13, RLENGTH - 13)
        }' "$tmp/out"
}

# One way and back between the two CPUs, which no transport can be without.
ring() {
    "$BUILD/bench/ring" -S "$SERVER_CPU" -C "$CLIENT_CPU" -s 0.3 -j |
        sed -n 's/.*"p50_ns":\([0-9.e+]*\).*/\1/p'
}

median() { sort -n | awk '{ n[NR] = $1 } END { print n[int((NR + 1) / 2)] }'; }

# Percent of what one CPU did: the library with what it copies, the kernel,
# and all else. The machine is at rest but for the two programs.
shares() { # cpu
    perf report -i "$tmp/perf" --no-children -C "$1" --sort comm,dso,symbol \
        --stdio 2>/dev/null | awk '
        $1 ~ /%$/ && $2 != "swapper" {
            if ($0 ~ /libfastsock|mem(move|cpy)/) lib += $1
            else if ($0 ~ /\[k\]/) kernel += $1
            else rest += $1
        }
        END {
            all = (lib + kernel + rest) / 100
            if (!all) exit 1
            printf "%.1f %.1f %.1f\n", lib / all, kernel / all, rest / all
        }'
}

look_at() { # row config
    for letter in K L; do
        for _ in $(seq "$ROUNDS"); do
            cost "$1" "$2" "$letter" || return 1
        done | median >"$tmp/$letter"
        [ -s "$tmp/$letter" ] || return 1
    done
    # The profile is of a run of its own, which need not be as fast.
    (
        SECONDS_EACH=$((length + 1))
        measure "$1" "$2" L
    ) &
    other=$!
    sleep 1
    perf record -q -a -C "$SERVER_CPU,$CLIENT_CPU" -F 4000 -o "$tmp/perf" \
        -- sleep $length >/dev/null 2>&1
    wait $other || return 1
    echo "$1/$2 $(cat "$tmp/K") $(cat "$tmp/L") $(shares "$SERVER_CPU")" \
        "$(shares "$CLIENT_CPU") $([ "$2" = 1 ] && ring)"
}

machine_await_rest 50 || say "the machine is busy: expect other figures"
machine_facts "$SERVER_CPU"
failed=0
for case in $cases; do
    machine_await_rest 50 || say "$case: the machine is busy"
    say "$case"
    look_at "${case%%/*}" "${case#*/}" || { failed=1; say "$case failed"; }
done >"$tmp/all"
# Of many connections the slower end decides, and what it does besides; of one,
# both ends and the way between them.
awk 'BEGIN {
        f = "%-26s %6s %6s | %8s %8s %8s | %8s %8s %8s\n"
        printf f, "", "", "of a", "library", "server:", "kernel", "library",
            "client:", "kernel"
        printf f, "row", "ratio", "free", "", "and libc", "", "", "and libc", ""
    }
    {
        own = $3 * $6 / 100; client = $3 * $9 / 100
        if ($10)
            own += client + $10
        else if (client > own)
            own = client
        printf "%-26s %6.1f %6.1f |", $1, $2 / $3, $2 / own
        printf " %7.1f%% %7.1f%% %7.1f%% |", $4, $6, $5
        printf " %7.1f%% %7.1f%% %7.1f%%\n", $7, $9, $8
    }' "$tmp/all"
exit $failed
