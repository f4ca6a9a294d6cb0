"""An ordinary openai-agents program, as its documentation has it: a shell tool, a file tool, an SQLite session.

It knows nothing of agentrec. Its prompt is its argument; where the model is, the `openai` client takes from OPENAI_BASE_URL.
"""

import asyncio
import pathlib
import subprocess
import sys

from agents import (
    Agent,
    Runner,
    SQLiteSession,
    function_tool,
    set_default_openai_api,
    set_tracing_disabled,
)


@function_tool
def shell(command: str) -> str:
    """Runs a shell command.

    Args:
        command: what to run
    """
    done = subprocess.run(
        command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return f"{done.stdout}[exit {done.returncode}]"


@function_tool
def write_file(path: str, content: str) -> str:
    """Replaces a file.

    Args:
        path: the file
        content: all of its text
    """
    return f"{pathlib.Path(path).write_text(content)} characters written"


async def main(prompt: str) -> None:
    # The server speaks chat completions, and nothing may leave the machine.
    set_default_openai_api("chat_completions")
    set_tracing_disabled(True)
    agent = Agent(
        name="coder",
        instructions="You work on the files of this directory.",
        model="gpt-5-mini",
        tools=[shell, write_file],
    )
    session = SQLiteSession("work", "session.sqlite")
    result = await Runner.run(agent, prompt, session=session)
    print(result.final_output)


asyncio.run(main(sys.argv[1]))
