#!/bin/sh
# socat: one connection, FORK for each, with an echo, EXEC behind a connection,
# half-close.
. "$(dirname "$0")/frame.inc"
needs socat

server() {
    at=TCP-LISTEN:$port,bind=127.0.0.1
    case $variant in
    one) launch socat socat -t 20 -u "$at" "OPEN:$dir/taken,creat,trunc" ;;
    fork) launch socat socat -t 20 -U "$at,fork" "OPEN:$(blob 30000000)" ;;
    echo) launch socat socat -t 20 "$at,fork" PIPE ;;
    exec) launch socat socat -t 20 "$at,fork" EXEC:sha256sum ;;
    esac
    wait_for_port "$port"
}

client() {
    to=TCP:127.0.0.1:$port
    if [ "$variant" = one ]; then
        ours socat -u "OPEN:$(blob 30000000)" "$to"
        echo "exit $?"
        wait "$pid"
        sum <"$dir/taken"
        return
    fi
    for i in 1 2 3; do
        case $variant in
        fork) ours socat -t 20 -u "$to" - ;;
        echo) ours socat -t 20 - "$to" <"$(blob 3000000)" ;;
        exec) ours socat -t 20 - "$to" <"$(blob 30000000)" ;;
        esac >"$dir/got"
        echo "exit $?"
        sum <"$dir/got"
    done
}

combine one
combine fork
combine exec
# One thread that has to read before it can write: held, it does neither.
stays="hold_expired meeting bare_read half_closed" least=1
combine echo
done_with "$(socat -V | sed -n 's/^socat version \([^ ]*\).*/\1/p')"
