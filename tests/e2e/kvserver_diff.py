"""Sends the same requests to two servers and compares the replies.

usage: kvserver_diff.py REFERENCE_PORT PORT

A case is what one connection sends before it stops sending; its reply is all
that comes until the server closes. In a request {cas:KEY} stands for the cas
id that this very server has for KEY. SEED=n repeats the random part.
"""

import os
import random
import re
import socket
import sys
import time

K250 = "k" * 250
K251 = "k" * 251
SPARE = (b"STAT ext_", b"STAT ssl_", b"STAT num_napi_ids")


def talk(port, request, end=True):
    """The whole reply; with end=False the server has to close by itself."""
    with socket.create_connection(("127.0.0.1", port), 10) as s:
        reply = b""
        try:
            s.sendall(request)
            if end:
                s.shutdown(socket.SHUT_WR)
            while True:
                piece = s.recv(1 << 16)
                if not piece:
                    return reply
                reply += piece
        except ConnectionError:
            return reply + b"(reset)"


def fill(port, request):
    """Puts this server's own cas ids into the request."""
    def cas(match):
        reply = talk(port, b"gets %s\r\n" % match.group(1))
        words = reply.split(b"\r\n")[0].split()
        return words[4] if len(words) == 5 else b"1"
    return re.sub(rb"{cas:([^}]*)}", cas, request)


def normal(reply):
    return re.sub(rb"(VALUE \S+ \d+ \d+) \d+\r\n", rb"\1 CAS\r\n", reply)


class Comparison:
    def __init__(self, reference, port):
        self.ports = reference, port
        self.cases = self.wrong = 0

    def __call__(self, request, end=True):
        if isinstance(request, str):
            request = request.encode("latin-1")
        want, got = (normal(talk(p, fill(p, request), end))
                     for p in self.ports)
        self.cases += 1
        if want != got:
            self.wrong += 1
            if self.wrong <= 10:
                at = next((i for i, (a, b) in enumerate(zip(want, got))
                           if a != b), min(len(want), len(got)))
                at = max(0, at - 40)
                print("request %r\n  expected ...%r\n  got      ...%r" %
                      (request[:200], want[at:at + 200], got[at:at + 200]))


def store(command, key, value, flags=0, exptime=0, more=""):
    return "%s %s %d %d %d%s\r\n%s\r\n" % (command, key, flags, exptime,
                                          len(value), more, value)


def lines(same):
    """Every command, well and badly formed, on a line of its own."""
    words = ("get gets gat gats set add replace append prepend cas delete incr "
             "decr touch flush_all verbosity version bget mx bogus ge gett "
             "versionx GET SET").split()
    for word in words:
        for rest in ("", " ", " a", " a ", " 0", " a 0", " a x", " a 0 0",
                     " a 0 0 1", " a b c d e f g h i j", " noreply",
                     " a noreply", " 0 noreply", " a 0 noreply",
                     " x noreply", " a 0 0 1 noreply", " -1", " a -1",
                     " a 1x", " a 0x1", " a +1", " a \t1", " a 1\r",
                     " a 18446744073709551615", " a 18446744073709551616",
                     " a -18446744073709551615", " a 9223372036854775808",
                     " 99999999999 a", " -99999999999999999999 a",
                     " 4294967296", " " + K250, " " + K251, " %s 0" % K251,
                     " %s x" % K251, " 0 " + K251, " x " + K251,
                     " a " + K251, " a" * 30, " a\0b", " a\tb", "\0 a"):
            if word == "flush_all" and re.match(r" \+?[1-9]|.*9999", rest):
                continue
            same("%s%s\r\n" % (word, rest))
    for line in ("", " ", "\r", "\0", "a", "x HTTP/1.0", "get HTTP/1.0",
                 "xx yy HTTP/1.0 zz", "gx HTTP/1.0", "shutdown",
                 "shutdown graceful", "shutdown x y z", "stats foo",
                 "stats reset", "stats reset x", "stats sizes",
                 "stats sizes x", "stats detail", "stats detail on",
                 "stats detail off", "stats detail dump", "stats detail x",
                 "stats cachedump", "stats cachedump 1", "stats extstore",
                 "stats cachedump x 1", "stats cachedump 1000 0",
                 "stats cachedump 3 0", "stats noreply", "stats malloc",
                 "stats\tx", "slabs", "slabs x", "lru", "lru_crawler",
                 "watchx", "cache_memlimit", "extstore", "misbehave",
                 "debugtime 1", "mg", "ms", "md", "ma",
                 "a" * 2047, "a" * 1500 + " b"):
        same(line + "\r\n")
        same(line + "\n")
    same("quit\r\nversion\r\n", end=False)
    same("version\r\nquit now\r\nversion\r\n", end=False)
    same("GET / HTTP/1.1\r\nHost: x\r\n\r\n", end=False)
    same("POST / HTTP/1.0\r\n", end=False)
    same("a" * 2049, end=False)
    same("gat 0 " + "a " * 3000, end=False)
    same(" " * 101 + "get " + "a " * 3000, end=False)
    same("version\r\n\x80\x0a\r\n")
    same("\x81\r\n")


