#!/bin/sh
# A stream leaves TCP, and returns to it, at offsets of its first kilobytes
# while both ends send; then up and down again. A sample of the offsets that
# moves with the date; LONG=1: a larger one (all 4,100 both ways take half an
# hour: RANGES="0-4100").
. "$(dirname "$0")/lib.inc"
limit=600
if [ -n "$RANGES" ]; then
    ranges=$RANGES
elif [ -n "$LONG" ]; then
    at=$(($(date +%s) % 3700))
    ranges="0-199 $at-$((at + 150)) 4080-4110"
elif [ "$SLOW" -gt 1 ]; then
    at=$(($(date +%s) % 3900))
    ranges="0-1 $at-$((at + 2)) 4095-4096"
else
    at=$(($(date +%s) % 3900))
    ranges="0-12 $at-$((at + 20)) 4094-4097"
fi
offsets=0
for way in up return; do
    for ring in 4096 $([ "$SLOW" -gt 1 ] || echo 65536); do
        settings="FASTSOCK_RING_SIZE=$ring"
        [ $way = up ] && settings="$settings FASTSOCK_UPGRADE_AFTER=3"
        for range in $ranges; do
            shim "$P/offsets" "${range%-*}" "${range#*-}" $way \
                >"$dir/out" 2>&1 ||
                fail "$way ring $ring offsets $range: exit $?" \
                    "$(tail -n 1 "$dir/out")"
            offsets=$((offsets + ${range#*-} - ${range%-*} + 1))
        done
    done
done
ups=$(counter streams_up) returns=$(counter returns)
[ "$ups" -ge $offsets ] || fail "only $ups handovers for $offsets connections"
[ "$returns" -ge $((offsets)) ] || fail "only $returns returns"
[ "$(counter broken)" -eq 0 ] || fail "$(counter broken) broken"

# Full speed both ways, forced back again and again, with each way to wait.
seed=$(date +%s)
runs=$([ -n "$LONG" ] && echo 2 || echo 1)
limit=40
moved=0
while [ "$runs" -gt 0 ]; do
    runs=$((runs - 1)) seed=$((seed + 1))
    for wait in $waits; do
        for more in processes threads; do
            settings="FASTSOCK_UPGRADE_AFTER=$((seed % 60))"
            shim "$P/streams" $wait 4 $seed $((30000000 / SLOW)) $more \
                returns=5 delay=10 >"$dir/out" 2>&1 || fail "streams $wait $more seed $seed:" \
                "exit $? $(tail -n 1 "$dir/out")"
            moved=$((moved + 1))
        done
    done
done
[ "$(counter broken)" -eq 0 ] || fail "$(counter broken) broken"
finish "$offsets connections, $ups ends went up, $returns returned;" \
    "$moved streams, $(($(counter returns) - returns)) more returns"
