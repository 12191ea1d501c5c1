"""Clients that nobody wants.

usage: kvserver_hostile.py abuse PORT PID | limit PORT | refuse PORT |
       shutdown PORT | unix PATH
"""

import random
import socket
import sys
import time


def connect(port):
    return socket.create_connection(("127.0.0.1", port), 10)


def ask(s, request, end):
    s.sendall(request)
    reply = b""
    while not reply.endswith(end):
        piece = s.recv(1 << 16)
        assert piece, "closed after %r" % reply[-100:]
        reply += piece
    return reply


def version(s):
    return ask(s, b"version\r\n", b"\r\n").startswith(b"VERSION ")


def is_closed(s):
    try:
        while s.recv(1 << 16):
            pass
        return True
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def memory(pid):
    with open("/proc/%d/status" % pid) as f:
        return next(int(line.split()[1]) for line in f
                    if line.startswith("RssAnon"))


def quick(port, what):
    start = time.monotonic()
    with connect(port) as s:
        assert version(s)
    took = time.monotonic() - start
    assert took < 8, "%s: a well-behaved client waited %.1f s" % (what, took)


def garbage(port):
    r = random.Random(1)
    for i in range(100):
        with connect(port) as s:
            try:
                s.sendall(bytes(r.randrange(256) for _ in range(3000)) +
                          b"\r\n" * (i % 2))
            except ConnectionError:
                pass


def endless_lines(port):
    for start in (b"", b"set ", b"gat 0 ", b" " * 200, b"\x80"):
        with connect(port) as s:
            try:
                s.sendall(start + b"a" * 100000)
            except ConnectionError:
                pass
            assert is_closed(s), start
    with connect(port) as s:
        try:
            s.sendall(b"get " + b"a " * (10 << 20))
        except ConnectionError:
            pass
        assert is_closed(s), "an endless get"
    with connect(port) as s:
        many = b"get" + b" key" * 1000000 + b"\r\n"
        assert ask(s, many, b"END\r\n") == b"END\r\n"


def half_requests(port):
    for i in range(300):
        s = connect(port)
        s.sendall((b"get a", b"set a 0 0 10\r\n123",
                   b"set a 0 0 900000\r\n" + b"x" * (i * 1000),
                   b"set a 0 0 900000000\r\nxxx")[i % 4])
        if i % 3 == 0:
            s.shutdown(socket.SHUT_WR)
        s.close()
    held = []
    for _ in range(100):
        s = connect(port)
        s.sendall(b"set held 0 0 1000000\r\nxxx")
        held.append(s)
    quick(port, "half-sent values")
    with connect(port) as s:
        assert ask(s, b"set a 0 0 1\r\n1\r\n", b"\r\n") == b"STORED\r\n"
    for s in held:
        s.close()


def slow_readers(port, pid):
    with connect(port) as s:
        value = b"v" * 500000
        assert ask(s, b"set big 0 0 500000\r\n%s\r\n" % value,
                   b"\r\n") == b"STORED\r\n"
    before = memory(pid)
    slow = []
    for _ in range(20):
        s = connect(port)
        s.setblocking(False)
        for _ in range(200):
            try:
                s.send(b"get big big big\r\n" * 100)
            except BlockingIOError:
                break
        slow.append(s)
    for _ in range(10):
        quick(port, "slow readers")
    grown = memory(pid) - before
    assert grown < 20 * 3000, "20 slow readers cost %d KiB" % grown
    for s in slow[:10]:
        s.close()
    s = slow[10]
    s.settimeout(10)
    want = len(b"VALUE big 0 500000\r\n") + 500000 + 2
    got = 0
    while got < 20 * want:
        got += len(s.recv(1 << 20))
    for s in slow[10:]:
        s.close()


def thousand(port):
    all_of_them = [connect(port) for _ in range(1000)]
    for i, s in enumerate(all_of_them):
        s.sendall(b"set t%d 0 0 4\r\n%04d\r\nget t%d\r\n" % (i, i, i))
    for i, s in enumerate(all_of_them):
        assert ask(s, b"", b"END\r\n") == \
            b"STORED\r\nVALUE t%d 0 4\r\n%04d\r\nEND\r\n" % (i, i)
    text = ask(all_of_them[0], b"stats\r\nstats conns\r\n",
               b"END\r\n").decode()
    while "listen_addr" not in text:
        text += ask(all_of_them[0], b"", b"END\r\n").decode()
    assert "STAT curr_connections 1000\r\n" in text, text
    for s in all_of_them:
        s.close()


def abuse(port, pid):
    for what in (garbage, endless_lines, half_requests):
        what(port)
        quick(port, what.__name__)
    slow_readers(port, pid)
    thousand(port)
    quick(port, "after all of it")


def limit(port):
    inside = [connect(port) for _ in range(10)]
    for s in inside:
        assert version(s)
    outside = [connect(port) for _ in range(10)]
    for s in outside:
        s.sendall(b"version\r\n")
    outside[0].settimeout(0.2)
    try:
        assert not outside[0].recv(100), "served beyond the limit"
        assert False, "closed instead of made to wait"
    except TimeoutError:
        pass
    for s in inside[1:]:
        s.close()
    served = 0
    for s in outside[:9]:
        s.settimeout(10)
        served += s.recv(100).startswith(b"VERSION ")
    assert served == 9, served
    text = ask(inside[0], b"stats\r\n", b"END\r\n")
    line = text[text.index(b"listen_disabled_num"):].split(b"\r\n")[0]
    assert int(line.split()[1]) > 0, line


def refuse(port):
    inside = [connect(port) for _ in range(10)]
    for s in inside:
        assert version(s)
    with connect(port) as s:
        assert s.recv(100) == b"ERROR Too many open connections\r\n"
        assert is_closed(s)


def shutdown(port):
    time.sleep(0.1)
    with connect(port) as s:
        assert ask(s, b"shutdown x\r\n", b"\r\n") == \
            b"CLIENT_ERROR invalid shutdown mode\r\n"
        s.sendall(b"shutdown\r\n")
        assert is_closed(s)


def unix(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(path)
        assert version(s)


job, argument = sys.argv[1:3]
if job == "abuse":
    abuse(int(argument), int(sys.argv[3]))
else:
    {"limit": limit, "refuse": refuse, "shutdown": shutdown,
     "unix": unix}[job](argument if job == "unix" else int(argument))