def storage(same):
    for command in "set add replace append prepend cas".split():
        cas = " 1" if command == "cas" else ""
        for key in ("a", "new-%s" % command, K250, K251, "\x01\xff", "a\tb"):
            # memcached forgets earlier replies when a get has too long a key.
            same(store(command, key, "12345", more=cas) +
                 ("get a\r\n" if key == K251 else
                  "get %s\r\nget a\r\n" % key))
        for number in ("-1", "+1", "x", "1x", "", "0x1", "4294967295",
                       "4294967296", "99999999999999999999", "\t1"):
            same("%s a %s 0 1%s\r\n1\r\nget a\r\n" % (command, number, cas))
            same("%s a 0 %s 1%s\r\n1\r\nget a\r\n" % (command, number, cas))
            if number in ("4294967295", "4294967296"):
                continue
            same("%s a 0 0 %s%s\r\n1\r\nget a\r\n" % (command, number, cas))
        for data in ("", "\r\n", "1", "12\r\n", "123\r\n", "123\n\r", "1234",
                     "abcdefgh\r\n", "ab\r\n\r\n", "abc\n\nxy\r\n", "abc\r"):
            for noreply in ("", " noreply", " NOREPLY"):
                same("%s a 0 0 3%s%s\r\n%s" % (command, cas, noreply, data))
        same("%s a 0 0 2147483646%s\r\n" % (command, cas))
        same("%s a 0 0 2147483647%s\r\n" % (command, cas))
        same("%s a 0 0 2147483648%s\r\n" % (command, cas))
        same("%s a 0 0 4%s" % (command, cas))
        same(store(command, "a", "half", more=cas)[:-1])
    same(store("set", "a", "") + "get a\r\n")
    same(store("set", "a", "x\r\ny\0z\n") + "get a\r\n")
    same(store("set", "a", "v", flags=4294967295) + "gets a a b a\r\n")
    same("set   a  1  0  1  \r\nv\r\n  get   a   b  \r\n")
    for exptime in (-1, 1000, 2592000, 2592001, 2147483647, 2147483648,
                    int(time.time()) + 1000, int(time.time()) - 1000):
        same(store("set", "e", "v", exptime=exptime) + "get e\r\n")


def numbers(same):
    for value in ("0", "1", "9", "10", "99", "00010", "18446744073709551615",
                  "18446744073709551616", "018446744073709551615", "", " 5",
                  "5 ", "5 x", "-5", "+5", "abc", "5abc", " -", "1\r\n2",
                  "5\0\0", "99999999999999999999", "9" * 30, "1" + " " * 30):
        for delta in ("0", "1", "9", "100", "18446744073709551615"):
            for command in ("incr", "decr"):
                same(store("set", "n", value, flags=7) +
                     "%s n %s\r\nget n\r\n%s n %s\r\nget n\r\n" %
                     (command, delta, command, delta))
    same(store("set", "n", "5") + "incr n 3 noreply\r\ndecr n 1 x\r\n")


