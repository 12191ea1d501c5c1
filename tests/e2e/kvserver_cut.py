# The pool's file is cut short under a server that has it open.
# usage: kvserver_cut.py PORT POOL BYTES what
# what: get, set, large (a large value is sent), send (one is received)
# Exit 0 when every reply that came was right and the connection was closed.
import os
import socket
import sys

port, pool, size, what = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
LARGE = 300000


def value(key):
    return (b"%d-" % key * 300)[: 40 + key % 700]


s = socket.create_connection(("127.0.0.1", port), timeout=20)
f = s.makefile("rwb")


def line(text):
    f.write(text)
    f.flush()
    return f.readline()


for key in range(3000):
    v = value(key)
    f.write(b"set k%d 0 0 %d\r\n%s\r\n" % (key, len(v), v))
f.write(b"set large 0 0 %d\r\n%s\r\n" % (LARGE, b"x" * LARGE))
f.flush()
for _ in range(3001):
    assert f.readline() == b"STORED\r\n"
if what == "send":  # half of it is there when the file is cut
    f.write(b"set other 0 0 %d\r\n%s" % (LARGE, b"y" * (LARGE // 2)))
    f.flush()
    t = socket.create_connection(("127.0.0.1", port), timeout=20)
    t.sendall(b"version\r\n")
    assert t.recv(100).startswith(b"VERSION")
os.truncate(pool, size)
try:
    if what == "send":
        f.write(b"y" * (LARGE // 2) + b"\r\n")
        f.flush()
        print("answered", f.readline())
        for _ in range(100):  # it did not reach the end: others will
            if line(b"set other 0 0 9\r\n123456789\r\n") != b"STORED\r\n":
                break
    elif what == "large":
        f.write(b"get large\r\n")
        f.flush()
        head = f.readline()
        body = f.read(LARGE + 2) if head else b""
        assert set(body[:LARGE]) <= set(b"x"), "a value that was not stored"
    for key in range(3000):
        if what == "set":
            answer = line(b"set n%d 0 0 500\r\n%s\r\n" % (key, b"z" * 500))
            if not answer:
                break
            assert answer == b"STORED\r\n", answer
        else:
            answer = line(b"get k%d\r\n" % key)
            if not answer:
                break
            assert answer == b"VALUE k%d 0 %d\r\n" % (key, len(value(key))), answer
            assert f.readline() == value(key) + b"\r\n"
            assert f.readline() == b"END\r\n"
    assert s.recv(1) == b"", "the server still answers"
except (ConnectionResetError, BrokenPipeError):
    pass
