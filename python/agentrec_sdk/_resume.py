"""The state that a resumed agent starts from."""

import json
import os
from typing import Any, Dict, Iterator, List, Mapping, Optional


class ResumeState(Mapping[str, Any]):
    """What a snapshot held of the agent, and what the user wants now; fields, and items of a mapping.

    A field that the snapshot does not hold is ``None``; ``messages`` is then an empty list.
    """

    #: Id of the session that is continued, and the number of its snapshot.
    session: Optional[str]
    snapshot: Optional[int]
    #: The conversation up to the snapshot.
    messages: List[Any]
    system_prompt: Any
    tools: Any
    model: Optional[str]
    last_query: Any
    last_result: Any
    #: What ``agentrec resume --prompt`` gave: what to do now.
    prompt: Optional[str]

    _FIELDS = (
        "session",
        "snapshot",
        "messages",
        "system_prompt",
        "tools",
        "model",
        "last_query",
        "last_result",
        "prompt",
    )

    def __init__(self, state: Mapping[str, Any]) -> None:
        self._state: Dict[str, Any] = {name: state.get(name) for name in self._FIELDS}
        self._state.update(state)
        if self._state["messages"] is None:
            self._state["messages"] = []

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_state"][name]
        except KeyError:
            raise AttributeError(f"the resume state has no {name!r}") from None

    def __getitem__(self, name: str) -> Any:
        return self._state[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._state)

    def __len__(self) -> int:
        return len(self._state)

    def __repr__(self) -> str:
        count = len(self.messages)
        return f"<ResumeState of {self.session} snapshot {self.snapshot}: {count} messages>"


_cached: Optional[ResumeState] = None


def resume_state() -> Optional[ResumeState]:
    """The state to continue from, where ``agentrec resume`` started this run; else ``None``."""
    global _cached
    path = os.environ.get("AGENTREC_RESUME")
    if not path:
        return None
    if _cached is None:
        try:
            with open(path, encoding="utf-8") as file:
                state = json.load(file)
        except (OSError, ValueError):
            return None
        if not isinstance(state, dict):
            return None
        _cached = ResumeState(state)
    return _cached
