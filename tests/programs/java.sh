#!/bin/sh
# java: NIO with a Selector, and blocking sockets with a thread for each.
. "$(dirname "$0")/frame.inc"
needs java javac
javac -d "$dir/classes" "$here/peers/Reverse.java" || fail "javac"
run="-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp $dir/classes Reverse"

server() {
    # shellcheck disable=SC2086
    launch java java $run server "$port" "$variant"
    wait_for_port "$port"
}

client() {
    # shellcheck disable=SC2086
    ours java $run client "$port" "$(blob 110000)" 4 240 "$variant"
}

combine nio
combine blocking
done_with "$(java -version 2>&1 | sed -n '1s/.*"\(.*\)".*/\1/p')"
