"""HTTPS as Python programs speak it: blocking, and by asyncio, which encrypts in memory. Arguments: how, port, certificate."""

import asyncio
import http.client
import ssl
import sys

how, port, certificate = sys.argv[1], int(sys.argv[2]), sys.argv[3]
context = ssl.create_default_context(cafile=certificate)
large = bytes(i * 13 % 251 for i in range(1_000_000))


def blocking():
    connection = http.client.HTTPSConnection("localhost", port, context=context)
    for body in (b"small", large, b""):
        connection.request("POST", "/blocking", body=body)
        assert len(connection.getresponse().read()) == 300_000
    connection.close()


async def one(number):
    reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
    for body in (b"small", large):
        writer.write(b"POST /%d HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (number, len(body)) + body)
        await writer.drain()
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(300_000)
    writer.close()
    await writer.wait_closed()


async def several():
    await asyncio.gather(*(one(number) for number in range(5)))


blocking() if how == "blocking" else asyncio.run(several())
