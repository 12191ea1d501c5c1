#!/bin/sh
# The unit tests of what asks the kernel for something, under the guest's. The
# others compute: they say the same everywhere.
. "$(dirname "$0")/../guest.inc"
export CK_TIMEOUT_MULTIPLIER="$((4 * SLOW))"
modules="config/log
    preload/backends preload/segment preload/stats preload/waiter
    store/pm/guard store/pm/persist store/pm/pool store/pm/region
    store/server/acceptor store/server/connection
    transport/bell transport/lock transport/loop transport/reach
    transport/shared_memory transport/backend/shm transport/backend/shm_channel
    transport/backend/shm_meeting"
total=0
for module in $modules; do
    t=tests/unit/${module%/*}/check_${module##*/}
    timeout -k 5 $((60 * SLOW)) "$BUILD/$t" >"$dir/out" 2>&1 || {
        grep -v Checks: "$dir/out"
        fail "$t"
    }
    checks=$(sed -n 's/.*Checks: \([0-9]*\),.*/\1/p' "$dir/out" |
        awk '{ n += $1 } END { print n + 0 }')
    [ "$checks" -gt 0 ] || fail "$t made no check"
    total=$((total + checks))
done
echo "$total unit tests under Linux $(uname -r)"
