#!/bin/sh
# Servers that fork for each connection: whoever holds it alone leaves TCP;
# while two hold it, or for all that is known may hold it, it stays. So it does
# in an epoll set that two processes have.
. "$(dirname "$0")/lib.inc"
tool=$BUILD/fastsock
for who in child epoll parent exits execs killed ended ran inherits spawned unseen set early; do
    forget_reports
    case $who in # one at a time, where the parent serves
    child | epoll | set) n=3 ;;
    *) n=1 ;;
    esac
    rm -f "$dir/port"
    start shim "$who" "$P/fork_server" "$dir/port" "$who"
    server=$pid
    wait_for_line "$dir/port" . || fail "$who: no port"
    rm -f "$dir/go"
    start shim client "$P/idle_memory" "$(cat "$dir/port")" $n "$dir/go"
    client=$pid
    tries=0 # a stream that stays gets a second, the others what they need
    until [ "$("$tool" ss -p "$client" 2>/dev/null | grep -c ' shm ')" -eq $n ]; do
        tries=$((tries + 1))
        case $who in inherits | spawned | unseen | set | early) [ $tries -lt 50 ] || break ;; esac
        [ $tries -lt $((1000 * SLOW)) ] || {
            fail "$who: never on a link: $("$tool" ss -p "$client")"
            break
        }
        sleep 0.02
    done
    : >"$dir/go"
    wait "$client" || fail "$who: $(cat "$dir/client" "$dir/client.err")"
    kill -TERM "$server" # it waits for its children
    wait "$server" || fail "$who: the server ended with $?"
    linked=$(counter link_bytes_out)
    case $who in
    inherits | spawned | unseen | set | early)
        # A greeting or two, where the server was late to fork.
        [ "$linked" -lt 10000 ] || fail "$who: $linked bytes by link" ;;
    *)
        [ "$linked" -ge $((n << 21)) ] || fail "$who: only $linked bytes by link"
        seen="$seen $who," ;;
    esac
    [ "$(counter broken)" -eq 0 ] || fail "$who: $(counter broken) broken"
done
finish "all by link:$seen by TCP: inherits, spawned, unseen, set, early"
