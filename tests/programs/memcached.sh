#!/bin/sh
# memcached with four threads: large values, pipelines, many clients at once.
. "$(dirname "$0")/frame.inc"
needs memcached python3

server() {
    launch server memcached -u "$(id -un)" -l 127.0.0.1 -p "$port" -U 0 -t 4 -m 512
    wait_for_port "$port"
}

client() {
    ours python3 - "$port" "$(blob 1000000)" <<'END'
import hashlib, socket, sys, threading
blob = open(sys.argv[2], "rb").read()
sums = {}
def run(k):
    digest = hashlib.sha256()
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 30)
    f = s.makefile("rb")
    def say(words, lines=1):
        s.sendall(words)
        for _ in range(lines):
            digest.update(f.readline())
    def get(key):
        s.sendall(b"get %s\r\n" % key)
        head = f.readline()
        if head.startswith(b"VALUE"):
            digest.update(f.read(int(head.split()[3]) + 2))
            head = f.readline()
        digest.update(head)
    for i in range(60):
        n = (17, 1000, 30000, 900000)[i % 4] // (1 + i % 3)
        say(b"set k%d.%d 0 0 %d\r\n%s\r\n" % (k, i, n, blob[i : i + n]))
    for i in range(60):
        get(b"k%d.%d" % (k, i))
    many = b"".join(b"set p%d.%d 0 0 3\r\nabc\r\n" % (k, i) for i in range(2000))
    say(many, 2000)
    say(b"incr none 1\r\nset n%d 0 0 1\r\n5\r\nincr n%d 7\r\ndelete n%d\r\n"
        % (k, k, k), 4)
    get(b"n%d" % k)
    s.sendall(b"set big 0 0 2000000\r\n")
    s.close()
    sums[k] = digest.hexdigest()
threads = [threading.Thread(target=run, args=(k,)) for k in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
for k in sorted(sums):
    print(k, sums[k])
END
}

least=20000000
combine
done_with "$(memcached --version | cut -d ' ' -f 2)"
