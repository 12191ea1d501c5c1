#!/bin/sh
# The command kvpool: the examples of its manual page, exit statuses, what a
# real server leaves, files in use, JSON, dumps that are read by somebody else.
# In memory, where there is room: it is synced all the time.
[ "$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 { print $4 }')" -gt 1000000 ] \
    2>/dev/null && [ -w /dev/shm ] && export TMPDIR=/dev/shm
. "$(dirname "$0")/lib.inc"
PATH=$BUILD:$PATH
man=$here/../../docs/man/kvpool.1
cd "$dir" || exit 2

# expect STATUS WORDS command...: it ends so and says these words somewhere.
expect() {
    want=$1 words=$2
    shift 2
    timeout $((20 * SLOW)) "$@" >out 2>err </dev/null
    got=$?
    [ $got -eq "$want" ] || {
        fail "$*: exit $got, not $want: $(head -n 2 err)"
        return
    }
    cat out err >all
    grep -qF -- "$words" all || fail "$*: does not say '$words': $(cat all)"
}

spoil() { # file offset: another byte is there
    was=$(dd if="$1" bs=1 skip="$2" count=1 status=none | tr -d '\0')
    [ "$was" = X ] && byte=Y || byte=X
    printf $byte | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# Each line of an example, as it stands.
sed -n '/^\.SH EXAMPLES/,/^\.SH SEE/p' "$man" |
    sed -n '/^\.nf/,/^\.fi/p' | sed '/^\./d; s/\\-/-/g' >examples
[ "$(wc -l <examples)" -ge 8 ] || fail "the manual page has no examples"
while read -r line; do
    sh -c "$line" >out 2>err </dev/null ||
        fail "example '$line': exit $?: $(cat err)"
done <examples
grep -q 'users' out err || [ -s copy ] || fail "the examples did nothing"
for word in create info check repair dump load grow delete stats; do
    kvpool help $word >out || fail "no help for $word"
    for option in $(grep -o -- '--[a-z-]*' out | sort -u); do
        sed 's/\\-/-/g' "$man" | grep -qF -- "$option" ||
            fail "the manual page of $word has no $option"
    done
done

# A server, killed in the middle of its work.
start kernel server kvserver -s "$dir/socket" --pool="$dir/live:8M" -M
server=$pid
python3 - "$dir/socket" <<'EOP' || fail 'the server does not store'
import os, socket, sys, time
for i in range(200):
    try:
        s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); break
    except OSError:
        time.sleep(0.02)
f = s.makefile('rwb')
for i in range(500):
    v = bytes((i + j) % 256 for j in range(i * 3))
    f.write(b'set key%d %d 0 %d\r\n' % (i, i, len(v)) + v + b'\r\n')
f.write(b'set gone 0 1 1\r\nx\r\n'); f.flush()
for i in range(501):
    assert f.readline() == b'STORED\r\n'
EOP
expect 4 "pid $server (kvserver)" kvpool check live
expect 4 "is open in pid $server" kvpool dump -o never live
expect 4 "stop that program" kvpool grow --size 16M live
expect 4 "stop that program" kvpool repair --yes live
expect 4 "stop that program" kvpool delete --yes --pool default live
expect 0 "open: pid $server (kvserver)" kvpool info live
kill -9 "$server"
wait "$server" 2>/dev/null
sum=$(md5sum <live)
expect 0 "in use when its program ended" kvpool check live
expect 0 "501 items" kvpool stats live
expect 0 "pool default" kvpool info live
expect 0 "nothing to repair" kvpool repair --yes live
[ "$sum" = "$(md5sum <live)" ] || fail "what only reads has written"
[ ! -e live.undo ] || fail "an undo file of nothing"
sleep 1.1
expect 0 "500 items" kvpool dump -o dump live
python3 - dump <<'EOP' || fail 'the dump is not as docs/dump.md says'
import sys, zlib
d = open(sys.argv[1], 'rb').read()
head, at, n = d.split(b'\n\n', 1)[0].split(b'\n'), d.index(b'\n\n') + 2, 0
assert head[0] == b'kvpool dump 1' and head[1] == b'pool default'
while True:
    assert d[at:at+1] == b'\n'
    end = d.index(b'\n', at + 1)
    line, before = d[at+1:end].split(), at
    at = end + 1
    if line[0] == b'end':
        assert [int(line[1]), int(line[2])] == [n, before] and at == len(d)
        break
    klen, vlen = int(line[1]), int(line[2])
    text = b' '.join(line[1:6])
    assert zlib.crc32(text + d[at:at+klen+vlen]) == int(line[6], 16)
    i = int(d[at+3:at+klen])
    assert d[at+klen:at+klen+vlen] == bytes((i + j) % 256 for j in range(i * 3))
    assert int(line[3]) == i
    at, n = at + klen + vlen, n + 1
