#!/bin/sh
# The pool's file is cut short under a running server: it ends with status 1
# and a sentence, not by a signal, and sends nothing that was not stored. The
# file is refused at the next start.
. "$(dirname "$0")/kvserver.inc"
n=0
for what in get set large send; do
    for size in 0 ${LONG:+4096 65536} 1048576; do
        rm -f "$dir/pool"
        start_kvserver kvserver -m 8
        client python3 "$here/kvserver_cut.py" "$port" "$dir/pool" "$size" \
            "$what" >"$dir/out" 2>&1 || {
            cat "$dir/out"
            fail "$what, cut to $size: wrong replies"
        }
        wait "$pid"
        rc=$?
        [ $rc -eq 1 ] || fail "$what, cut to $size: the server ended with $rc"
        grep -q 'was cut short while in use\|has failed' "$dir/kvserver.err" ||
            fail "$what, cut to $size: no sentence"
        n=$((n + 1))
    done
    FASTSOCK_ENV='' "$BUILD/kvserver" --pool "$dir/pool" -p -1 \
        -l 127.0.0.1 2>"$dir/refused.err" && fail 'a cut file is served'
    grep -q 'bytes' "$dir/refused.err" || fail 'refused without a sentence'
done
echo "cut $n times: an end with a sentence each time"
