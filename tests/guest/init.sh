#!/bin/sh
# /init of the guest, under busybox: the host's root, read-only over 9p, with
# a tmpfs above it, becomes the guest's; stage2.sh goes on inside.
export PATH=/bin
root=/newroot

give_up() {
    echo "GUEST: $*"
    poweroff -f
}

share() { # tag, folder, options
    mount -t 9p \
        -o "$3,trans=virtio,version=9p2000.L,msize=512000" "$1" "$2" ||
        give_up "no share $1"
}

# How far it came, for the case that it goes no further.
echo "GUEST: /init"
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
while read -r module; do
    insmod "$module" || echo "GUEST: insmod $module failed"
done </boot.modules

echo "GUEST: modules are loaded"
share hostroot /lower ro,cache=loose
mount -t tmpfs -o mode=755 tmpfs /upper
mkdir /upper/up /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/up,workdir=/upper/work \
    overlay $root || give_up "no overlay"

mount -t proc proc $root/proc
mount -t sysfs sys $root/sys
mount -t devtmpfs dev $root/dev
mkdir -p $root/dev/pts $root/dev/shm $root/run $root/tmp
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts $root/dev/pts
mount -t tmpfs -o mode=1777 tmpfs $root/dev/shm
mount -t tmpfs -o mode=755 tmpfs $root/run
ln -s /proc/self/fd $root/dev/fd
ln -s fd/0 $root/dev/stdin
ln -s fd/1 $root/dev/stdout
ln -s fd/2 $root/dev/stderr
mkdir -p $root/lib/modules $root/run/job
mount -o bind /lib/modules $root/lib/modules
share job $root/run/job rw,cache=none
echo "GUEST: the shares are there"
exec chroot $root /bin/bash /run/job/stage2
