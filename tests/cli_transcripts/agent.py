"""An agent that writes its conversation down as Codex or Claude Code do, and perhaps asks a model for it.

    python3 agent.py codex|claude none|http|socket|stay

`none`: nobody hears the model. `http`: it is asked over plain HTTP. `socket`: the agent tells the recorder itself.
`stay`: as `none`, but at its end the agent waits for a line.
"""

import datetime
import http.client
import http.server
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time

FORM, WIRE = sys.argv[1:]
HOME = pathlib.Path(os.environ["HOME"])
KEY = "sk-ant-api03-" + "Zk9" * 31
OLD = "2020-01-01T00:00:00.000Z"
#: What the model says, in order: a text, and perhaps a command to run.
SCRIPT = [
    (f"I make it, with the key {KEY}.", "echo made > made.txt"),
    ("And another.", "cat made.txt > other.txt"),
    ("Done: both are there.", None),
]


def now():
    at = datetime.datetime.now(datetime.timezone.utc)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def text(line):
    return json.dumps(line, separators=(",", ":")) + "\n"


class Claude:
    """Opens its file for every line."""

    def __init__(self, directory="-work", name="5e55.jsonl", side=False):
        base = pathlib.Path(os.environ.get("CLAUDE_CONFIG_DIR") or HOME / ".claude")
        self.path = base / "projects" / directory / name
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.side = {"isSidechain": True, "agentId": "a1"} if side else {"isSidechain": False}

    def line(self, kind, message, at=None):
        line = {**self.side, "type": kind, "message": message, "timestamp": at or now()}
        with open(self.path, "a") as file:
            file.write(text(line))

    def raw(self, line):
        with open(self.path, "a") as file:
            file.write(line)

    def user(self, said):
        self.line("user", {"role": "user", "content": said})

    def answer(self, number, said, command):
        blocks = [{"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}, {"type": "text", "text": said}]
        if command:
            blocks.append({"type": "tool_use", "id": f"call_{number}", "name": "Bash", "input": {"command": command}})
        for block in blocks:
            message = {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": "claude-opus-4-8"}
            usage = {"input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 7}
            message |= {"content": [block], "stop_reason": "tool_use" if command else "end_turn", "usage": usage}
            self.line("assistant", message)

    def result(self, number, said):
        block = {"type": "tool_result", "tool_use_id": f"call_{number}", "content": said}
        self.line("user", {"role": "user", "content": [block]})


class Codex:
    """Keeps its file open."""

    def __init__(self):
        base = pathlib.Path(os.environ.get("CODEX_HOME") or HOME / ".codex")
        directory = base / "sessions/2026/01/02"
        directory.mkdir(parents=True)
        self.file = open(directory / "rollout-2026-01-02T03-04-05-x.jsonl", "x")
        self.line("session_meta", {"id": "x", "base_instructions": {"text": "Be brief."}})
        self.line("turn_context", {"model": "gpt-5"})

    def line(self, kind, payload):
        self.raw(text({"timestamp": now(), "type": kind, "payload": payload}))

    def raw(self, line):
        self.file.write(line)
        self.file.flush()

    def item(self, **fields):
        self.line("response_item", fields)

    def user(self, said):
        self.item(type="message", role="user", content=[{"type": "input_text", "text": said}])

    def answer(self, number, said, command):
        self.item(type="message", role="assistant", content=[{"type": "output_text", "text": said}])
        if command:
            arguments = json.dumps({"command": command})
            self.item(type="function_call", call_id=f"call_{number}", name="Bash", arguments=arguments)
        usage = {"input_tokens": 100, "cached_input_tokens": 90, "output_tokens": 7}
        info = {"total_token_usage": {"input_tokens": 100 * number}, "last_token_usage": usage}
        self.line("event_msg", {"type": "token_count", "info": info})

    def result(self, number, said):
        self.item(type="function_call_output", call_id=f"call_{number}", output=said)


class Model(http.server.BaseHTTPRequestHandler):
    """Speaks the language of the agent."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        number = request["number"]
        said, command = SCRIPT[number - 1]
        arguments = {"command": command}
        if FORM == "claude":
            blocks = [{"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}, {"type": "text", "text": said}]
            if command:
                blocks.append({"type": "tool_use", "id": f"call_{number}", "name": "Bash", "input": arguments})
            body = {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": "claude-opus-4-8"}
            body |= {"content": blocks, "stop_reason": "end_turn", "usage": {"input_tokens": 10, "output_tokens": 7}}
        else:
            part = {"type": "output_text", "text": said}
            items = [{"type": "message", "role": "assistant", "content": [part]}]
            if command:
                call = {"type": "function_call", "call_id": f"call_{number}", "name": "Bash"}
                items.append({**call, "arguments": json.dumps(arguments)})
            body = {"id": f"resp_{number}", "object": "response", "status": "completed", "model": "gpt-5"}
            body |= {"output": items, "usage": {"input_tokens": 100, "output_tokens": 7}}
        body = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        # The agent writes down what it has of an answer while the rest is still to come.
        self.wfile.write(body[:-1])
        noted.acquire()
        self.wfile.write(body[-1:])

    def log_message(self, format, *args):
        pass


def ask(number, messages, note):
    """What the agent sends says more than its transcript: a reminder that nobody typed."""
    if WIRE != "http":
        return note()
    path, name = ("/v1/messages", "messages") if FORM == "claude" else ("/v1/responses", "input")
    body = {"model": "m", "max_tokens": 9, "number": number, name: messages}
    connection.request("POST", path, json.dumps(body))
    response = connection.getresponse()
    note()
    # An answer that does not grow for a second is taken for a whole one: the recorder has to be asked that often, and longer.
    until = time.monotonic() + (1.5 if number == 1 else 0)
    while time.monotonic() < until:
        recorder.sendall(b'{"type": "status", "req": 1}\n')
        recorder.recv(65536)
    noted.release()
    response.read()


def tell(number, said, command):
    if WIRE != "socket":
        return
    message = {"type": "message", "role": "assistant", "content": said}
    recorder.sendall(text(message).encode())
    if command:
        call = {"type": "tool.call", "id": f"call_{number}", "name": "Bash", "arguments": {"command": command}}
        recorder.sendall(text(call).encode())
    recorder.sendall(b'{"type": "status", "req": 1}\n')
    recorder.recv(65536)


recorder = socket.socket(socket.AF_UNIX)
recorder.connect(os.environ["AGENTREC_SOCKET"])
noted = threading.Semaphore(0)
if WIRE == "http":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port)

transcript = Claude() if FORM == "claude" else Codex()
messages = [{"role": "user", "content": "<reminder>Be good.</reminder>\nMake two files."}]
if FORM == "claude":
    # A session that goes on brings along what was said in it before.
    transcript.line("user", {"role": "user", "content": "An old question."}, OLD)
transcript.user("Make two files.")
for number, (said, command) in enumerate(SCRIPT, 1):
    tell(number, said, command)
    ask(number, messages, lambda: transcript.answer(number, said, command))
    transcript.raw('{"torn": \n')
    if command:
        ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
        done = f"exit {ran.returncode}"
        transcript.result(number, done)
        if FORM == "claude":
            call = {"type": "tool_use", "id": f"call_{number}", "name": "Bash", "input": {"command": command}}
            messages.append({"role": "assistant", "content": [{"type": "text", "text": said}, call]})
            result = {"type": "tool_result", "tool_use_id": f"call_{number}", "content": done}
            messages.append({"role": "user", "content": [result]})
        else:
            call = {"type": "function_call", "call_id": f"call_{number}", "name": "Bash"}
            messages.append({**call, "arguments": json.dumps({"command": command})})
            messages.append({"type": "function_call_output", "call_id": f"call_{number}", "output": done})

if WIRE == "stay":
    if FORM == "claude":
        # A helper has answered twice while nothing followed the answer that asked for it.
        helper = Claude("-work/5e55/subagents", "agent-a1.jsonl", side=True)
        helper.user("Count them.")
        helper.answer(8, "One.", "true")
        helper.result(8, "")
        helper.answer(9, "Two.", None)
    print("all is said", flush=True)
    sys.stdin.readline()
elif FORM == "claude":
    helper = Claude("-work/5e55/subagents", "agent-a1.jsonl", side=True)
    if WIRE == "none":
        helper.user("Count them.")
        helper.answer(9, "There are two.", None)
        # What is behind a link is none of ours.
        secret = HOME / "secret.jsonl"
        secret.write_text(text({"type": "user", "message": {"role": "user", "content": "SECRET"}}))
        link = Claude(name="link.jsonl")
        link.path.symlink_to(secret)
        link.user("Not this.")
