#!/bin/sh
# Programs of socket calls on the kernel and under the library (both ends, one
# end, and with links that break): every result is the same. The corpus and
# some seeds, always the same ones; LONG=1: 10,000 others for each commit, so that
# what one run has found another can repeat. SEED=n begins elsewhere.
# What differs is kept in $BUILD/tests/differential/kept, as small as it gets.
. "$(dirname "$0")/../e2e/lib.inc"
D=$BUILD/tests/differential
corpus=$here/corpus
mkdir -p "$D/kept"

run() { # what limit arguments...
    what=$1 limit=$(($2 * SLOW))
    shift 2
    timeout -k 5 $limit "$D/differential" --library "$BUILD/libfastsock.so" \
        --breaking "$D/libfastsock-breaks.so" --slow "$SLOW" \
        --jobs $((2 * $(nproc))) --keep "$D/kept" "$@" >"$dir/out" 2>&1
    rc=$?
    [ $rc -eq 0 ] || { cat "$dir/out" >&2; fail "$what: exit $rc"; }
    grep -A 30 'differed once' "$dir/out" >&2
    tail -n 1 "$dir/out"
}

run corpus 120 run "$corpus"/*.prog
if [ -n "$LONG" ]; then
    first=$((0x$(git -C "$here" rev-parse --short=8 HEAD 2>/dev/null ||
        date +%s)))
    first=${SEED:-$first}
    run "seeds $first to $((first + 9999))" 1500 --stop 20 seeds "$first" 10000
else
    run "seeds 1 to 160" 120 seeds 1 $((160 / SLOW))
fi
finish "$(tail -n 1 "$dir/out")"
