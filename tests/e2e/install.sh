#!/bin/sh
# `make install` puts everything where the literal line of the README finds it:
#     LD_PRELOAD=libfastsock.so kvserver
dir=$(mktemp -d) || exit 2
trap 'rm -rf "$dir"' EXIT
fail() { echo "install.sh: $*"; exit 1; }

make --no-print-directory B="$BUILD" DESTDIR="$dir" PREFIX=/usr install \
    >"$dir/log" 2>&1 || { cat "$dir/log"; fail 'make install'; }
for file in bin/kvserver bin/fastsock bin/kvpool lib/libfastsock.so \
    share/man/man1/kvserver.1 share/man/man1/fastsock.1 \
    share/man/man1/kvpool.1 \
    share/man/man7/fastsock.7 share/doc/fastsock/README.md; do
    [ -s "$dir/usr/$file" ] || fail "$file is missing"
done
# What ldconfig does for a real installation, LD_LIBRARY_PATH does here.
LD_LIBRARY_PATH=$dir/usr/lib LD_PRELOAD=libfastsock.so \
    "$dir/usr/bin/kvserver" -V >"$dir/out" 2>&1 || fail 'kvserver -V'
grep -q '^kvserver' "$dir/out" && ! grep -q ERROR "$dir/out" ||
    { cat "$dir/out"; fail 'LD_PRELOAD=libfastsock.so kvserver -V'; }
(cd "$BUILD" && LD_PRELOAD=./libfastsock.so ./kvserver -V) >"$dir/out" 2>&1
! grep -q ERROR "$dir/out" || fail 'LD_PRELOAD=./libfastsock.so in build'
needed=$(readelf -d "$dir/usr/lib/libfastsock.so" |
    sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
case $needed in
libc.so.*) ;;
*) [ "$(echo "$needed" | grep -vc '^libc\.so\|^ld-linux')" = 0 ] ||
    fail "libfastsock.so needs more than libc: $needed" ;;
esac
echo "installed, found by name, needs $(echo "$needed" | tr '\n' ' ')only"
