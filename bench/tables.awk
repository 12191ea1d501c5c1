# Read by run.sh's report: the tables.

# Three digits that mean something.
function short(x,    a) {
    a = x < 0 ? -x : x
    return a >= 100 ? sprintf("%.0f", x) : \
        a >= 10 ? sprintf("%.1f", x) : sprintf("%.2f", x)
}

function cell(found, scale) {
    if (!found)
        return "-"
    return short(mid * scale) " [" short(low * scale) ".." \
        short(high * scale) "]"
}

function state(key,    word, best) {
    best = "-"
    if (tally[key, "yes"] && !tally[key, "no"] && !tally[key, "part"])
        best = "yes"
    else if (tally[key, "no"] && !tally[key, "yes"] && !tally[key, "part"])
        best = "no"
    else if (tally[key, "yes"] + tally[key, "no"] + tally[key, "part"])
        best = "partly"
    else if (tally[key, "unknown"])
        best = "unknown"
    if (tally[key, "disputed"])
        best = "disputed"
    if (failed[key])
        best = best ", " failed[key] " FAILED"
    return best
}

function letter_known(row, config, letter) {
    return (row SUBSEP config SUBSEP letter) in n_runs
}

function title(text) {
    printf "\n%s\n  %s; kernel %s; %s CPUs; virtual: %s\n", text,
        value_of["cpu"], value_of["kernel"], value_of["cpus"],
        value_of["virtual"]
}

function cpu_cell(row, config, letter, scale,    client, server) {
    if (!collect(row, config, letter, "client_cpu_ns"))
        return "-"
    client = mid
    collect(row, config, letter, "server_cpu_ns")
    return short(client * scale) "+" short(mid * scale)
}

function latency_line(row, config, letter,    ratio) {
    printf "  %-18s %s  %-21s %-19s %-8s %-19s %-11s %-11s", config, letter,
        cell(collect(row, config, letter, "p50_ns"), 1e-3),
        cell(collect(row, config, letter, "p99_ns"), 1e-3),
        collect(row, config, letter, "p999_ns") ? short(mid * 1e-3) : "-",
        cell(collect(row, config, letter, "per_second"), 1e-3),
        cpu_cell(row, config, letter, 1e-3),
        state(row SUBSEP config SUBSEP letter)
    if (letter != "K")
        printf " %-20s %s",
            cell(compare(row, config, letter, "p50_ns", "slower"), 1),
            cell(compare(row, config, letter, "per_second", "faster"), 1)
    print ""
}

function latency_table(row) {
    printf "  %-18s %s  %-21s %-19s %-8s %-19s %-11s %-11s %-20s %s\n",
        "config", "v", "p50 us", "p99 us", "p99.9", "thousand/s",
        "CPU us c+s", "accelerated", "p50: times lower", "rate: times"
    each(row)
}

function stream_line(row, config, letter) {
    printf "  %-10s %s  %-24s %-16s %-11s", config, letter,
        cell(collect(row, config, letter, "mb_per_second"), 1),
        cpu_cell(row, config, letter, 1e-3),
        state(row SUBSEP config SUBSEP letter)
    if (letter != "K")
        printf " %s",
            cell(compare(row, config, letter, "per_second", "faster"), 1)
    print ""
}

function stream_table(row) {
    printf "  %-10s %s  %-24s %-16s %-11s %s\n", "bytes", "v", "MB/s",
        "CPU us c+s/msg", "accelerated", "rate: times"
    each(row)
}

function fd_line(row, config, letter,    i, n, call) {
    n = split("null read write epoll poll", call, " ")
    printf "  %s", letter
    for (i = 1; i <= n; i++)
        printf "  %-5s %-22s", call[i],
            cell(collect(row, config, letter, call[i] "_over_ns"), 1)
    print ""
    if (letter != "L")
        return
    printf "  %s", "-"
    for (i = 1; i <= n; i++)
        printf "  %-5s %-22s", "L-K",
            cell(compare(row, config, letter, call[i] "_over_ns", "more"), 1)
    print ""
}

