#!/bin/sh
# socat: FORK with an echo, EXEC behind a connection, half-close.
. "$(dirname "$0")/frame.inc"
needs socat

server() {
    case $variant in
    fork) to=PIPE ;;
    exec) to=EXEC:"sha256sum" ;;
    *) to=OPEN:$dir/taken,creat,trunc ;;
    esac
    case $variant in
    one) launch socat socat -t 20 -u "TCP-LISTEN:$port,bind=127.0.0.1" "$to" ;;
    *) launch socat socat -t 20 "TCP-LISTEN:$port,bind=127.0.0.1,fork" "$to" ;;
    esac
    wait_for_port "$port"
}

client() {
    file=$(blob 3000000)
    case $variant in
    one)
        ours socat -u "OPEN:$(blob 30000000)" "TCP:127.0.0.1:$port"
        echo "exit $?"
        wait "$pid"
        sum <"$dir/taken" ;;
    *)
        for i in 1 2 3; do
            ours socat -t 20 - "TCP:127.0.0.1:$port" <"$file" >"$dir/got"
            echo "exit $?"
            sum <"$dir/got"
        done ;;
    esac
}

combine one
stays=shared_after_fork least=1
combine fork
combine exec
done_with "$(socat -V | sed -n 's/^socat version \([^ ]*\).*/\1/p')"
