"""The connection to the recorder: never waits for it, never dies of it, and counts what it could not say.

Lines go through a queue that any thread, signal handler or finalizer may append to; whoever gets the lock, which
nobody ever waits for, sends them. So there is no way to block or to interleave two lines.
"""

import atexit
import collections
import fcntl
import json
import os
import select
import socket
import threading
import time
from typing import Any, Deque, Dict, Optional

from . import _encode

#: Bytes that wait in memory while the recorder is slow; what comes on top of them is dropped and counted.
MAX_PENDING = 8 * 1024 * 1024
#: Seconds that the end of the process waits for the recorder to take what is pending.
EXIT_PATIENCE = 2.0
#: Seconds between attempts to connect to a recorder that is too busy to accept.
RETRY_INTERVAL = 0.1

_SEND_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
_BOOTTIME = time.CLOCK_BOOTTIME
_clock_ns = time.clock_gettime_ns


class Client:
    """One process's connection. Made at the first use; a fork's child makes its own."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._queue: Deque[bytes] = collections.deque()
        self._pending = bytearray()
        self._lost = 0
        self._lost_why = ""
        self._sock: Optional[socket.socket] = None
        self._gone = False
        self._retry_at = 0.0
        self._flusher: Optional[threading.Thread] = None
        self._received = bytearray()
        self._last_request = 0
        self._main_thread = threading.main_thread().ident

    # Sending

    def send(self, record: Dict[str, Any]) -> None:
        """Hands one event to the recorder, now if it has room. Never blocks, never raises."""
        record["ts"] = _clock_ns(_BOOTTIME)
        if threading.get_ident() != self._main_thread:
            record["tid"] = threading.get_native_id()
        self._queue.append(_encode.line(record))
        self._drain()

    def _drain(self) -> None:
        # Who fails to get the lock may rely on its holder, who looks at the queue again after letting go.
        while self._queue and not self._gone and self._lock.acquire(False):
            try:
                self._send_queued()
            finally:
                self._lock.release()

    def _send_queued(self) -> None:
        queue = self._queue
        sock = self._sock or self._connect()
        if sock is None:
            self._drop_queued()
            return
        try:
            if self._pending:
                self._send_pending(sock)
            while queue:
                line = queue.popleft()
                if self._pending:
                    self._keep(line)
                    continue
                try:
                    sent = sock.send(line, _SEND_FLAGS)
                except BlockingIOError:
                    sent = 0
                if sent != len(line):
                    self._pending += line[sent:]
                    self._start_flusher()
        except OSError:
            self._give_up()

    def _send_pending(self, sock: socket.socket) -> None:
        try:
            while self._pending:
                # A bounded piece: what is sent is cut off the front, which moves the rest.
                sent = sock.send(self._pending[: 1 << 20], _SEND_FLAGS)
                del self._pending[:sent]
        except BlockingIOError:
            return
        if self._lost:
            self._tell_lost(self._lost_why)

    def _tell_lost(self, why: str) -> None:
        note = {"type": "lost", "count": self._lost, "reason": why}
        self._queue.appendleft(_encode.line(note))
        self._lost, self._lost_why = 0, ""

    def _keep(self, line: bytes) -> None:
        if len(self._pending) + len(line) > MAX_PENDING:
            self._lost += 1
            self._lost_why = "the recorder was too slow and the agent's buffer was full"
        else:
            self._pending += line

    def _drop_queued(self) -> None:
        while self._queue:
            self._queue.popleft()
            self._lost += 1
            self._lost_why = "the recorder accepted no connection"

    def _give_up(self) -> None:
        """The recorder is gone: from here on everything is a no-op."""
        self._gone = True
        self._queue.clear()
        self._pending = bytearray()
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    # Connecting

    def _connect(self) -> Optional[socket.socket]:
        if time.monotonic() < self._retry_at:
            return None
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.connect(self._path)
        except BlockingIOError:
            sock.close()
            self._retry_at = time.monotonic() + RETRY_INTERVAL
            return None
        except OSError:
            sock.close()
            self._give_up()
            return None
        self._sock, why = _at_reserved_descriptor(sock)
        if self._lost or why:
            self._tell_lost("; ".join(filter(None, (self._lost_why, why))))
        return self._sock

    # Waiting

    def _start_flusher(self) -> None:
        """What is pending goes out as soon as there is room, even if the agent says nothing more."""
        if self._flusher is None or not self._flusher.is_alive():
            self._flusher = threading.Thread(target=self._flush_later, name="agentrec", daemon=True)
            try:
                self._flusher.start()
            except RuntimeError:  # the interpreter is ending; then flush() at exit does it
                self._flusher = None

    def _flush_later(self) -> None:
        while self._pending and not self._gone:
            self._wait(select.POLLOUT, 1.0)
            self._push()

    def _push(self) -> None:
        """Sends what is pending, if nobody else is at it."""
        if self._lock.acquire(False):
            try:
                if self._sock is not None:
                    self._send_queued()
            finally:
                self._lock.release()
        self._drain()

    def _wait(self, what: int, seconds: float) -> bool:
        sock = self._sock
        try:
            if sock is None or self._gone:
                return False
            poll = select.poll()
            poll.register(sock.fileno(), what)
            return bool(poll.poll(max(0, int(seconds * 1000))))
        except (OSError, ValueError):
            return False

    def flush(self, seconds: float) -> bool:
        """Waits until the kernel has taken everything; ``False`` if it did not in time."""
        deadline = time.monotonic() + seconds
        self._drain()
        while (self._pending or self._queue) and not self._gone:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._wait(select.POLLOUT, left)
            self._push()
        return not self._gone

    # Asking

    def ask(self, record: Dict[str, Any], seconds: float) -> Optional[Dict[str, Any]]:
        """Sends a request and waits for its reply; ``None`` where there is no recorder, no reply in time, or a refusal."""
        deadline = time.monotonic() + seconds
        if not self._asking.acquire(timeout=max(0.0, seconds)):
            return None
        try:
            self._last_request += 1
            request = self._last_request
            self._queue.append(_encode.line({"req": request, **record}))
            if not self.flush(deadline - time.monotonic()):
                return None
            while True:
                reply = self._next_line(deadline)
                if reply is None or reply.get("req") == request:
                    return reply if reply and reply.get("ok") else None
        finally:
            self._asking.release()

    def _next_line(self, deadline: float) -> Optional[Dict[str, Any]]:
        """The next line from the recorder, ``{}`` for one that is no object."""
        while True:
            end = self._received.find(b"\n")
            if end >= 0:
                line = bytes(self._received[:end])
                del self._received[: end + 1]
                try:
                    reply = json.loads(line)
                except ValueError:
                    return {}
                return reply if isinstance(reply, dict) else {}
            sock = self._sock
            if sock is None or not self._wait(select.POLLIN, deadline - time.monotonic()):
                return None
            try:
                received = sock.recv(65536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            except OSError:
                received = b""
            if not received:
                with self._lock:
                    self._give_up()
                return None
            self._received += received

    def after_fork(self) -> None:
        """In a child: the parent's socket and what it had not yet sent are the parent's."""
        sock = self._sock
        self._reset()
        if sock is not None:
            sock.close()


def _at_reserved_descriptor(sock: socket.socket) -> "tuple[socket.socket, str]":
    """Moves ``sock`` to the descriptor number that the recorder does not trace; tells why not where it can't."""
    text = os.environ.get("AGENTREC_FD", "")
    if not text.isdigit():
        return sock, ""
    number = int(text)
    try:
        fcntl.fcntl(number, fcntl.F_GETFD)
        return sock, f"descriptor {number} was in use before"
    except OverflowError:
        return sock, ""
    except OSError:
        pass
    try:
        os.dup2(sock.fileno(), number, inheritable=False)
    except OSError:  # beyond RLIMIT_NOFILE
        return sock, ""
    sock.close()
    moved = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=number)
    moved.setblocking(False)
    return moved, ""


_client: Optional[Client] = None


def client() -> Optional[Client]:
    """This process's connection; ``None`` outside a recording or when the recorder is gone."""
    current = _client
    return current if current is not None and not current._gone else None


def _start() -> None:
    global _client
    path = os.environ.get("AGENTREC_SOCKET")
    if path:
        _client = Client(path)
        os.register_at_fork(after_in_child=_client.after_fork)
        atexit.register(_client.flush, EXIT_PATIENCE)


_start()
