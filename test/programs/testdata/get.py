# SPDX-License-Identifier: Apache-2.0
# get.py MODE: gets the body N times on one connection and prints the hash of each.
import asyncio, hashlib, http.client, os, socket, sys, time

server, port, times = os.environ["SERVER"], int(os.environ["PORT"]), int(os.environ["N"])
body = open(os.environ["DIR"] + "/body", "rb").read()


def show(data):
    print(hashlib.sha256(data).hexdigest())


def http_client():
    c = http.client.HTTPConnection(server, port)
    for _ in range(times):
        c.request("GET", "/body")
        show(c.getresponse().read())


def with_requests():
    import requests

    with requests.Session() as s:
        for _ in range(times):
            show(s.get(f"http://{server}:{port}/body").content)


async def with_asyncio():
    reader, writer = await asyncio.open_connection(server, port, limit=1 << 20)
    for _ in range(times):
        writer.write(b"get\n")
        show((await reader.readline()).strip())
    writer.close()


def memcache():
    c = socket.create_connection((server, port))
    f = c.makefile("rwb")
    f.write(b"set body 0 0 %d\r\n%s\r\n" % (len(body), body))
    f.flush()
    assert f.readline() == b"STORED\r\n"
    for _ in range(times):
        f.write(b"get body\r\n")
        f.flush()
        assert f.readline() == b"VALUE body 0 %d\r\n" % len(body)
        show(f.read(len(body)))
        assert f.read(7) == b"\r\nEND\r\n"


def with_pika():
    import pika

    for attempt in range(100):
        try:
            c = pika.BlockingConnection(pika.ConnectionParameters(server, port, blocked_connection_timeout=60))
            break
        except (pika.exceptions.AMQPError, OSError):
            time.sleep(1)
    ch = c.channel()
    ch.queue_declare("q")
    for _ in range(times):
        ch.basic_publish("", "q", body)
    got = 0
    for method, _, data in ch.consume("q", auto_ack=True):
        show(data)
        got += 1
        if got == times:
            break
    c.close()


modes = {"http.client": http_client, "requests": with_requests, "memcache": memcache, "pika": with_pika,
         "asyncio": lambda: asyncio.run(with_asyncio())}
modes[sys.argv[1]]()
