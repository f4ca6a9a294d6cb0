"""An agent of 100 turns, each of which changes five files of its tree, and its model, which thinks for 50 ms.

    python3 turns.py serve       # the model: prints its port, ends with its input
    python3 turns.py PORT        # the agent
"""

import http.client
import http.server
import json
import pathlib
import sys
import threading
import time

TURNS, FILES = 100, 5


class Model(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *args):
        pass

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(0.05)
        said = {"role": "assistant", "content": f"Go on after {len(asked['messages'])}."}
        choice = {"index": 0, "message": said, "finish_reason": "stop"}
        answer = json.dumps({"model": "m", "choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        self.wfile.flush()


def serve():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
    print(server.server_port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


def work(port):
    messages = [{"role": "system", "content": "You change files."}]
    connection = http.client.HTTPConnection("localhost", port)
    for turn in range(TURNS):
        messages.append({"role": "user", "content": f"{turn}: change the next {FILES}."})
        body = json.dumps({"model": "m", "messages": messages}).encode()
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        messages.append(answer["choices"][0]["message"])
        for number in range(FILES):
            file = pathlib.Path(f"d{turn % 30}", f"changed{number}")
            file.write_text(f"turn {turn}, file {number}\n" * 100)


if sys.argv[1] == "serve":
    serve()
else:
    work(int(sys.argv[1]))
