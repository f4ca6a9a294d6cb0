"""That the recorder can be slow, dead or absent, and the agent threaded, forked or interrupted."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

from recorder import PACKAGE, PATIENCE, Recorder

EVERYTHING = """
import agentrec_sdk as a, asyncio

@a.tool
def f(x): return x

@a.tool
def g():
    yield 1
    yield 2

@a.tool
async def h():
    yield 3

async def collect(): return [x async for x in h()]

a.record_message("user", "x")
assert f(1) == 1
assert list(g()) == [1, 2]
assert asyncio.run(collect()) == [3]
with a.tool("t") as call: call.result = 1
a.record_tool_result(a.record_tool_call("n"), 1)
a.record_usage("m")
a.event("x.y")
print(a.snapshot("s"), asyncio.run(a.snapshot_async("s")), a.status(), a.resume_state(),
      a.session_id(), a.recording(), a.flush())
"""


def run_alone(program, **environment):
    environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(PACKAGE), **environment}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PATIENCE,
        text=True,
    )


class Absent(unittest.TestCase):
    def test_everything_is_a_no_op_outside_a_recording(self):
        done = run_alone(EVERYTHING)
        self.assertEqual(done.stdout, "None None None None None False False\n")
        self.assertEqual(done.returncode, 0)

    def test_everything_is_a_no_op_when_the_recorder_is_gone(self):
        with tempfile.TemporaryDirectory() as directory:
            done = run_alone(
                EVERYTHING, AGENTREC_SOCKET=os.path.join(directory, "none"), AGENTREC_SESSION="x"
            )
        self.assertEqual(done.stdout, "None None None None None False False\n")
        self.assertEqual(done.returncode, 0)


class Resumed(unittest.TestCase):
    def test_the_state_is_read_once_and_has_items_and_fields(self):
        state = {
            "session": "abcdefgh",
            "snapshot": 2,
            "messages": [{"role": "user", "content": "hi"}],
            "prompt": "go on",
            "model": None,
        }
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "state.json")
            with open(path, "w", encoding="utf-8") as file:
                json.dump(state, file)
            done = run_alone(
                "import agentrec_sdk as a, os\n"
                "s = a.resume_state()\n"
                f"os.unlink({path!r})\n"
                "print(s.prompt, s['messages'][0]['content'], s.snapshot, s.model, s.tools, s.get('no'))\n"
                "print(a.resume_state() is s, 'prompt' in s, 'no' in s, s)\n",
                AGENTREC_RESUME=path,
            )
        self.assertEqual(
            done.stdout,
            "go on hi 2 None None None\nTrue True False <ResumeState of abcdefgh snapshot 2: 1 messages>\n",
        )

    def test_a_file_that_is_no_state_is_no_state(self):
        for content in ("", "[]", "{"):
            with tempfile.NamedTemporaryFile("w") as file:
                file.write(content)
                file.flush()
                done = run_alone(
                    "import agentrec_sdk as a; print(a.resume_state())", AGENTREC_RESUME=file.name
                )
            self.assertEqual(done.stdout, "None\n")


class Connection(unittest.TestCase):
    def setUp(self):
        self.recorder = Recorder()
        self.addCleanup(self.recorder.close)

    def run_agent(self, program, **environment):
        out = self.recorder.run(program, **environment)
        self.recorder.wait_closed()
        return out

    def arrived(self, count):
        self.recorder.wait(lambda: len(self.recorder.lines) == count)

    def test_the_socket_stands_at_the_reserved_descriptor_and_is_not_inherited(self):
        out = self.run_agent(
            """
            import agentrec_sdk as a, os, subprocess
            a.record_message("user", "x")
            print(os.readlink("/proc/self/fd/1023").split(":")[0], os.get_inheritable(1023))
            print([n for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}") and int(n) > 2
                   and os.readlink(f"/proc/self/fd/{n}").startswith("socket") and n != "1023"])
            print(subprocess.run(["ls", "/proc/self/fd"], stdout=subprocess.PIPE).stdout.count(b"1023"))
            """
        )
        self.assertEqual(out, "socket False\n[]\n0\n")

    def test_a_foreign_descriptor_stays_and_is_told(self):
        out = self.run_agent(
            """
            import os
            os.dup2(os.open("/dev/null", os.O_WRONLY), 1023)
            import agentrec_sdk as a
            a.record_message("user", "x")
            print(os.readlink("/proc/self/fd/1023"))
            """
        )
        self.assertEqual(out, "/dev/null\n")
        (lost,) = self.recorder.of("lost")
        self.assertEqual((lost["count"], lost["reason"]), (0, "descriptor 1023 was in use before"))
        self.assertEqual(len(self.recorder.of("message")), 1)

    def test_a_limit_on_descriptors_does_no_harm(self):
        self.run_agent(
            """
            import resource
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
            import agentrec_sdk as a
            a.record_message("user", "x")
            """
        )
        self.assertEqual(len(self.recorder.of("message")), 1)

    def test_forked_children_have_connections_of_their_own(self):
        self.run_agent(
            """
            import agentrec_sdk as a, os
            a.record_message("user", "before")
            for n in range(4):
                if os.fork() == 0:
                    for i in range(500): a.event("child.step", n=n, i=i)
                    a.flush(30)
                    os._exit(0)
            for i in range(500): a.event("parent.step", i=i)
            for n in range(4): os.wait()
            """
        )
        self.arrived(2501)
        self.assertEqual([e["i"] for e in self.recorder.of("parent.step")], list(range(500)))
        children = self.recorder.of("child.step")
        for n in range(4):
            mine = [e for e in children if e["n"] == n]
            self.assertEqual([e["i"] for e in mine], list(range(500)))
            self.assertEqual(len({e["connection"] for e in mine}), 1)
        self.assertEqual(self.recorder.connections, 5)

    def test_threads_never_interleave_and_are_named(self):
        self.run_agent(
            """
            import agentrec_sdk as a, threading
            def work(n):
                for i in range(300): a.event("thread.step", n=n, i=i, text="x" * (i * 7))
            threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
            [t.start() for t in threads]; [t.join() for t in threads]
            a.event("main.step")
            """
        )
        steps = self.recorder.of("thread.step")
        for n in range(8):
            mine = [e for e in steps if e["n"] == n]
            self.assertEqual([e["i"] for e in mine], list(range(300)))
            self.assertEqual(len({e["tid"] for e in mine}), 1)
        self.assertEqual(len({e["tid"] for e in steps}), 8)
        self.assertNotIn("tid", self.recorder.of("main.step")[0])

    def test_signal_handlers_and_finalizers_may_record(self):
        self.run_agent(
            """
            import agentrec_sdk as a, itertools, signal
            numbers = itertools.count()  # a handler may interrupt itself
            def handler(*_):
                a.event("signal.step", n=next(numbers))
            signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
            for i in range(5000): a.event("main.step", i=i)
            signal.setitimer(signal.ITIMER_REAL, 0)
            a.event("end.step", count=next(numbers))
            """
        )
        (end,) = self.recorder.of("end.step")
        self.assertGreater(end["count"], 0)
        self.assertEqual([e["i"] for e in self.recorder.of("main.step")], list(range(5000)))
        self.assertEqual(
            sorted(e["n"] for e in self.recorder.of("signal.step")),
            list(range(end["count"])),
        )


class Slow(unittest.TestCase):
    def setUp(self):
        self.recorder = Recorder(reading=False)
        self.addCleanup(self.recorder.close)

    def start_agent(self, program):
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", program],
            env=self.recorder.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def test_the_agent_goes_on_and_what_was_dropped_is_counted(self):
        agent = self.start_agent(
            "import agentrec_sdk as a\n"
            "for i in range(3000): a.event('x.y', i=i, text='x' * 10000)\n"
            "print('done', flush=True)\n"
            "input()\n"
            "a.event('x.last')\n"
        )
        with agent:
            # The recorder reads nothing, and still the agent gets here.
            self.assertEqual(agent.stdout.readline(), "done\n")
            self.recorder.reading.set()
            # What was kept arrives although the agent says nothing more, and so does the count of the rest.
            self.recorder.wait(lambda: self.recorder.of("lost"))
            agent.stdin.write("\n")
        self.assertEqual(agent.returncode, 0)
        self.recorder.wait_closed()
        kept, lost = self.recorder.of("x.y"), self.recorder.of("lost")
        self.assertEqual([e["i"] for e in kept], list(range(len(kept))))
        self.assertEqual(len(kept) + sum(e["count"] for e in lost), 3000)
        self.assertEqual(len(self.recorder.of("x.last")), 1)

    def test_a_recorder_that_dies_while_it_is_slow_does_not_take_the_agent_with_it(self):
        agent = self.start_agent(
            "import agentrec_sdk as a, signal\n"
            "signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
            "for i in range(3000): a.event('x.y', i=i, text='x' * 10000)\n"
            "print('done', flush=True)\n"
            "input()\n"
            "a.event('x.last'); print(a.snapshot('x', timeout=30), a.recording())\n"
        )
        with agent:
            self.assertEqual(agent.stdout.readline(), "done\n")
            self.recorder.die()
            agent.stdin.write("\n")
            agent.stdin.flush()
            self.assertEqual(agent.stdout.readline(), "None False\n")
        self.assertEqual(agent.returncode, 0)

    def test_a_recorder_that_answers_nothing_is_waited_for_only_so_long(self):
        agent = self.start_agent(
            "import agentrec_sdk as a; print(a.snapshot('x', timeout=0.05), a.recording())"
        )
        with agent:
            self.assertEqual(agent.stdout.readline(), "None True\n")
        self.assertEqual(agent.returncode, 0)


if __name__ == "__main__":
    unittest.main()
