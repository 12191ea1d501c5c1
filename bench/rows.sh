# Read by run.sh: the rows, their configurations and variants, and how one
# measurement is made. Each leaves a line of JSON in $tmp/out and its
# complaints in $tmp/err.

all_rows='memcached kvserver redis pipelined values pingpong streams sockperf'
all_rows="$all_rows tools onecore crowded polite threads among connects upgrade"
all_rows="$all_rows memory idle fdcost startup"
quick_rows='memcached kvserver streams tools connects upgrade'

# The variants: letter, which ends carry the library (none, both, the client's
# only), and the environment of those. K twice shows what chance alone does.
variants='
K plain   -
A plain   -
U plain   -
S library FASTSOCK_ACCELERATE=0 FASTSOCK_POLL_KERNEL_USEC=1000000
H client  FASTSOCK_ACCELERATE=0 FASTSOCK_POLL_KERNEL_USEC=1000000
Z library FASTSOCK_POLL_USEC=0
L library -
M library FASTSOCK_SPREAD=true
'

# The words for env(1) of one end, server or client, of one variant.
environment() { # letter end
    echo "$variants" | while read -r letter kind words; do
        [ "$letter" = "$1" ] || continue
        case $kind$2 in
        plain* | clientserver) continue ;;
        esac
        echo "LD_PRELOAD=$tmp/libfastsock.so" \
            "FASTSOCK_REPORT=$tmp/report/%p"
        [ "$words" = - ] || echo "$words"
        echo "$extra"
    done
}

# What the library needs to be told in a row, whatever the variant: room for
# the rings of many connections.
extra=

configs() { # row
    case $1 in
    memcached | kvserver | redis) [ -n "$QUICK" ] && echo 1 32 || echo 1 4 32 ;;
    pipelined) echo "$servers_there" | sed 's/kvserver//' ;;
    values) echo 4096 65536 ;;
    pingpong) [ -n "$QUICK" ] && echo 'read' || echo read epoll ;;
    streams) [ -n "$QUICK" ] && echo 64 65536 ||
        echo 64 1024 4096 65536 1048576 ;;
    sockperf) echo pp ;;
    tools)
        [ -z "$QUICK" ] && command -v memcaslap >/dev/null &&
            echo memcaslap-1 memcaslap-32
        command -v redis-benchmark >/dev/null && {
            [ -n "$QUICK" ] || echo redis-benchmark-1
            echo redis-benchmark-32
        } ;;
    onecore) echo 1 32 ;;
    crowded) echo 1 32 ;;
    polite) echo nice-busy "$(limit_there && echo limit-20)" ;;
    threads) echo "2" "$([ "$cpus" -gt 2 ] && echo "$cpus")" ;;
    among) [ -n "$QUICK" ] && echo 0 1000 || echo 0 100 1000 10000 ;;
    connects) echo "$servers_there" | sed 's/redis//' ;;
    upgrade) echo 1 100 ;;
    memory) echo 1000 ;;
    idle) [ -n "$QUICK" ] && echo 1 100 || echo 1 10000 ;;
    fdcost) echo calls ;;
    startup) echo exec ;;
    esac
}

# Spinning ends on one core, or around a connect, answer no question.
letters() { # row config
    case $1$2 in
    memcached1) wanted='K A S H Z L' ;;
    memcached* | kvserver*) wanted='K A S Z L' ;;
    pingpong*) wanted='K A U S Z L' ;;
    streams*) wanted='K A U S L' ;;
    onecore*) wanted='K A Z L' ;;
    upgrade*) wanted='K Z' ;;
    crowded1) wanted='K A L M' ;;
    crowded* | threads*) wanted='K A L' ;;
    *) wanted='K L' ;;
    esac
    [ -n "$QUICK" ] && wanted=$(echo "$wanted" | tr -d SHAU)
    [ -e "$tmp/libfastsock.so" ] || wanted=$(echo "$wanted" | tr -d SHZLM)
    # shellcheck disable=SC2086 # a list
    shuf -e $wanted
}

# Rates of connections and costs of upgrades differ little: many short pairs
# say more than a few long ones. Silence is heard once.
repeats() { # row
    case $1 in
    connects) [ -n "$QUICK" ] && echo 2 || echo 6 ;;
    upgrade) [ -n "$QUICK" ] && echo 2 || echo 4 ;;
    memory | idle) [ "$round" = 1 ] && echo 1 || echo 0 ;;
    *) echo 1 ;;
    esac
}

nice_client=''
client() { # cpus or "any", letter, program, arguments
    words=$(environment "$2" client)
    on="$nice_client taskset -c $1"
    [ "$1" = any ] && on=
    shift 2
    # shellcheck disable=SC2086 # $words and $on are lists
    timeout -k 2 60 $on env $words "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
}

