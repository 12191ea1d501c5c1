#!/bin/sh
# Measures the rows of bench/README.md and prints tables with ratios.
# usage: bench/run.sh [row ...]       all rows without an argument
#   rows: memcached kvserver pingpong streams onecore connects fdcost idle
#   BUILD=build     where the programs are; results go to $BUILD/bench
#   QUICK=1         3 short rounds instead of 5
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

all_rows='memcached kvserver pingpong streams onecore connects fdcost idle'
rows=${*:-$all_rows}
cpus=$(nproc --all)
: "${SERVER_CPU:=$((cpus > 2 ? 1 : 0))}"
: "${CLIENT_CPU:=$((cpus > 2 ? 2 : cpus - 1))}"
: "${ROUNDS:=$([ -n "$QUICK" ] && echo 3 || echo 5)}"
: "${SECONDS_EACH:=$([ -n "$QUICK" ] && echo 0.2 || echo 0.5)}"
warm=$([ -n "$QUICK" ] && echo 0.2 || echo 0.3)
idle_seconds=$([ -n "$QUICK" ] && echo 3 || echo 10)

# The variants: letter, whether both ends carry the library, and the
# environment of both ends. K twice shows what chance alone does.
variants='
K plain   -
A plain   -
S library FASTSOCK_ACCELERATE=0 FASTSOCK_POLL_KERNEL_USEC=1000000
L library -
'

say() { echo "bench/run.sh: $*" >&2; }

for row in $rows; do
    case " $all_rows " in
    *" $row "*) ;;
    *) say "no row \"$row\": expected some of $all_rows"; exit 2 ;;
    esac
done
for program in load pingpong ring fd_cost connects idle; do
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
server='' failures=0 rest_looks=100
user=$(id -un)
MEMCACHED_PORT_FILENAME=$tmp/port
export MEMCACHED_PORT_FILENAME

# The words for env(1) of one variant.
environment() { # letter
    echo "$variants" | while read -r letter kind words; do
        [ "$letter" = "$1" ] || continue
        [ "$kind" = plain ] || echo "LD_PRELOAD=$tmp/libfastsock.so" \
            "FASTSOCK_REPORT=$tmp/report/%p"
        [ "$words" = - ] || echo "$words"
    done
}

# ---- servers: a fresh one for each measurement

start_server() { # kind cpu letter -> $server (its pid), $port
    rm -f "$tmp/port"
    kind=$1 cpu=$2 words=$(environment "$3")
    set -- -u "$user" -l 127.0.0.1 -p -1
    case $kind in
    memcached) set -- memcached "$@" -U 0 -t 1 -m 64 -c 1024 ;;
    kvserver)
        rm -f "$tmp/pool"
        set -- "$BUILD/kvserver" "$@" -c 1024 --pool "$tmp/pool:64M" \
            --durability process ;;
    esac
    # shellcheck disable=SC2086 # $words is a list
    (exec taskset -c "$cpu" env $words "$@" >"$tmp/server" 2>&1 </dev/null) &
    server=$!
    looks=0 port=''
    while [ -z "$port" ]; do
        port=$(sed -n 's/^TCP INET: //p' "$tmp/port" 2>/dev/null | head -n 1)
        looks=$((looks + 1))
        if [ -z "$port" ] && { [ $looks -gt 150 ] ||
            ! kill -0 "$server" 2>/dev/null; }; then
            echo "$kind did not start: $(tail -n 1 "$tmp/server")" >"$tmp/err"
            return 1
        fi
        [ -n "$port" ] || sleep 0.02
    done
}

stop_server() {
    [ -n "$server" ] || return 0
    kill "$server" 2>/dev/null
    looks=0
    while kill -0 "$server" 2>/dev/null && [ $looks -lt 100 ]; do
        looks=$((looks + 1))
        sleep 0.02
    done
    kill -9 "$server" 2>/dev/null
    wait "$server" 2>/dev/null
    server=''
}

finish() {
    stop_server
    rm -rf "$tmp"
}
trap finish EXIT
trap 'exit 130' HUP INT PIPE TERM

# ---- one measurement: leaves a line of JSON in $tmp/out, complaints in err

client() { # cpu or "any", letter, program, arguments
    words=$(environment "$2")
    program=$BUILD/bench/$3
    on="taskset -c $1"
    [ "$1" = any ] && on=
    shift 3
    # shellcheck disable=SC2086 # $words and $on are lists
    timeout -k 2 60 $on env $words "$program" "$@" -j \
        >"$tmp/out" 2>"$tmp/err" </dev/null
}

get_load() { # kind, server's cpu, client's cpu, letter, connections
    start_server "$1" "$2" "$4" || return 1
    mode=epoll
    [ "$5" = 1 ] && mode='read'
    client "$3" "$4" load -p "$port" -P "$server" -c "$5" -w $mode \
        -W "$warm" -s "$SECONDS_EACH"
    rc=$?
    stop_server
    return $rc
}

short_connections() { # kind letter
    start_server "$1" "$SERVER_CPU" "$2" || return 1
    client "$CLIENT_CPU" "$2" connects -p "$port" -P "$server" \
        -W "$warm" -s "$SECONDS_EACH"
    rc=$?
    stop_server
    return $rc
}

