#!/bin/sh
# Builds the library with each of the mistakes that are planted in it (PLANT=
# of the Makefile), one at a time, and lets the differential tester look for a
# program that shows it.
# usage: BUILD=build tests/differential/plants.sh [NAME...]
: "${BUILD:=build}" "${SLOW:=1}" "${JOBS:=4}"
cd "$(dirname "$0")/../.." || exit 2
all="peek_consumes edge_too_often edge_too_few oneshot_stays rdhup_missing
    exclusive_ignored eof_lost rcvtimeo_ignored accept4_flags passed_stale
    eagain_for_epipe byte_repeated readv_short"
planted=$(grep -l 'PLANT_' preload/*.c transport/stream/*.c)
out=$(mktemp) || exit 2
trap 'rm -f "$out"' EXIT
bad=0 found=0

# Objects without a plant are those of the ordinary build.
build() { # name
    rm -rf "build-plant-$1"
    mkdir "build-plant-$1" || return 1
    cp -a "$BUILD/preload" "$BUILD/transport" "$BUILD/config" "build-plant-$1/" || return 1
    for file in $planted; do
        rm -f "build-plant-$1/${file%.c}.o"
    done
    make -s "PLANT=$1" "build-plant-$1/libfastsock.so" >"$out" 2>&1
}

for name in ${*:-$all}; do
    if ! build "$name"; then
        echo "$name: cannot be built"
        cat "$out"
        exit 2
    fi
    timeout -k 5 $((300 * SLOW)) "$BUILD/tests/differential/differential" \
        --library "build-plant-$name/libfastsock.so" --modes both --slow "$SLOW" \
        --jobs "$JOBS" --stop 1 --reruns 1 seeds 1 6000 >"$out" 2>&1
    if [ $? -eq 1 ]; then
        found=$((found + 1))
        echo "$name: found by $(sed -n 's/^\(seed [0-9]*\).*/\1/p' "$out" | head -n 1)"
    else
        bad=$((bad + 1))
        echo "$name: NOT FOUND"
        tail -n 3 "$out"
    fi
    rm -rf "build-plant-$name"
done
echo "$found planted mistakes found, $bad not found"
[ $bad -eq 0 ]
