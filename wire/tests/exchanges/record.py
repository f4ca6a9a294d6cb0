"""Records what real clients and servers say to each other, through a relay that notes every piece it carries.

Each NAME.exchange holds the pieces of one connection: `>` (from the client) or `<`, four bytes of length, the bytes.
NAME.json holds what the two programs themselves say that they sent and received. Run it with a Python that has the
packages httpx[http2], websockets, hypercorn, requests, brotli and zstandard, and with curl and node installed:

    python record.py [NAME ...]
"""

import asyncio
import gzip
import json
import pathlib
import struct
import subprocess
import sys
import threading
import zlib

import brotli
import httpx
import hypercorn.asyncio
import hypercorn.config
import requests
import websockets
import websockets.extensions.permessage_deflate as permessage_deflate
import zstandard

HERE = pathlib.Path(__file__).parent
TEXT = ("The quick brown fox jumps over the lazy dog. " * 40).encode()
EVENTS = [{"event": "delta", "data": json.dumps({"text": word})} for word in "all is well that ends well".split()]


def encode(coding, body):
    compressor = zlib.compressobj(wbits=-15)
    return {
        "gzip": lambda: gzip.compress(body, mtime=0),
        "deflate": lambda: zlib.compress(body),
        "raw": lambda: compressor.compress(body) + compressor.flush(),
        "br": lambda: brotli.compress(body),
        "zstd": lambda: zstandard.compress(body),
        "": lambda: body,
    }[coding]()


async def app(scope, receive, send):
    """An ASGI application that hypercorn serves over HTTP/1.1 and HTTP/2."""
    if scope["type"] == "lifespan":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    path = scope["path"]
    headers = []
    if path == "/events":
        chunks = [line.encode() + b"\r\n\r\n" for line in stream().split("\r\n\r\n")[:-1]]
        headers.append((b"content-type", b"text/event-stream"))
    elif path.startswith("/coded/"):
        coding = path.split("/")[2]
        chunks = [encode(coding, TEXT)]
        headers.append((b"content-encoding", (coding if coding != "raw" else "deflate").encode()))
    elif path == "/length":
        chunks = [b'{"length": true}']
        headers.append((b"content-length", b"16"))
    elif path == "/empty":
        chunks = [b""]
        headers.append((b"content-length", b"0"))
    else:
        chunks = [b"you said: ", body]
    await send({"type": "http.response.start", "status": 404 if path == "/none" else 200, "headers": headers})
    for number, chunk in enumerate(chunks):
        await send({"type": "http.response.body", "body": chunk, "more_body": number + 1 < len(chunks)})
        await asyncio.sleep(0)


class Relay:
    """Listens on a port of its own and carries connections to another, noting them."""

    def __init__(self, port):
        self.port, self.connections = port, []

    async def start(self):
        self.server = await asyncio.start_server(self.carry, "127.0.0.1", 0)
        self.own = self.server.sockets[0].getsockname()[1]

    async def carry(self, reader, writer):
        pieces = []
        self.connections.append(pieces)
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self.port)

        async def pump(source, target, mark):
            try:
                while piece := await source.read(65536):
                    pieces.append(mark + struct.pack(">I", len(piece)) + piece)
                    target.write(piece)
                    await target.drain()
                target.write_eof()
            except (OSError, asyncio.CancelledError):
                pass

        await asyncio.gather(pump(reader, to_writer, b">"), pump(to_reader, writer, b"<"))
        writer.close()
        to_writer.close()


def exchange(method, path, status, sent, received, events=()):
    return {"method": method, "path": path, "status": status, "sent": sent, "received": received, "events": list(events)}


def of_requests(base):
    found = []
    with requests.Session() as session:
        for method, path, data in [
            ("GET", "/length", None),
            ("POST", "/echo", b"by length"),
            ("POST", "/echo", iter([b"in ", b"chunks"])),
            ("HEAD", "/length", None),
            ("GET", "/coded/gzip", None),
            ("GET", "/coded/deflate", None),
            ("GET", "/coded/raw", None),
            ("GET", "/coded/br", None),
            ("GET", "/none", None),
            ("GET", "/events", None),
            ("GET", "/empty", None),
        ]:
            sent = data.decode() if isinstance(data, bytes) else "in chunks" if data else ""
            answer = session.request(method, base + path, data=data)
            events = [e["data"] for e in EVENTS] if path == "/events" else []
            found.append(exchange(method, path, answer.status_code, sent, answer.text, events))
    return found


