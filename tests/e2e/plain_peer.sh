#!/bin/sh
# The library at one end only: every byte right, nothing but the application's
# bytes on the wire (counted by the kernel, and looked at in a capture of lo
# where that is allowed), and no link.
. "$(dirname "$0")/lib.inc"
bytes=3000000
runs=0

# One end prints "end NAME out N in N kernel_sent N".
for one_end in server client; do
    for wait in blocking epoll-et; do
        seed=$((runs + 7))
        forget_reports
        rm -f "$dir/port" "$dir/pcap"
        how=kernel
        [ $one_end = server ] && how=shim
        start $how server "$P/streams" $wait 4 $seed $bytes server "$dir/port"
        server=$pid
        wait_for_line "$dir/port" . || fail "no port"
        port=$(cat "$dir/port")
        dump=
        if [ $runs -eq 0 ] && [ "$(id -u)" = 0 ] && command -v tcpdump \
            >/dev/null; then
            tcpdump -U -i lo -s 0 -B 65536 -w "$dir/pcap" "tcp port $port" \
                2>"$dir/tcpdump.err" &
            dump=$!
            background="$background $dump"
            until grep -q listening "$dir/tcpdump.err" ||
                ! kill -0 $dump 2>/dev/null; do
                sleep 0.02
            done
            grep -q listening "$dir/tcpdump.err" || dump=
        fi
        how=shim
        [ $one_end = server ] && how=kernel
        $how "$P/streams" $wait 4 $seed $bytes client "$port" >"$dir/client" \
            2>&1 || fail "client with the library at the $one_end: $(cat \
                "$dir/client")"
        wait "$server" || fail "server with the library at the $one_end: $(cat \
            "$dir/server.err")"
        [ "$(cat "$dir/client" "$dir/server" | grep -c "in $bytes ")" -eq 2 ] ||
            fail "$one_end $wait: not all bytes came"
        # Later segments may be acknowledged twice but never grow.
        for end in client server; do
            extra=$(awk -v bytes=$bytes '{ print $8 - bytes }' "$dir/$end")
            [ "$extra" -le 0 ] ||
                fail "$one_end $wait: $end sent $extra bytes of its own"
        done
        [ "$(counter streams_up)" -eq 0 ] && [ "$(counter link_bytes_out)" \
            -eq 0 ] || fail "$one_end $wait: something went over a link"
        if [ -n "$dump" ]; then
            tries=0 # until it has written what has passed
            until [ "$(wc -c <"$dir/pcap")" -gt $((2 * bytes)) ]; do
                tries=$((tries + 1))
                [ $tries -lt 500 ] || break
                sleep 0.02
            done
            kill -INT "$dump" && wait "$dump" 2>/dev/null
            [ "$(wc -c <"$dir/pcap")" -gt $bytes ] || fail "empty capture"
            grep -qa 'FSK[CR]' "$dir/pcap" && fail "a record is on the wire"
            looked=", a capture looked at"
        fi
        runs=$((runs + 1))
    done
done

# Two users, both with the library: the same, for the reason other_user.
if [ "$(id -u)" = 0 ] && setpriv --reuid=65533 --clear-groups \
    test -r "$BUILD/libfastsock.so" 2>/dev/null; then
    forget_reports
    chmod 777 "$dir"
    rm -f "$dir/port"
    start shim server "$P/streams" blocking 4 99 $bytes server "$dir/port"
    wait_for_line "$dir/port" . || fail "no port"
    shim setpriv --reuid=65533 --clear-groups "$P/streams" blocking 4 99 \
        $bytes client "$(cat "$dir/port")" >"$dir/client" 2>&1 ||
        fail "a client of another user: $(cat "$dir/client")"
    wait "$pid" || fail "a server of another user: $(cat "$dir/server.err")"
    [ "$(counter streams_up)" -eq 0 ] || fail "two users share memory"
    runs=$((runs + 1))
fi
finish "$runs runs with one plain end$looked"
