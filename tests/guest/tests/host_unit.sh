#!/bin/sh
# The unit tests under the guest's kernel, but for those that only compute.
. "$(dirname "$0")/../guest.inc"
export CK_TIMEOUT_MULTIPLIER="$SLOW"
total=0
for t in $(find tests/unit -name 'check_*.c' | sort); do
    case $t in
    *_explorer.c | *_schedules.c | *_model.c | */check_crash.c) continue ;;
    esac
    timeout -k 5 120 "$BUILD/${t%.c}" >"$dir/out" 2>&1 || {
        grep -v Checks: "$dir/out"
        fail "$t"
    }
    checks=$(sed -n 's/.*Checks: \([0-9]*\),.*/\1/p' "$dir/out" |
        awk '{ n += $1 } END { print n + 0 }')
    [ "$checks" -gt 0 ] || fail "$t made no check"
    total=$((total + checks))
done
echo "$total unit tests under Linux $(uname -r)"
