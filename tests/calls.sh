#!/bin/sh
# docs/calls.md is whole and true: every symbol of libc.so.6 is in it or in
# calls_without_descriptor.txt and not in both, every symbol that
# libfastsock.so shows is in it, each row of its tables names a test, and the
# tests that it names exist. Nothing is in them that libc does not have.
: "${BUILD:=build}"
BUILD=$(cd "$BUILD" && pwd) || exit 2
cd "$(dirname "$0")/.." || exit 2
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
bad=0

complain() { # what, then names on standard input
    while read -r name; do
        echo "$name: $1"
        bad=1
    done
}

# Versions of libc are symbols of their own, of type A.
symbols() {
    nm -D --defined-only "$1" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' |
        sort -u
}

libc=$(ldd "$BUILD/libfastsock.so" | sed -n 's/.*libc\.so\.6 => \([^ ]*\).*/\1/p')
symbols "$libc" >"$work/libc"
symbols "$BUILD/libfastsock.so" >"$work/ours"
grep -o '`[A-Za-z_][A-Za-z0-9_]*`' docs/calls.md | tr -d '`' | sort -u >"$work/table"
sed 's/#.*//' tests/calls_without_descriptor.txt | tr -s ' ' '\n' |
    grep . | sort -u >"$work/without"
[ -s "$work/libc" ] && [ -s "$work/ours" ] || {
    echo "no symbols in $libc or in libfastsock.so"
    exit 1
}

sort -u "$work/table" "$work/without" >"$work/known"
comm -23 "$work/libc" "$work/known" >"$work/out"
complain "in neither docs/calls.md nor tests/calls_without_descriptor.txt" <"$work/out"
comm -12 "$work/table" "$work/without" >"$work/out"
complain "both in docs/calls.md and in tests/calls_without_descriptor.txt" <"$work/out"
comm -23 "$work/ours" "$work/table" >"$work/out"
complain "libfastsock.so shows it, docs/calls.md does not" <"$work/out"
sort -u "$work/libc" "$work/ours" >"$work/real"
comm -23 "$work/known" "$work/real" >"$work/out"
complain "neither libc nor libfastsock.so has it" <"$work/out"

# Rows of tables but their heads: the last column is tests, each in backticks.
grep '^| ' docs/calls.md | grep -v '^| calls | what' >"$work/rows"
awk -F'|' '$4 !~ /`[a-z_]+: [a-z0-9_-]+`/ { print $2 }' "$work/rows" >"$work/out"
complain "this row names no test" <"$work/out"
grep -o '`[a-z_]\{1,\}: [a-z0-9_-]\{1,\}`' docs/calls.md | tr -d '`' | sort -u >"$work/tests"
while read -r program case; do
    grep -q "\"$case\"" "tests/e2e/${program%:}.c" 2>/dev/null ||
        echo "$program $case"
done <"$work/tests" >"$work/out"
complain "docs/calls.md names this test, and there is none" <"$work/out"
[ $bad -eq 0 ] && echo "$(wc -l <"$work/libc") symbols, $(wc -l <"$work/tests") tests"
exit $bad
