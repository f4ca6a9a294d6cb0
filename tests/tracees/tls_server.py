"""A TLS server that answers every request, and keeps what came and went over each connection in files N.in and N.out.

Its arguments: a directory that holds cert.pem and key.pem, and takes the files. It prints its port, and ends with its
standard input.
"""

import os
import socket
import ssl
import sys
import threading

directory = sys.argv[1]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{directory}/cert.pem", f"{directory}/key.pem")
body = bytes(i * 7 % 251 for i in range(300_000))
answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nContent-Type: application/octet-stream\r\n\r\n" % len(body) + body


def serve(number, connection):
    came, went = b"", b""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        with context.wrap_socket(connection, server_side=True) as tls:
            request = b""
            while data := tls.recv(65536):
                came += data
                request += data
                head, separator, rest = request.partition(b"\r\n\r\n")
                length = 0
                for line in head.split(b"\r\n"):
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                if separator and len(rest) >= length:
                    request = rest[length:]
                    tls.sendall(answer)
                    went += answer
    except OSError:
        pass
    for name, content in (("in", came), ("out", went)):
        with open(f"{directory}/{number}.{name}.part", "wb") as file:
            file.write(content)
        os.rename(f"{directory}/{number}.{name}.part", f"{directory}/{number}.{name}")


def accept():
    number = 0
    while True:
        connection, _ = listener.accept()
        number += 1
        thread = threading.Thread(target=serve, args=(number, connection), daemon=True)
        thread.start()
        served.append(thread)


served = []
listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=accept, daemon=True).start()
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
for thread in served:
    thread.join(10)
