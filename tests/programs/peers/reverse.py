"""reverse.py server|client PORT ...: see README.md of this folder."""
import asyncio
import hashlib
import multiprocessing
import multiprocessing.connection
import signal
import socket
import socketserver
import ssl
import struct
import sys
import threading

SIZES = (1, 10, 100, 1000, 10000, 100000)


def payload(blob, i):
    return blob[i * 37 % 5000 :][: SIZES[i % len(SIZES)]]


def read_exactly(f, n):
    data = f.read(n)
    if len(data) < n:
        raise EOFError
    return data


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        try:
            while True:
                n = struct.unpack(">I", read_exactly(self.rfile, 4))[0]
                data = read_exactly(self.rfile, n)[::-1]
                self.wfile.write(struct.pack(">I", n) + data)
        except EOFError:
            pass


class Threads(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class Forks(socketserver.ForkingTCPServer):
    allow_reuse_address = True


class Tls(Threads):
    def get_request(self):
        s, name = super().get_request()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[4])
        return context.wrap_socket(s, server_side=True), name


async def serve_one(reader, writer):
    try:
        while True:
            n = struct.unpack(">I", await reader.readexactly(4))[0]
            data = (await reader.readexactly(n))[::-1]
            writer.write(struct.pack(">I", n) + data)
            await writer.drain()
    except asyncio.IncompleteReadError:
        writer.close()


async def serve_async(port):
    server = await asyncio.start_server(serve_one, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


def one_pipe(connection):
    try:
        while True:
            connection.send_bytes(connection.recv_bytes()[::-1])
    except EOFError:
        pass


def serve_processes(port):
    listener = multiprocessing.connection.Listener(("127.0.0.1", port))
    while True:
        connection = listener.accept()
        multiprocessing.Process(target=one_pipe, args=(connection,)).start()
        connection.close()


def ask_blocking(port, blob, rounds, how):
    digest = hashlib.sha256()
    s = socket.create_connection(("127.0.0.1", port), 30)
    if how == "ssl":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        s = context.wrap_socket(s)
    f = s.makefile("rb")
    for i in range(rounds):
        data = payload(blob, i)
        s.sendall(struct.pack(">I", len(data)) + data)
        n = struct.unpack(">I", read_exactly(f, 4))[0]
        digest.update(read_exactly(f, n))
    s.close()
    return digest.hexdigest()


def ask_pipe(port, blob, rounds):
    digest = hashlib.sha256()
    c = multiprocessing.connection.Client(("127.0.0.1", port))
    for i in range(rounds):
        c.send_bytes(payload(blob, i))
        digest.update(c.recv_bytes())
    c.close()
    return digest.hexdigest()


async def ask_async(port, blob, rounds):
    digest = hashlib.sha256()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for i in range(rounds):
        data = payload(blob, i)
        writer.write(struct.pack(">I", len(data)) + data)
        await writer.drain()
        n = struct.unpack(">I", await reader.readexactly(4))[0]
        digest.update(await reader.readexactly(n))
    writer.close()
    return digest.hexdigest()


def client(port, path, connections, rounds, how):
    with open(path, "rb") as f:
        blob = f.read()
    sums = [None] * connections

    def ask(i):
        if how == "processes":
            sums[i] = ask_pipe(port, blob, rounds)
        else:
            sums[i] = ask_blocking(port, blob, rounds, how)

    async def all_at_once():
        return await asyncio.gather(
            *(ask_async(port, blob, rounds) for _ in range(connections))
        )

    if how == "asyncio":
        sums = asyncio.run(all_at_once())
    else:
        threads = [
            threading.Thread(target=ask, args=(i,)) for i in range(connections)
        ]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    for i, s in enumerate(sums):
        print(i, rounds, s)


def server(port, how):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if how == "asyncio":
        asyncio.run(serve_async(port))
    elif how == "processes":
        serve_processes(port)
    else:
        kind = {"threads": Threads, "fork": Forks, "ssl": Tls}[how]
        with kind(("127.0.0.1", port), Handler) as s:
            s.serve_forever()


if sys.argv[1] == "server":
    server(int(sys.argv[2]), sys.argv[3])
else:
    client(int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]),
           sys.argv[6])
