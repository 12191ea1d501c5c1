#!/bin/bash
# One test of tests/guest/crash/: two boots on the same NVDIMMs, of which the
# first ends in a crash. The script is run with "before", and has to make
# /run/job/CRASH in the middle of its work, then with "after". $SHARE is a
# folder of the host's that both see.
# usage: BUILD=build crash_run.sh SCRIPT
set -u
here=$(cd "$(dirname "$0")" && pwd)
cache=${FASTSOCK_GUEST_CACHE:-$here/../../build/guest}
mkdir -p "$cache"
work=$(mktemp -d "$(cd "$cache" && pwd)/crash.XXXXXX") || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
export SHARE=$work/share SLOW=10
mkdir "$SHARE"

boot() { # before or after
    "$here/guest_run.sh" -t 600 --pmem "$work/fsdax:256M" \
        --pmem "$work/devdax:128M" --rw "$SHARE" \
        --env SHARE --env BUILD --env SLOW -- sh "$1" "$2"
}

boot "$1" before
rc=$?
if [ $rc -ne 137 ]; then
    echo "$1 before: exit $rc, expected a crash"
    exit 1
fi
boot "$1" after
