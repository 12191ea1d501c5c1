#!/bin/sh
# usage: aarch64.sh unpack folder package...    see aarch64.mk
#        aarch64.sh run                         build and run the unit tests
: "${BUILD:=build}" "${MAKE:=make}"
a64=$BUILD/aarch64

unpack() { # folder package...
    root=$1
    shift
    [ -e "$root/usr/include/check.h" ] && exit 0
    apt=$(mktemp -d) || exit 2
    trap 'rm -rf "$apt"' EXIT
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$root"
    get() {
        apt-get -q -y -o APT::Architecture=arm64 -o APT::Architectures::=arm64 \
            -o Dir::State="$apt" -o Dir::State::lists="$apt/lists" \
            -o Dir::State::status=/dev/null -o Dir::Cache="$apt/cache" \
            -o APT::Sandbox::User= "$@" >>"$apt/log" 2>&1 </dev/null ||
            { tail -n 5 "$apt/log"; exit 1; }
    }
    get update
    get install --download-only --no-install-recommends "$@"
    for deb in "$apt"/cache/archives/*.deb; do
        dpkg -x "$deb" "$root" || exit 1
    done
    # Only libraries and headers; the Makefile takes *.d for lists of headers.
    find "$root" -depth -name '*.d' -exec rm -rf '{}' +
}

missing() {
    echo "$1 is missing; 'make deps-long' gets it"
    exit 77
}

# Both ways that libpmem can see a file: a program that runs itself again for
# that is told not to, since the emulator cannot. The processor is one that has
# no "dc cvap": qemu 7.2 offers that instruction to programs and lacks it. It also
# grants MAP_SYNC on any file, so that check_persist, which asks what a mapping
# is without being forced, is right in one of the ways only.
one() { # program
    export QEMU_LD_PREFIX="$a64/root" QEMU_CPU=cortex-a72
    export CK_TIMEOUT_MULTIPLIER=20 MODEL_STEPS=15000
    ways="-uPMEM_IS_PMEM_FORCE"
    grep -q PMEM_IS_PMEM_FORCE "${1#"$a64"/}.c" && ways="$ways PMEM_IS_PMEM_FORCE=1"
    case $1 in */check_persist) ways=PMEM_IS_PMEM_FORCE=1 ;; esac
    for way in $ways; do
        out=$(env "$way" qemu-aarch64 "$1" once 2>&1) || {
            echo "$out" | tail -n 40
            echo "$1 fails on aarch64 under env $way"
            exit 1
        }
    done
}

run() {
    cd "$(dirname "$0")/.." || exit 2
    command -v aarch64-linux-gnu-gcc >/dev/null || missing "the compiler"
    command -v qemu-aarch64 >/dev/null || missing "qemu-user"
    [ -e "$a64/root/usr/include/check.h" ] || missing "Check for that machine"
    [ -e "$a64/root/usr/include/libpmem.h" ] || missing "libpmem for that machine"
    $MAKE --no-print-directory B="$BUILD" SAN= a64-unit >"$a64/log" 2>&1 || {
        tail -n 40 "$a64/log"
        echo "store/ does not build for aarch64"
        exit 1
    }
    programs=$(find tests/unit/store -name 'check_*.c' | sed "s,^,$a64/,; s,\.c$,,")
    echo "$programs" | xargs -P "$(nproc)" -I'{}' sh "$0" one '{}' || exit 1
    echo "$(echo "$programs" | wc -l) unit programs pass on aarch64"
}

"$@"
