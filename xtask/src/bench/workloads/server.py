"""The server of workload 4: prints its port, answers every request alike, ends with its standard input."""

import socket
import sys
import threading

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n"


def serve(listener):
    while True:
        connection, _ = listener.accept()
        with connection:
            request = b""
            while b"\r\n\r\n" not in request and (more := connection.recv(65536)):
                request += more
            connection.sendall(ANSWER)


listener = socket.create_server(("127.0.0.1", 0), backlog=128)
threading.Thread(target=serve, args=(listener,), daemon=True).start()
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
