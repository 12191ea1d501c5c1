#!/bin/sh
# redis: server, cli, benchmark, and a replica that follows.
. "$(dirname "$0")/frame.inc"
needs redis-server redis-cli redis-benchmark

instance() { # NAME PORT options...
    mkdir -p "$dir/$1"
    data=$dir/$1 at=$2 who=$1
    shift 2
    launch "$who" redis-server --port "$at" --bind 127.0.0.1 --save "" \
        --dir "$data" --daemonize no "$@"
    wait_for_port "$at"
}

server() {
    instance master "$port" --repl-diskless-sync-delay 0 || return 1
    second=$(free_port)
    instance replica "$second" --replicaof 127.0.0.1 "$port"
}

cli() {
    ours redis-cli -p "$@"
}

client() {
    tries=0
    until cli "$second" info replication | grep -q master_link_status:up; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || break
        sleep 0.1
    done
    python3 -c 'for i in range(3000):
    v = "%d" % (i * i) * (i % 90)
    print("SET key:%d x%s\r" % (i, v), end="\n")' >"$dir/commands"
    cli "$port" --pipe <"$dir/commands" | tail -n 1
    cli "$port" -x set big <"$(blob 3000000)"
    cli "$port" --no-raw get big | sum
    cli "$port" --raw get big | head -c 3000000 | cmp - "$(blob 3000000)" &&
        echo same
    cli "$port" --csv eval 'return redis.call("dbsize")' 0
    printf 'multi\nincr n\nincr n\nexec\nget n\nnosuch\n' | cli "$port"
    ours redis-benchmark -p "$port" -n 20000 -c 20 -P 4 -d 300 -r 1000 --csv \
        -t ping,set,get,incr,lpush,lrange_100,mset | cut -d , -f 1
    cli "$port" wait 1 10000
    for p in "$port" "$second"; do
        cli "$p" dbsize
        cli "$p" --csv eval 'local n = 0
            for _, k in ipairs(redis.call("keys", "counter:*")) do
                n = n + redis.call("get", k)
            end
            return {n}' 0
        for key in key:7 key:2999 n big; do
            cli "$p" get $key | sum
        done
    done
}

inner=yes # the replica, until its master forks
least=10000000
combine
done_with "$(redis-server --version | cut -d ' ' -f 3)"
