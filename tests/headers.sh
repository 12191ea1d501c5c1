#!/bin/sh
# Every header compiles alone.
bad=0
for h in $(find config transport preload store tests/support -name '*.h' | sort); do
    echo "#include \"$h\"" |
        ${CC:-gcc} -I. -D_GNU_SOURCE -std=c17 -Wall -Wextra -fsyntax-only -x c - || {
        echo "$h does not compile alone"
        bad=1
    }
done
exit $bad
