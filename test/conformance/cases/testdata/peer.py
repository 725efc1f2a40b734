# SPDX-License-Identifier: Apache-2.0
"""One end of a connection, as Python programs are written: peer.py MODE ADDRESS PORT [SIZE]."""
import asyncio
import hashlib
import selectors
import signal
import socket
import sys
import tempfile
import time

mode, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
size = int(sys.argv[4]) if len(sys.argv) > 4 else 0
data = bytes((i * 7 + i // 251) & 255 for i in range(size))


def told(b):
    print(len(b), hashlib.sha256(b).hexdigest()[:12], flush=True)


def listen():
    s = socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    print("listening", flush=True)
    return s


def read_all(s):
    got = b""
    while b := s.recv(10000):
        got += b
    return got


async def asyncio_server():
    async def echo(reader, writer):
        while b := await reader.read(20000):
            writer.write(b)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, address, port)
    print("listening", flush=True)
    async with server:
        await server.serve_forever()


async def asyncio_client():
    reader, writer = await asyncio.open_connection(address, port)

    async def send():
        for i in range(0, size, 50000):
            writer.write(data[i:i + 50000])
            await writer.drain()
        writer.write_eof()

    sending = asyncio.create_task(send())
    told(await reader.read())
    await sending


def selectors_server():
    sel = selectors.DefaultSelector()
    listener = listen()
    listener.setblocking(False)
    sel.register(listener, selectors.EVENT_READ)
    waiting = {}
    while True:
        for key, mask in sel.select():
            c = key.fileobj
            if c is listener:
                c, _ = listener.accept()
                c.setblocking(False)
                waiting[c] = b""
                sel.register(c, selectors.EVENT_READ)
                continue
            if mask & selectors.EVENT_READ:
                b = c.recv(4096)
                if not b:
                    c.setblocking(True)
                    c.sendall(waiting[c])
                    sel.unregister(c)
                    c.close()
                    continue
                waiting[c] += b
            if waiting[c]:
                try:
                    waiting[c] = waiting[c][c.send(waiting[c]):]
                except BlockingIOError:
                    pass
            sel.modify(c, selectors.EVENT_READ | (selectors.EVENT_WRITE if waiting[c] else 0))


def sendfile_server():
    c, _ = listen().accept()
    with tempfile.TemporaryFile() as f:
        f.write(data)
        f.seek(0)
        c.sendfile(f)
    c.close()


def late_server():
    c, _ = listen().accept()
    while b := c.recv(100):
        time.sleep(0.2)
        c.sendall(b)


def alarmed_client(c):
    """Blocks in recv while a timer's signals arrive, after which recv continues (PEP 475)."""
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    try:
        for _ in range(3):
            c.sendall(b"hello")
            print(c.recv(100), flush=True)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def client():
    c = socket.create_connection((address, port))
    if mode == "alarmed-client":
        return alarmed_client(c)
    if mode == "timeout-client":
        c.settimeout(0.05)
        try:
            c.recv(100)
        except socket.timeout as e:
            print(type(e).__name__)
        c.settimeout(5)
        c.sendall(b"hello")
        print(c.recv(100), flush=True)
        return
    if mode == "lines-client":
        f = c.makefile("rwb")
        for i in range(200):
            f.write(b"line %d\n" % i)
            f.flush()
            assert f.readline() == b"line %d\n" % i, i
        print("200 lines", flush=True)
        return
    if mode == "sync-client":
        for i in range(0, size, 3000):
            c.sendall(data[i:i + 3000])
        c.shutdown(socket.SHUT_WR)
    told(read_all(c))


try:
    if mode.startswith("asyncio"):
        asyncio.run(asyncio_server() if mode.endswith("server") else asyncio_client())
    elif mode == "selectors-server":
        selectors_server()
    elif mode == "sendfile-server":
        sendfile_server()
    elif mode == "late-server":
        late_server()
    else:
        client()
except OSError as e:
    print("nothing, then", type(e).__name__, e.errno, flush=True)