function fd_table(row) {
    printf "  ns on top of the bare system call (getppid %s ns, " \
        "read of /dev/null %s ns)\n",
        collect(row, "calls", "K", "null_ns") ? short(mid) : "-",
        collect(row, "calls", "K", "read_ns") ? short(mid) : "-"
    each(row)
}

function startup_line(row, config, letter) {
    printf "  %s  %-22s %-22s %s\n", letter,
        cell(collect(row, config, letter, "start_ns"), 1e-3),
        cell(collect(row, config, letter, "start_over_ns"), 1e-3),
        letter == "L" ? cell(compare(row, config, letter, "start_over_ns",
            "more"), 1e-3) : ""
}

function startup_table(row) {
    printf "  %s  %-22s %-22s %s\n", "v", "start and end, us",
        "with the variant, more", "L-K"
    each(row)
}

function total(row, config, letter, name,    sum) {
    collect(row, config, letter, "server_" name)
    sum = mid
    collect(row, config, letter, "client_" name)
    return sum "+" mid
}

function upgrade_line(row, config, letter) {
    printf "  %-11s %s  %-22s %-22s %s\n", config, letter,
        cell(collect(row, config, letter, "cpu_ns"), 1e-3),
        letter == "K" ? "" : cell(compare(row, config, letter, "cpu_ns",
            "more"), 1e-3), state(row SUBSEP config SUBSEP letter)
}

function memory_line(row, config, letter) {
    if (!collect(row, config, letter, "memory_bytes"))
        return
    printf "  %-11s %s  %-18s %s\n", config, letter,
        total(row, config, letter, "memory_bytes"),
        state(row SUBSEP config SUBSEP letter)
}

function idle_line(row, config, letter) {
    if (!collect(row, config, letter, "server_ticks"))
        return
    printf "  %-11s %s  %-12s %-18s %-18s %s\n", config, letter,
        total(row, config, letter, "ticks"),
        total(row, config, letter, "switches"),
        cpu_cell(row, config, letter, 1e-3),
        state(row SUBSEP config SUBSEP letter)
}

function idle_table(row) {
    printf "  server+client, in %s seconds\n",
        collect(row, config_at[row, 1], "K", "seconds") ? mid : "?"
    printf "  %-11s %s  %-12s %-18s %-18s %s\n", "connections", "v", "ticks",
        "context switches", "CPU us", "accelerated"
    each(row)
}

function table_line(row, config, letter) {
    if (row == "streams")
        stream_line(row, config, letter)
    else if (row == "fdcost")
        fd_line(row, config, letter)
    else if (row == "startup")
        startup_line(row, config, letter)
    else if (row == "idle")
        idle_line(row, config, letter)
    else if (row == "upgrade")
        upgrade_line(row, config, letter)
    else if (row == "memory")
        memory_line(row, config, letter)
    else
        latency_line(row, config, letter)
}

function each(row,    c, v) {
    for (c = 1; c <= n_configs[row]; c++)
        for (v = 1; v <= n_letters; v++)
            if (letter_known(row, config_at[row, c], letter_at[v]))
                table_line(row, config_at[row, c], letter_at[v])
}

function ring_table(row,    c) {
    print ""
    print "bare ring, 64 B there and back between two spinning CPUs, in the " \
        "minute of a row: the limit"
    for (c = 1; c <= n_configs[row]; c++)
        printf "  %-16s p50 %s ns, p99 %s ns\n", config_at[row, c],
            cell(collect(row, config_at[row, c], "R", "p50_ns"), 1),
            cell(collect(row, config_at[row, c], "R", "p99_ns"), 1)
}

function table(row) {
    if (row == "ring") {
        ring_table(row)
        return
    }
    title(heading[row])
    if (row == "streams")
        stream_table(row)
    else if (row == "fdcost")
        fd_table(row)
    else if (row == "startup")
        startup_table(row)
    else if (row == "idle")
        idle_table(row)
    else if (row == "upgrade") {
        printf "  %-11s %s  %-22s %-22s %s\n", "connections", "v",
            "CPU us of both ends", "more than K", "accelerated"
        each(row)
    } else if (row == "memory") {
        printf "  %-11s %s  %-18s %s\n", "connections", "v",
            "bytes server+client", "accelerated"
        each(row)
    } else
        latency_table(row)
}
