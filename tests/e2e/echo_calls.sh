#!/bin/sh
# Every call family, both directions, IPv4, IPv6 and IPv4-mapped: the results
# of each call and each byte are those of kernel TCP, while the stream is on a
# link, while it leaves TCP after some calls, and while it is forced back.
. "$(dirname "$0")/lib.inc"
limit=30
steps=0

# Containers often have no ::1, and some kernels nothing of IPv6.
six=6 mapped=mapped left_out=
grep -q '^0\{31\}1 ' /proc/net/if_inet6 2>/dev/null ||
    six='' left_out=', no IPv6 here'
[ -e /proc/net/if_inet6 ] || mapped=

# one FAMILY SEED CALLS MODE PROGRAM: MODE is link, mixed or returns
one() {
    what="$5 family $1 seed $2 upgrade_after $3 $4"
    settle=0 more=
    [ "$4" = link ] || more=$4
    [ "$SLOW" -eq 1 ] || settle=$((30 * SLOW))
    [ "$4" != link ] || settle=$((2000 * SLOW)) # at most
    settings="FASTSOCK_UPGRADE_AFTER=$3 FASTSOCK_RING_SIZE=$6"
    # One thread has both ends: a writer that is held would wait for itself.
    [ "$4" = link ] || settings="$settings FASTSOCK_HANDOVER_HOLD_USEC=500"
    kernel "$P/$5" "$1" "$2" 1500 0 $more >"$dir/kernel" 2>"$dir/kernel.err" ||
        fail "$what: on the kernel: $(tail -n 1 "$dir/kernel.err")"
    # On a busy machine all calls may be over before a helper has a CPU: then
    # once more, as compare_case does.
    for _ in 1 2 3; do
        forget_reports
        shim "$P/$5" "$1" "$2" 1500 $settle $more >"$dir/shim" \
            2>"$dir/shim.err" ||
            fail "$what: exit $? $(tail -n 3 "$dir/shim.err")"
        steps=$((steps + 1500))
        if ! cmp -s "$dir/kernel" "$dir/shim"; then
            fail "$what: results differ"
            diff "$dir/kernel" "$dir/shim" | head -n 10 >&2
        fi
        up=$(counter streams_up) linked=$(counter link_bytes_out)
        [ "$4" != link ] && [ "$up" -lt 2 ] || break
    done
    grep -q "WRONG" "$dir/kernel" && fail "$what: wrong bytes on the kernel"
    # shellcheck disable=SC2046
    set -- $4 $(sed -n 's/kernel_sent \([0-9]*\) of \([0-9]*\).*/\1 \2/p' \
        "$dir/shim.err")
    [ "$up" -ge 2 ] && [ "$linked" -gt 0 ] ||
        fail "$what: never on a link (up $up, link bytes $linked)"
    [ "$1" != link ] || { [ "$linked" -eq "$3" ] &&
        [ $((100 * $2)) -lt "$3" ]; } ||
        fail "$what: of $3 bytes $linked by link, the kernel sent $2"
}

seeds=$([ -n "$LONG" ] && echo 8 || echo 1)
seed=$(date +%s)
last=$((seed + seeds))
while [ "$seed" -lt $last ]; do
    for family in $([ "$SLOW" -gt 1 ] && echo ${six:-4} || echo 4 $six $mapped); do
        one $family "$seed" 0 link calls 65536
        [ "$SLOW" -gt 1 ] || one $family "$seed" 0 link calls_fortified 65536
        one $family "$seed" 0 returns calls 65536
        one $family "$seed" $((seed % 97 + 5)) moving calls 65536
        one $family "$seed" $((seed % 97 + 5)) peeking calls 65536
    done
    seed=$((seed + 1))
done

# Two processes and two threads, each way to wait, every byte checked.
streams=0
both() { # WAIT FAMILY more...
    forget_reports
    shim "$P/streams" "$1" "$2" "$seed" 4000000 greet=$((2000 * SLOW)) \
        "${3:-processes}" >"$dir/out" 2>&1 || fail "streams $*: exit $? $(tail -n 1 "$dir/out")"
    streams=$((streams + 1))
    sent=$(awk '{ n += $8 } END { print n + 0 }' "$dir/out")
    [ "$(counter link_bytes_out)" -ge 4000000 ] && [ "$sent" -lt 80000 ] ||
        fail "streams $*: link $(counter link_bytes_out), kernel $sent"
}
settings=
for wait in $waits; do
    both $wait 4
    both $wait ${six:-4} threads
    [ "$SLOW" -gt 1 ] || [ -z "$mapped" ] || both $wait mapped
done
finish "$steps calls as on the kernel, $streams streams byte for byte$left_out"