measure() { # row config letter
    case $1 in
    memcached | kvserver)
        get_load "$1" "$SERVER_CPU" "$CLIENT_CPU" "$3" "$2" ;;
    onecore) get_load memcached "$SERVER_CPU" "$SERVER_CPU" "$3" "$2" ;;
    connects) short_connections "$2" "$3" ;;
    pingpong)
        client any "$3" pingpong -w "$2" -S "$SERVER_CPU" -C "$CLIENT_CPU" \
            -W "$warm" -s "$SECONDS_EACH" ;;
    streams)
        client any "$3" pingpong -m stream -b "$2" -S "$SERVER_CPU" \
            -C "$CLIENT_CPU" -W "$warm" -s "$SECONDS_EACH" ;;
    fdcost) client "$CLIENT_CPU" "$3" fd_cost ;;
    idle)
        client any "$3" idle -c "$2" -S "$SERVER_CPU" -C "$CLIENT_CPU" \
            -s "$idle_seconds" ;;
    esac
}

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

record() { # row config letter
    rm -rf "$tmp/report" "$tmp/out" "$tmp/err"
    mkdir "$tmp/report"
    line="row=$1 config=$2 variant=$3 round=$round busy=$busy"
    if measure "$@" && [ -s "$tmp/out" ]; then
        accelerated=-
        case $1$3 in
        fdcost*) ;;
        *S | *L) accelerated=$(verdict) ;;
        esac
        echo "$line accelerated=$accelerated" \
            "$(sed 's/[{}"]//g; s/:/=/g; s/,/ /g' "$tmp/out")" >>"$runs"
    else
        failures=$((failures + 1))
        echo "$line failed=1" >>"$runs"
        say "$1 $2 $3, round $round: FAILED: $(tail -n 3 "$tmp/err" |
            tr '\n' ' ')"
    fi
}

# ---- what is measured

configs() { # row
    case $1 in
    memcached | kvserver) echo 1 4 32 ;;
    onecore) echo 1 32 ;;
    connects) echo "$servers" ;;
    pingpong) echo read epoll ;;
    streams) echo 64 4096 65536 1048576 ;;
    fdcost) echo calls ;;
    idle) echo 1 100 ;;
    esac
}

# Spinning ends on one core, or around a connect, answer no question.
letters() { # row
    case $1 in
    onecore | connects) wanted='K A L' ;;
    fdcost | idle) wanted='K L' ;;
    *) wanted='K A S L' ;;
    esac
    [ -e "$tmp/libfastsock.so" ] || wanted=$(echo "$wanted" | tr -d SL)
    # shellcheck disable=SC2086 # a list
    shuf -e $wanted
}

servers=''
if command -v memcached >/dev/null; then
    servers=memcached
else
    say "memcached is not installed: its rows are left out (make deps)"
    rows=$(echo "$rows" | sed 's/memcached//; s/onecore//')
fi
if [ -x "$BUILD/kvserver" ]; then
    servers="$servers kvserver"
else
    say "$BUILD/kvserver is not built: its rows are left out (make)"
    rows=$(echo "$rows" | sed 's/kvserver//')
fi
if [ -e "$BUILD/libfastsock.so" ]; then
    ln -s "$BUILD/libfastsock.so" "$tmp/libfastsock.so"
else
    say "$BUILD/libfastsock.so is not built: only K and A are measured (make)"
fi

busy=0
machine_await_rest 50 ||
    say "the machine is busy ($busy % of one CPU): expect a wide spread"
machine_facts "$SERVER_CPU" >"$tmp/machine"
printf 'server cpu\t%s\nclient cpu\t%s\nbusy before\t%s %% of one CPU\n' \
    "$SERVER_CPU" "$CLIENT_CPU" "$busy" >>"$tmp/machine"
: >"$runs"
round=0
while [ $((round += 1)) -le "$ROUNDS" ]; do
    say "round $round of $ROUNDS"
    if [ "$SERVER_CPU" != "$CLIENT_CPU" ]; then
        echo "row=ring config=bare variant=R round=$round" \
            "$("$BUILD/bench/ring" -S "$SERVER_CPU" -C "$CLIENT_CPU" -j |
                sed 's/[{}"]//g; s/:/=/g; s/,/ /g')" >>"$runs"
    fi
    for row in $rows; do
        # Twice the same silence says nothing new.
        [ "$row" = idle ] && [ "$round" -gt 1 ] && continue
        for config in $(configs "$row"); do
            # No more than 20 seconds of the whole run are spent waiting.
            machine_await_rest $((rest_looks > 10 ? 10 : 1)) ||
                rest_looks=$((rest_looks - 10))
            for letter in $(letters "$row"); do
                record "$row" "$config" "$letter"
            done
        done
    done
done

awk -v json="$results" -f bench/report.awk "$tmp/machine" "$runs" || exit 2
echo
echo "every run: $results"
if [ "$failures" -gt 0 ]; then
    say "$failures measurements failed"
    exit 1
fi
