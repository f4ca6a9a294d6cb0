"""A small recorder for the tests: a real socket that keeps every line, answers requests, and can be slow or die."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading

PACKAGE = pathlib.Path(__file__).resolve().parent.parent
#: Longest that a test waits for anything, in seconds; only a broken client ever needs it.
PATIENCE = 60


class Recorder:
    """Listens; ``lines`` holds what came, in order of arrival, each with the connection it came on."""

    def __init__(self, reading=True):
        self.directory = tempfile.mkdtemp()
        self.path = os.path.join(self.directory, "s.sock")
        self.reading = threading.Event()
        if reading:
            self.reading.set()
        self.lines = []
        self.connections = 0
        self._changed = threading.Condition()
        self._open = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._changed:
                self.connections += 1
                self._open.append(connection)
                self._changed.notify_all()
            threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True).start()

    def _serve(self, connection, number):
        self.reading.wait()
        try:
            for line in connection.makefile("rb"):
                self._take(connection, number, line)
        except OSError:
            pass
        with self._changed:
            connection.close()
            self._open.remove(connection)
            self._changed.notify_all()

    def _take(self, connection, number, line):
        record = json.loads(line)
        record["connection"] = number
        if "req" in record:
            reply = self.reply(record)
            noise = b'{"ok": false, "line": 1, "error": "about another line"}\n'
            connection.sendall(noise + json.dumps(reply).encode() + b"\n")
        with self._changed:
            self.lines.append(record)
            self._changed.notify_all()

    def reply(self, record):
        if record["type"] == "snapshot":
            return {"req": record["req"], "ok": True, "snapshot": 7, "duration": 5}
        if record["type"] == "status":
            return {"req": record["req"], "ok": True, "session": "abcdefgh", "events": 3}
        return {"req": record["req"], "ok": False, "error": "no such request"}

    def wait(self, what):
        """Waits until ``what()`` holds; fails loudly if it never does."""
        with self._changed:
            if not self._changed.wait_for(what, PATIENCE):
                raise AssertionError(f"still waiting after {len(self.lines)} lines")

    def wait_closed(self):
        """Waits until every connection that there was is closed."""
        self.wait(lambda: self.connections and not self._open)

    def of(self, kind):
        return [line for line in self.lines if line["type"] == kind]

    def environment(self, **more):
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": str(PACKAGE),
            "AGENTREC_SOCKET": self.path,
            "AGENTREC_SESSION": "abcdefgh",
            "AGENTREC_FD": "1023",
        }
        environment.update(more)
        return environment

    def run(self, program, **environment):
        """Runs a Python program as the agent would run; returns what it printed."""
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
            env=self.environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
            text=True,
        )
        if done.returncode != 0:
            raise AssertionError(f"the agent died: {done.returncode}\n{done.stderr}")
        return done.stdout

    def die(self):
        """Closes everything, as a crash would."""
        try:
            # Unlike close alone, this also ends an accept that waits in another thread.
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        with self._changed:
            for connection in self._open:
                connection.shutdown(socket.SHUT_RDWR)
        self.reading.set()

    def close(self):
        self.die()
        shutil.rmtree(self.directory, ignore_errors=True)
