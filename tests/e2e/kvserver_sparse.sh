#!/bin/sh
# A pool whose file has holes, on a disk without room for them: it is refused
# with a sentence before anything is written, instead of a signal at some
# later store; who only looks can look. With more disk it is a pool as any.
[ -n "$apart" ] || {
    unshare -rm true 2>/dev/null || {
        echo "no disk of our own: unshare -rm fails"
        exit 77
    }
    exec env apart=yes unshare -rm sh "$0"
}
# shellcheck source=tests/e2e/kvserver.inc
. "$(dirname "$0")/kvserver.inc"
disk=$dir/disk
mkdir "$disk"
mount -t tmpfs -o size=1M tmpfs "$disk" || fail "no disk"
trap 'umount -l "$disk"; end_all' EXIT

# The values 0 to 299: stored with "set", looked at with "get".
values() {
    timeout $((30 * SLOW)) python3 - "$port" "$1" <<'EOP' || fail "$1"
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 20)
f = s.makefile("rwb")
for i in range(300):
    value = b"%04d" % i * 250
    if sys.argv[2] == "set":
        f.write(b"set key%d 0 0 1000\r\n%s\r\n" % (i, value))
        expected = b"STORED\r\n"
    else:
        f.write(b"get key%d\r\n" % i)
        expected = b"VALUE key%d 0 1000\r\n%s\r\nEND\r\n" % (i, value)
    f.flush()
    assert f.read(len(expected)) == expected, i
EOP
}

start_kvserver whole -m 8
values set
stop_server "$pid"
cp --sparse=always "$dir/pool" "$disk/pool" || fail "it does not fit"
before=$(md5sum <"$disk/pool")

"$BUILD/kvserver" --pool "$disk/pool" -p -1 -l 127.0.0.1 2>"$dir/full.err"
rc=$?
[ $rc -ne 0 ] && [ $rc -lt 128 ] || fail "on a full disk the server ended with $rc"
grep -q 'bytes allocated: No space left' "$dir/full.err" || fail "no sentence"
"$BUILD/kvpool" check "$disk/pool" >"$dir/checked" 2>&1 ||
    fail "kvpool check: $(cat "$dir/checked")"
grep -q '300 items' "$dir/checked" || fail "kvpool check: $(cat "$dir/checked")"
"$BUILD/kvpool" dump -o "$dir/dump" "$disk/pool" >"$dir/dumped" 2>&1 ||
    fail "kvpool dump: $(cat "$dir/dumped")"
[ "$before" = "$(md5sum <"$disk/pool")" ] || fail "the file is another one"

mount -o remount,size=16M "$disk" || fail "no larger disk"
start_server larger "$BUILD/kvserver" --pool "$disk/pool" --durability process
values get
values set
stop_server "$pid"
[ "$(($(stat -c '%b * %B' "$disk/pool")))" -ge 8388608 ] ||
    fail "there are still holes"
echo "a file with holes is refused where they cannot be filled, else filled"
