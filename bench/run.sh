#!/bin/sh
# Measures the rows of bench/README.md and prints tables with ratios.
# usage: bench/run.sh [row ...]       all rows without an argument
#   rows: see all_rows in bench/rows.sh
#   BUILD=build     where the programs are; results go to $BUILD/bench
#   QUICK=1         3 short rounds of few rows instead of 5, and what moved
#                   since bench/reference.txt
#   ROUNDS=n        another number of rounds
#   SECONDS_EACH=s  another length of one measurement
#   SERVER_CPU=1 CLIENT_CPU=2   0 and 1 on two CPUs, 0 and 0 on one
# Exit 1: a measurement failed (a wrong reply, no reply). A slow one is none.
: "${BUILD:=build}"
[ -d "$BUILD" ] || {
    echo "bench/run.sh: no folder $BUILD: make bench builds and measures" >&2
    exit 2
}
BUILD=$(cd "$BUILD" && pwd) || exit 2
cd "$(dirname "$0")/.." || exit 2
# shellcheck source=bench/machine.sh
. bench/machine.sh
# shellcheck source=bench/rows.sh
. bench/rows.sh
# shellcheck source=bench/servers.sh
. bench/servers.sh

if [ -n "$QUICK" ]; then
    : "${ROUNDS:=3}" "${SECONDS_EACH:=0.15}"
    warm=0.1 idle_seconds=3 rows=${*:-$quick_rows}
else
    : "${ROUNDS:=5}" "${SECONDS_EACH:=0.4}"
    warm=0.2 idle_seconds=10 rows=${*:-$all_rows}
fi
cpus=$(nproc --all)
: "${SERVER_CPU:=$((cpus > 2 ? 1 : 0))}"
: "${CLIENT_CPU:=$((cpus > 2 ? 2 : cpus - 1))}"

say() { echo "bench/run.sh: $*" >&2; }

for row in $rows; do
    case " $all_rows " in
    *" $row "*) ;;
    *) say "no row \"$row\": expected some of $all_rows"; exit 2 ;;
    esac
done
for program in load pingpong ring fd_cost startup connects idle \
    upgrade; do
    [ -x "$BUILD/bench/$program" ] && continue
    say "$BUILD/bench/$program is missing: make bench builds it"
    exit 2
done
unset LD_PRELOAD
for name in $(env | sed -n 's/^\(FASTSOCK_[A-Z_]*\)=.*/\1/p'); do
    unset "$name"
done

tmp=$(mktemp -d) || exit 2
results=$BUILD/bench/results.json runs=$BUILD/bench/runs.txt
table=$BUILD/bench/table.txt
failures=0 rest_looks=100
user=$(id -un)
MEMCACHED_PORT_FILENAME=$tmp/port
export MEMCACHED_PORT_FILENAME

finish() {
    stop_server
    limit_end
    rm -rf "$tmp"
}
trap finish EXIT
trap 'exit 130' HUP INT PIPE TERM

