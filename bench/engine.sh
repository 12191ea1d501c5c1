#!/bin/sh
# The engine alone, beside other stores: all figures of bench/README.md.
# usage: BUILD=build sh bench/engine.sh [CPU]
#   KEYS=100000,1000000   how many keys; ROUNDS=9
: "${BUILD:=build}" "${KEYS:=100000,1000000}" "${ROUNDS:=9}"
cd "$(dirname "$0")/.." || exit 2
# shellcheck source=bench/machine.sh
. bench/machine.sh
cpu=${1:-0}
for program in engine open; do
    [ -x "$BUILD/bench/$program" ] && continue
    echo "bench/engine.sh: $BUILD/bench/$program is missing: make bench-engine" >&2
    exit 2
done
export PMEM_IS_PMEM_FORCE=1
machine_facts "$cpu"
taskset -c "$cpu" "$BUILD/bench/engine" -n "$KEYS" -r "$ROUNDS" || exit 1
printf '\nload\t%s\n' "$(cut -d' ' -f1-3 /proc/loadavg)"
taskset -c "$cpu" "$BUILD/bench/open" || exit 1
printf 'load\t%s\n' "$(cut -d' ' -f1-3 /proc/loadavg)"
