# Compares two tables of run.sh, the committed one and a new one, and prints
# what moved beyond its spread: the new median is outside of what was measured
# then, and the old median outside of what is measured now.

BEGIN { FS = "\t" }
FNR == 1 { file++ }

/^# / {
    fact[file, substr($1, 3)] = $2
    next
}

# How much of something is good: 1 more, -1 less, 0 no matter.
function good(name) {
    if (name == "per_second")
        return 1
    return name ~ /^(p50_ns|p99_ns|cpu_ns|memory_bytes|.*_over_ns)$/ ? -1 : 0
}

{
    key = $1 FS $2 FS $3 FS $4
    if (file == 1) {
        median[key] = $6
        low[key] = $7
        high[key] = $8
        next
    }
    if (!(key in median) || !good($4) || $3 ~ /^A/)
        next # A: chance
    ratio = $3 ~ /:K$/
    if (!ratio && fact[1, "cpu"] != fact[2, "cpu"])
        next # another machine: only ratios say something
    n_compared++
    if (($6 > high[key] && $7 > median[key]) ||
        ($6 < low[key] && $8 < median[key]))
        moved[++n_moved] = $0
}

function show(line,    part, key, ratio, up, better) {
    split(line, part, FS)
    key = part[1] FS part[2] FS part[3] FS part[4]
    ratio = part[3] ~ /:K$/ && part[4] !~ /_over_ns$/
    up = part[6] > median[key]
    better = ratio || good(part[4]) > 0 ? up : !up
    printf "  %-10s %-10s %-4s %-15s %10.4g [%.4g..%.4g] -> %10.4g " \
        "[%.4g..%.4g]  %s\n", part[1], part[2], part[3], part[4],
        median[key], low[key], high[key], part[6], part[7], part[8],
        better ? "better" : "worse"
}

END {
    print ""
    print "compared with bench/reference.txt"
    for (i = 1; i <= 2; i++)
        printf "  %-5s %s; %s; load %s, after it %s\n", i == 1 ? "then" : "now",
            fact[i, "cpu"], fact[i, "date"], fact[i, "load"],
            fact[i, "load after"]
    if (n_compared == 0) {
        print "  nothing to compare: no such figures in it"
        exit
    }
    printf "  %d of %d figures moved beyond their spread (X:K: ratio to the " \
        "kernel)\n", n_moved, n_compared
    for (i = 1; i <= n_moved; i++)
        show(moved[i])
    if (n_moved)
        print "  Where K moved as well, it was the machine."
}
