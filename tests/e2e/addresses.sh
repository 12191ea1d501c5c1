#!/bin/sh
# One connection under several names: IPv4 in IPv6, scopes, wildcards, a port
# that the kernel rewrites on the way (nftables, in a network of the test's
# own), a socket that is its own peer, and one that is disconnected.
if [ "$1" != inside ]; then
    root=$([ "$(id -u)" -eq 0 ] || echo -r)
    unshare $root -n true 2>/dev/null || {
        echo "no network namespace of our own: unshare -n fails"
        exit 77
    }
    exec unshare $root -n sh "$0" inside
fi
. "$(dirname "$0")/lib.inc"
limit=15
ip link set lo up || skip "the loopback device stays down"
ip -6 addr add fe80::1234/64 dev lo nodad 2>/dev/null &&
    export E2E_DEVICE=lo
nft -f - 2>"$dir/nft" <<'RULES' || skip "nft: $(head -n 1 "$dir/nft")"
table ip translation {
    chain out {
        type nat hook output priority -100;
        tcp dport 7001 redirect to 7002
    }
}
RULES
compare_cases addresses
finish "$cases cases as on the kernel"
