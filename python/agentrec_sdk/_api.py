"""What an agent tells the recorder, and asks it."""

import asyncio
import itertools
import os
from typing import Any, Dict, Optional

from ._client import client

_ids = itertools.count(1)
_id_prefix = os.urandom(4).hex()


def _new_ids() -> None:
    global _id_prefix
    _id_prefix = os.urandom(4).hex()


os.register_at_fork(after_in_child=_new_ids)


def new_call_id() -> str:
    """An id that no other process of the session gives."""
    return f"sdk-{_id_prefix}-{next(_ids)}"


def recording() -> bool:
    """Whether this process is being recorded."""
    return client() is not None


def session_id() -> Optional[str]:
    """The id of the recording session, or ``None`` outside of one."""
    return os.environ.get("AGENTREC_SESSION") if client() is not None else None


def record_message(
    role: str,
    content: Any,
    *,
    model: Optional[str] = None,
    conversation: Optional[str] = None,
    index: Optional[int] = None,
    **extra: Any,
) -> None:
    """Records one message of a conversation. Other fields that the message has can be given as ``extra``."""
    recorder = client()
    if recorder is None:
        return
    record: Dict[str, Any] = extra
    record["type"] = "message"
    record["role"] = role
    record["content"] = content
    if model is not None:
        record["model"] = model
    if conversation is not None:
        record["conversation"] = conversation
    if index is not None:
        record["index"] = index
    recorder.send(record)


def record_tool_call(
    name: str,
    arguments: Any = None,
    *,
    id: Optional[str] = None,
    conversation: Optional[str] = None,
) -> str:
    """Records that a tool is called; returns the call's id, made up where none is given.

    Give the id under which the model called the tool, if there is one: it joins what the model said to what was done.
    """
    call = id if id is not None else new_call_id()
    recorder = client()
    if recorder is not None:
        record = {"type": "tool.call", "id": call, "name": name, "arguments": arguments}
        if conversation is not None:
            record["conversation"] = conversation
        recorder.send(record)
    return call


def record_tool_result(
    id: str,
    result: Any = None,
    *,
    error: "Optional[str | BaseException]" = None,
    duration: Optional[float] = None,
) -> None:
    """Records what the tool call ``id`` returned or raised, and its duration in seconds."""
    recorder = client()
    if recorder is None:
        return
    record: Dict[str, Any] = {"type": "tool.result", "id": id}
    if error is None:
        record["result"] = result
    else:
        record["error"] = describe(error)
    if duration is not None:
        record["duration"] = int(duration * 1e9)
    recorder.send(record)


def describe(error: "str | BaseException") -> str:
    """An exception as the last line of its traceback has it."""
    if isinstance(error, str):
        return error
    try:
        text = str(error)
    except Exception:
        text = "?"
    name = type(error).__qualname__
    return f"{name}: {text}" if text else name


def record_usage(
    model: str,
    *,
    input: int = 0,
    output: int = 0,
    cache_read: int = 0,
    cache_write: int = 0,
    cost: Optional[float] = None,
    conversation: Optional[str] = None,
) -> None:
    """Records the tokens of one model request, and its cost in US dollars where that is known."""
    recorder = client()
    if recorder is None:
        return
    record: Dict[str, Any] = {
        "type": "usage",
        "model": model,
        "input": input,
        "output": output,
        "cache_read": cache_read,
        "cache_write": cache_write,
    }
    if cost is not None:
        record["cost"] = cost
    if conversation is not None:
        record["conversation"] = conversation
    recorder.send(record)


#: Fields of a line that are the protocol's own.
_RESERVED = frozenset(("type", "ts", "tid", "req"))


def event(type: str, /, *, layer: Optional[str] = None, **data: Any) -> None:
    """Records an event of the agent's own, such as ``event("myapp.step", n=3)``. The name needs a dot in it.

    ``layer`` says where it belongs: ``"agent"``, the default, or ``"tool"``.
    """
    if "." not in type:
        raise ValueError(f"the name of a custom event needs a dot in it, such as 'myapp.{type}'")
    if not _RESERVED.isdisjoint(data):
        raise ValueError(f"an event can't hold a field called {sorted(_RESERVED & data.keys())[0]!r}")
    recorder = client()
    if recorder is None:
        return
    data["type"] = type
    if layer is not None:
        data["layer"] = layer
    recorder.send(data)


def snapshot(
    description: str = "",
    *,
    messages: Optional[Any] = None,
    system_prompt: Optional[Any] = None,
    tools: Optional[Any] = None,
    model: Optional[str] = None,
    last_query: Optional[Any] = None,
    last_result: Optional[Any] = None,
    timeout: float = 60.0,
) -> Optional[int]:
    """Saves files, environment and conversation; returns the snapshot's number, to which ``agentrec resume`` goes back.

    Waits until the files are saved, so that what the caller writes next is not in it; ``None`` outside a recording, or if that
    takes longer than ``timeout`` seconds. What is not given is taken from what was recorded before.
    """
    recorder = client()
    if recorder is None:
        return None
    given = {
        "messages": messages,
        "system_prompt": system_prompt,
        "tools": tools,
        "model": model,
        "last_query": last_query,
        "last_result": last_result,
    }
    record: Dict[str, Any] = {"type": "snapshot", "description": description}
    record.update((name, value) for name, value in given.items() if value is not None)
    reply = recorder.ask(record, timeout)
    number = reply.get("snapshot") if reply else None
    return number if isinstance(number, int) else None


async def snapshot_async(description: str = "", **state: Any) -> Optional[int]:
    """As :func:`snapshot`, while the event loop goes on with its other tasks."""
    if client() is None:
        return None
    return await asyncio.to_thread(snapshot, description, **state)


def status(timeout: float = 5.0) -> Optional[Dict[str, Any]]:
    """What the recorder says of the session (``session``, ``trace``, ``events``, ``lost``, …), or ``None``."""
    recorder = client()
    reply = recorder.ask({"type": "status"}, timeout) if recorder is not None else None
    return {k: v for k, v in reply.items() if k not in ("req", "ok")} if reply else None


def flush(timeout: float = 2.0) -> bool:
    """Waits until everything said so far is on its way; happens by itself when the process ends."""
    recorder = client()
    return recorder.flush(timeout) if recorder is not None else False
