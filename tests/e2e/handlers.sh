#!/bin/sh
# A signal handler uses the program's sockets, wherever it has interrupted it:
# no call hangs, no byte is lost or comes twice.
. "$(dirname "$0")/lib.inc"
limit=60
runs=6
[ -n "$LONG" ] && runs=40
seed=${SEED:-$(date +%s)}
kernel "$P/handlers" "$seed" 300 >"$dir/out" 2>"$dir/err" ||
    fail "on the kernel, seed $seed: exit $? $(cat "$dir/out" "$dir/err")"
done=0 link=0
# On a very slow machine all may be over before a stream has left TCP.
while [ "$done" -lt "$runs" ] || { [ "$link" -eq 0 ] && [ "$done" -lt 60 ]; }; do
    done=$((done + 1))
    [ $((done % 3)) -eq 0 ] && forks=forks || forks=
    # shellcheck disable=SC2086
    shim "$P/handlers" $((seed + done)) 500 $forks >"$dir/out" 2>"$dir/err" ||
        fail "seed $((seed + done)) $forks: exit $? $(cat "$dir/out" "$dir/err")"
    link=$(counter link_bytes_in)
done
[ "$link" -gt 0 ] || fail "nothing went by link"
finish "$done runs, $link bytes by link, SEED=$seed"
