"""An MCP server as the SDK's documentation has it: sums, files, errors, and an answer of a megabyte.

    python3 mcp_server.py LOG stdio|http|sse

What it was asked and answered goes to LOG, a JSON object a line. Over HTTP it prints where it is.
"""

import json
import pathlib
import socket
import subprocess
import sys

import uvicorn
from mcp.server import MCPServer

LOG, TRANSPORT = sys.argv[1:]

server = MCPServer("sums")


def log(**entry):
    with open(LOG, "a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def logged(tool):
    """The tool, with what it was called with and what came of it in the log."""
    import functools

    @functools.wraps(tool)
    async def logging(**arguments):
        log(call=tool.__name__, arguments=arguments)
        try:
            result = await tool(**arguments)
        except Exception as error:
            log(result=tool.__name__, error=str(error))
            raise
        log(result=tool.__name__, text=str(result))
        return result

    return server.tool()(logging)


@logged
async def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


@logged
async def fail(why: str) -> str:
    """Fails."""
    raise ValueError(why)


@logged
async def repeat(text: str, times: int) -> str:
    """Repeats a text."""
    return text * times


@logged
async def write(path: str, text: str) -> str:
    """Writes a file, and copies it by another program."""
    pathlib.Path(path).write_text(text, encoding="utf-8")
    subprocess.run(["cp", path, path + ".copy"], check=True)
    return f"wrote {path}"


if TRANSPORT == "stdio":
    server.run()
else:
    app = server.sse_app() if TRANSPORT == "sse" else server.streamable_http_app()
    listener = socket.create_server(("127.0.0.1", 0))
    path = "sse" if TRANSPORT == "sse" else "mcp"
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/{path}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])
