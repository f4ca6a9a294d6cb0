"""What one event costs the agent: run by `sdk.rs`, prints nanoseconds per event for each kind as JSON."""

import json
import statistics
import time

import agentrec_sdk

BURST = 50
BURSTS = 40
TEXT = "I'll run the tests first, and look at what fails before I change anything."


@agentrec_sdk.tool
def read_file(path, limit=100):
    return TEXT


def message():
    agentrec_sdk.record_message("assistant", TEXT, model="gpt-5-mini")


def tool():
    read_file("src/cart.py", limit=10)


def cost(function, events):
    """The median over single calls, in bursts as an agent's turn has them; between two, the recorder may catch up."""
    spent = []
    for _ in range(BURSTS):
        time.sleep(0.005)
        for _ in range(BURST):
            start = time.perf_counter_ns()
            function()
            spent.append(time.perf_counter_ns() - start)
    return statistics.median(spent) / events


def flat_out(function, count=5000):
    start = time.perf_counter_ns()
    for _ in range(count):
        function()
    return (time.perf_counter_ns() - start) / count


print(json.dumps({
    "message": cost(message, 1),
    "tool": cost(tool, 2),
    "flat_out": flat_out(message),
    "recording": agentrec_sdk.recording(),
}))
