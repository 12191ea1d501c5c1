#!/bin/sh
# The unit programs of store/ under valgrind: no wrong access, and nothing read
# that was never set. In parallel; ONE=program is for one of them.
: "${BUILD:=build}"
if [ -n "$ONE" ]; then
    # Check forks for each test: what a child leaves behind is its own affair.
    # A handler that returns to the access that failed needs all registers.
    case $ONE in *guard*) exact=--vex-iropt-register-updates=allregs-at-mem-access ;; esac
    # shellcheck disable=SC2086
    out=$(valgrind -q --error-exitcode=99 $exact "$ONE" 2>&1) && exit 0
    echo "$out" | tail -n 40
    echo "$ONE is not clean under valgrind"
    exit 1
fi
command -v valgrind >/dev/null || {
    echo "valgrind is missing; on Debian: apt-get install valgrind"
    exit 77
}
case $BUILD in *-address* | *-thread*)
    echo "a sanitizer and valgrind exclude each other"
    exit 77 ;;
esac
export MODEL_STEPS=15000 CK_TIMEOUT_MULTIPLIER=50
programs=$(find tests/unit/store -name 'check_*.c' | sed "s,^,$BUILD/,; s,\.c$,,")
echo "$programs" | xargs -P "$(nproc)" -I'{}' env ONE='{}' sh "$0" || exit 1
echo "$(echo "$programs" | wc -l) unit programs are clean under valgrind"
