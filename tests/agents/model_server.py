"""The scripted model behind `agent.py`: what it asks for is the truth that the test holds the trace against.

    python3 model_server.py LOG        # prints its base URL; every request goes to LOG, one JSON object a line
"""

import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples"))

import model_server  # noqa: E402

#: What the model asks for after the first prompt, one step each: a text, and (tool, arguments).
FIRST = [
    ("First the build directory.", "shell", {
        "command": "mkdir build && echo one > build/new.txt && cp data.txt build/copy.txt && echo built"
    }),
    ("Now the notes.", "write_file", {"path": "notes.md", "content": "first notes\n"}),
    ("That is worth keeping.", "shell", {
        "command": "agentrec snapshot -m 'after the second tool call'"
    }),
    ("Now I tidy up.", "shell", {
        "command": "rm old.txt && mv build/new.txt build/renamed.txt && sed -i s/blue/green/ config.ini"
        " && (cd build && ln -s copy.txt link && tee teed.txt < copy.txt > /dev/null) && chmod +x run.sh"
    }),
]
#: And after a second one.
SECOND = [
    ("As you now wish.", "shell", {"command": "cat notes.md && ls build && echo second >> notes.md"}),
]


class Handler(model_server.Handler):
    log = None

    def answer(self, messages):
        with open(self.log, "a", encoding="utf-8") as log:
            log.write(json.dumps(messages) + "\n")
        users = [i for i, message in enumerate(messages) if message["role"] == "user"]
        done = sum(message["role"] == "tool" for message in messages[users[-1] :])
        script = FIRST if len(users) == 1 else SECOND
        if done < len(script):
            text, tool, arguments = script[done]
            return text, [(tool, arguments)]
        return f"Done after {done} steps.", []


if __name__ == "__main__":
    Handler.log = sys.argv[1]
    model_server.serve(Handler)
