# shellcheck shell=sh
# Two RDMA devices on a wire, inside the guest; to be read with ".". Returns 0
# when they are there (also when they were before), else 1 with a sentence.
#
#   rxa: 10.7.0.1 on va        rxb: 10.7.0.2 on vb
#
# va and vb are the ends of a veth pair in one network namespace: policy
# routing sends what goes from one address to the other out of one end and in
# at the other, RDMA and TCP alike, so `tc qdisc add dev va root netem ...` or
# `ip link set va down` act on it. One namespace, because rxe receives packets
# in the initial one only. Rules 20 and 21 are for rdma_cm, which looks routes
# up with the device given.

wire_links() {
    ip -batch - <<'END'
link add va address 02:00:00:00:07:01 type veth peer name vb address 02:00:00:00:07:02
link set va mtu 4200 up
link set vb mtu 4200 up
addr add 10.7.0.1/32 dev va
addr add 10.7.0.2/32 dev vb
neigh replace 10.7.0.2 lladdr 02:00:00:00:07:02 dev va nud permanent
neigh replace 10.7.0.1 lladdr 02:00:00:00:07:01 dev vb nud permanent
route add 10.7.0.2 dev va src 10.7.0.1 table 71
route add 10.7.0.1 dev vb src 10.7.0.2 table 72
rule add pref 10 iif lo from 10.7.0.1 to 10.7.0.2 lookup 71
rule add pref 11 iif lo from 10.7.0.2 to 10.7.0.1 lookup 72
rule add pref 12 iif lo from 0.0.0.0 to 10.7.0.2 lookup 71
rule add pref 20 to 10.7.0.2 oif va lookup 71
rule add pref 21 to 10.7.0.1 oif vb lookup 72
rule add pref 100 lookup local
rule del pref 0
END
}

wire_devices() {
    rdma link add rxa type rxe netdev va &&
        rdma link add rxb type rxe netdev vb
}

wire_up() {
    [ ! -e /sys/class/infiniband/rxb ] || return 0
    modprobe -a rdma_rxe rdma_ucm ib_uverbs veth || {
        echo "wire.sh: the RDMA modules cannot be loaded" >&2
        return 1
    }
    wire_links || {
        echo "wire.sh: no veth pair" >&2
        return 1
    }
    for wire_dev in all va vb; do
        echo 1 >/proc/sys/net/ipv4/conf/$wire_dev/accept_local
        echo 0 >/proc/sys/net/ipv4/conf/$wire_dev/rp_filter
    done
    wire_devices || {
        echo "wire.sh: no rxe device on the wire" >&2
        return 1
    }
}

# wire_packets rxa|rxb: how many RDMA packets the device has sent.
wire_packets() {
    cat "/sys/class/infiniband/$1/ports/1/hw_counters/sent_pkts"
}

wire_up
