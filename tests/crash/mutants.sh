#!/bin/sh
# Every mutant with its verdict; and every place of the engine that stores,
# flushes or fences is among them: one that no script comes to would be left out
# without a word.
: "${BUILD:=build}"
cd "$(dirname "$0")/../.." || exit 2
out=$("$BUILD/tests/crash/crash" mutants)
rc=$?
echo "$out"
[ $rc -eq 0 ] || exit $rc
# (What clears a device is for a device only.)
places=$(find store/engine store/pm -name '*.c' ! -name persist.c -exec awk '
    FNR == 1 { file = FILENAME; sub(".*/", "", file) }
    /^[a-z].*\(/ { function_line = $0; next }
    /[^a-z_](pm_(copy|filled|flush|fence)|durable_set|region_set)\(/ &&
        function_line !~ / clear_device\(/ { print file ":" FNR }' '{}' +)
[ "$(echo "$places" | wc -l)" -gt 30 ] || {
    echo "only these places were found: $places"
    exit 1
}
for place in $places; do
    echo "$out" | grep -qF "($place)" || missing="$missing $place"
done
[ -z "$missing" ] || echo "no script comes to:$missing"
[ -z "$missing" ]
