#!/bin/bash
# Runs a command in the guest; its output and its exit code come back.
# usage: guest_run.sh [options] [--] command...
#   -c, --cpus N       emulated CPUs (2)
#   -m, --memory SIZE  (1G)
#   -t, --timeout S    of the whole run, seconds (600)
#   --pmem [FILE:]SIZE an NVDIMM; its contents stay in FILE (repeatable)
#   --rw FOLDER        of the host, writable in the guest (repeatable)
#   --env NAME         hands a variable over (repeatable)
#   --keep FOLDER      leaves console.log, dmesg and the like there
#   --append TEXT      more of the kernel's command line
#   --qemu ARG         one more argument of QEMU's (repeatable)
#
# The host's / is the guest's: the folder is the same, what the command writes
# there vanishes with the guest, and changes on the host may go unseen while it
# runs. /run/job is a small share. `touch /run/job/CRASH` in the guest has
# QEMU killed with SIGKILL.
#
# At the end the guest's clock is compared with this machine's: if it went
# wrong, a line on standard error says so.
#
# Exit: the command's own; 124 the time is up; 125 the guest did not boot or
# died (the end of its console is shown); 137 a crash that was asked for.
set -u
here=$(cd "$(dirname "$0")" && pwd)
cpus=2 memory=1G limit=600 keep='' append=''
boot_limit=300 # seconds; 5 to 10 are usual, 100 on a machine with much else
pmem=() shares=() names=() more=()

die() { # exit code, text
    echo "guest_run.sh: $2" >&2
    exit "$1"
}

while [ $# -gt 0 ]; do
    case $1 in
    --)
        shift
        break ;;
    -*) [ $# -gt 1 ] || die 2 "$1 needs a value" ;;
    esac
    case $1 in
    -c | --cpus) cpus=$2 ;;
    -m | --memory) memory=$2 ;;
    -t | --timeout) limit=$2 ;;
    --pmem) pmem+=("$2") ;;
    --rw) shares+=("$(realpath -e "$2")") || die 2 "no folder $2" ;;
    --env) names+=("$2") ;;
    --keep) keep=$2 ;;
    --append) append=$2 ;;
    --qemu) more+=("$2") ;;
    -*) die 2 "unknown option $1; the beginning of this file lists them" ;;
    *) break ;;
    esac
    shift 2
