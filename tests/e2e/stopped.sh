#!/bin/sh
# What cannot come back in time is reset, never read as data; and a signal
# handler that writes into its own thread's write hangs nobody.
. "$(dirname "$0")/lib.inc"
limit=40
for way in '' handler; do
    # shellcheck disable=SC2086
    shim "$P/stopped" $way >"$dir/out" 2>"$dir/err" ||
        fail "stopped $way: exit $? $(tail -n 1 "$dir/err")"
    [ "$(cat "$dir/out")" = clean ] || fail "stopped $way: $(cat "$dir/out")"
done
finish 'an exec beside a stopped peer reads no record, a handler hangs nobody'
