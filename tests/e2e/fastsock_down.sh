#!/bin/sh
# The administrator brings streams back to TCP and lets them go again: at
# rest, in full traffic, for one descriptor and for a process with all that
# it will have. The programs notice nothing.
. "$(dirname "$0")/lib.inc"
tool=$BUILD/fastsock
limit=60

# rows PATTERN: how many lines of `fastsock ss` about our ends have it
rows() {
    "$tool" ss | awk -v pids=" $ends " -v want="$1" '
        { split($1, at, "/") }
        index(pids, " " at[1] " ") && $0 ~ want { n++ }
        END { print n + 0 }'
}

until_rows() { # PATTERN N: within 30 s, or it is no use to go on
    end=$(($(date +%s) + 30 * SLOW))
    until [ "$(rows "$1")" = "$2" ]; do
        [ "$(date +%s)" -lt $end ] || {
            fail "never $2 of '$1': $("$tool" ss)"
            for one in $ends; do "$tool" explain "$one" >&2; done
            finish
        }
        sleep 0.02
    done
}

# run NAME ARGUMENTS...: the two ends of one stream, in the background
run() {
    name=$1
    shift
    start shim "$name" "$P/streams" "$@"
    main=$pid
    tries=0
    until ends=$(pgrep -P "$main" | tr '\n' ' ') && [ -n "$ends" ] ||
        [ $tries -gt 500 ]; do
        tries=$((tries + 1))
        sleep 0.02
    done
    ends="$main $ends"
}

says() { # STATUS PATTERN command...
    want=$1 pattern=$2
    shift 2
    "$@" >"$dir/said" 2>&1
    rc=$?
    [ $rc -eq "$want" ] && grep -q -- "$pattern" "$dir/said" ||
        fail "$*: exit $rc, $(cat "$dir/said")"
}

# At rest, but for greetings. What is sent after the last down goes by TCP.
run rest blocking 4 "$(date +%s)" 2000000 "until=$dir/go"
until_rows ' shm ' 2
# shellcheck disable=SC2086
set -- $ends
first=$1 second=${2:-$1}
says 0 'on kernel TCP.*fastsock up' "$tool" down "$first"
until_rows ' tcp .* administrator$' 2
until_rows ' shm ' 0
says 0 'may leave kernel TCP again' "$tool" up "$first"
until_rows ' shm ' 2
fd=$("$tool" ss -p "$second" | sed -n "s,^$second/[^ ]*  *\([0-9]*\) .*,\1,p" | head -n 1)
says 0 "Descriptor $fd .*stays" "$tool" down "$second/$fd"
until_rows ' tcp .* administrator$' 2
says 0 'administrator' "$tool" explain "$second/$fd"
says 1 'no connected TCP socket' "$tool" down "$second/999"
says 2 'expected PID' "$tool" down "$second/x"
says 2 'expected PID' "$tool" up
says 1 'no streams' "$tool" down $$
: >"$dir/go"
wait "$main" || fail "at rest: exit $?: $(cat "$dir/rest.err")"
[ "$(counter link_bytes_out)" -lt 100000 ] ||
    fail "at rest: $(counter link_bytes_out) bytes by link"

# In full traffic, again and again.
forget_reports
run traffic epoll-et 4 "$(date +%s)" $((SLOW == 1 ? 400000000 : 20000000))
tries=0 # the first time it is on a link
until [ "$(rows ' shm ')" = 2 ] || [ $tries -gt 100 ]; do
    tries=$((tries + 1))
done
toggles=0
while kill -0 "$main" 2>/dev/null && [ $toggles -lt 20 ]; do
    for one in $ends; do
        "$tool" down "$one" >/dev/null 2>&1 && toggles=$((toggles + 1))
        "$tool" up "$one" >/dev/null 2>&1
    done
done
wait "$main" || fail "traffic: exit $?: $(cat "$dir/traffic.err")"
[ "$(counter returns)" -ge 2 ] || fail "traffic: $(counter returns) returns"
[ "$(counter link_bytes_out)" -gt 0 ] || fail "traffic: never on a link"
[ "$(counter broken)" -eq 0 ] || fail "traffic: $(counter broken) broken"

# A process as a whole: what connects later stays as well.
returns=$(counter returns)
start shim server "$P/echo_server" "$dir/port"
server=$pid
wait_for_line "$dir/port" . || fail "no port"
mkfifo "$dir/fifo"
exec 9<>"$dir/fifo"
hold() { # NAME: one connection that is kept until fd 9 closes
    (
        exec 9>&-
        shim "$P/hold" "$(cat "$dir/port")" 1 3 <"$dir/fifo" >"$dir/$1" 2>&1
    ) &
    background="$background $!"
    wait_for_line "$dir/$1" holding || fail "$1: $(cat "$dir/$1")"
}
ends=$server
hold early
until_rows ' shm ' 1
says 0 '1 stream of process .* is on kernel TCP' "$tool" down "$server"
hold late
until_rows ' tcp .* administrator$' 2
says 0 '2 streams .* may leave' "$tool" up "$server"
until_rows ' shm ' 2
exec 9>&-
kill -TERM "$server"
wait
finish "$toggles times down in full traffic, $returns returns, every byte in its place"
