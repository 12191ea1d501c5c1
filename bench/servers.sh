# Read by run.sh: the servers that are measured, a fresh one for each
# measurement, on a port that nobody else has.
server='' port=''
server_before='' # words before the command, nice for instance

start_server() { # kind cpus letter [threads] -> $server (its pid), $port
    rm -f "$tmp/port"
    kind=$1 on=$2 threads=${4:-1} words=$(environment "$3" server)
    looks=0 port='' ready='TCP INET: '
    set -- -u "$user" -l 127.0.0.1 -p -1
    case $kind in
    memcached) set -- memcached "$@" -U 0 -t "$threads" -m 64 -c 15000 ;;
    kvserver)
        rm -f "$tmp/pool"
        set -- "$BUILD/kvserver" "$@" -c 15000 --pool "$tmp/pool:64M" \
            --durability process ;;
    redis)
        port=$(free_port) ready='Ready to accept'
        set -- redis-server --bind 127.0.0.1 --port "$port" --save '' \
            --appendonly no --dir "$tmp" --maxclients 15000 ;;
    sockperf)
        port=$(free_port) ready='to block on'
        set -- sockperf server --tcp -i 127.0.0.1 -p "$port" ;;
    esac
    : >"$tmp/server"
    # shellcheck disable=SC2086 # lists
    (exec $server_before taskset -c "$on" env $words "$@" \
        >"$tmp/server" 2>&1 </dev/null) &
    server=$!
    until grep -q "$ready" "$tmp/server" "$tmp/port" 2>/dev/null; do
        looks=$((looks + 1))
        if [ $looks -gt 150 ] || ! kill -0 "$server" 2>/dev/null; then
            echo "$kind did not start: $(tail -n 1 "$tmp/server")" >"$tmp/err"
            return 1
        fi
        sleep 0.02
    done
    [ -n "$port" ] ||
        port=$(sed -n 's/^TCP INET: //p' "$tmp/port" | head -n 1)
}

# A port of 127.0.0.1 where nobody listens, below those that the kernel hands
# out. Whoever comes first afterwards has it: the clients ask who answers.
free_port() {
    while :; do
        n=$(shuf -i 20000-31999 -n 1)
        grep -qi ":$(printf %04X "$n") 00000000:0000 0A" /proc/net/tcp ||
            break
    done
    echo "$n"
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
