#!/bin/sh
# libmemcached's conformance test and tools against kvserver.
. "$(dirname "$0")/kvserver.inc"
command -v memccapable >/dev/null || {
    echo "memccapable is missing: install libmemcached-tools"
    exit 77
}
start_kvserver kvserver
client memccapable -a -h 127.0.0.1 -p "$port" >"$dir/out" 2>&1 || {
    grep -v pass "$dir/out"
    fail "memccapable failed"
}
client memcping --servers="127.0.0.1:$port" || fail "memcping failed"
client memcstat --servers="127.0.0.1:$port" >"$dir/out" 2>&1 ||
    fail "memcstat failed"
grep -q curr_items "$dir/out" || fail "memcstat shows no curr_items"
echo hello >"$dir/hello"
client memccp --servers="127.0.0.1:$port" "$dir/hello" || fail "memccp failed"
[ "$(client memccat --servers="127.0.0.1:$port" hello)" = hello ] ||
    fail "memccat does not show what memccp has stored"
client memcrm --servers="127.0.0.1:$port" hello || fail "memcrm failed"
stop_server "$pid"
echo "memccapable, memcping, memcstat, memccp, memccat, memcrm pass"