assert n == 500
EOP

# There and back: the same items with the same cas ids.
expect 0 "500 items loaded, with their cas ids" kvpool load back dump
expect 0 "" kvpool dump -o dump2 back
items() { # sorted, without the head
    python3 -c 'import re, sys
d = open(sys.argv[1], "rb").read()
print(sorted(re.findall(rb"\nitem [^\n]*", d)))' "$1"
}
[ "$(items dump)" = "$(items dump2)" ] || fail "items changed on the way"
expect 0 "0 items loaded" kvpool load --keep back dump
expect 0 "500 items loaded, with new" kvpool load back dump
expect 0 "500 items" kvpool check back

# The longest key there and back, and one byte more.
long_dump() {
    python3 - "$1" <<'EOP'
import sys, zlib
key, head = b'k' * int(sys.argv[1]), b'kvpool dump 1\npool long\nsize 1048576\ntime 1\n'
text = b'%d 5 1 0 9' % len(key)
item = b'\nitem %s %08x\n' % (text, zlib.crc32(text + key + b'value')) + key + b'value'
bytes = head + b'\n' + item
sys.stdout.buffer.write(bytes + b'\nend 1 %d\n' % len(bytes))
EOP
}
long_dump 65536 >long
expect 0 "1 items loaded" kvpool load longest long
expect 0 "1 items" kvpool check longest
expect 0 "" kvpool dump -o long2 longest
[ "$(items long)" = "$(items long2)" ] || fail "the longest key changed"
long_dump 65537 >long
expect 5 "expected 'item" kvpool load too_long long

# Dumps with a mistake: nothing is changed, or it says how far it came.
sum=$(md5sum <back)
head -c 5000 dump >short
expect 5 "nothing was changed" kvpool load back short
expect 5 "nothing was changed" kvpool load new short
cp dump other
spoil other $(($(grep -abo key499 dump | head -n 1 | cut -d: -f1) + 500))
expect 5 "do not match its sum" kvpool load back other
expect 5 "this is no dump" kvpool load back live
sed 's/^kvpool dump 1/kvpool dump 2/' dump >later
expect 5 "knows version 1" kvpool load back later
[ "$sum" = "$(md5sum <back)" ] || fail "a bad dump has changed the pool"
[ ! -e new ] || fail "a bad dump has made a pool"
cat short | kvpool load new >out 2>err && fail "a pipe that ends too early"
grep -q 'items are loaded and stay' err || fail "how far: $(cat err)"
expect 0 "" kvpool check new
rm -f tiny
expect 5 "no room for more" kvpool load --size 300K tiny dump
expect 0 "" kvpool check tiny
expect 0 "loaded 100%" kvpool load --progress again dump
expect 0 "checked 100%" kvpool check --progress again

# Refusals and statuses.
expect 2 "see 'kvpool help'" kvpool nonsense
expect 2 "expected one FILE" kvpool check
expect 2 "not '--nonsense'" kvpool check --nonsense back
expect 2 "expected a size" kvpool create --size much file
expect 3 "cannot be opened" kvpool check not_there
expect 3 "is not a fastsock pool" kvpool check dump
: >empty
expect 3 "is empty" kvpool info empty
expect 3 "neither a regular file" kvpool check "$dir"
expect 3 "choose one of" kvpool dump --pool none -o never pools
expect 5 "exists already" kvpool create --size 1M back
expect 3 "at least" kvpool create --size 1M --grain 4K --pool a=1 made
[ ! -e made ] || fail "a pool that failed is left"
expect 0 "made" kvpool create --size 1M --mode 0640 --pool a=256K made
[ "$(stat -c %a made)" = 640 ] || fail "the mode is $(stat -c %a made)"
expect 5 "free bytes" kvpool create --add --pool b=8M made
expect 0 "pool b" kvpool create --add --pool b made
expect 3 "cannot shrink" kvpool grow --size 512K made
expect 0 "none of its 2 pools" kvpool grow --size +1M made
expect 0 "pool b" kvpool grow --pool b made
expect 0 "2 pools" kvpool check made

