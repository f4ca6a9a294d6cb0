"""An agent whose model says what a script says, one turn after the other, over real HTTP.

    scripted.py EXAMPLES SCRIPT.json

The script has a list of turns, each a list of shell commands; a command that begins with `write ` and a name and a text writes a file in the agent
itself. The model is a process of its own. It answers when a snapshot was taken, so that the one at the request is over.
"""

import importlib
import json
import os
import subprocess
import sys

EXAMPLES, SCRIPT = sys.argv[1:3]
sys.path.insert(0, EXAMPLES)


def calls(turn):
    """What a turn asks for."""
    for command in turn:
        if command.startswith("write "):
            _, path, content = command.split(" ", 2)
            yield "write_file", {"path": path, "content": content}
        else:
            yield "shell", {"command": command}


if len(sys.argv) > 3:
    server = importlib.import_module("model_server")
    with open(SCRIPT) as file:
        script = json.load(file)
    turns = script["turns"]

    class Scripted(server.Handler):
        def answer(self, messages):
            subprocess.run([script["agentrec"], "snapshot"], stdout=subprocess.DEVNULL, check=True)
            number = sum(message["role"] == "assistant" for message in messages)
            if number < len(turns):
                return f"Turn {number + 1}.", list(calls(turns[number]))
            return "Done.", []

    server.serve(Scripted)
    sys.exit()

agent = importlib.import_module("agent")
model = subprocess.Popen(
    [sys.executable, __file__, EXAMPLES, SCRIPT, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
)
agent.agentrec = None
with model:
    url = model.stdout.readline().strip()
    agent.run(agent.Model(url, "scripted-1"), agent.first_messages("Go."))
    model.stdin.close()