# A program of ours with one line of JSON.
measure_with() { # cpus or "any", letter, program, arguments
    where=$1 who=$2 program=$BUILD/bench/$3
    shift 3
    client "$where" "$who" "$program" "$@" -j
}

# load against a fresh server.
get_load() { # kind, server's cpus, client's cpus, letter, conns [options]
    start_server "$1" "$2" "$4" "$server_threads" || return 1
    mode=epoll
    [ "$5" = 1 ] && mode='read'
    [ "$1" = redis ] && mode="$mode -r"
    load_on=$3 letter=$4 conns=$5
    shift 5
    # shellcheck disable=SC2086 # a list
    measure_with "$load_on" "$letter" load -p "$port" -P "$server" \
        -W "$warm" -s "$SECONDS_EACH" -c "$conns" -w $mode "$@"
    rc=$?
    stop_server
    return $rc
}

with_server() { # kind letter function arguments
    start_server "$1" "$SERVER_CPU" "$2" || return 1
    what=$3 who=$2
    shift 3
    $what "$who" "$@"
    rc=$?
    stop_server
    return $rc
}

short_connections() { # letter
    measure_with "$CLIENT_CPU" "$1" connects -p "$port" -P "$server" \
        -W 0.05 -s "$(echo "$SECONDS_EACH" | awk '{ print $1 / 2 }')"
}

# What other people's programs say of themselves, made a line of JSON.
slap() { # letter connections
    client "$CLIENT_CPU" "$1" memcaslap -s "127.0.0.1:$port" -T 1 -c "$2" \
        -t "$(awk -v s="$SECONDS_EACH" 'BEGIN { print int(s) + (s > int(s)) }')s" \
        -X 64 || return 1
    awk '/TPS:/ { for (i = 1; i < NF; i++) if ($i == "TPS:") tps = $(i + 1) }
        END { if (!tps) exit 1
              printf "{\"per_second\":%d}\n", tps }' "$tmp/out" >"$tmp/said" ||
        return 1
    mv "$tmp/said" "$tmp/out"
}

redis_benchmark() { # letter connections
    each=50000 # a second, more or less
    [ "$1" = L ] && each=1500000
    n=$(awk -v n=$each -v s="$SECONDS_EACH" 'BEGIN { printf "%d", n * s }')
    client "$CLIENT_CPU" "$1" redis-benchmark -p "$port" -t get -d 64 -P 1 \
        -c "$2" -n $n --csv || return 1
    awk -F, '/"GET"/ { gsub(/"/, "")
            printf "{\"per_second\":%s}\n", $2; said = 1 }
        END { exit !said }' "$tmp/out" >"$tmp/said" || return 1
    mv "$tmp/said" "$tmp/out"
}

sockperf_pingpong() { # letter
    client "$CLIENT_CPU" "$1" sockperf ping-pong --tcp -i 127.0.0.1 \
        -p "$port" -t 1 -m 64 --full-rtt --mps=600000 || return 1
    awk '{ gsub(/\033\[[0-9;]*m/, "") }
        / percentile / {
            for (i = 1; i < NF; i++)
                if ($i == "percentile") { us[$(i + 1) + 0] = $NF }
        }
        END { if (!(50 in us)) exit 1
              printf "{\"p50_ns\":%.0f,\"p99_ns\":%.0f}\n", us[50] * 1000,
                us[99] * 1000 }' "$tmp/out" >"$tmp/said" ||
        { tail -n 1 "$tmp/out" >"$tmp/err"; return 1; }
    mv "$tmp/said" "$tmp/out"
}

# Two busy programs on these CPUs, for so long at most.
neighbours=''
neighbours_start() { # cpus of the one, cpus of the other, seconds
    for where in "$1" "$2"; do
        taskset -c "$where" "$BUILD/bench/load" -w self -W 0 -s "$3" \
            >/dev/null 2>&1 </dev/null &
        neighbours="$neighbours $!"
    done
}

neighbours_end() {
    # shellcheck disable=SC2086 # a list
    [ -z "$neighbours" ] || {
        kill $neighbours
        wait $neighbours
    } 2>/dev/null
    neighbours=''
}

# Both ends anywhere on two CPUs where others want to run too.
crowd() { # letter connections
    both=$SERVER_CPU,$CLIENT_CPU
    neighbours_start "$both" "$both" 5
    get_load memcached "$both" "$both" "$1" "$2"
    rc=$?
    neighbours_end
    return $rc
}

