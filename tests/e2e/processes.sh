#!/bin/sh
# dup, fork, vfork, exec, posix_spawn, system, popen, daemon, SCM_RIGHTS to a
# program without the library, fdopen, sendfile, close_range, EMFILE: each case
# on the kernel and with a stream that had left TCP says the same.
. "$(dirname "$0")/lib.inc"
limit=15
kernel "$P/processes" >"$dir/kernel" 2>"$dir/kernel.err" ||
    fail "on the kernel: $(cat "$dir/kernel.err")"
cases=0
rounds=$([ -n "$LONG" ] && echo 8 || echo 1)
while [ "$rounds" -gt 0 ]; do
    rounds=$((rounds - 1))
    for case in $(grep '^[a-z_0-9]*$' "$dir/kernel"); do
        awk -v name="$case" '/^[a-z_0-9]*$/ { on = $1 == name } on' \
            "$dir/kernel" >"$dir/expected"
        forget_reports
        shim "$P/processes" "$case" >"$dir/got" 2>&1 || fail "$case: exit $?"
        if ! cmp -s "$dir/expected" "$dir/got"; then
            fail "$case: differs from the kernel"
            diff "$dir/expected" "$dir/got" >&2
        fi
        [ "$(counter streams_up)" -ge 2 ] || fail "$case: never on a link"
        cases=$((cases + 1))
    done
done
finish "$cases cases as on the kernel"
