#!/bin/bash
# The guest's second half of booting, in the host's file tree: network, limits,
# shares; then the command of the job, its exit code to /run/job/rc, and out.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root TERM=dumb LANG=C.UTF-8
# shellcheck disable=SC1091
. /run/job/env # job_cwd, job_shares, and what --env names

hostname guest
ip link set lo up
ulimit -l unlimited
ulimit -n 65536
ulimit -c 0
# Debian's hooks for these modules want a running system.
rm -f /etc/modprobe.d/nvdimm-security.conf /etc/modprobe.d/truescale.conf

# Writable shares, by number.
n=0
# shellcheck disable=SC2154
for folder in "${job_shares[@]}"; do
    mkdir -p "$folder"
    mount -t 9p \
        -o rw,trans=virtio,version=9p2000.L,msize=512000,cache=mmap \
        "rw$n" "$folder" || echo "GUEST: no share $folder" >/dev/ttyS0
    n=$((n + 1))
done

modprobe virtio_console
out=/dev/hvc0
[ -c $out ] || out=/dev/ttyS0
stty -F $out raw -echo
read -r up _ </proc/uptime
echo "$up" >/run/job/booted
# shellcheck disable=SC2154
cd "$job_cwd" || cd /

rc=0
/bin/bash /run/job/command </dev/null >$out 2>&1 || rc=$?

cd /
dmesg >/run/job/dmesg
awk '$1 ~ "^/dev/pmem" { print $2 }' /proc/mounts | xargs -r umount
sync -f /run/job
read -r up _ </proc/uptime
echo "$up" >/run/job/ended
echo $rc >/run/job/rc.new
mv /run/job/rc.new /run/job/rc
# A byte to the isa-debug-exit device (port 0x501) ends QEMU at once.
printf '\0' | dd of=/dev/port bs=1 seek=1281 count=1 conv=notrunc 2>/dev/null
echo o >/proc/sysrq-trigger
sleep 60
