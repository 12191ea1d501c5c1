#!/bin/sh
# rsync daemon (a process per connection), up and down, and a second time.
. "$(dirname "$0")/frame.inc"
needs rsync
mkdir -p "$dir/from/deep/er"
cp "$(blob 20000000)" "$dir/from/big"
i=0
while [ $i -lt 200 ]; do
    head -c $((i * 131)) "$(blob 20000000)" >"$dir/from/deep/er/$i"
    i=$((i + 1))
done

server() {
    cat >"$dir/rsyncd.conf" <<END
use chroot = no
pid file = $dir/rsyncd.pid
lock file = $dir/rsyncd.lock
$([ "$(id -u)" -ne 0 ] || printf 'uid = root\ngid = root\n')
[all]
path = $dir/served
read only = no
END
    rm -rf "$dir/served" "$dir/rsyncd.pid" "$dir/back"
    mkdir "$dir/served"
    launch rsyncd rsync --daemon --no-detach --port "$port" --address 127.0.0.1 \
        --config "$dir/rsyncd.conf"
    wait_for_port "$port"
}

tree() {
    (cd "$1" && find . -type f -exec sha256sum {} + | sort -k 2 | sum)
}

client() {
    at=rsync://127.0.0.1:$port/all
    ours rsync -a "$dir/from/" "$at/"
    echo "exit $?"
    tree "$dir/served"
    printf 'changed' | dd of="$dir/served/big" bs=1 seek=777777 conv=notrunc \
        2>/dev/null
    ours rsync -a --checksum --no-whole-file "$dir/from/" "$at/"
    echo "exit $?"
    tree "$dir/served"
    ours rsync -az "$at/" "$dir/back/"
    echo "exit $?"
    tree "$dir/back"
    ours rsync "$at/none" "$dir/back/" 2>&1 | grep -c 'No such file'
}

# The end that receives is two processes: one reads the connection, one writes.
stays=shared_after_fork least=1
combine
done_with "$(rsync --version | sed -n '1s/.*version \([^ ]*\).*/\1/p')"
