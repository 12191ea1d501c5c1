#!/bin/sh
# A program of somebody else's, built against what `make install` installs:
# with the shared library, with the static one; the examples; and what the
# shared one shows.
dir=$(mktemp -d) || exit 2
trap 'rm -rf "$dir"' EXIT
fail() { echo "kvpool_library.sh: $*"; exit 1; }

make --no-print-directory B="$BUILD" DESTDIR="$dir" PREFIX=/usr install \
    >"$dir/log" 2>&1 || { cat "$dir/log"; fail 'make install'; }
[ -s "$dir/usr/share/man/man3/kvpool.3" ] || fail 'no manual page'
cat >"$dir/program.c" <<'EOF'
#include <kvpool.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    struct kv_region_options options = {.size = 1 << 20};
    struct kv_options how = {.contiguous = true};
    struct kv_region *region;
    struct kv_item item;
    struct kv *kv;
    char error[256] = "", key[30000];
    if (argc != 2 ||
        kv_region_open(argv[1], &options, &region, error, sizeof(error)) < 0 ||
        kv_pool_create(region, "mine", 0, error, sizeof(error)) < 0 ||
        kv_pool_open(region, "mine", &how, &kv, error, sizeof(error)) < 0) {
        puts(error);
        return 1;
    }
    memset(key, 'k', sizeof(key));
    if (kv_store(kv, KV_SET, key, sizeof(key), 0, 0, 0, "value", 5, NULL) !=
            KV_OK ||
        kv_commit(kv) != KV_OK ||
        kv_get(kv, key, sizeof(key), &item) != KV_OK ||
        memcmp(item.value, "value", 5) != 0)
        return 2;
    return kv_close(kv) < 0 || kv_region_close(region) < 0 ? 3 : 0;
}
EOF
lib=$dir/usr/lib
${CC:-gcc} -std=c99 -Wall -Wextra -Werror -I"$dir/usr/include" \
    -o "$dir/shared" "$dir/program.c" -L"$lib" -lkvpool ||
    fail 'shared: does not build'
LD_LIBRARY_PATH=$lib "$dir/shared" "$dir/a" || fail "shared: exit $?"
${CC:-gcc} -std=c99 -I"$dir/usr/include" -o "$dir/static" "$dir/program.c" \
    "$lib/libkvpool.a" -lpmem || fail 'static: does not build'
"$dir/static" "$dir/b" || fail "static: exit $?"
for example in docs/examples/*.c; do
    name=$(basename "$example" .c)
    ${CC:-gcc} -std=c99 -Wall -Wextra -Werror -I"$dir/usr/include" \
        -o "$dir/$name" "$example" -L"$lib" -lkvpool -pthread ||
        fail "$example: does not build"
    LD_LIBRARY_PATH=$lib "$dir/$name" "$dir/$name.pool" >"$dir/log" 2>&1 || {
        rc=$?
        cat "$dir/log"
        fail "$example: exit $rc"
    }
done
nm -D --defined-only "$lib/libkvpool.so" |
    awk '$2 == "T" { sub(/@.*/, "", $3); print $3 }' | sort >"$dir/shown"
grep -o '\<kv_[a-z_]*(' store/engine/engine.h | tr -d '(' | sort -u |
    grep -v '^kv_visit$\|^kv_pool_visit$\|^kv_evicted$\|^kv_missed$\|^kv_shared_call$' >"$dir/promised"
diff "$dir/promised" "$dir/shown" ||
    fail 'the header and libkvpool.so name different functions'
echo "$(wc -l <"$dir/shown") functions, shared and static"
