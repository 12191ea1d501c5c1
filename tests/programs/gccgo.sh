#!/bin/sh
# A Go program compiled by gccgo: goroutines on stacks of their own, and calls
# through libc, so that it goes up (the go compiler's programs do not: plain.sh).
. "$(dirname "$0")/frame.inc"
needs gccgo
gccgo -O1 -o "$dir/reverse" "$here/peers/reverse.go" 2>"$dir/compiled" ||
    fail "gccgo: $(tail -n 3 "$dir/compiled")"

server() {
    launch server "$dir/reverse" server "$port" go
    wait_for_port "$port"
}

client() {
    ours "$dir/reverse" client "$port" "$(blob 110000)" 4 240 go
}

combine
done_with "$(gccgo -dumpfullversion)"