done
[ $# -gt 0 ] || die 2 "expected a command"

guest=$("$here/mkguest.sh") || die 125 "the guest could not be made"
if [ -n "$keep" ]; then
    mkdir -p "$keep"
    job=$(cd "$keep" && pwd)
    rm -f "$job"/{rc,booted,ended,CRASH,console.log,dmesg}
else
    job=$(mktemp -d "$(dirname "$guest")/job.XXXXXX") || exit 2
fi
qemu=

# shellcheck disable=SC2317
clean_up() {
    [ -z "$qemu" ] || kill -9 "$qemu" 2>/dev/null
    [ -n "$keep" ] || rm -rf "$job"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

# What stage2.sh reads.
write_job() { # command...
    cp "$here/stage2.sh" "$job/stage2"
    printf 'exec ' >"$job/command"
    printf '%q ' "$@" >>"$job/command"
    {
        printf 'job_cwd=%q\n' "$PWD"
        printf 'job_shares=('
        [ ${#shares[@]} -eq 0 ] || printf '%q ' "${shares[@]}"
        printf ')\n'
        for name in "${names[@]}"; do
            printf 'export %s=%q\n' "$name" "${!name-}"
        done
    } >"$job/env"
}

# share tag path options: a folder over 9p.
share() {
    arguments+=(-fsdev "local,id=$1,path=$2,security_model=none$3"
        -device "virtio-9p-pci,fsdev=$1,mount_tag=$1")
}

# nvdimm number [FILE:]SIZE
nvdimm() {
    local file=${2%:*} size
    [ "$file" != "$2" ] || file=$job/pmem$1
    size=$(numfmt --from=iec "${2##*:}") ||
        die 2 "--pmem $2: expected [FILE:]SIZE, as in /tmp/a:512M"
    [ -e "$file" ] || truncate -s "$size" "$file" || die 2 "no file $file"
    arguments+=(-object "memory-backend-file,id=pm$1,share=on,mem-path=$file,size=$size,align=2M"
        -device "nvdimm,id=nv$1,memdev=pm$1")
}

# Emulation alone: a nested KVM is seldom there and not to be relied on.
machine=q35,nvdimm=on,nvdimm-persistence=mem-ctrl,i8042=off,usb=off
machine=$machine,sata=off,smbus=off,hpet=off,vmport=off
kernel_line="console=ttyS0 quiet loglevel=4 panic=-1 oops=panic"
kernel_line="$kernel_line random.trust_cpu=on mitigations=off"
kernel_line="$kernel_line no_timer_check nokaslr audit=0"
# The guest's time-stamp counter is this machine's. Measured in there, against
# an emulated timer, its pace comes out wrong by any factor when this machine is
# busy (and Debian's kernels have 250 ticks a second).
khz=$("$guest/tsc_khz") || die 125 "no pace of the time-stamp counter"
kernel_line="$kernel_line tsc=reliable tsc_early_khz=$khz lpj=$((khz * 4))"
kernel_line="$kernel_line $append"
# shellcheck disable=SC2054
arguments=(-accel tcg,thread=multi,tb-size=512 -machine "$machine" -cpu max
    -smp "$cpus" -m "$memory,slots=8,maxmem=64G"
    -nodefaults -no-user-config -display none -no-reboot
    -kernel "$guest/vmlinux" -initrd "$guest/initrd" -append "$kernel_line"
    -serial "file:$job/console.log"
    -device isa-debug-exit,iobase=0x501,iosize=1
    -device virtio-serial-pci -chardev stdio,id=out,signal=off
    -device virtconsole,chardev=out -device virtio-rng-pci)
share hostroot / ,readonly=on,multidevs=remap
share job "$job" ,multidevs=remap
for i in "${!shares[@]}"; do
    share "rw$i" "${shares[$i]}" ,multidevs=remap
done
for i in "${!pmem[@]}"; do
    nvdimm "$i" "${pmem[$i]}"
done

# follow: until QEMU is gone; sets $end if that was our doing.
follow() {
    end=
    while kill -0 "$qemu" 2>/dev/null; do
        if [ -e "$job/CRASH" ]; then
            end=137
        elif [ $SECONDS -ge "$limit" ]; then
            end=124
        elif [ $SECONDS -ge $boot_limit ] && [ ! -e "$job/booted" ]; then
            end=125
        fi
        [ -z "$end" ] || break
        sleep 0.05
    done
    [ -z "$end" ] || kill -9 "$qemu" 2>/dev/null
    wait "$qemu" 2>/dev/null
    qemu=
}

console_tail() {
    echo "guest_run.sh: $1; the end of its console:" >&2
    tail -n 30 "$job/console.log" 2>/dev/null | tr -d '\r' |
        sed 's/^/    | /' >&2
    [ -s "$job/console.log" ] || echo "    (empty)" >&2
}

# What a program in there takes for a second should be one. The guest wrote its
# time into two files; when they were written, this machine knows.
compare_clocks() {
    [ -s "$job/booted" ] && [ -s "$job/ended" ] || return
    {
        stat -c %.3Y "$job/booted" "$job/ended"
        cat "$job/booted" "$job/ended"
    } | awk '{ at[NR] = $1 }
        END {
            here = at[2] - at[1]
            there = at[4] - at[3]
            off = there > here ? there - here : here - there
            if (off > 2 && off > here / 10)
                printf "guest_run.sh: the guest has a wrong clock: it " \
                    "counted %d s while %d s passed here\n", there, here
        }' >&2
}

write_job "$@"
SECONDS=0
setpriv --pdeathsig KILL qemu-system-x86_64 "${arguments[@]}" "${more[@]}" \
    </dev/null &
qemu=$!
follow
compare_clocks
if [ "$end" = 137 ]; then
    exit 137
elif [ "$end" = 124 ]; then
    console_tail "the guest was not done after $limit s"
    exit 124
elif [ -s "$job/rc" ]; then
    exit "$(cat "$job/rc")"
elif [ ! -e "$job/booted" ]; then
    console_tail "the guest did not boot in $SECONDS s"
else
    console_tail "the guest died"
fi
exit 125
