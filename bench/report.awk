# Prints what run.sh measured and writes results.json and table.txt: one line
# "row config variant metric n median min max" for each figure, and the same
# with the variant "L:K" for each ratio.

function quoted(text) {
    gsub(/[\\"]/, "\\\\&", text)
    gsub(/[\001-\037]/, " ", text)
    return "\"" text "\""
}

function json_spread(row, config, letter, name, ratios) {
    printf("%s\t%s\t%s\t%s\t%d\t%.6g\t%.6g\t%.6g\n", row, config,
        letter (ratios ? ":K" : ""), name, n_used, mid, low, high) > into
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
                        json_spread(row, config, letter, name, ratios)
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
    for (i = 1; i <= n_facts; i++)
        printf("# %s\t%s\n", fact[i], value_of[fact[i]]) > into
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

function set_headings() {
    heading["memcached"] = "memcached, 64 B GET; config: connections"
    heading["kvserver"] = "kvserver, 64 B GET; config: connections"
    heading["redis"] = "redis, 64 B GET; config: connections"
    heading["pipelined"] = "16 GETs at once over 1 connection; config: server"
    heading["values"] = "memcached, 1 connection; config: bytes of a value"
    heading["sockperf"] = "64 B to and fro by the clock of sockperf"
    heading["tools"] = "clients of other people; config: program-connections"
    heading["onecore"] = "memcached, 64 B GET, server and client on the " \
        "same CPU; config: connections"
    heading["crowded"] = "memcached, 64 B GET, both ends anywhere on two " \
        "CPUs beside two busy programs; config: connections"
    heading["polite"] = "memcached, 64 B GET over 1 connection; config: both " \
        "ends at nice 19 beside busy programs; the server with half a " \
        "CPU, requests so many us after each answer"
    heading["threads"] = "memcached with 4 threads, 64 connections; " \
        "config: CPUs for both ends"
    heading["among"] = "memcached, 64 B GET over 1 connection; config: " \
        "connections that rest beside it"
    heading["connects"] = "connections that live for one request; config: " \
        "server"
    heading["upgrade"] = "opening connections one after the other, each " \
        "used until it has moved"
    heading["memory"] = "memory of a connection that has moved 1 MiB each " \
        "way and rests"
    heading["pingpong"] = "64 B to and fro; config: how both ends wait"
    heading["streams"] = "one-way stream; config: bytes of a write"
    heading["fdcost"] = "calls on a descriptor that is no socket"
    heading["startup"] = "a program that does nothing: its start and its end"
    heading["idle"] = "idle connections that have moved bytes"
}

END {
    n_letters = split("K A U S H Z L M R", letter_at, " ")
    set_headings()
    print "the machine"
    for (i = 1; i <= n_facts; i++)
        printf "  %-12s %s\n", fact[i], value_of[fact[i]]
    printf "  %-12s before %d of %d measurements\n", "not at rest", n_busy,
        n_all
    print "K kernel TCP, blocking; A the same again (chance); U Unix sockets;"
    print "S kernel TCP, both ends spinning; H the client only; L the library;"
    print "Z the library without spinning; M with spread. Median of " value_of["rounds"] \
        " rounds [smallest..largest]."
    for (i = 1; i <= n_rows; i++)
        table(row_at[i])
    if (n_library > 0)
        targets()
    write_json()
}
