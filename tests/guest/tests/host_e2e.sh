#!/bin/sh
# End-to-end tests under the guest's kernel, whose TCP is older or newer than
# the host's.
. "$(dirname "$0")/../guest.inc"
for t in echo_calls handover_offsets; do
    sh "tests/e2e/$t.sh" >"$dir/$t" 2>&1 || {
        cat "$dir/$t"
        fail "$t.sh"
    }
    cat "$dir/$t"
done
tail -q -n 1 "$dir"/* | tr '\n' ';'
echo
