# SPDX-License-Identifier: Apache-2.0
# serve.py http|asyncio: serves the body.
import asyncio, http.server, os, sys

body = open(os.environ["DIR"] + "/body", "rb").read()
port = int(os.environ["PORT"])


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


async def answer(reader, writer):
    while await reader.readline():
        writer.write(body + b"\n")
        await writer.drain()
    writer.close()


async def serve():
    server = await asyncio.start_server(answer, "0.0.0.0", port)
    await server.serve_forever()


if sys.argv[1] == "http":
    http.server.ThreadingHTTPServer(("0.0.0.0", port), Handler).serve_forever()
else:
    asyncio.run(serve())
