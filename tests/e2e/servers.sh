#!/bin/sh
# memcached and kvserver with memcached's own clients: the library at both
# ends, at one, at none. The same results, and where both ends carry it the
# bytes went over links.
. "$(dirname "$0")/lib.inc"
for tool in memcached memccapable memcslap memccp memccat; do
    command -v $tool >/dev/null ||
        skip "$tool is missing: install memcached and libmemcached-tools"
done
limit=30
runs=0
settings="FASTSOCK_UPGRADE_AFTER=2"
head -c 300000 "$BUILD/libfastsock.so" >"$dir/blob"

serve() { # kernel|shim memcached|kvserver
    port=$(free_port)
    if [ "$2" = memcached ]; then
        start "$1" server memcached -u "$(id -un)" -l 127.0.0.1 -p "$port" -U 0
    else
        rm -f "$dir/pool"
        start "$1" server "$BUILD/kvserver" --pool "$dir/pool" \
            --durability process -l 127.0.0.1 -p "$port"
    fi
    server=$pid
    wait_for_port "$port" || fail "$2 does not listen"
}

for program in memcached kvserver; do
    for ends in kernel:kernel kernel:shim shim:kernel shim:shim; do
        at_server=${ends%:*} at_client=${ends#*:}
        what="$program $at_server, clients $at_client"
        forget_reports
        serve "$at_server" $program
        $at_client memccapable -a -h 127.0.0.1 -p "$port" 2>&1 |
            sed 's/ *\[.*\]//' >"$dir/capable"
        grep -qi fail "$dir/capable" && fail "$what: $(grep -i fail \
            "$dir/capable" | head -n 3)"
        (cd "$dir" && $at_client memccp --servers="127.0.0.1:$port" blob) ||
            fail "$what: memccp"
        $at_client memccat --servers="127.0.0.1:$port" \
            --file="$dir/back" blob >/dev/null 2>&1 || fail "$what: memccat"
        head -c 300000 "$dir/back" 2>/dev/null | cmp -s - "$dir/blob" ||
            fail "$what: the value that came back is another"
        $at_client memcslap --servers="127.0.0.1:$port" --concurrency=4 \
            --execute-number=2000 --test=get >"$dir/slap" 2>&1 ||
            fail "$what: memcslap: $(tail -n 2 "$dir/slap")"
        kill -TERM "$server"
        wait "$server"
        linked=$(counter link_bytes_in)
        if [ $ends = shim:shim ]; then
            [ "$linked" -gt 1000000 ] || fail "$what: only $linked by link"
            total=$((total + linked))
        else
            [ "$linked" -eq 0 ] || fail "$what: $linked by link"
        fi
        runs=$((runs + 1))
    done
done
finish "$runs pairs, $total bytes by link"
