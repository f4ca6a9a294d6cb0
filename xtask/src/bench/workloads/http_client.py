"""What an agent's client does, without the agent.

    python3 http_client.py requests PORT [CERT]     # 1,000 requests of 2 KB over one connection
    python3 http_client.py streams PORT             # 100 streams of events at once
"""

import http.client
import ssl
import sys
import threading

what, port, cert = sys.argv[1], int(sys.argv[2]), sys.argv[3:]


def connect():
    if cert:
        context = ssl.create_default_context(cafile=cert[0])
        return http.client.HTTPSConnection("localhost", port, context=context)
    return http.client.HTTPConnection("localhost", port)


def stream():
    connection = connect()
    connection.request("GET", "/events")
    answer = connection.getresponse()
    events = sum(line.startswith(b"data:") for line in answer)
    assert events == 2000, events


if what == "requests":
    connection = connect()
    for number in range(1000):
        connection.request("POST", f"/{number}", b"2" * 2048)
        answer = connection.getresponse().read()
        assert len(answer) == 8192
else:
    threads = [threading.Thread(target=stream) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
