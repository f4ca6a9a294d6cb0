"""Tells agentrec, the flight recorder for AI agents, what an agent says and does.

Outside a recording (``agentrec run -- …``) every function here is a no-op, so that an agent may keep its calls for good.
None of them ever blocks on the recorder, except those that ask it something: ``snapshot`` and ``status``.
"""

from ._api import (
    event,
    flush,
    record_message,
    record_tool_call,
    record_tool_result,
    record_usage,
    recording,
    session_id,
    snapshot,
    snapshot_async,
    status,
)
from ._resume import ResumeState, resume_state
from ._tool import tool

__all__ = [
    "ResumeState",
    "event",
    "flush",
    "record_message",
    "record_tool_call",
    "record_tool_result",
    "record_usage",
    "recording",
    "resume_state",
    "session_id",
    "snapshot",
    "snapshot_async",
    "status",
    "tool",
]

__version__ = "0.1.0"
