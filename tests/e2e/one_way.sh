#!/bin/sh
# Bytes in one direction only: a writer that waits for room in epoll is woken
# by the reader, however it is registered and however many others are full.
. "$(dirname "$0")/lib.inc"
limit=50
runs=0
[ "$(ulimit -Sn)" -ge 1024 ] 2>/dev/null ||
    ulimit -Sn 1024 || skip "no 1024 descriptors allowed here"

# one MODE CONNECTIONS BYTES: a busy machine may need longer to go up
one() {
    what="$*"
    kernel "$P/one_way" "$@" >"$dir/kernel" 2>&1 ||
        fail "$what: on the kernel: $(tail -n 1 "$dir/kernel")"
    for rest in 150 1000 4000; do
        forget_reports
        shim "$P/one_way" "$@" $rest >"$dir/shim" 2>&1 || fail "$what: exit $?"
        cmp -s "$dir/kernel" "$dir/shim" ||
            fail "$what: $(tail -n 1 "$dir/shim")"
        linked=$(counter link_bytes_in)
        [ "$linked" -le $(($2 * $3 / 2)) ] || break
    done
    [ "$linked" -gt $(($2 * $3 / 2)) ] ||
        fail "$what: only $linked bytes by link, stayed:" \
            "$(sed -n 's/^stayed_//p' "$dir"/report.* | sort | uniq -c | xargs)"
    runs=$((runs + 1))
}

settings="FASTSOCK_UPGRADE_AFTER=0 FASTSOCK_RING_SIZE=65536"
for mode in lt et mod oneshot lt-norm et-norm; do
    one $mode 1 3000000
    one $mode 20 300000
done
one lt $((SLOW > 1 ? 30 : 150)) 200000
one et $((SLOW > 1 ? 30 : 150)) 200000
for program in kernel shim; do
    $program "$P/little_room" >"$dir/$program" 2>&1 ||
        fail "little room: $program: $(tail -n 1 "$dir/$program")"
done
finish "$runs runs"
