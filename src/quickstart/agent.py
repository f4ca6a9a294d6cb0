"""A small agent for `agentrec quickstart`: its model is a script, so it needs no key and no network."""

import subprocess
from pathlib import Path

import agentrec_sdk as rec

state = rec.resume_state()
messages = list(state.messages) if state else []


def say(role, content):
    messages.append({"role": role, "content": content})
    rec.record_message(role, content)
    print(f"{role}: {content}")


@rec.tool
def shell(command):
    return subprocess.run(command, shell=True, capture_output=True, text=True).stdout


@rec.tool
def write_file(path, text):
    Path(path).write_text(text)
    return f"wrote {path}"


if state:
    say("user", state.prompt or "go on")
    say("assistant", "I go on from the snapshot and keep the drafts.")
    shell("cat drafts/*.txt > drafts-in-one.txt")
else:
    say("user", "tidy up the drafts and write a report")
    say("assistant", "I look around first.")
    shell("ls drafts && cat drafts/one.txt")
    rec.snapshot("before anything was deleted", messages=messages, model="scripted")
    say("assistant", "The drafts are old, I remove them and write the report.")
    shell("rm -rf drafts")
    write_file("report.txt", "All drafts are gone.\n")
say("assistant", "Done.")
