#!/bin/sh
# Many threads of a process that does not run are rung, more than one socket can
# ring: all of them wake up when it goes on.
. "$(dirname "$0")/lib.inc"
limit=50
settings="FASTSOCK_RING_SIZE=4096"
[ "$(ulimit -Sn)" -ge 1024 ] 2>/dev/null ||
    ulimit -Sn 1024 || skip "no 1024 descriptors allowed here"
kernel "$P/crowd" 350 250 >"$dir/kernel" 2>&1 ||
    fail "on the kernel: $(tail -n 1 "$dir/kernel")"
for rest in 250 1000 4000; do # a busy machine may need longer to go up
    forget_reports
    shim "$P/crowd" 350 $rest >"$dir/out" 2>&1 ||
        fail "exit $? $(tail -n 1 "$dir/out")"
    [ "$(counter link_bytes_in)" -lt 560 ] || break
done
[ "$(counter link_bytes_in)" -ge 560 ] ||
    fail "only $(counter link_bytes_in) bytes by link"
finish "350 threads, $(counter link_bytes_in) bytes by link"
