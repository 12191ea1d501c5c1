#!/bin/sh
# iperf3: one way, the other way, four streams, both ways at once. It checks
# no bytes, but every byte that was sent has to arrive.
. "$(dirname "$0")/frame.inc"
needs iperf3 python3

server() {
    launch iperf3 iperf3 -s -B 127.0.0.1 -p "$port"
    wait_for_port "$port"
}

one_run() {
    echo "$*"
    ours iperf3 -c 127.0.0.1 -p "$port" -J "$@" >"$dir/json"
    echo "exit $?"
    python3 -c 'import json, sys
r = json.load(open(sys.argv[1]))
print(r.get("error", "no error"))
for key, s in sorted(r["end"].items()):
    if key.startswith("sum_") and isinstance(s, dict) and "bytes" in s:
        print(key, "moved" if s["bytes"] > 1000000 else s["bytes"])
print(len(r["end"]["streams"]), "streams")
if "-n" in sys.argv:
    print(r["end"]["sum_sent"]["bytes"] >= 200000000)' "$dir/json" "$@"
}

client() {
    one_run -n 200M
    one_run -n 200M -R
    one_run -t 1 -P 4
    one_run -t 1 --bidir
}

least=100000000
combine
done_with "$(iperf3 --version | awk 'NR == 1 { print $2 }')"
