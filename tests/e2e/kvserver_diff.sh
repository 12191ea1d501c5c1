#!/bin/sh
# kvserver and Debian's memcached get the same requests and must give the same
# replies, byte for byte; only cas ids, pids and times may differ.
. "$(dirname "$0")/kvserver.inc"
command -v memcached >/dev/null || {
    echo "memcached is missing: install it to compare with"
    exit 77
}
start_kvserver kvserver
ours=$port our_pid=$pid
# Its LRU thread holds references to items, and decr pads a number with spaces
# only where nobody holds one: without that thread the replies repeat.
# With more threads than one the next connection may meet what the last one
# has not let go of yet.
start_server memcached memcached -u "$(id -un)" -U 0 -t 1 \
    -o no_lru_maintainer,no_lru_crawler
client python3 "$here/kvserver_diff.py" "$port" "$ours" ||
    fail "replies differ"
stop_server "$our_pid"
