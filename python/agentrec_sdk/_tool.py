"""Records the calls of a tool: ``tool`` as a decorator of any kind of function, and as a context manager."""

import functools
import inspect
import time
from types import TracebackType
from typing import Any, Callable, Dict, List, Optional, Tuple, Type, TypeVar, Union, overload

from ._api import describe, new_call_id
from ._client import Client, client

F = TypeVar("F", bound=Callable[..., Any])

#: Of what a generator yields, the first this many items are recorded.
MAX_YIELDED = 1000


class _Call:
    """One call, from its ``tool.call`` to its ``tool.result``."""

    __slots__ = ("_client", "_start", "id")

    def __init__(
        self,
        recorder: Client,
        name: str,
        arguments: Any,
        id: Optional[str] = None,
        conversation: Optional[str] = None,
    ) -> None:
        self._client = recorder
        self.id = id if id is not None else new_call_id()
        record = {"type": "tool.call", "id": self.id, "name": name, "arguments": arguments}
        if conversation is not None:
            record["conversation"] = conversation
        recorder.send(record)
        self._start = time.monotonic_ns()

    def returned(self, result: Any) -> None:
        duration = time.monotonic_ns() - self._start
        self._client.send(
            {"type": "tool.result", "id": self.id, "result": result, "duration": duration}
        )

    def raised(self, error: BaseException) -> None:
        duration = time.monotonic_ns() - self._start
        self._client.send(
            {"type": "tool.result", "id": self.id, "error": describe(error), "duration": duration}
        )


class _Yielded:
    """What a generator gave so far."""

    __slots__ = ("count", "items")

    def __init__(self) -> None:
        self.items: List[Any] = []
        self.count = 0

    def add(self, item: Any) -> None:
        self.count += 1
        if self.count <= MAX_YIELDED:
            self.items.append(item)

    def result(self, returned: Any = None) -> Dict[str, Any]:
        result: Dict[str, Any] = {"yielded": self.items}
        if self.count > len(self.items):
            result["count"] = self.count
        if returned is not None:
            result["returned"] = returned
        return result


def _namer(function: Callable[..., Any]) -> Callable[[Tuple[Any, ...], Dict[str, Any]], Dict[str, Any]]:
    """How to give names to the arguments of a call, worked out once: binding a signature at each call is slow."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    positional = [p.name for p in parameters if p.kind <= inspect.Parameter.POSITIONAL_OR_KEYWORD]
    variadic = next((p.name for p in parameters if p.kind is inspect.Parameter.VAR_POSITIONAL), "args")
    # The object that a method is of is no argument of the tool.
    skip = 1 if positional[:1] in (["self"], ["cls"]) else 0
    names = positional[skip:]

    def arguments(args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Dict[str, Any]:
        if skip:
            args = args[skip:]
        named = dict(zip(names, args))
        if len(args) > len(names):
            named[variadic] = args[len(names) :]
        if kwargs:
            named.update(kwargs)
        return named

    return arguments


def _name_of(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", "tool"))


def _recorded(function: F, name: str, conversation: Optional[str]) -> F:
    arguments = _namer(function)
    wrapper: Any

    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            generator = function(*args, **kwargs)
            recorder = client()
            call = recorder and _Call(recorder, name, arguments(args, kwargs), None, conversation)
            yielded = _Yielded()
            try:
                step = generator.__anext__()
                while True:
                    try:
                        item = await step
                    except StopAsyncIteration:
                        break
                    yielded.add(item)
                    try:
                        step = generator.asend((yield item))
                    except GeneratorExit:
                        raise
                    except BaseException as error:
                        step = generator.athrow(error)
            except GeneratorExit:
                await generator.aclose()
                if call:
                    call.returned(yielded.result())
                raise
            except BaseException as error:
                if call:
                    call.raised(error)
                raise
            if call:
                call.returned(yielded.result())

    elif inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            recorder = client()
            if recorder is None:
                return (yield from function(*args, **kwargs))
            call = _Call(recorder, name, arguments(args, kwargs), None, conversation)
            yielded = _Yielded()
            try:
                returned = yield from _watched(function(*args, **kwargs), yielded)
            except GeneratorExit:  # whoever iterated had enough
                call.returned(yielded.result())
                raise
            except BaseException as error:
                call.raised(error)
                raise
            call.returned(yielded.result(returned))
            return returned

    elif inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            recorder = client()
            if recorder is None:
                return await function(*args, **kwargs)
            call = _Call(recorder, name, arguments(args, kwargs), None, conversation)
            try:
                result = await function(*args, **kwargs)
            except BaseException as error:
                call.raised(error)
                raise
            call.returned(result)
            return result

    else:

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            recorder = client()
            if recorder is None:
                return function(*args, **kwargs)
            call = _Call(recorder, name, arguments(args, kwargs), None, conversation)
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                call.raised(error)
                raise
            call.returned(result)
            return result

    return wrapper  # type: ignore[no-any-return]


def _watched(generator: Any, yielded: _Yielded) -> Any:
    """``yield from generator``, noting what passes; `send`, `throw` and `close` reach it as PEP 380 has it."""
    try:
        item = next(generator)
        while True:
            yielded.add(item)
            try:
                sent = yield item
            except GeneratorExit:
                generator.close()
                raise
            except BaseException as error:
                item = generator.throw(error)
            else:
                item = generator.send(sent)
    except StopIteration as stop:
        return stop.value


class _Tool:
    """``tool("name")``: a decorator, or one call as a context manager, sync or async.

    Inside the ``with``, ``result`` takes what the call returns; what the block raises is recorded by itself.
    """

    def __init__(
        self, name: Optional[str], arguments: Any, id: Optional[str], conversation: Optional[str]
    ) -> None:
        self.name = name
        self.arguments = arguments
        self.conversation = conversation
        #: The call's id.
        self.id = id
        #: What the call returns.
        self.result: Any = None
        self._call: Optional[_Call] = None

    def __call__(self, function: F) -> F:
        return _recorded(function, self.name or _name_of(function), self.conversation)

    def __enter__(self) -> "_Tool":
        recorder = client()
        if self.id is None:
            self.id = new_call_id()
        if recorder is not None:
            name = self.name or "tool"
            self._call = _Call(recorder, name, self.arguments, self.id, self.conversation)
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        if self._call is not None:
            if error is not None:
                self._call.raised(error)
            else:
                self._call.returned(self.result)
            self._call = None

    async def __aenter__(self) -> "_Tool":
        return self.__enter__()

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.__exit__(kind, error, traceback)


@overload
def tool(function: F, /) -> F: ...


@overload
def tool(
    name: Optional[str] = None,
    /,
    *,
    arguments: Any = None,
    id: Optional[str] = None,
    conversation: Optional[str] = None,
) -> _Tool: ...


def tool(
    function: Union[Callable[..., Any], str, None] = None,
    /,
    *,
    arguments: Any = None,
    id: Optional[str] = None,
    conversation: Optional[str] = None,
) -> Any:
    """Records calls with arguments, result, error and duration.

    As a decorator, of functions, coroutines and generators alike::

        @tool
        def read_file(path): ...

        @tool("shell")
        async def run(command): ...

    or around a block, with the id under which the model asked for the call::

        with tool("shell", arguments={"command": "ls"}, id=call.id) as done:
            done.result = run("ls")
    """
    if callable(function):
        return _recorded(function, _name_of(function), conversation)
    return _Tool(function, arguments, id, conversation)
