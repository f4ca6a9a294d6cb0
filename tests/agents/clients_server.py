"""A model for the clients of `clients.py`: two dialects, streamed and not, plain or through TLS.

    python3 clients_server.py LOG [CERT KEY]    # prints its port; every exchange goes to LOG, one JSON object a line

What it answers depends on what it was asked alone, so an exchange in the log is the truth about it.
"""

import hashlib
import http.server
import json
import ssl
import sys
import threading

LOG = open(sys.argv[1], "w", encoding="utf-8")
LOCK = threading.Lock()


def answer_text(asked):
    said = json.dumps(asked["messages"][-1], sort_keys=True)
    return [hashlib.sha256(f"{n}{said}".encode()).hexdigest()[:12] + " " for n in range(5)]


def event(data, name=None):
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()


def chat(asked):
    words = answer_text(asked)
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    base = {"id": "c", "created": 1, "model": asked["model"]}
    if not asked.get("stream"):
        message = {"role": "assistant", "content": "".join(words)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return [json.dumps({**base, "object": "chat.completion", "choices": [choice], "usage": usage}).encode()]
    base["object"] = "chat.completion.chunk"
    deltas = [{"role": "assistant", "content": ""}, *({"content": word} for word in words)]
    pieces = [event({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}) for delta in deltas]
    end = {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage}
    return [*pieces, event(end), event("[DONE]")]


def messages(asked):
    words = answer_text(asked)
    base = {"id": "m", "type": "message", "role": "assistant", "model": asked["model"], "stop_sequence": None}
    if not asked.get("stream"):
        content = [{"type": "text", "text": "".join(words)}]
        usage = {"input_tokens": 7, "output_tokens": 5}
        return [json.dumps({**base, "content": content, "stop_reason": "end_turn", "usage": usage}).encode()]
    start = {**base, "content": [], "stop_reason": None, "usage": {"input_tokens": 7, "output_tokens": 1}}
    block = {"type": "text", "text": ""}
    deltas = [{"type": "text_delta", "text": word} for word in words]
    parts = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": block},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]
    return [event(part, part["type"]) for part in parts]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        asked = json.loads(body)
        pieces = (messages if self.path.endswith("/messages") else chat)(asked)
        self.send_response(200)
        if asked.get("stream"):
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in pieces:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(sum(map(len, pieces))))
            self.end_headers()
            self.wfile.write(b"".join(pieces))
        exchange = {"path": self.path, "asked": body.decode(), "answer": b"".join(pieces).decode()}
        with LOCK:
            LOG.write(json.dumps(exchange) + "\n")
            LOG.flush()


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128


server = Server(("127.0.0.1", 0), Handler)
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[2:4])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