# Was the stream off the kernel? What the kernel's TCP counted decides, where
# the client has asked it; the library's own report must not contradict.
verdict() {
    share=$(sed -n 's/.*"kernel_share":\([0-9.e+-]*\).*/\1/p' "$tmp/out")
    cat "$tmp"/report/* 2>/dev/null | awk -v share="$share" '
        { seen = 1 }
        $1 == "streams_up" { up += $2 }
        END {
            said = !seen ? "unknown" : up > 0 ? "yes" : "no"
            if (share == "") { print said; exit }
            is = share < 0.01 ? "yes" : share > 0.5 ? "no" : "part"
            if ((is == "yes" && said == "no") || (is == "no" && up > 0))
                is = "disputed"
            print is
        }'
}

write_run() { # row config letter words: what one measurement found
    echo "row=$1 config=$2 variant=$3 round=$number busy=$busy $4" \
        "$(sed 's/[{}"]//g; s/:/=/g; s/,/ /g' "$tmp/out")" >>"$runs"
}

# A process that got no CPU in all of its time has measured nothing: once more.
measure_patiently() { # row config letter
    for chance in 1 2; do
        rm -rf "$tmp/report" "$tmp/out" "$tmp/err"
        mkdir "$tmp/report"
        measure "$@" && [ -s "$tmp/out" ] && return
        stop_server
        [ "$chance" = 1 ] && grep -q 'measured nothing' "$tmp/err" || return 1
    done
}

record() { # row config letter
    if measure_patiently "$@"; then
        accelerated=-
        case $1$3 in
        fdcost* | startup*) ;;
        *S | *H | *Z | *L | *M) accelerated=$(verdict) ;;
        esac
        write_run "$@" "accelerated=$accelerated"
    else
        failures=$((failures + 1))
        : >"$tmp/out"
        write_run "$@" failed=1
        say "$1 $2 $3, round $round: FAILED: $(tail -n 3 "$tmp/err" |
            tr '\n' ' ')"
    fi
}

# The bare ring in the same minute as what is held against it.
record_ring() { # row config
    case $1$2 in
    memcached1 | kvserver1 | pingpong*) ;;
    *) return ;;
    esac
    [ "$SERVER_CPU" != "$CLIENT_CPU" ] || return
    "$BUILD/bench/ring" -S "$SERVER_CPU" -C "$CLIENT_CPU" -s 0.2 -j \
        >"$tmp/out" 2>/dev/null && write_run ring "$1-$2" R accelerated=-
}

leave_out() { # row reason
    say "$1: left out: $2"
    rows=$(echo " $rows " | sed "s/ $1 / /")
}

# Leaves out what needs a program that is not here.
servers_there=''
look_around() {
    for program in memcached redis-server sockperf; do
        command -v $program >/dev/null && continue
        why="$program is not installed (make deps, make deps-bench)"
        case $program in
        memcached) out='memcached values onecore crowded polite threads among' ;;
        redis-server) out=redis ;;
        *) out=$program ;;
        esac
        for row in $rows; do
            case " $out " in *" $row "*) leave_out "$row" "$why" ;; esac
        done
    done
    command -v memcached >/dev/null && servers_there=memcached
    if [ -x "$BUILD/kvserver" ]; then
        servers_there="$servers_there kvserver"
    else
        leave_out kvserver "$BUILD/kvserver is not built (make)"
    fi
    command -v redis-server >/dev/null && servers_there="$servers_there redis"
    if [ -e "$BUILD/libfastsock.so" ]; then
        ln -s "$BUILD/libfastsock.so" "$tmp/libfastsock.so"
    else
        say "$BUILD/libfastsock.so is not built: only the kernel is measured"
    fi
}

one_round() {
    for row in $rows; do
        times=$(repeats "$row")
        for config in $(configs "$row"); do
            # No more than 20 seconds of the whole run are spent waiting.
            machine_await_rest $((rest_looks > 10 ? 10 : 1)) ||
                rest_looks=$((rest_looks - 10))
            number=$round
            record_ring "$row" "$config"
            for i in $(seq "$times"); do
                number=$(((round - 1) * times + i))
                for letter in $(letters "$row" "$config"); do
                    record "$row" "$config" "$letter"
                done
            done
        done
    done
}

look_around
began=$(date +%s) busy=0
machine_await_rest 50 ||
    say "the machine is busy ($busy % of one CPU): expect a wide spread"
machine_facts "$SERVER_CPU" >"$tmp/machine"
printf 'server cpu\t%s\nclient cpu\t%s\nbusy before\t%s %% of one CPU\n' \
    "$SERVER_CPU" "$CLIENT_CPU" "$busy" >>"$tmp/machine"
: >"$runs"
round=0
while [ $((round += 1)) -le "$ROUNDS" ]; do
    say "round $round of $ROUNDS, $(($(date +%s) - began)) seconds so far"
    one_round
done
printf 'load after\t%s\nrounds\t%s\nseconds\t%s\n' \
    "$(cut -d' ' -f1-3 /proc/loadavg)" "$ROUNDS" $(($(date +%s) - began)) \
    >>"$tmp/machine"

awk -v json="$results" -v into="$table" -f bench/spread.awk \
    -f bench/tables.awk -f bench/targets.awk -f bench/report.awk \
    "$tmp/machine" "$runs" || exit 2
echo
echo "every run: $results; one line for each figure: $table"
if [ -z "$QUICK" ]; then
    sh bench/plots.sh "$table" "$BUILD/bench"
elif [ -s bench/reference.txt ]; then
    awk -f bench/moved.awk bench/reference.txt "$table"
else
    echo "nothing to compare with: make bench-reference, on a machine at rest"
fi
if [ "$failures" -gt 0 ]; then
    say "$failures measurements failed"
    exit 1
fi