def sizes(same):
    edge = 1048576 - 59
    for key, flags in (("s", 0), ("s", 1), ("longer", 0)):
        for extra in (-1, 0, 1):
            size = edge - len(key) - (4 if flags else 0) + extra
            same(store("set", key, "x" * size, flags) + "get %s\r\n" % key)
    for command in "set add replace append prepend".split():
        same(store("set", "a", "1") + store(command, "a", "x" * 2000000) +
             "get a\r\n")
        same(store("set", "a", "1") +
             store(command, "a", "x" * 2000000, more=" noreply") + "get a\r\n")
    same(store("set", "a", "1") +
         store("cas", "a", "x" * 2000000, more=" 5") + "get a\r\n")
    same(store("set", "a", "x" * 600000) +
         store("append", "a", "x" * 600000) + "touch a 0\r\n")
    same("set a 0 0 2000000\r\n" + "x" * 2000010 + "\r\nget a\r\n")
    for size in (16383, 16384, 16385, 16386, 32768, 100000):
        same(store("set", "a", "y" * size) + "get a a\r\n")
        same(store("prepend", "a", "z" * size) + "get a\r\n")
        same("set a 0 0 %d\r\n" % size + "y" * size + "zzversion\r\n")
        same("set b 0 0 %d\r\n" % size + "y" * (size // 2))
    same(store("set", "a", "1") + "get" + " a" * 20000 + "\r\n")


def sequences(same):
    same(store("set", "q", "3") + store("append", "q", "ab", 7) +
         store("prepend", "q", "cd") + "get q\r\n")
    same(store("set", "q", "1") + "gets q\r\n")
    same(store("cas", "q", "2", more=" {cas:q}") + "get q\r\n")
    same(store("cas", "q", "3", more=" {cas:q}9") + "get q\r\n")
    same(store("cas", "q", "3", more=" {cas:q} noreply") + "get q\r\n")
    same(store("cas", "none", "3", more=" 1"))
    same("delete q\r\ndelete q\r\n" + store("add", "q", "1") +
         "delete q 0\r\n" + store("set", "q", "1") +
         "delete q noreply\r\nget q\r\n")
    same(store("set", "t", "1") + "touch t 100\r\ngat 50 t\r\ngats 0 t x t\r\n"
         "touch t -1\r\nget t\r\ntouch t 0\r\n")
    same(store("set", "f", "1") + "flush_all\r\nget f\r\n" +
         store("set", "f", "2") + "get f\r\n")
    same(store("set", "f", "1") + "flush_all 0 noreply\r\nget f\r\n")


def clocks(same):
    """Times that pass, all waited for at once."""
    same(store("set", "c1", "1", exptime=1) + store("set", "c60", "1",
                                                   exptime=60) +
         store("set", "c0", "1") + store("set", "ct", "1") +
         store("set", "cg", "1") + "touch ct 1\r\ngat 1 cg\r\nget c0 c60\r\n")
    time.sleep(2.6)
    same("get c1 c60 c0 ct cg\r\n" + store("add", "c1", "2") +
         store("replace", "ct", "2") + "incr cg 1\r\nget c1\r\n")
    same(store("set", "f1", "1") + "flush_all 3\r\nget f1\r\n")
    time.sleep(3.6)
    same("get f1 c60 c0\r\n" + store("set", "f2", "1") + "get f2\r\n")


def random_part(same, seed):
    r = random.Random(seed)
    keys = ["r%d" % i for i in range(12)]

    def one():
        key = r.choice(keys)
        kind = r.randrange(12)
        noreply = " noreply" if r.randrange(6) == 0 else ""
        if kind < 5:
            command = r.choice("set set add replace append prepend".split())
            size = r.choice((0, 1, 10, 30, 33, 300, 3000))
            value = (str(r.getrandbits(r.randrange(1, 65)))
                     if r.randrange(2) else chr(97 + r.randrange(26)) * size)
            return store(command, key, value, r.choice((0, 5, 1 << 31)),
                         r.choice((0, 0, 0, 1000, -1)), noreply)
        if kind < 7:
            return "%s %s %d%s\r\n" % (r.choice(("incr", "decr")), key,
                                       r.getrandbits(r.randrange(1, 65)),
                                       noreply)
        if kind == 7:
            return "delete %s%s\r\n" % (key, noreply)
        if kind == 8:
            return "touch %s %d%s\r\n" % (key, r.choice((0, 100)), noreply)
        if kind == 9:
            return "gat %d %s %s\r\n" % (r.choice((0, 100)), key,
                                         r.choice(keys))
        return "get %s\r\n" % " ".join(r.sample(keys, r.randrange(1, 5)))

    # memcached pads a shorter number with spaces, but not while an earlier
    # reply that it has yet to send refers to the item: no get goes in front
    # of an incr or decr in one case.
    for _ in range(300):
        case = ""
        for _ in range(r.randrange(1, 30)):
            request = one()
            if request[:4] in ("incr", "decr") and re.search("g[ae]t ", case):
                same(case)
                case = ""
            case += request
        same(case)


def statistics(same):
    """The names of stats are all there, in the same order."""
    for request in (b"stats\r\n", b"stats settings\r\n"):
        want, got = ([line.split()[1] for line in talk(p, request).splitlines()
                      if line.startswith(b"STAT ") and
                      not line.startswith(SPARE)] for p in same.ports)
        missing = [name for name in want if name not in got]
        same.cases += 1
        if missing or [name for name in got if name in want] != want:
            same.wrong += 1
            print("%r: missing or out of order: %r" % (request, missing))


def main():
    same = Comparison(int(sys.argv[1]), int(sys.argv[2]))
    seed = int(os.environ.get("SEED", time.time_ns() % 1000000))
    lines(same)
    storage(same)
    numbers(same)
    sizes(same)
    sequences(same)
    clocks(same)
    random_part(same, seed)
    statistics(same)
    print("%d cases, %d differ, SEED=%d" % (same.cases, same.wrong, seed))
    return same.wrong != 0


sys.exit(main())
