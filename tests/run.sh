#!/bin/sh
# Runs groups of tests and ends with "N passed, N failed, N skipped".
# usage: BUILD=build tests/run.sh unit|static|contract|fuzz|crash|stress|
#                                 differential|e2e|programs|guest ...
#        ONLY="word ..." runs only the tests whose name contains one of them.
#        SLOW=10 on a machine that is ten times slower than usual.
# A test is a program or script. Exit 0 is passed, 77 is skipped (its last
# line says why), anything else failed (its output is shown). Unit tests are
# Check programs: each of their checks counts.
: "${BUILD:=build}" "${SLOW:=1}"
BUILD=$(cd "$BUILD" && pwd) || exit 2
export BUILD
# Check's own limit on a test is for one that hangs, not for a busy machine.
: "${CK_DEFAULT_TIMEOUT:=$((30 * SLOW))}"
export CK_DEFAULT_TIMEOUT
cd "$(dirname "$0")/.." || exit 2
passed=0 failed=0 skipped=0
out=$(mktemp) || exit 2
trap 'rm -f "$out"' EXIT

now() { date +%s%N; }

wanted() {
    [ -n "$ONLY" ] || return 0
    for word in $ONLY; do
        case $1 in *"$word"*) return 0 ;; esac
    done
    return 1
}

one() { # name limit command...
    name=$1 limit=$(($2 * SLOW))
    shift 2
    wanted "$name" || return
    start=$(now)
    timeout -k 5 "$limit" "$@" >"$out" 2>&1 </dev/null
    rc=$?
    ms=$((($(now) - start) / 1000000))
    checks=$(sed -n 's/.*Checks: \([0-9]*\), Failures: \([0-9]*\), Errors: \([0-9]*\).*/\1 \2 \3/p' "$out" |
        awk '{ n += $1; f += $2; e += $3 } END { if (NR) print n, f, e }')
    if [ -n "$checks" ]; then
        # shellcheck disable=SC2086
        set -- $checks
        bad=$(($2 + $3)) good=$(($1 - $2 - $3))
    else
        bad=$((rc != 0)) good=$((rc == 0))
    fi
    [ $rc -ne 0 ] && [ $rc -ne 77 ] && [ "$bad" -eq 0 ] && bad=1
    if [ $rc -eq 77 ]; then
        skipped=$((skipped + 1))
        printf 'skip  %-44s %6d ms  %s\n' "$name" "$ms" "$(tail -n 1 "$out")"
        return
    fi
    passed=$((passed + good)) failed=$((failed + bad))
    if [ "$bad" -eq 0 ]; then
        printf 'ok    %-44s %6d ms  %s\n' "$name" "$ms" "$(grep -av Checks: "$out" | tail -n 1 | cut -c1-90)"
    else
        printf 'FAIL  %-44s %6d ms  exit %d\n' "$name" "$ms" "$rc"
        tail -n 60 "$out" | sed 's/^/      | /'
    fi
}

# This script, run elsewhere by a command, once or at the same time more often:
# its lines are shown as they come, its sums are added to ours. One that comes
# to no sums is one failure.
elsewhere() { # name limit runs command...
    name=$1 limit=$2 runs=$3
    shift 3
    timeout -k 5 "$limit" "$@" 2>&1 </dev/null | sed -u 's/\r$//' |
        tee "$out" | sed -u '/^[0-9]* passed, [0-9]* failed, [0-9]* skipped$/d'
    # shellcheck disable=SC2046
    set -- $(awk -F '[ ,]+' '/^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ {
            n++; p += $1; f += $3; s += $5
        } END { print p + 0, f + 0, s + 0, n + 0 }' "$out")
    if [ "$4" -lt "$runs" ]; then
        echo "FAIL  $name: did not come to its end"
        set -- "$1" $(($2 + 1)) "$3"
    fi
    passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
}

for group in "$@"; do
    case $group in
    unit)
        for t in $(find tests/unit -name 'check_*.c' | sort); do
            one "${t%.c}" 60 "$BUILD/${t%.c}"
        done ;;
    static)
        one tests/arrows.sh 30 sh tests/arrows.sh
        one tests/headers.sh 120 sh tests/headers.sh
        one tests/links.sh 30 sh tests/links.sh
        one tests/calls.sh 30 sh tests/calls.sh ;;
    contract)
        for t in tests/contract/check_*.c; do
            one "${t%.c}" 120 "$BUILD/${t%.c}"
        done ;;
    fuzz)
        for t in tests/fuzz/*.c; do
            [ "$t" = tests/fuzz/driver.c ] && continue
            one "${t%.c}" 300 "$BUILD/${t%.c}" ${LONG:+2000000}
        done ;;
    crash)
        one tests/crash/images "$([ -n "$LONG" ] && echo 1500 || echo 600)" \
            "$BUILD/tests/crash/crash" ${LONG:+long}
        one tests/crash/mutants 300 sh tests/crash/mutants.sh
        one tests/crash/sequences 600 sh tests/crash/sequences.sh
        [ -n "$LONG" ] || continue
        one tests/crash/valgrind 600 sh tests/crash/valgrind.sh
        one tests/crash/aarch64 600 sh tests/aarch64.sh run ;;
    stress)
        for t in tests/stress/*.c; do
            one "${t%.c}" "$([ -n "$LONG" ] && echo 900 || echo 300)" \
                "$BUILD/${t%.c}" ${LONG:+long}
        done ;;
    differential)
        one tests/differential/programs "$([ -n "$LONG" ] && echo 1600 || echo 240)" \
            sh tests/differential/programs.sh
        [ -n "$LONG" ] || continue
        one tests/differential/plants 1200 sh tests/differential/plants.sh ;;
    e2e) # mostly they wait, so two run at a time
        elsewhere tests/e2e "$([ -n "$LONG" ] && echo 2400 || echo 600)" 2 \
            sh -c 'sh tests/run.sh e2e_odd & sh tests/run.sh e2e_even; wait' ;;
    e2e_odd | e2e_even)
        turn=odd
        for t in tests/e2e/*.sh; do
            [ $turn != "${group#e2e_}" ] ||
                one "${t%.sh}" "$([ -n "$LONG" ] && echo 600 || echo 180)" sh "$t"
            turn=$([ $turn = odd ] && echo even || echo odd)
        done ;;
    programs)
        for t in tests/programs/*.sh; do
            one "${t%.sh}" 300 sh "$t"
        done ;;
    guest)
        inside=
        for t in tests/guest/tests/*.sh; do
            wanted "${t%.sh}" && inside=yes
        done
        one tests/guest/mkguest 600 bash tests/guest/mkguest.sh
        [ -z "$inside" ] || elsewhere tests/guest/tests 2500 2 \
            bash tests/guest/guest_run.sh --env BUILD --env ONLY --env LONG \
            --pmem 512M --pmem 256M -t 2400 -- env SLOW=10 sh -c \
            'sh tests/run.sh in_guest & sh tests/run.sh beside_in_guest; wait'
        for t in tests/guest/crash/*.sh; do
            one "${t%.sh}" 1200 bash tests/guest/crash_run.sh "$t"
        done ;;
    in_guest) # what the group above starts in there, and beside it those
        # that need no RDMA device
        for t in tests/guest/tests/*.sh; do
            case $t in */host_* | */kvpool_*) continue ;; esac
            one "${t%.sh}" 60 sh "$t"
        done ;;
    beside_in_guest)
        for t in tests/guest/tests/host_*.sh tests/guest/tests/kvpool_*.sh; do
            one "${t%.sh}" 60 sh "$t"
        done ;;
    esac
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
