# Tables, ratios and results.json of bench/run.sh.
# Input: a file of "name<TAB>value" facts about the machine, then one line of
# key=value words for each measurement. A figure is the median of its rounds
# with [smallest..largest]; a ratio is taken within each round, since the two
# of one round ran next to each other, then treated the same.

FNR == 1 { file++ }

file == 1 {
    tab = index($0, "\t")
    fact[++n_facts] = substr($0, 1, tab - 1)
    value_of[fact[n_facts]] = substr($0, tab + 1)
    next
}

{
    delete word
    for (i = 1; i <= NF; i++) {
        at = index($i, "=")
        word[substr($i, 1, at - 1)] = substr($i, at + 1)
    }
    row = word["row"]
    key = row SUBSEP word["config"]
    if (!(row in n_configs))
        row_at[++n_rows] = row
    if (!(key in seen_config)) {
        seen_config[key] = 1
        config_at[row, ++n_configs[row]] = word["config"]
    }
    key = key SUBSEP word["variant"]
    n_runs[key]++
    if ("failed" in word)
        failed[key]++
    if ("accelerated" in word)
        tally[key, word["accelerated"]]++
    if (word["round"] > rounds)
        rounds = word["round"]
    for (name in word) {
        if (name ~ /^(row|config|variant|accelerated|failed|busy|round)$/)
            continue
        figure[key, word["round"], name] = word[name]
        metric[row, name] = 1
        metrics[name] = 1
    }
    n_library += word["variant"] == "L"
    n_busy += word["busy"] > 33 # as machine.sh
    run[++n_all] = $0
}

# Sorts list[1..n] and sets mid, low, high; false when there is none.
function spread(n,    i, j, x) {
    for (i = 2; i <= n; i++) {
        x = list[i]
        for (j = i - 1; j >= 1 && list[j] > x; j--)
            list[j + 1] = list[j]
        list[j + 1] = x
    }
    low = list[1]; high = list[n]; n_used = n
    mid = n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
    return n > 0
}

function collect(row, config, letter, name,    r, n, k) {
    n = 0
    for (r = 1; r <= rounds; r++) {
        k = row SUBSEP config SUBSEP letter SUBSEP r SUBSEP name
        if (k in figure)
            list[++n] = figure[k] + 0
    }
    return spread(n)
}

# how "slower": kernel / variant; "faster": variant / kernel; "more": minus.
function compare(row, config, letter, name, how,    r, n, k, v, a, b) {
    n = 0
    for (r = 1; r <= rounds; r++) {
        k = row SUBSEP config SUBSEP "K" SUBSEP r SUBSEP name
        v = row SUBSEP config SUBSEP letter SUBSEP r SUBSEP name
        if (!(k in figure) || !(v in figure))
            continue
        a = figure[k] + 0
        b = figure[v] + 0
        if (how == "more")
            list[++n] = b - a
        else if (a > 0 && b > 0)
            list[++n] = how == "slower" ? a / b : b / a
    }
    return spread(n)
}

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
    printf "  %-10s %s  %-21s %-19s %-8s %-19s %-11s %-11s", config, letter,
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
    printf "  %-10s %s  %-21s %-19s %-8s %-19s %-11s %-11s %-20s %s\n",
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

