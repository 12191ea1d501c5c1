#!/bin/sh
# python3: asyncio, threads, forks, TLS, multiprocessing, http.server.
settings="FASTSOCK_UPGRADE_AFTER=2"
. "$(dirname "$0")/frame.inc"
needs python3 openssl
openssl req -x509 -newkey rsa:2048 -nodes -keyout "$dir/key" -out "$dir/cert" \
    -days 2 -subj /CN=localhost 2>/dev/null
cat "$dir/key" "$dir/cert" >"$dir/both.pem"
mkdir "$dir/www"
cp "$(blob 30000000)" "$dir/www/blob"

server() {
    case $variant in
    http)
        launch server python3 -m http.server --bind 127.0.0.1 \
            --directory "$dir/www" "$port" ;;
    *)
        launch server python3 "$here/peers/reverse.py" server "$port" \
            "$variant" "$dir/both.pem" ;;
    esac
    wait_for_port "$port"
}

client() {
    case $variant in
    http)
        ours python3 -c 'import hashlib, sys, urllib.request
for i in range(5):
    with urllib.request.urlopen("http://127.0.0.1:%s/blob" % sys.argv[1]) as f:
        print(f.status, hashlib.sha256(f.read()).hexdigest())' "$port" ;;
    *)
        how=$variant
        [ "$variant" != fork ] || how=threads
        ours python3 "$here/peers/reverse.py" client "$port" "$(blob 110000)" \
            4 120 "$how" ;;
    esac
}

for v in asyncio threads ssl; do
    combine $v
done
least=1000000 combine http
combine fork
combine processes
done_with "$(python3 --version | cut -d ' ' -f 2)"
