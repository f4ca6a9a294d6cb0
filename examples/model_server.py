#!/usr/bin/env python3
"""A model that needs no key and no network: it speaks the OpenAI chat completions API, and what it says is scripted.

It looks only at the conversation in each request, as a real model does, so that a resumed conversation goes on from where it stands.
Prints its base URL on the first line of its output; ends when its input does.
"""

import argparse
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "scripted-1"
RUN_TESTS = "python3 -m unittest 2>&1 | tail -n 12"


def answer(messages):
    """What the model says next: a text, and the tool calls that it asks for as (name, arguments)."""
    users = [m["content"] for m in messages if m["role"] == "user"]
    last_user = max(i for i, m in enumerate(messages) if m["role"] == "user")
    since = [m["content"] for m in messages[last_user:] if m["role"] == "tool"]
    if len(users) > 1:
        return second_thoughts(users[-1], since)
    if not since:
        return "I'll run the tests first.", [("shell", {"command": RUN_TESTS})]
    if len(since) == 1:
        if passes(since[0]):
            return "All tests pass already, there is nothing to fix.", []
        return "One test fails. Let me see the code behind it.", [("read_file", {"path": "cart.py"})]
    if len(since) == 2:
        fixed = since[1].replace("> FREE_SHIPPING_FROM", ">= FREE_SHIPPING_FROM")
        return (
            "An order of exactly 50.00 should ship for free: the comparison has to include the limit.",
            [("write_file", {"path": "cart.py", "content": fixed})],
        )
    if len(since) == 3:
        return "Now the tests again.", [("shell", {"command": RUN_TESTS})]
    passed = passes(since[-1])
    return ("Done: all tests pass." if passed else "The tests still fail, I give up."), []


def passes(output):
    """Whether unittest says so, on a line of its own: a path in a traceback may hold the same letters."""
    return "OK" in output.splitlines()


def second_thoughts(prompt, since):
    """The user came back with another prompt: this time the test is changed instead of the code."""
    if not since:
        return f'You now say: "{prompt}" So I leave cart.py alone and look at its test.', [
            ("read_file", {"path": "test_cart.py"})
        ]
    if len(since) == 1:
        changed = since[0].replace("free_from_fifty", "free_above_fifty").replace(
            "assertEqual(cart.total(), 5000)", "assertEqual(cart.total(), 5490)"
        )
        return "The test expects free shipping at 50.00 already; I correct it.", [
            ("write_file", {"path": "test_cart.py", "content": changed})
        ]
    if len(since) == 2:
        return "Now the tests again.", [("shell", {"command": RUN_TESTS})]
    passed = passes(since[-1])
    return ("Done: the test now says what the code does." if passed else "Still failing, I give up."), []


def tool_calls(messages, calls):
    """The calls as the API writes them, with ids that are unique in the conversation."""
    return [
        {
            "index": i,
            "id": f"call_{len(messages)}_{i}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for i, (name, arguments) in enumerate(calls)
    ]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, messages):
        """The script; other servers have others."""
        return answer(messages)

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/chat/completions":
            self.send_error(404)
            return
        messages = request["messages"]
        text, calls = self.answer(messages)
        calls = tool_calls(messages, calls)
        usage = {
            "prompt_tokens": len(json.dumps(messages)) // 4,
            "completion_tokens": len(text.split()) + 20 * len(calls),
        }
        usage["total_tokens"] = sum(usage.values())
        finish = "tool_calls" if calls else "stop"
        if request.get("stream"):
            self.stream(text, calls, finish, usage)
        else:
            message = {"role": "assistant", "content": text}
            if calls:
                message["tool_calls"] = calls
            choice = {"index": 0, "message": message, "finish_reason": finish}
            body = json.dumps(self.envelope("chat.completion", [choice], usage)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def stream(self, text, calls, finish, usage):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for i, word in enumerate(text.split(" ")):
            self.event({"content": word if i == 0 else f" {word}"})
            time.sleep(self.server.pace)
        if calls:
            self.event({"tool_calls": calls})
        self.event({}, finish, usage)
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")

    def event(self, delta, finish=None, usage=None):
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        body = self.envelope("chat.completion.chunk", [choice], usage)
        self.chunk(b"data: " + json.dumps(body).encode() + b"\n\n")

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    @staticmethod
    def envelope(kind, choices, usage):
        body = {"id": "chatcmpl-1", "object": kind, "created": int(time.time()), "model": MODEL}
        body["choices"] = choices
        if usage is not None:
            body["usage"] = usage
        return body

    def log_message(self, format, *args):
        pass


def serve(handler, port=0, pace=0.0):
    """Serves on loopback until the end of the input; prints the base URL."""
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    server.pace = pace
    print(f"http://127.0.0.1:{server.server_port}/v1", flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--pace", type=float, default=0.015, help="seconds between two words")
    options = parser.parse_args()
    serve(Handler, options.port, options.pace)


if __name__ == "__main__":
    main()
