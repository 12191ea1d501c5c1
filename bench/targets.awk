# Read by run.sh's report: what was to be reached, and what was.

# A line of the targets: how much was reached, with its spread. state_now is
# set where a target can only be reached by an accelerated stream.
function target(text, found, wanted, least,    reached) {
    if (!found)
        return
    reached = (least ? mid >= wanted : mid <= wanted) ? \
        "reached" : "not reached"
    if (state_now != "yes")
        reached = "not reached (accelerated: " state_now ")"
    printf "  %-54s %8s   %-20s %s\n", text, wanted, cell(1, 1), reached
}

# L against K: p50, p99 and rate; 0: none is set.
function target_load(row, config, what, p50, p99, rate) {
    state_now = state(row SUBSEP config SUBSEP "L")
    if (p50)
        target(row ", " config what ", p50, times lower",
            compare(row, config, "L", "p50_ns", "slower"), p50, 1)
    if (p99)
        target(row ", " config what ", p99, times lower",
            compare(row, config, "L", "p99_ns", "slower"), p99, 1)
    if (rate)
        target(row ", " config what ", rate, times",
            compare(row, config, "L", "per_second", "faster"), rate, 1)
}

function target_server(row,    ring) {
    target_load(row, "1", " connection", 130, 90, 110)
    target_load(row, "4", " connections", 25, 25, 24)
    target_load(row, "32", " connections", 18, 11, 17)
    target(row ", 32 connections, CPU time, times less",
        compare(row, "32", "L", "cpu_ns", "slower"), 10, 1)
    state_now = state(row SUBSEP "1" SUBSEP "L")
    ring = "ring" SUBSEP row "-1" SUBSEP "R"
    target(row ", p50 in round trips of the bare ring", compare_places(ring,
        row SUBSEP "1" SUBSEP "L", "p50_ns", "faster"), 2.5, 0)
    target(row ", 1 connection, p50, times lower than spinning TCP",
        compare_places(row SUBSEP "1" SUBSEP "S", row SUBSEP "1" SUBSEP "L",
        "p50_ns", "slower"), 12, 1)
}

function target_no_spin(row,    c, config) {
    for (c = 1; c <= n_configs[row]; c++) {
        config = config_at[row, c]
        state_now = state(row SUBSEP config SUBSEP "Z")
        target(row ", " config ", without spinning, rate, times",
            compare(row, config, "Z", "per_second", "faster"), 1, 1)
    }
}

function target_stays(    row) {
    state_now = "yes" # these are to stay on TCP
    row = "memcached"
    target("stays on TCP, client spins, p50, times lower",
        compare(row, "1", "H", "p50_ns", "slower"), 1.5, 1)
    target("stays on TCP, both ends spin, p50, times lower",
        compare(row, "1", "S", "p50_ns", "slower"), 4, 1)
}

function target_idle(    c, i, n, name, sum, config) {
    n = split("server_ticks client_ticks server_switches client_switches",
        name, " ")
    for (c = 1; c <= n_configs["idle"]; c++) {
        config = config_at["idle", c]
        sum = 0
        for (i = 1; i <= n; i++)
            sum += collect("idle", config, "L", name[i]) ? mid : 0
        mid = low = high = sum
        state_now = state("idle" SUBSEP config SUBSEP "L")
        target("idle, " config " connections, ticks and switches", n_used,
            0, 0)
    }
    state_now = state("among" SUBSEP "10000" SUBSEP "L")
    target("p50 among 10000 idle connections, times that of one alone",
        compare_places("among" SUBSEP "0" SUBSEP "L",
        "among" SUBSEP "10000" SUBSEP "L", "p50_ns", "faster"), 1.2, 0)
    state_now = state("memory" SUBSEP "1000" SUBSEP "L")
    target("memory of an idle connection, bytes more at both ends",
        compare("memory", "1000", "L", "memory_bytes", "more"), 8192, 0)
}

function scale_us() {
    mid *= 1e-3
    low *= 1e-3
    high *= 1e-3
    return n_used > 0
}

function target_costs(    i, n, call, c, config) {
    state_now = "yes" # these need no link, or must hold without one
    n = split("read write epoll poll", call, " ")
    for (i = 1; i <= n; i++)
        target("descriptor that is no socket, " call[i] ", ns more",
            compare("fdcost", "calls", "L", call[i] "_over_ns", "more"), 1, 0)
    compare("startup", "exec", "L", "start_over_ns", "more")
    target("start and end of a program, us more", scale_us(), 1000, 0)
    for (c = 1; c <= n_configs["connects"]; c++) {
        config = config_at["connects", c]
        if (compare("connects", config, "L", "per_second", "faster") &&
                n_used > 1) {
            mid = lower_bound()
            target("one request per connection, " config \
                ", rate, lower bound", 1, 0.97, 1)
        }
    }
    state_now = state("upgrade" SUBSEP "1" SUBSEP "Z")
    compare("upgrade", "1", "Z", "cpu_ns", "more")
    target("moving the first connection, CPU us of both ends", scale_us(),
        40, 0)
    compare("upgrade", "100", "Z", "cpu_ns", "more")
    target("moving one of 100 connections, CPU us of both ends", scale_us(),
        10, 0)
}

function targets(    c, config) {
    title("targets, L against K")
    printf "  %-54s %8s   %s\n", "", "target", "measured"
    target_server("memcached")
    target_server("kvserver")
    target_load("redis", "1", " connection", 80, 0, 70)
    target_load("redis", "32", " connections", 14, 0, 11)
    target_load("pipelined", "memcached", "", 0, 0, 35)
    target_load("pipelined", "redis", "", 0, 0, 9)
    target_load("values", "65536", " bytes", 0, 0, 8)
    for (c = 1; c <= n_configs["tools"]; c++) {
        config = config_at["tools", c]
        target_load("tools", config, "", 0, 0, config ~ /-1$/ ? 20 : 5)
    }
    target_load("streams", "64", " bytes", 0, 0, 40)
    target_load("streams", "4096", " bytes", 0, 0, 8)
    target_load("streams", "65536", " bytes", 0, 0, 3.3)
    target_load("streams", "1048576", " bytes", 0, 0, 2)
    target_stays()
    target_load("crowded", "1", " connection", 2, 0, 0)
    state_now = state("crowded" SUBSEP "1" SUBSEP "M")
    target("crowded, 1 connection, with spread, p50, times lower",
        compare("crowded", "1", "M", "p50_ns", "slower"), 20, 1)
    target_load("onecore", "1", " connection", 2, 1, 0)
    target_load("onecore", "32", " connections", 0, 1, 6)
    for (c = 1; c <= n_configs["polite"]; c++)
        target_load("polite", config_at["polite", c], "", 0, 1, 1)
    for (c = 1; c <= n_configs["threads"]; c++)
        target_load("threads", config_at["threads", c], " CPUs", 0, 1, 6)
    target_no_spin("memcached")
    target_no_spin("kvserver")
    target_no_spin("pingpong")
    target_no_spin("onecore")
    target_idle()
    target_costs()
}
