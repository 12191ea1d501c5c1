# Read by run.sh: what the machine is, and whether it is at rest.
# A ratio without the machine it was measured on says nothing.

# One "name<TAB>value" line for each fact.
machine_facts() {
    printf 'cpu\t%s\n' "$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo |
        head -n 1)"
    printf 'cpus\t%s\n' "$(nproc --all)"
    printf 'kernel\t%s\n' "$(uname -sr)"
    printf 'virtual\t%s\n' "$(machine_virtual)"
    printf 'clock\t%s\n' "$(cat \
        /sys/devices/system/clocksource/clocksource0/current_clocksource \
        2>/dev/null || echo unknown)"
    printf 'governor\t%s\n' "$(cat \
        /sys/devices/system/cpu/cpu"$1"/cpufreq/scaling_governor \
        2>/dev/null || echo unknown)"
    printf 'load\t%s\n' "$(cut -d' ' -f1-3 /proc/loadavg)"
    printf 'date\t%s\n' "$(date -u +%Y-%m-%dT%H:%MZ)"
}

machine_virtual() {
    maker=$(lscpu 2>/dev/null | sed -n 's/^Hypervisor vendor: *//p')
    if [ -n "$maker" ]; then
        echo "yes, $maker"
    elif grep -qw hypervisor /proc/cpuinfo; then
        echo "yes"
    else
        echo "no hypervisor seen"
    fi
}

# Percent of one CPU that everybody used in the last 0.2 seconds, rounded.
machine_busy() {
    { grep '^cpu ' /proc/stat; sleep 0.2; grep '^cpu ' /proc/stat; } |
        awk '{ used = $2 + $3 + $4 + $7 + $8 + $9; all = used + $5 + $6 }
             NR == 1 { was = used; before = all }
             END { if (all > before)
                       n = '"$(nproc --all)"' * (used - was) / (all - before)
                   printf "%d\n", 100 * n + 0.5 }'
}

# Waits until less than a third of one CPU is used. $1: at most so many looks
# of 0.2 seconds. Leaves the last look in $busy.
machine_await_rest() {
    looks=$1
    busy=$(machine_busy)
    while [ "$busy" -gt 33 ] && [ "$looks" -gt 1 ]; do
        looks=$((looks - 1))
        busy=$(machine_busy)
    done
    [ "$busy" -le 33 ]
}