function total(row, config, letter, name,    sum) {
    collect(row, config, letter, "server_" name)
    sum = mid
    collect(row, config, letter, "client_" name)
    return sum "+" mid
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

function each(row,    c, v, letter) {
    for (c = 1; c <= n_configs[row]; c++) {
        for (v = 1; v <= n_letters; v++) {
            letter = letter_at[v]
            if (!letter_known(row, config_at[row, c], letter))
                continue
            if (row == "streams")
                stream_line(row, config_at[row, c], letter)
            else if (row == "fdcost")
                fd_line(row, config_at[row, c], letter)
            else if (row == "idle")
                idle_line(row, config_at[row, c], letter)
            else
                latency_line(row, config_at[row, c], letter)
        }
    }
}

function table(row) {
    if (row == "ring") {
        title("bare ring, 64 B there and back between two spinning CPUs: " \
            "the limit")
        printf "  p50 %s ns, p99 %s ns\n",
            cell(collect(row, "bare", "R", "p50_ns"), 1),
            cell(collect(row, "bare", "R", "p99_ns"), 1)
        return
    }
    title(heading[row])
    if (row == "streams")
        stream_table(row)
    else if (row == "fdcost")
        fd_table(row)
    else if (row == "idle")
        idle_table(row)
    else
        latency_table(row)
}

# A line of the targets: how much was reached, with its spread. state_now is
# set where a target can only be reached by an accelerated stream.
function target(text, found, wanted, least,    reached) {
    if (!found)
        return
    reached = (least ? mid >= wanted : mid <= wanted) ? \
        "reached" : "not reached"
    if (state_now != "yes")
        reached = "not reached (accelerated: " state_now ")"
    printf "  %-52s %8s   %-20s %s\n", text, wanted, cell(1, 1), reached
}

function target_server(row) {
    state_now = state(row SUBSEP "1" SUBSEP "L")
    target(row ", 1 connection, p50, times lower",
        compare(row, "1", "L", "p50_ns", "slower"), 60, 1)
    target(row ", 1 connection, rate, times",
        compare(row, "1", "L", "per_second", "faster"), 25, 1)
    state_now = state(row SUBSEP "32" SUBSEP "L")
    target(row ", 32 connections, p50, times lower",
        compare(row, "32", "L", "p50_ns", "slower"), 8, 1)
    target(row ", 32 connections, rate, times",
        compare(row, "32", "L", "per_second", "faster"), 6, 1)
}

function target_idle(config,    i, n, name, sum) {
    n = split("server_ticks client_ticks server_switches client_switches",
        name, " ")
    for (i = 1; i <= n; i++) {
        if (!collect("idle", config, "L", name[i]))
            return
        sum += mid
    }
    mid = low = high = sum
    state_now = state("idle" SUBSEP config SUBSEP "L")
    target("idle, " config " connections, ticks and switches", 1, 0, 0)
}

function targets(    i, n, call, c) {
    title("targets, L against K")
    printf "  %-52s %8s   %s\n", "", "target", "measured"
    target_server("memcached")
    target_server("kvserver")
    state_now = "yes" # these need none, or must hold without one
    n = split("read write epoll poll", call, " ")
    for (i = 1; i <= n; i++)
        target("descriptor that is no socket, " call[i] ", ns more",
            compare("fdcost", "calls", "L", call[i] "_over_ns", "more"), 2, 0)
    for (c = 1; c <= n_configs["connects"]; c++)
        target("one request per connection, " config_at["connects", c] \
            ", rate, times", compare("connects", config_at["connects", c],
            "L", "per_second", "faster"), 0.95, 1)
    for (c = 1; c <= n_configs["onecore"]; c++)
        target("one shared core, " config_at["onecore", c] \
            " connections, rate, times", compare("onecore",
            config_at["onecore", c], "L", "per_second", "faster"), 1, 1)
    for (c = 1; c <= n_configs["idle"]; c++)
        target_idle(config_at["idle", c])
}

function quoted(text) {
    gsub(/[\\"]/, "\\\\&", text)
    gsub(/[\001-\037]/, " ", text)
    return "\"" text "\""
}

function json_spread(row, config, letter, name) {
    printf("%s\n{\"row\":%s,\"config\":%s,\"variant\":%s,\"metric\":%s," \
        "\"n\":%d,\"median\":%.8g,\"min\":%.8g,\"max\":%.8g}", comma,
        quoted(row), quoted(config), quoted(letter), quoted(name), n_used,
        mid, low, high) > json
    comma = ","
}

function json_all(ratios,    r, c, v, name, row, config, letter, how) {
    comma = ""
    for (r = 1; r <= n_rows; r++)
        for (c = 1; c <= n_configs[row = row_at[r]]; c++)
            for (v = 1; v <= n_letters; v++)
                for (name in metrics) {
                    config = config_at[row, c]
                    letter = letter_at[v]
                    if (!((row, name) in metric))
                        continue
                    how = name == "per_second" || name == "mb_per_second" ? \
                        "faster" : name ~ /_over_ns$/ ? "more" : "slower"
                    if (ratios ? letter !~ /[KR]/ && name !~ /share/ &&
                            compare(row, config, letter, name, how) : \
                            collect(row, config, letter, name))
                        json_spread(row, config, letter, name)
                }
}

function json_run(line,    i, n, part, at, name, value) {
    n = split(line, part, " ")
    for (i = 1; i <= n; i++) {
        at = index(part[i], "=")
        name = substr(part[i], 1, at - 1)
        value = substr(part[i], at + 1)
        if (name ~ /^(row|config|variant|accelerated)$/)
            value = quoted(value)
        printf("%s%s:%s", i > 1 ? "," : "{", quoted(name), value) > json
    }
    printf "}" > json
}

function write_json(    i) {
    printf "{\"machine\":{" > json
    for (i = 1; i <= n_facts; i++)
        printf("%s%s:%s", i > 1 ? "," : "", quoted(fact[i]),
            quoted(value_of[fact[i]])) > json
    printf "},\n\"figures\":[" > json
    json_all(0)
    printf "],\n\"ratios\":[" > json
    json_all(1)
    printf "],\n\"runs\":[" > json
    for (i = 1; i <= n_all; i++) {
        printf("%s\n", i > 1 ? "," : "") > json
        json_run(run[i])
    }
    print "]}" > json
}

END {
    n_letters = split("K A S L R", letter_at, " ")
    heading["memcached"] = "memcached, 64 B GET; config: connections"
    heading["kvserver"] = "kvserver, 64 B GET; config: connections"
    heading["onecore"] = "memcached, 64 B GET, server and client on the " \
        "same CPU; config: connections"
    heading["connects"] = "connections that live for one request; config: " \
        "server"
    heading["pingpong"] = "64 B to and fro; config: how both ends wait"
    heading["streams"] = "one-way stream; config: bytes of a write"
    heading["fdcost"] = "calls on a descriptor that is no socket"
    heading["idle"] = "idle connections that have moved bytes"
    print "the machine"
    for (i = 1; i <= n_facts; i++)
        printf "  %-12s %s\n", fact[i], value_of[fact[i]]
    printf "  %-12s before %d of %d measurements\n", "not at rest", n_busy,
        n_all
    print "K kernel TCP, blocking; A the same again (chance); S kernel TCP,"
    print "both ends spinning; L the library. Median of " rounds \
        " rounds [smallest..largest]."
    for (i = 1; i <= n_rows; i++)
        table(row_at[i])
    if (n_library > 0)
        targets()
    write_json()
}
