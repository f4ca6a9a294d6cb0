#!/usr/bin/env python3
"""A small coding agent: a loop around a chat model with three tools. It works in the current directory.

    python3 agent.py "make the tests pass"

Without OPENAI_BASE_URL it starts a scripted model of its own on loopback (model_server.py), so it needs neither key nor network.
With the package agentrec_sdk at hand (`agentrec run --with-sdk`) it tells the recorder what it says and does, and goes on from a snapshot.
"""

import http.client
import json
import os
import pathlib
import subprocess
import sys
import urllib.parse

try:
    import agentrec_sdk as agentrec
except ImportError:
    agentrec = None

HERE = pathlib.Path(__file__).resolve().parent
SYSTEM = "You are a careful programmer. Use your tools; say in a sentence what you do and why."
DEFAULT_PROMPT = "Make the tests pass."


def shell(command):
    """Run a shell command; returns what it printed and its exit status."""
    done = subprocess.run(command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return f"{done.stdout}[exit {done.returncode}]"


def read_file(path):
    """Read a text file."""
    return pathlib.Path(path).read_text()


def write_file(path, content):
    """Replace a text file."""
    return f"{pathlib.Path(path).write_text(content)} characters written"


TOOLS = {"shell": shell, "read_file": read_file, "write_file": write_file}


def tool_specs():
    """The tools as the API wants them."""
    return [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": function.__doc__,
                "parameters": {
                    "type": "object",
                    "properties": {
                        argument: {"type": "string"}
                        for argument in function.__code__.co_varnames[: function.__code__.co_argcount]
                    },
                },
            },
        }
        for name, function in TOOLS.items()
    ]


class Model:
    """A chat model behind an OpenAI-compatible URL."""

    def __init__(self, base_url, name):
        self.url = urllib.parse.urlsplit(base_url)
        self.name = name

    def ask(self, messages):
        """Sends the conversation; prints the answer while it arrives and returns it as a message."""
        connection_type = (
            http.client.HTTPSConnection if self.url.scheme == "https" else http.client.HTTPConnection
        )
        connection = connection_type(self.url.netloc, timeout=120)
        request = {"model": self.name, "messages": messages, "tools": tool_specs(), "stream": True}
        headers = {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', 'none')}",
        }
        connection.request("POST", f"{self.url.path}/chat/completions", json.dumps(request), headers)
        response = connection.getresponse()
        if response.status != 200:
            sys.exit(f"the model answered {response.status}: {response.read().decode(errors='replace')}")
        message = {"role": "assistant", "content": ""}
        for line in response:
            if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                continue
            delta = json.loads(line[6:])["choices"][0]["delta"]
            if delta.get("content"):
                message["content"] += delta["content"]
                print(delta["content"], end="", flush=True)
            for part in delta.get("tool_calls", ()):
                add_call(message.setdefault("tool_calls", []), part)
        print()
        connection.close()
        return message


def add_call(calls, part):
    """Adds a piece of a tool call, which may come in many."""
    index = part.get("index", 0)
    while len(calls) <= index:
        calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
    call = calls[index]
    call["id"] += part.get("id") or ""
    for field in ("name", "arguments"):
        call["function"][field] += part.get("function", {}).get(field) or ""


def run_tool(call):
    """Carries out one call; returns the message that holds its result."""
    name = call["function"]["name"]
    arguments = json.loads(call["function"]["arguments"])
    print(f"  > {name} {next(iter(arguments.values()), '')}", flush=True)
    if agentrec:
        agentrec.record_tool_call(name, arguments, id=call["id"])
    try:
        result = TOOLS[name](**arguments)
        error = None
    except Exception as raised:
        result, error = f"error: {raised}", raised
    if agentrec:
        agentrec.record_tool_result(call["id"], result, error=error)
    if name == "shell":
        print("".join(f"    {line}\n" for line in result.splitlines()), end="", flush=True)
    return {"role": "tool", "tool_call_id": call["id"], "content": result}


def run(model, messages):
    """The loop: ask the model, do what it asks for, until it asks for nothing more."""

    def say(message):
        messages.append(message)
        # What a tool returned is recorded as its result already.
        if agentrec and message["role"] != "tool":
            extra = {k: v for k, v in message.items() if k not in ("role", "content")}
            agentrec.record_message(message["role"], message["content"], index=len(messages) - 1, **extra)

    while True:
        answer = model.ask(messages)
        say(answer)
        for call in answer.get("tool_calls", ()):
            say(run_tool(call))
        if agentrec:
            asked = next((m["content"] for m in reversed(messages) if m["role"] == "user"), None)
            agentrec.snapshot(
                f"after: {answer['content']}",
                messages=messages,
                system_prompt=SYSTEM,
                tools=tool_specs(),
                model=model.name,
                last_query=asked,
                last_result=messages[-1]["content"],
            )
        if "tool_calls" not in answer:
            return


def first_messages(prompt):
    """A new conversation, or that of the snapshot that is resumed, with what the user wants now."""
    state = agentrec.resume_state() if agentrec else None
    if state and state.messages:
        messages = list(state.messages)
        if state.prompt:
            messages.append({"role": "user", "content": state.prompt})
        print(f"(resumed with {len(state.messages)} messages)")
    else:
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt}]
    print(f"\n{next(m['content'] for m in reversed(messages) if m['role'] == 'user')}\n", flush=True)
    if agentrec:
        for index, message in enumerate(messages):
            if message["role"] == "tool":
                continue
            extra = {k: v for k, v in message.items() if k not in ("role", "content")}
            agentrec.record_message(message["role"], message["content"], index=index, **extra)
    return messages


def main():
    messages = first_messages(" ".join(sys.argv[1:]) or DEFAULT_PROMPT)
    name = os.environ.get("OPENAI_MODEL", "scripted-1")
    base_url = os.environ.get("OPENAI_BASE_URL")
    if base_url:
        run(Model(base_url, name), messages)
        return
    # The server ends when its input does, however this process ends.
    with subprocess.Popen(
        [sys.executable, HERE / "model_server.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        run(Model(server.stdout.readline().strip(), name), messages)


if __name__ == "__main__":
    main()