# A pool goes, with its bytes if that is wanted, and nothing else.
for name in a b; do
    python3 - $name >one <<'EOP'
import sys, zlib
k, v = b'key', b'value-of-' + sys.argv[1].encode() * 50
h = b'%d %d 0 0 1' % (len(k), len(v))
d = b'kvpool dump 1\npool x\nsize 262144\ntime 5\n\n'
d += b'\nitem %s %08x\n' % (h, zlib.crc32(h + k + v)) + k + v
sys.stdout.buffer.write(d + b'\nend 1 %d\n' % len(d))
EOP
    expect 0 "1 items loaded" kvpool load --pool $name made one
done
cp made made2
sum=$(md5sum <made)
expect 2 "expected --pool" kvpool delete --yes made
expect 2 "expected --yes" kvpool delete --pool a made
[ "$sum" = "$(md5sum <made)" ] || fail "a refused delete has written"
expect 3 'has no pool "c"' kvpool delete --yes --pool c made
expect 0 "2 pools" kvpool check made
expect 0 "1 left" kvpool delete --yes --pool a made
expect 0 "1 pool" kvpool check made
expect 0 "value-of-bbbb" kvpool dump made
expect 0 '"zeroed": true' kvpool delete --yes --zero --json --pool a made2
grep -qa value-of-aaaa made2 && fail "a zeroed pool can still be read"
expect 0 "value-of-bbbb" kvpool dump made2
expect 0 "0 left" kvpool delete --yes --zero --pool b made2
grep -qa value-of-b made2 && fail "a zeroed pool can still be read"
expect 0 "" kvpool check made2
expect 0 "pool a" kvpool create --add --pool a made2

# Damage, told and mended and taken back.
cp back whole
spoil back 64
spoil back 210
cp back hurt
expect 1 "the checksum tells the word" kvpool check back
expect 1 "nothing was changed" kvpool repair back
cmp -s back hurt || fail "repair without --yes has written"
expect 1 "damaged" kvpool info back
expect 0 "back.undo" kvpool repair --yes back
expect 0 "500 items" kvpool check back
cmp -s back whole || fail "a header that was mended is another one"
expect 1 "would be put back" kvpool repair --undo back.undo back
expect 1 '"changed": false' kvpool repair --json --undo back.undo back
expect 0 "as they were" kvpool repair --yes --undo back.undo back
cmp -s back hurt || fail "an undone repair leaves something"
expect 5 "File exists" kvpool repair --yes back
expect 0 "other.undo" kvpool repair --yes --backup other.undo back
truncate -s -1M back
expect 1 "truncated" kvpool check back
expect 0 "" kvpool repair --yes --no-backup back
expect 0 "" kvpool check back
expect 0 "" kvserver -V
head -c 3000 whole >stub
expect 1 "only the first 3000 bytes" kvpool check stub

# A file that is cut short while it is read.
python3 - >many <<'EOP'
import sys, zlib
d = b'kvpool dump 1\npool default\nsize 8388608\ntime 5\n\n'
for i in range(200):
    k, v = b'key%d' % i, bytes(30000)
    h = b'%d %d 0 0 %d' % (len(k), len(v), 1 + i)
    d += b'\nitem %s %08x\n' % (h, zlib.crc32(h + k + v)) + k + v
sys.stdout.buffer.write(d + b'\nend 200 %d\n' % len(d))
EOP
expect 0 "200 items" kvpool load cut many
mkfifo pipe
timeout $((20 * SLOW)) kvpool dump cut >pipe 2>err </dev/null &
dump=$!
{ dd bs=100 count=1 of=out status=none; truncate -s 1M cut; cat; } <pipe >out
wait $dump
got=$?
[ $got -eq 1 ] || fail "a file that is cut short: exit $got: $(cat err)"
grep -q 'cannot be read' err || fail "a file that is cut short: $(cat err)"
expect 1 "truncated" kvpool check cut

# JSON that somebody else can read.
for command in info check stats repair; do
    kvpool $command --json hurt >json
    python3 -m json.tool json >out 2>&1 || fail "$command --json: $(cat out)"
done
kvpool check --json not_there >json 2>err
python3 -m json.tool json >out 2>&1 || fail "a refusal is no JSON"
kvpool dump --json -o d3 whole >json 2>err
python3 -m json.tool json >out 2>&1 || fail "dump --json"
kvpool load --json --pool default whole d3 >json
python3 -m json.tool json >out 2>&1 || fail "load --json"
finish "examples, a killed server, dumps, refusals, damage and JSON"
