# shellcheck shell=sh
# The guest's NVDIMMs, to be read with "."; for a guest with `--pmem A:512M`
# and, if wanted, `--pmem B:256M`. Returns 0 when they are there, else 1 with a
# sentence.
#
#   the first:  fsdax, ext4 mounted with -o dax on /mnt/pmem
#   the second: devdax, /dev/dax1.0
#
# New ones are prepared; later boots find them as they were.

pmem_prepare() {
    # Nobody watches for devices here: what udev would load is asked for.
    modprobe -a nfit nd_pmem device_dax dax_pmem ext4 || return 1
    [ -e /sys/bus/nd/devices/namespace0.0 ] || {
        echo "pmem.sh: no NVDIMM; the guest needs --pmem FILE:512M" >&2
        return 1
    }
    for pmem_ns in 0 1; do
        [ "$(cat /sys/bus/nd/devices/namespace$pmem_ns.0/mode \
            2>/dev/null)" = raw ] || continue
        pmem_mode=$([ $pmem_ns = 0 ] && echo fsdax || echo devdax)
        ndctl create-namespace -f -e namespace$pmem_ns.0 -m "$pmem_mode" \
            --map=mem >/dev/null || return 1
    done
}

pmem_mount() {
    [ -n "$(blkid -o value -s TYPE /dev/pmem0)" ] ||
        mkfs.ext4 -q -b 4096 -E nodiscard /dev/pmem0 || return 1
    mkdir -p /mnt/pmem
    mount -o dax /dev/pmem0 /mnt/pmem || {
        echo "pmem.sh: /dev/pmem0 cannot be mounted with -o dax" >&2
        return 1
    }
}

# Two tests may come at the same time.
pmem_up() {
    (
        flock 9
        mountpoint -q /mnt/pmem || { pmem_prepare && pmem_mount; }
    ) 9>/run/pmem.lock
}

pmem_up
