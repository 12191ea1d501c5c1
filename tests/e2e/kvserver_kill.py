"""Writes until the server is killed, keeping a journal; later compares.

usage: kvserver_kill.py write PORT JOURNAL PID
       kvserver_kill.py crash PORT JOURNAL FILE
       kvserver_kill.py verify PORT JOURNAL

"write" kills the server itself. "crash" makes FILE, which has somebody end the
whole machine: its journal is JOURNAL.0, JOURNAL.1, ..., one of each connection,
to which what may be written goes before it is sent, and what was acknowledged
as soon as that is known.

Several connections write keys of their own, many requests at a time. The
journal has, for each key, what it may hold: the state after the last
acknowledged write and after each write that was not acknowledged. A value is
described by its pieces (seed, length), so any torn or mixed value shows.
"""

import os
import pickle
import random
import signal
import socket
import sys
import threading
import time

CONNECTIONS = 6
KEYS = 150
NUMBERS = 20
LARGE_KEYS = 4
BATCH = 24
ENOUGH = 1000  # acknowledged before a crash
LIMIT = 10 * int(os.environ.get("SLOW", "1"))  # s: nothing takes that long


def content(pieces):
    """The bytes of a value: None is absent, an int is a number."""
    if pieces is None or isinstance(pieces, int):
        return pieces
    return b"".join((b"%08x." % seed * (length // 9 + 1))[:length]
                    for seed, length in pieces)


class Writer(threading.Thread):
    def __init__(self, port, number, states, log=None):
        super().__init__(daemon=True)
        self.log = log
        self.r = random.Random(os.urandom(8))
        self.socket = socket.create_connection(("127.0.0.1", port), LIMIT)
        self.file = self.socket.makefile("rb")
        self.number = number
        self.states = states  # key: list of states it may have
        self.acknowledged = self.unacknowledged = 0
        self.error = None

    def piece(self):
        length = self.r.choice((0, 1, 9, 20, 32, 33, 64, 300, 1000, 5000))
        return (self.r.getrandbits(32), length)

    def pick(self, now):
        """A request, its key, and the state it leads to."""
        kind = self.r.randrange(100)
        if kind < 20:
            key = "n%d-%d" % (self.number, self.r.randrange(NUMBERS))
            old = now(key)
            if old is None or kind < 3:
                value = self.r.randrange(1000)
                return b"set %s 0 0 %d\r\n%d\r\n" % (
                    key.encode(), len(str(value)), value), key, value
            delta = self.r.randrange(1000000)
            return b"incr %s %d\r\n" % (key.encode(), delta), key, old + delta
        if kind < 24:
            key = "l%d-%d" % (self.number, self.r.randrange(LARGE_KEYS))
            new = [(self.r.getrandbits(32), self.r.randrange(10000, 300000))]
        else:
            key = "k%d-%d" % (self.number, self.r.randrange(KEYS))
            if kind < 40:
                return b"delete %s\r\n" % key.encode(), key, None
            new = [self.piece()]
            old = now(key)
            if kind < 60 and old is not None and len(old) < 20:
                data = content(new)
                return b"append %s 0 0 %d\r\n%s\r\n" % (
                    key.encode(), len(data), data), key, old + new
        data = content(new)
        return b"set %s 7 0 %d\r\n%s\r\n" % (key.encode(), len(data), data), \
            key, new

    def acknowledge(self, key, state):
        reply = self.file.readline()
        if not reply.endswith(b"\r\n"):
            raise ConnectionError
        if reply.startswith((b"ERROR", b"CLIENT_ERROR", b"SERVER_ERROR")):
            self.error = "%s: %r" % (key, reply)
            raise ConnectionError
        states = self.states[key]
        del states[0]  # the acknowledged one comes first from now on
        self.acknowledged += 1
        if isinstance(state, int) and reply != b"STORED\r\n" and \
                int(reply) != state:
            self.error = "%s: expected %d, got %r" % (key, state, reply)
            raise ConnectionError

    def note(self, what, details):
        if self.log:
            self.log.write(pickle.dumps((what, details)))

    def run(self):
        pending = []
        try:
            while True:
                request = b""
                for _ in range(self.r.randrange(1, BATCH)):
                    one, key, state = self.pick(
                        lambda k: self.states.setdefault(k, [None])[-1])
                    self.states.setdefault(key, [None]).append(state)
                    pending.append((key, state))
                    request += one
                self.note("sent", pending)
                self.socket.sendall(request)
                sent = len(pending)
                while pending:
                    self.acknowledge(*pending[0])
                    del pending[0]
                self.note("acknowledged", sent)
        except (ConnectionError, TimeoutError) as e:
            if isinstance(e, TimeoutError):
                self.error = "no reply in %d s" % LIMIT
        self.unacknowledged = len(pending)
        self.socket.close()


def write(port, journal, pid):
    states = {}
    if os.path.exists(journal):
        with open(journal, "rb") as f:
            states = pickle.load(f)
    own = [{k: v for k, v in states.items()
            if k[1:].split("-")[0] == str(i)} for i in range(CONNECTIONS)]
    writers = [Writer(port, i, own[i]) for i in range(CONNECTIONS)]
    for w in writers:
        w.start()
    time.sleep(random.uniform(0.15, 0.5))
    end = time.monotonic() + LIMIT
    while not any(w.acknowledged for w in writers) and time.monotonic() < end:
        time.sleep(random.uniform(0, 0.2))  # a busy machine
    os.kill(pid, signal.SIGKILL)
    for w in writers:
        w.join(2 * LIMIT)
        if w.error:
            sys.exit(w.error)
        states.update(w.states)
    with open(journal, "wb") as f:
        pickle.dump(states, f)
    if sum(w.acknowledged for w in writers) == 0:
        sys.exit("nothing was acknowledged before the kill")
    print(sum(w.acknowledged for w in writers),
          sum(w.unacknowledged for w in writers))


def crash(port, journal, file):
    writers = [Writer(port, i, {}, open("%s.%d" % (journal, i), "xb", 0))
               for i in range(CONNECTIONS)]
    for w in writers:
        w.start()
    while sum(w.acknowledged for w in writers) < ENOUGH:
        time.sleep(0.01)
        for w in writers:
            if not w.is_alive():
                sys.exit(w.error or "the server closed a connection")
    time.sleep(random.uniform(0, 1))
    open(file, "w").close()
    time.sleep(6 * LIMIT)
    sys.exit("%s is there, and nobody has ended the machine" % file)


def read_logs(journal):
    """The states that the logs of crash() allow, and how many were certain."""
    states = {}
    certain = 0
    for i in range(CONNECTIONS):
        sent = []
        with open("%s.%d" % (journal, i), "rb") as log:
            while True:
                try:
                    what, details = pickle.load(log)
                except (EOFError, pickle.UnpicklingError):
                    break  # the last one may be cut short: it was not sent
                if what == "sent":
                    sent = details
                    for key, state in sent:
                        states.setdefault(key, [None]).append(state)
                    continue
                for key, _ in sent[:details]:
                    del states[key][0]
                certain += details
    return states, certain


def get(file, s, key):
    s.sendall(b"get %s\r\n" % key.encode())
    line = file.readline()
    if line == b"END\r\n":
        return None
    length = int(line.split()[3])
    value = file.read(length + 2)[:-2]
    assert file.readline() == b"END\r\n"
    return value


def matches(value, state):
    if isinstance(state, int):
        return value is not None and value.rstrip(b" ") == b"%d" % state
    return value == content(state)


def verify(port, journal):
    if os.path.exists(journal):
        with open(journal, "rb") as f:
            states = pickle.load(f)
    else:
        states, certain = read_logs(journal)
        print(certain, "acknowledged writes,", len(states), "keys")
        if certain < ENOUGH - CONNECTIONS * BATCH:  # those of a batch come late
            sys.exit("the journals have lost what was acknowledged")
    wrong = 0
    with socket.create_connection(("127.0.0.1", port), LIMIT) as s:
        file = s.makefile("rb")
        for key, allowed in states.items():
            value = get(file, s, key)
            found = [state for state in allowed if matches(value, state)]
            if found:
                states[key] = [found[-1]]
                continue
            wrong += 1
            print("%s: found %r, expected one of %r" %
                  (key, value and (len(value), value[:60]), allowed))
    with open(journal, "wb") as f:
        pickle.dump(states, f)
    if wrong:
        sys.exit("%d of %d keys are wrong" % (wrong, len(states)))


if sys.argv[1] == "write":
    write(int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
elif sys.argv[1] == "crash":
    crash(int(sys.argv[2]), sys.argv[3], sys.argv[4])
else:
    verify(int(sys.argv[2]), sys.argv[3])
