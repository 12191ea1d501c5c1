#!/bin/sh
# kvpool on a DAX device, which can only be mapped, and shared; and on a file on
# persistent memory.
. "$(dirname "$0")/../guest.inc"
. "$guest/pmem.sh"
pmem_up || fail "no persistent memory"
PATH=$BUILD:$PATH
device=/dev/dax1.0
cd "$dir" || exit 2

expect() { # status words command...
    want=$1 words=$2
    shift 2
    timeout $((20 * SLOW)) "$@" >out 2>&1 </dev/null
    got=$?
    [ $got -eq "$want" ] || fail "$*: exit $got: $(head -n 3 out)"
    grep -qF -- "$words" out || fail "$*: no '$words' in: $(head -n 3 out)"
}

python3 - >dump <<'EOP'
import sys, zlib
d = b'kvpool dump 1\npool default\nsize 33554432\ntime 5\n\n'
for i in range(2000):
    k, v = b'key%d' % i, bytes(i % 256 for _ in range(i))
    h = b'%d %d %d 0 %d' % (len(k), len(v), i, 1000 + i)
    d += b'\nitem %s %08x\n' % (h, zlib.crc32(h + k + v)) + k + v
sys.stdout.buffer.write(d + b'\nend 2000 %d\n' % len(d))
EOP
rm -f /mnt/pmem/tool
expect 0 "2000 items loaded, with their" kvpool load /mnt/pmem/tool dump
expect 0 "2000 items" kvpool check /mnt/pmem/tool
expect 0 "default" kvpool create $device
expect 5 "already" kvpool create $device
expect 0 "2000 items loaded, with their" kvpool load $device dump
expect 0 "2000 items" kvpool check $device
expect 0 "closed in order" kvpool info $device
expect 0 "2000 items" kvpool stats $device
expect 0 "2000 items" kvpool dump -o back $device
rm -f /mnt/pmem/other
expect 0 "2000 items loaded" kvpool load /mnt/pmem/other back

poke() { # offset: another byte there
    python3 - $device "$1" <<'EOP'
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
m = mmap.mmap(fd, 2 << 20, mmap.MAP_SHARED)
m[int(sys.argv[2])] ^= 0xff
EOP
}
poke 64
poke 0
expect 1 "the checksum tells the word" kvpool check $device
expect 1 "nothing was changed" kvpool repair $device
expect 5 "say with --backup" kvpool repair --yes $device
expect 0 "undo" kvpool repair --yes --backup "$dir/undo" $device
expect 0 "2000 items" kvpool check $device
expect 0 "as they were" kvpool repair --yes --undo "$dir/undo" $device
expect 1 "the first 8 bytes" kvpool check $device
expect 0 "words were changed" kvpool repair --yes --no-backup $device
expect 0 "2000 items" kvpool check $device
rm -f /mnt/pmem/tool /mnt/pmem/other
echo "kvpool makes, loads, checks, dumps and repairs a device"
