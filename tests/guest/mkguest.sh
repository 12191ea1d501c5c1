#!/bin/bash
# Makes the guest: a kernel and an initramfs, out of Debian's kernel package,
# of which nothing is installed. Prints their folder, which guest_run.sh boots.
# usage: mkguest.sh
#
# They stay in $FASTSOCK_GUEST_CACHE (build/guest without it), with the package
# itself, and are made again when this file or one that goes into them has
# changed. Delete the folder to get the archive's newest kernel. Beside them is
# tsc_khz, which says what guest_run.sh tells the kernel of its clock.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${FASTSOCK_GUEST_CACHE:-$here/../../build/guest}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
say() { echo "mkguest: $*" >&2; }

# The cloud kernel has neither 9p nor rdma_rxe: it has to be this one.
meta=linux-image-amd64

# Needed before the host's file system is there.
boot="virtio_pci 9pnet_virtio 9p overlay"

# What tests may load by modprobe, and what the kernel loads by itself.
# rdma_rxe does not start without crc32_generic.
more="virtio_console virtio_rng virtio_net loop tun dummy veth af_packet
    unix_diag inet_diag tcp_diag udp_diag netlink_diag sch_netem sch_tbf
    nf_tables nft_compat nft_reject_inet nft_limit nft_ct xt_tcpudp
    ib_core ib_uverbs ib_umad ib_cm iw_cm rdma_cm rdma_ucm rdma_rxe
    crc32_generic crc32_pclmul crc32c_generic crc32c_intel
    libnvdimm nfit nd_pmem nd_btt device_dax dax_pmem kmem ext4 xfs"

exec 9>"$cache/lock"
flock 9
key=$(cat "$0" "$here/init.sh" "$here/tsc_khz.c" | sha256sum | cut -c1-16)
out=$cache/guest-$key
if [ -s "$out/initrd" ]; then
    echo "$out"
    exit 0
fi
tmp=$(mktemp -d "$cache/new.XXXXXX")
trap 'rm -rf "$tmp"' EXIT

# Sets $deb: the package, from the cache or from the archive.
find_package() {
    deb=$(find "$cache" -maxdepth 1 -name 'linux-image-*_amd64.deb' |
        sort -V | tail -n 1)
    [ -z "$deb" ] || return 0
    kernel_name
    if [ -z "$name" ] || ! download; then
        # No lists, or old ones that name a file which is gone.
        if [ "$(id -u)" = 0 ]; then
            timeout -k 5 120 apt-get update -q >"$tmp/apt.log" 2>&1 || true
        fi
        kernel_name
        if [ -z "$name" ]; then
            say "apt knows no $meta; run: apt-get update"
            return 1
        fi
        if ! download; then
            cat "$tmp/apt.log" >&2
            say "apt-get download $name failed; run: apt-get update"
            return 1
        fi
    fi
    mv "$tmp"/deb/*.deb "$cache/"
    deb=$(echo "$cache/$name"_*_amd64.deb)
}

kernel_name() {
    name=$({ apt-cache depends "$meta" 2>/dev/null || true; } |
        awk '/Depends: linux-image-/ { print $2 }' | head -n 1)
}

download() {
    rm -rf "$tmp/deb"
    mkdir "$tmp/deb"
    (cd "$tmp/deb" && timeout -k 5 240 apt-get download "$name") \
        >"$tmp/apt.log" 2>&1
}

# unpack: the package into $tmp/tree; sets $version, of the kernel.
unpack() {
    dpkg-deb -x "$deb" "$tmp/tree"
    version=$(basename "$tmp"/tree/lib/modules/*)
    depmod -b "$tmp/tree" "$version"
}

# files_of module...: the files of modules, with those they need before them.
files_of() {
    local m
    for m in "$@"; do
        modprobe -S "$version" -d "$tmp/tree" -C /dev/null -D "$m" \
            2>/dev/null || { modinfo -b "$tmp/tree" -k "$version" "$m" \
            >/dev/null 2>&1 || say "the kernel has no module $m"; }
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }'
}

# copy_modules: the chosen ones into $tmp/root, and /boot.modules for /init.
copy_modules() {
    local file to
    # shellcheck disable=SC2086
    files_of $boot >"$tmp/boot.list"
    # shellcheck disable=SC2086
    files_of $boot $more >"$tmp/all.list"
    while read -r file; do
        to=$tmp/root/${file#"$tmp/tree"}
        mkdir -p "$(dirname "$to")"
        case $file in
        *.xz) xz -dc "$file" >"${to%.xz}" ;;
        *) cp "$file" "$to" ;;
        esac
    done <"$tmp/all.list"
    cp "$tmp/tree/lib/modules/$version"/modules.{builtin,builtin.modinfo,order} \
        "$tmp/root/lib/modules/$version/"
    depmod -b "$tmp/root" "$version"
    sed -e "s|^$tmp/tree||" -e 's|\.xz$||' "$tmp/boot.list" \
        >"$tmp/root/boot.modules"
}

# make_initrd: busybox, the modules and init.sh.
make_initrd() {
    local applet
    mkdir -p "$tmp"/root/{bin,sbin,dev,proc,sys,lower,upper,newroot}
    cp /bin/busybox "$tmp/root/bin/busybox"
    for applet in sh mount insmod mkdir ln cat chroot echo sleep poweroff; do
        ln -s busybox "$tmp/root/bin/$applet"
    done
    # What the kernel calls when it wants a module.
    ln -s ../bin/busybox "$tmp/root/sbin/modprobe"
    install -m 755 "$here/init.sh" "$tmp/root/init"
    (cd "$tmp/root" && find . | cpio -o -H newc --quiet) >"$tmp/out/initrd"
}

# make_kernel: the ELF file inside the package's bzImage. QEMU starts it
# directly (PVH), which saves the decompression in an emulated CPU.
make_kernel() {
    python3 - "$tmp/tree/boot/vmlinuz-$version" "$tmp/out/vmlinux" <<'END'
import lzma
import subprocess
import sys

image = open(sys.argv[1], "rb").read()
xz = image.find(b"\xfd7zXZ\0")
zstd = image.find(b"\x28\xb5\x2f\xfd")
if xz > 0:
    elf = lzma.LZMADecompressor().decompress(image[xz:])
else:  # zstd complains about what follows the frame
    elf = subprocess.run(["zstd", "-dc"], input=image[zstd:],
                         stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL).stdout
if elf[:4] != b"\x7fELF":
    sys.exit("mkguest: no ELF file in the kernel image")
open(sys.argv[2], "wb").write(elf)
END
}

mkdir "$tmp/out"
find_package
unpack
mkdir -p "$tmp/root/lib/modules/$version"
copy_modules
make_kernel
make_initrd
"${CC:-gcc}" -O -D_GNU_SOURCE -o "$tmp/out/tsc_khz" "$here/tsc_khz.c"
rm -rf "$cache"/guest-*
mv "$tmp/out" "$out"
say "made $version"
echo "$out"
