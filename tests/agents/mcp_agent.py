"""An openai-agents program whose tools are those of an MCP server, and the scripted model behind it.

    python3 mcp_agent.py LOG

It knows nothing of agentrec. LOG is the server's.
"""

import asyncio
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent


def model():
    sys.path.insert(0, str(HERE.parents[1] / "examples"))
    import model_server

    class Handler(model_server.Handler):
        def answer(self, messages):
            done = sum(message["role"] == "tool" for message in messages)
            if done == 0:
                return "Two sums at once.", [("add", {"a": 1, "b": 2}), ("add", {"b": 4, "a": 3})]
            if done == 2:
                return "Now a file.", [("write", {"path": "made.txt", "text": "by a tool"})]
            return "Done.", []

    model_server.serve(Handler)


async def agent(log):
    from agents import Agent, Runner, set_default_openai_api, set_tracing_disabled
    from agents.mcp import MCPServerStdio

    set_default_openai_api("chat_completions")
    set_tracing_disabled(True)
    params = {"command": sys.executable, "args": [str(HERE / "mcp_server.py"), log, "stdio"]}
    async with MCPServerStdio(params, client_session_timeout_seconds=60) as server:
        agent = Agent(name="adder", instructions="You add.", model="gpt-5-mini", mcp_servers=[server])
        print((await Runner.run(agent, "Add.")).final_output)


if sys.argv[1] == "--model":
    model()
else:
    import os

    process = subprocess.Popen(
        [sys.executable, __file__, "--model"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    os.environ["OPENAI_BASE_URL"] = process.stdout.readline().strip()
    asyncio.run(agent(sys.argv[1]))
    process.stdin.close()
    process.wait()
