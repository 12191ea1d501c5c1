# Read by run.sh's report: what was measured, and medians and ratios of it.
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
    if (word["round"] + 0 > rounds)
        rounds = word["round"] + 0
    if (!("cpu_ns" in word) && "client_cpu_ns" in word && row != "idle")
        word["cpu_ns"] = word["client_cpu_ns"] + word["server_cpu_ns"]
    if ("client_memory_bytes" in word)
        word["memory_bytes"] = word["client_memory_bytes"] + \
            word["server_memory_bytes"]
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

# Two places within each round, "row SUBSEP config SUBSEP variant" each.
# how "slower": of / with; "faster": with / of; "more": with - of.
function compare_places(of, with, name, how,    r, n, k, v, a, b) {
    n = 0
    for (r = 1; r <= rounds; r++) {
        k = of SUBSEP r SUBSEP name
        v = with SUBSEP r SUBSEP name
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

function compare(row, config, letter, name, how) {
    return compare_places(row SUBSEP config SUBSEP "K",
        row SUBSEP config SUBSEP letter, name, how)
}

# The ratios that spread() has just sorted: the lower end of what their mean
# is with 95 % certainty (t distribution, about 30 of them).
function lower_bound(    i, sum, squares, mean) {
    for (i = 1; i <= n_used; i++)
        sum += log(list[i])
    mean = sum / n_used
    for (i = 1; i <= n_used; i++)
        squares += (log(list[i]) - mean) ^ 2
    return exp(mean - 1.7 * sqrt(squares / (n_used - 1) / n_used))
}
