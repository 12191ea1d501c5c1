#!/bin/sh
# Peers that the library cannot be in: a Go program, which makes its system
# calls itself, and a static one. Both are preloaded like any other; their
# connections are ordinary ones, whoever is at the other end.
. "$(dirname "$0")/frame.inc"
needs go gcc python3
gcc -O2 -static -o "$dir/static" "$here/peers/reverse.c" 2>"$dir/compiled" ||
    fail "gcc -static: $(tail -n 3 "$dir/compiled")"
HOME=$dir CGO_ENABLED=0 GOCACHE=$dir/cache GOFLAGS=-p=2 GO111MODULE=off \
    go build -o "$dir/go" "$here/peers/reverse.go" 2>"$dir/compiled" ||
    fail "go build: $(tail -n 3 "$dir/compiled")"
rm -rf "$dir/cache"

server() {
    case ${variant%-*} in
    python) launch server python3 "$here/peers/reverse.py" server "$port" asyncio ;;
    *) launch server "$dir/${variant%-*}" server "$port" plain ;;
    esac
    wait_for_port "$port"
}

client() {
    cp "$(blob 110000)" "$dir/asked"
    case ${variant#*-} in
    python)
        ours python3 "$here/peers/reverse.py" client "$port" "$dir/asked" 4 120 \
            asyncio ;;
    go) ours "$dir/go" client "$port" "$dir/asked" 4 120 plain ;;
    static)
        ours "$dir/static" client "$port" "$dir/asked" 4 120 plain
        for k in 0 1 2 3; do
            echo "$k 120 $(sum <"$dir/asked.$k")"
        done ;;
    esac
}

# Nobody is there to say a reason in these two: none goes up, that is all.
least=0
for v in go-go static-static go-static; do
    combine $v
done
stays="meeting no_peer_library"
for v in python-go python-static go-python static-python; do
    combine $v
done
done_with "$(go version | cut -d ' ' -f 3)"