# A control group for half a CPU: version 1, or 2 where the root hands out "cpu".
# Subshells find the one that is there: $limit_group.
limit_there() {
    for root in /sys/fs/cgroup/cpu /sys/fs/cgroup; do
        limit_group=$root/fastsock-bench.$$
        [ -d "$limit_group" ] && return
        mkdir "$limit_group" 2>/dev/null || continue
        if [ -e "$limit_group/cpu.max" ]; then
            echo 50000 100000 >"$limit_group/cpu.max" && return
        elif [ -e "$limit_group/cpu.cfs_quota_us" ]; then
            echo 50000 >"$limit_group/cpu.cfs_quota_us" && return
        fi
        rmdir "$limit_group"
    done 2>/dev/null
    return 1
}

limit_end() {
    for root in /sys/fs/cgroup/cpu /sys/fs/cgroup; do
        [ ! -d "$root/fastsock-bench.$$" ] || rmdir "$root/fastsock-bench.$$"
    done 2>/dev/null
}

# A server that others come before: at nice 19 with a busy program on each of
# the CPUs, or with half a CPU and requests so many us after each answer. It
# takes half a second to find out what the limit leaves over.
polite() { # letter config
    who=$1 place=$2 gap=0
    case $place in
    nice-busy)
        server_before='nice -n 19' nice_client='nice -n 19'
        neighbours_start "$SERVER_CPU" "$CLIENT_CPU" 8 ;;
    limit-*) limit_there || return 1; gap=${place#limit-} ;;
    esac
    start_server memcached "$SERVER_CPU" "$who" && {
        case $place in
        limit-*) echo "$server" >"$limit_group/cgroup.procs" ;;
        esac
        measure_with "$CLIENT_CPU" "$who" load -p "$port" -P "$server" -W 0.6 \
            -s 0.5 -w read -G "$gap"
    }
    rc=$?
    stop_server
    server_before='' nice_client=''
    neighbours_end
    return $rc
}

# A threaded server and two threads of clients, all of them on so many CPUs.
many_threads() { # letter cpus
    where=$SERVER_CPU,$CLIENT_CPU
    [ "$2" -gt 2 ] && where=0-$(($2 - 1))
    server_threads=4
    get_load memcached "$where" "$where" "$1" 64 -t 2
    rc=$?
    server_threads=1
    return $rc
}

server_threads=1

measure() { # row config letter
    extra=
    case $1 in
    among | idle | memory) extra=FASTSOCK_MAX_MEMORY=16G ;;
    esac
    case $1 in
    memcached | kvserver | redis)
        get_load "$1" "$SERVER_CPU" "$CLIENT_CPU" "$3" "$2" ;;
    pipelined)
        get_load "$2" "$SERVER_CPU" "$CLIENT_CPU" "$3" 1 -d 16 ;;
    values)
        get_load memcached "$SERVER_CPU" "$CLIENT_CPU" "$3" 1 -v "$2" ;;
    onecore) get_load memcached "$SERVER_CPU" "$SERVER_CPU" "$3" "$2" ;;
    crowded) crowd "$3" "$2" ;;
    polite) polite "$3" "$2" ;;
    threads) many_threads "$3" "$2" ;;
    among)
        get_load memcached "$SERVER_CPU" "$CLIENT_CPU" "$3" 1 -w epoll \
            -i "$2" ;;
    tools)
        case $2 in
        memcaslap-*) with_server memcached "$3" slap "${2##*-}" ;;
        *) with_server redis "$3" redis_benchmark "${2##*-}" ;;
        esac ;;
    sockperf) with_server sockperf "$3" sockperf_pingpong ;;
    connects) with_server "$2" "$3" short_connections ;;
    pingpong) both_ends "$3" -w "$2" ;;
    streams) both_ends "$3" -m stream -b "$2" ;;
    upgrade)
        measure_with any "$3" upgrade -c "$2" -S "$SERVER_CPU" \
            -C "$CLIENT_CPU" ;;
    memory)
        measure_with any "$3" idle -c "$2" -m 1024 -W 0.1 -s 0.1 \
            -S "$SERVER_CPU" -C "$CLIENT_CPU" ;;
    idle)
        measure_with any "$3" idle -c "$2" -S "$SERVER_CPU" \
            -C "$CLIENT_CPU" -s "$idle_seconds" ;;
    fdcost) measure_with "$CLIENT_CPU" "$3" fd_cost ;;
    startup)
        started=
        for word in $(environment "$3" client); do
            started="$started -e $word"
        done
        # shellcheck disable=SC2086 # a list
        measure_with "$CLIENT_CPU" K startup $started ;;
    esac
}

# pingpong, which starts both ends itself.
both_ends() { # letter options
    who=$1
    shift
    [ "$who" = U ] && set -- "$@" -u
    measure_with any "$who" pingpong "$@" -S "$SERVER_CPU" -C "$CLIENT_CPU" \
        -W "$warm" -s "$SECONDS_EACH"
}
