#!/bin/sh
# A peer of the same user that breaks every rule of the rendezvous, of the
# shared memory and of the records: the server neither crashes nor hangs and
# serves others as before. Another user's process: other_user.sh.
. "$(dirname "$0")/lib.inc"
hostile=$P/hostile/hostile_peer
[ -x "$hostile" ] || skip "hostile_peer is not built: make tests"
seed=$(date +%s)
rounds=$([ -n "$LONG" ] && echo 20 || echo 4)
settings="FASTSOCK_RING_SIZE=65536 FASTSOCK_HANDOVER_HOLD_USEC=2000"
start shim server "$P/echo_server" "$dir/port"
server=$pid
wait_for_line "$dir/port" . || skip "the server does not start"
port=$(cat "$dir/port")
made=0
alive() {
    kill -0 "$server" 2>/dev/null || {
        wait "$server"
        fail "$1: the server ended with $?: $(tail -n 3 "$dir/server.err")"
        finish
    }
    limit=8
    kernel "$hostile" "$port" 0 normal 2>"$dir/err" ||
        fail "$1: a plain client: $(cat "$dir/err")"
}

# hoard ATTACK LINE: three of them at once, until each has said LINE.
hoard() {
    hoarders=
    for n in 1 2 3; do
        start kernel "hoard$n" "$hostile" "$port" $n "$1"
        hoarders="$hoarders $pid"
    done
    for n in 1 2 3; do
        wait_for_line "$dir/hoard$n" "$2" ||
            fail "$1: $(cat "$dir/hoard$n.err")"
    done
    made=$((made + 3))
}

end_hoard() {
    alive "$1"
    for pid in $hoarders; do
        kill -9 "$pid"
        wait "$pid"
    done 2>/dev/null
}

descriptors() {
    set -- "/proc/$server/fd"/*
    echo $#
}

addresses() { # in TiB
    awk '$1 == "VmSize:" { printf "%.0f", $2 / 2 ^ 30 }' "/proc/$server/status"
}

kernel "$hostile" "$port" 1 honest 2>"$dir/err" ||
    fail "cannot keep the rules either: $(cat "$dir/err")"
alive honest
while [ "$rounds" -gt 0 ]; do
    rounds=$((rounds - 1))
    for attack in scribble bound stretches bells channel_garbage channel_flood \
        wrong_memory bad_records goes_silent; do
        for repeat in 1 2 3 4; do
            case $attack in scribble | stretches | bells | channel_flood | goes_silent)
                [ $repeat -eq 1 ] || continue ;;
            esac
            seed=$((seed + 1))
            kernel "$hostile" "$port" $seed $attack 2>"$dir/err" ||
                fail "$attack seed $seed: $(cat "$dir/err")"
            made=$((made + 1))
        done
        alive "$attack until seed $seed"
    done
done
# Of callers without a link 64 are let in; 32 TiB of addresses are for arenas.
before=$(descriptors)
hoard callers called
now=$(descriptors)
[ "$now" -le $((before + 100)) ] ||
    fail "callers: $before descriptors before, $now with them"
end_hoard callers
before=$(addresses)
hoard huge offered
now=$(addresses)
[ "$now" -le $((before + 33)) ] ||
    fail "huge: $before TiB of addresses before, $now with them"
end_hoard huge
# Honest programs still meet it.
forget_reports
limit=8
shim "$hostile" "$port" 0 normal 2>"$dir/err" ||
    fail "a client with the library: $(cat "$dir/err")"
serves_on() {
    kill -TERM "$server"
    wait "$server"
    rc=$?
    [ $rc -eq 0 ] || fail "the server ended with $rc: $(tail -n 3 "$dir/server.err")"
    [ "$(counter link_bytes_in)" -gt 10000 ] || fail "nothing goes up afterwards"
}
serves_on
# A small server, and a peer that leaves and does not say so.
settings="$settings FASTSOCK_MAX_MEMORY=1M"
rm "$dir/port"
start shim server "$P/echo_server" "$dir/port"
server=$pid
wait_for_line "$dir/port" . || fail "no small server"
port=$(cat "$dir/port")
kernel "$hostile" "$port" 1 no_bye 2>"$dir/err" || fail "no_bye: $(cat "$dir/err")"
made=$((made + 1))
alive no_bye
forget_reports
shim "$hostile" "$port" 0 normal 2>"$dir/err" ||
    fail "a client of the small server: $(cat "$dir/err")"
serves_on
finish "$made attacks, the server serves on"
