"""Turns any Python values into one line of JSON: fast where JSON holds them, and never failing where it does not."""

import base64
import dataclasses
import json
import json.encoder
import math
import os
from typing import Any, Callable, Dict

#: Longest line that the recorder takes, in bytes.
MAX_LINE = 16 * 1024 * 1024
#: Of a longer line, every string keeps this many characters.
CUT_STRING = 64 * 1024
#: Containers nested deeper than this are written as their ``repr``.
MAX_DEPTH = 64
#: Most characters of a ``repr``.
MAX_REPR = 10_000


def _stand_in(value: Any) -> Any:
    """What JSON can hold in place of ``value``, which it can't; a ``repr`` under a marker in the end."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$bytes": base64.b64encode(bytes(value)).decode("ascii")}
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, type):
        return _described(value)
    if dataclasses.is_dataclass(value):
        return {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}
    dump = getattr(value, "model_dump", None)  # pydantic, and with it the clients of most model vendors
    if callable(dump):
        try:
            return dump(mode="json", warnings=False)
        except Exception:
            return _described(value)
    if isinstance(value, (set, frozenset)):
        return {"$set": list(value)}
    return _described(value)


def _described(value: Any) -> Dict[str, str]:
    kind = type(value)
    try:
        text = repr(value)
    except Exception as error:
        text = f"<{kind.__name__} whose repr raises {type(error).__name__}>"
    return {"$repr": text[:MAX_REPR], "$type": f"{kind.__module__}.{kind.__qualname__}"}


def _fast_encoder() -> Callable[[Any], str]:
    """The C encoder, made once: ``JSONEncoder.encode`` makes it anew for each value, which takes longer than to use it."""
    make = getattr(json.encoder, "c_make_encoder", None)
    escape = json.encoder.encode_basestring
    if make is None:  # not CPython
        return json.JSONEncoder(
            ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_stand_in
        ).encode
    # No table of what was visited: a circle ends in RecursionError, and threads may share the encoder.
    encode = make(None, _stand_in, escape, None, ":", ",", False, False, False)
    return lambda value: "".join(encode(value, 0))


_fast = _fast_encoder()
_escaped = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def line(record: Dict[str, Any]) -> bytes:
    """One line for the socket, its newline included. Never raises, whatever the values are."""
    try:
        data = _fast(record).encode()
    except Exception:  # NaN, keys that are no strings, circles, lone surrogates, a __getattr__ that raises
        data = _escaped(_plain(record, MAX_DEPTH, None)).encode()
    if len(data) >= MAX_LINE:
        data = _escaped(_plain(record, MAX_DEPTH, CUT_STRING)).encode()
        if len(data) >= MAX_LINE:
            kept = {k: v for k, v in record.items() if isinstance(v, (int, str)) and len(str(v)) < 200}
            kept["$truncated"] = len(data)
            data = _escaped(_plain(kept, 2, CUT_STRING)).encode()
    return data + b"\n"


def _plain(value: Any, depth: int, cut: Any) -> Any:
    """A copy that consists of what JSON can hold."""
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        text = str.__str__(value)
        if cut is not None and len(text) > cut:
            text = f"{text[:cut]}… [agentrec: cut, {len(text)} characters]"
        # Lone surrogates, which file names may hold, are no Unicode.
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": repr(float(value))}
    if depth <= 0:
        return {"$repr": "…", "$type": type(value).__name__}
    try:
        if isinstance(value, dict):
            return {
                _plain(k if isinstance(k, str) else repr(k), depth, cut): _plain(v, depth - 1, cut)
                for k, v in list(value.items())
            }
        if isinstance(value, (list, tuple)):
            return [_plain(item, depth - 1, cut) for item in list(value)]
        return _plain(_stand_in(value), depth - 1, cut)
    except Exception as error:
        return {"$repr": f"<unreadable: {type(error).__name__}>", "$type": type(value).__name__}
