"""An ordinary client of an MCP server, by the official SDK. It knows nothing of agentrec.

    python3 mcp_client.py LOG stdio|sockets|http|sse legacy|auto
"""

import asyncio
import contextlib
import pathlib
import socket
import subprocess
import sys

import anyio
import mcp
from anyio.abc import UNIXSocketStream
from mcp.client.sse import sse_client
from mcp.client.stdio import _parse_line

LOG, TRANSPORT, MODE = sys.argv[1:]
#: An answer holds its text twice, and the SDK takes no event of more than a mebibyte.
LONG = 1 << 19 if TRANSPORT == "stdio" else 1 << 17
KIND = "stdio" if TRANSPORT == "sockets" else TRANSPORT
SERVER = [sys.executable, str(pathlib.Path(__file__).with_name("mcp_server.py")), LOG, KIND]


@contextlib.asynccontextmanager
async def over_sockets():
    """The server behind two pairs of sockets, as Node's child_process starts it."""
    (to, stdin), (out, stdout) = socket.socketpair(), socket.socketpair()
    process = subprocess.Popen(SERVER, stdin=stdin, stdout=stdout)
    stdin.close()
    stdout.close()
    to_client, incoming = anyio.create_memory_object_stream(0)
    outgoing, from_client = anyio.create_memory_object_stream(0)

    async def read():
        async with to_client, await UNIXSocketStream.from_socket(out) as stream:
            rest = b""
            with contextlib.suppress(anyio.EndOfStream):
                while True:
                    *lines, rest = (rest + await stream.receive()).split(b"\n")
                    for line in lines:
                        await to_client.send(_parse_line(line.decode()))

    async def write():
        async with from_client, await UNIXSocketStream.from_socket(to) as stream:
            async for message in from_client:
                text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                await stream.send(text.encode() + b"\n")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        tasks.start_soon(write)
        yield incoming, outgoing
        tasks.cancel_scope.cancel()
    process.wait()


async def talk(server):
    async with mcp.Client(server, mode=MODE) as client:
        await client.list_tools()
        await client.call_tool("add", {"a": 1, "b": 2})
        # Three at once, answered in any order.
        sums = ({"a": n, "b": 10} for n in range(3))
        await asyncio.gather(*(client.call_tool("add", sum) for sum in sums))
        await client.call_tool("fail", {"why": "it failed \u2014 as it should"})
        await client.call_tool("repeat", {"text": "x\n", "times": LONG})
        await client.call_tool("repeat", {"text": "long " * 50_000, "times": 1})
        await client.call_tool("write", {"path": "made.txt", "text": "by a tool"})


if TRANSPORT == "stdio":
    asyncio.run(talk(mcp.StdioServerParameters(command=SERVER[0], args=SERVER[1:])))
elif TRANSPORT == "sockets":
    asyncio.run(talk(over_sockets()))
else:
    process = subprocess.Popen(SERVER, stdout=subprocess.PIPE, text=True)
    url = process.stdout.readline().strip()
    try:
        asyncio.run(talk(sse_client(url) if TRANSPORT == "sse" else url))
    finally:
        process.terminate()
        process.wait()