def of_httpx(base, http2):
    found = []
    with httpx.Client(http1=not http2, http2=http2, timeout=20) as client:
        for method, path, data in [
            ("POST", "/echo", b"x" * 20000),
            ("GET", "/events", None),
            ("GET", "/coded/zstd", None),
            ("GET", "/coded/br", None),
            ("GET", "/length", None),
            ("DELETE", "/none", None),
            ("HEAD", "/length", None),
        ]:
            answer = client.request(method, base + path, content=data)
            events = [e["data"] for e in EVENTS] if path == "/events" else []
            sent = (data or b"").decode()
            found.append(exchange(method, path, answer.status_code, sent, answer.text, events))
    return found


def of_curl(base, flag):
    # curl 7.88 fails to use a connection again that began as HTTP/2 without TLS.
    paths = ["/length", "/coded/gzip", "/events"] if flag == "--http1.1" else ["/coded/gzip"]
    found = []
    arguments = []
    for path in paths:
        arguments += ["--next", "-sS", flag, "--compressed", base + path]
    said = subprocess.run(["curl", *arguments[1:]], capture_output=True, check=True).stdout.decode()
    for path in paths:
        events = [e["data"] for e in EVENTS] if path == "/events" else []
        body = {"/length": '{"length": true}', "/coded/gzip": TEXT.decode()}.get(path) or said[-len(stream()):]
        found.append(exchange("GET", path, 200, "", body, events))
    assert said == "".join(one["received"] for one in found), said
    return found


def stream():
    return "".join(f"event: {e['event']}\r\ndata: {e['data']}\r\n\r\n" for e in EVENTS)


def of_node(base):
    script = """
        const base = process.argv[1], found = [];
        for (const [method, path, body] of [['POST', '/echo', 'from node'], ['GET', '/events'], ['GET', '/coded/br']]) {
            const answer = await fetch(base + path, {method, body});
            found.push({method, path, status: answer.status, sent: body ?? '', received: await answer.text(), events: []});
            await new Promise(setImmediate); // gives the connection back
        }
        console.log(JSON.stringify(found));
    """
    said = subprocess.run(
        ["node", "--input-type=module", "-e", script, base], capture_output=True, check=True
    ).stdout
    found = json.loads(said)
    found[1]["events"] = [e["data"] for e in EVENTS]
    return found


MESSAGES = ["hello", TEXT.decode(), "", "hello", b"\x00\x01\xff".hex(), TEXT.decode()]


async def echo_messages(socket):
    async for message in socket:
        await socket.send(message)


async def of_websockets(port, compression):
    sent = []
    async with websockets.connect(f"ws://127.0.0.1:{port}/socket", compression=compression) as socket:
        for message in MESSAGES:
            await socket.send(message)
            sent.append(message)
            assert await socket.recv() == message
        # In fragments.
        await socket.send(["in ", "three ", "pieces"])
        assert await socket.recv() == "in three pieces"
        await (await socket.ping(b"alive"))
    return sent + ["in three pieces"]


async def record(name, port, make):
    relay = Relay(port)
    await relay.start()
    said = await make(relay.own)
    for _ in range(50):
        await asyncio.sleep(0.02)
    relay.server.close()
    pieces = max(relay.connections, key=lambda pieces: sum(map(len, pieces)))
    (HERE / f"{name}.exchange").write_bytes(b"".join(pieces))
    (HERE / f"{name}.json").write_text(json.dumps(said, indent=1) + "\n")
    print(name, len(relay.connections), "connections,", len(pieces), "pieces")


async def main(names):
    config = hypercorn.config.Config()
    config.bind = ["127.0.0.1:18765"]
    config.loglevel = "ERROR"
    stop = asyncio.Event()
    server = asyncio.create_task(hypercorn.asyncio.serve(app, config, shutdown_trigger=stop.wait))
    await asyncio.sleep(0.5)

    def in_thread(function, *more):
        return lambda port: asyncio.to_thread(function, f"http://127.0.0.1:{port}", *more)

    makers = {
        "requests": in_thread(of_requests),
        "curl-http1": in_thread(of_curl, "--http1.1"),
        "curl-http2": in_thread(of_curl, "--http2-prior-knowledge"),
        "curl-h2c": in_thread(of_curl, "--http2"),
        "httpx-http1": in_thread(of_httpx, False),
        "httpx-http2": in_thread(of_httpx, True),
        "node": in_thread(of_node),
    }
    for name, make in makers.items():
        if not names or name in names:
            await record(name, 18765, make)
    contexts = {
        "websocket": {"compression": None},
        "websocket-takeover": {"compression": "deflate"},
        "websocket-no-takeover": {
            "extensions": [
                permessage_deflate.ServerPerMessageDeflateFactory(
                    server_no_context_takeover=True, client_no_context_takeover=True
                )
            ]
        },
    }
    for name, options in contexts.items():
        if not names or name in names:
            async with websockets.serve(echo_messages, "127.0.0.1", 18766, **options):
                compression = options.get("compression", "deflate")
                await record(name, 18766, lambda port: of_websockets(port, compression))
    stop.set()
    await server


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
