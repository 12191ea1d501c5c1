#!/bin/sh
# Machines that lack something of RDMA: without a device, without the module,
# with a module that is none. Streams stay on TCP, every byte right; ss and
# explain say why and what to do; a process that needs nothing of RDMA loads
# nothing of it. It runs in name spaces of its own, where /sys/class shows what
# the test puts there; where those are not allowed only what this machine is.
for kind in -mn -rmn; do
    [ -z "$apart" ] &&
        unshare $kind sh -c 'mount --bind /etc /sys/class' 2>/dev/null &&
        exec env apart=yes unshare $kind sh "$0"
done
. "$(dirname "$0")/lib.inc"
. "$here/reasons.inc"
settings="FASTSOCK_TRANSPORTS=verbs FASTSOCK_LOG_LEVEL=warn"
if [ -n "$apart" ]; then
    mkdir "$dir/class" && mount --bind "$dir/class" /sys/class &&
        ip link set lo up && ip addr add 10.9.0.1/32 dev lo ||
        fail "no machine of its own"
    export E2E_ADDRESS=10.9.0.1
elif [ -n "$(ls /sys/class/infiniband 2>/dev/null)" ]; then
    skip "there is a device, and name spaces to hide it are not allowed"
fi

# loads_none PID: of RDMA.
loads_none() {
    grep -q '/libfastsock\.so$' "/proc/$1/maps" ||
        fail "pair $pairs: $1 does not carry the library"
    ! grep -E 'libibverbs|librdmacm|libfastsock-verbs' "/proc/$1/maps" ||
        fail "pair $pairs: $1 has loaded that"
}

# logged N WORDS: so many lines of each end, one of which is worth having.
logged() {
    for end in server client; do
        [ "$(wc -l <"$dir/$end.err")" -eq "$1" ] &&
            [ "$(grep -c "$2" "$dir/$end.err")" -eq "$1" ] ||
            fail "pair $pairs: expected $1 times '$2': $(cat "$dir/$end.err")"
    done
}

needs=$(ldd "$BUILD/libfastsock.so" | sed 's/^[[:space:]]*//; s/ .*//' |
    grep -v -E '^(linux-vdso|libc)\.so\.[0-9]+$|/ld-[^/]*$')
[ -n "$asan" ] || [ -z "$needs" ] || fail "libfastsock.so needs more than libc: $needs"

pair shim shim
for end in $server $client; do
    stays "$end" no_device "'fastsock doctor' tells what is missing"
    loads_none "$end"
done
"$tool" doctor 2>&1 | grep -q '^missing *device .*modprobe rdma_rxe' ||
    fail "doctor does not say what is missing"
part no_device
logged 0 .

# A device from here on, or what looks like one.
if [ -n "$apart" ]; then
    mkdir -p "$dir/class/infiniband/rxx" "$dir/lib"
    cp "$BUILD/libfastsock.so" "$dir/lib/"
    whole=$shim shim=$(echo "$shim" | sed "s,[^ ]*$,$dir/lib/libfastsock.so,")
    module=$dir/lib/libfastsock-verbs.so

    for lacks in absent unreadable 'not a library' 'another release'; do
        case $lacks in
        absent) ;;
        unreadable) mkdir "$module" ;;
        not*) rmdir "$module" && echo "$lacks" >"$module" ;;
        *) cp "$other_release" "$module" ;;
        esac
        pair shim shim
        for end in $server $client; do
            stays "$end" no_module "install it beside libfastsock.so"
            loads_none "$end"
        done
        part no_module
        words="$module cannot be loaded (.*): install it beside"
        [ "$lacks" != 'another release' ] ||
            words="$module is of another release: install the one that came"
        logged 1 "$words"
    done

    # One whose files are not there, as in a container: the module finds none.
    shim=$whole
    pair shim shim
    for end in $server $client; do
        stays "$end" no_device "'fastsock doctor' tells what is missing"
    done
    part
    logged 0 .

    # What stays within this host anyhow.
    E2E_ADDRESS=127.0.0.1
    pair shim shim
    for end in $server $client; do
        stays "$end" no_route 'use those that'
        loads_none "$end"
    done
    part
    logged 0 .

    # Two that shared memory serves, whatever the address.
    E2E_ADDRESS=10.9.0.1 settings=FASTSOCK_TRANSPORTS=shm,verbs
    pair shim shim
    for end in $server $client; do
        until_says '* shm * up' ss -p "$end"
        loads_none "$end"
    done
    touch "$dir/go"
    wait "$server" && wait "$client" ||
        fail "$(cat "$dir/server.err" "$dir/client.err")"
    pairs=$((pairs - 1))
fi
finish "$pairs pairs stayed on TCP and said why"
