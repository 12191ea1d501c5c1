#!/bin/sh
# node: net.Server and net.connect, and an HTTP server under curl.
. "$(dirname "$0")/frame.inc"
needs node curl

server() {
    case $variant in
    http)
        launch node node -e 'const http = require("http"), fs = require("fs");
const body = fs.readFileSync(process.argv[2]);
http.createServer((q, r) => q.method === "PUT"
    ? q.pipe(r) : r.end(body)).listen(+process.argv[1], "127.0.0.1");
process.on("SIGTERM", () => process.exit(0));' "$port" "$(blob 30000000)" ;;
    *) launch node node "$here/peers/reverse.js" server "$port" net ;;
    esac
    wait_for_port "$port"
}

client() {
    case $variant in
    http)
        at=http://127.0.0.1:$port/
        ours curl -sS "$at" "$at" | sum
        ours curl -sS -T "$(blob 30000000)" "$at" | sum ;;
    *)
        ours node "$here/peers/reverse.js" client "$port" "$(blob 110000)" \
            4 240 net ;;
    esac
}

combine net
least=1000000 combine http
done_with "$(node --version)"
